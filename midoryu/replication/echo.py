# SPDX-License-Identifier: Apache-2.0
"""Whether packets reach a host and come back: a question that its switch answers.

The frame is a state packet but for the Ethernet destination. The other host's switch
sends it back as it is, without its agent (`openflow.base_flows`), so the sender reads
its own words. `session` asks; `liveness` judges.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from midoryu.openflow.pipeline import ECHO_MAC, ECHOED_MAC
from midoryu.replication.speaker import Datagram, Speaker
from midoryu.replication.wire import (
    ETHERNET,
    HEADERS_BYTES,
    Header,
    Refusal,
    Signer,
    StatePacketError,
    decode,
    encode,
)

_MAC_BYTES: Final = 6
_ASKED: Final = ECHO_MAC.to_bytes(_MAC_BYTES, "big")
_CAME_BACK: Final = ECHOED_MAC.to_bytes(_MAC_BYTES, "big")
_USUAL: Final = ETHERNET[:_MAC_BYTES]
# Of the receiver's host key: the third word of the payload.
_RECEIVER: Final = slice(HEADERS_BYTES + 8, HEADERS_BYTES + 12)
# What comes back later than that is no news.
_FRESH_S: Final = 0.5
_LAST: Final = (1 << 32) - 1


class Echoes:
    """The questions of one host.

    Args:
        host: own host key.
        speaker: knows the epoch.
        signer: computes the tags.
    """

    def __init__(self, host: int, speaker: Speaker, signer: Signer) -> None:
        self._host = host
        self._speaker = speaker
        self._signer = signer
        self._number = 0
        self._asked: deque[tuple[int, float]] = deque()

    def ask(self, peers: Iterable[int], now: float) -> list[Datagram]:
        """Ask the switches of peers, to send now."""
        self._number = self._number % _LAST + 1
        self._asked.append((self._number, now))
        self._forget(now)
        epoch = self._speaker.epoch
        datagrams = []
        for peer in sorted(peers):
            header = Header(self._host, peer, epoch, 0, self._number, 0)
            frame = encode(header, b"", self._signer)
            datagrams.append(Datagram(peer, _ASKED + frame[_MAC_BYTES:]))
        return datagrams

    @staticmethod
    def is_answer(frame: bytes) -> bool:
        """Tell whether a frame from the state port is one that was sent back."""
        return frame.startswith(_CAME_BACK)

    def answerer(self, frame: bytes, now: float) -> int:
        """Tell whose switch sent a frame of this host back.

        Raises:
            StatePacketError: it is not this host's, or too old to prove anything.
        """
        peer = int.from_bytes(frame[_RECEIVER], "big")
        usual = _USUAL + frame[_MAC_BYTES:]
        header = decode(usual, peer, self._signer, now).header
        if header.sender != self._host:
            raise StatePacketError(Refusal.RECEIVER, f"an echo of host {header.sender}")
        self._forget(now)
        is_fresh = any(number == header.sequence for number, _ in self._asked)
        if header.epoch != self._speaker.epoch or not is_fresh:
            raise StatePacketError(Refusal.DUPLICATE, f"echo {header.sequence}")
        return peer

    def _forget(self, now: float) -> None:
        while self._asked and now - self._asked[0][1] > _FRESH_S:
            self._asked.popleft()
