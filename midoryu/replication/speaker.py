# SPDX-License-Identifier: Apache-2.0
"""The datagrams of one host: each function makes what one peer is to be sent.

`session` decides when; `peer` holds what was sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

from midoryu.replication import entry as codec
from midoryu.replication.entry import Heartbeat, Hello, Nack
from midoryu.replication.peer import HELLO_IDLE_S, Peer
from midoryu.replication.version import VERSION_BYTES, encode_versions
from midoryu.replication.wire import (
    NUMBERED,
    UNREPAIRED,
    Header,
    Signer,
    encode,
    entries_bytes,
    pack,
    widen,
)

# Touches or ids in one entry at most, and the bytes of one touch.
_BATCH: Final = 64
_TOUCH_BYTES: Final = 12
_CHANGED_BYTES: Final = _TOUCH_BYTES + VERSION_BYTES


class Datagram(NamedTuple):
    """A frame to send through the state port."""

    peer: int
    """Host key of the receiver."""
    frame: bytes
    """From the Ethernet header on."""


class Delivery(Enum):
    """How much is done for the arrival of state (design: speed against certainty)."""

    BEST_EFFORT = "best-effort"
    """Sent and forgotten."""
    REPAIR = "repair"
    """Sent and forgotten by the engine; gaps are repaired."""
    CONFIRM = "confirm"
    """Pushes are confirmed at once, and repeated until they are."""


class Speaker:
    """Makes signed datagrams in the name of one host's present life.

    Args:
        host: own host key.
        epoch: own epoch.
        signer: computes the tags.
        mtu_bytes: MTU of the underlay.
        is_repaired: whether datagrams are kept for repeats.
    """

    __slots__ = (
        "_batch",
        "_changed_batch",
        "_host",
        "_signer",
        "epoch",
        "is_repaired",
        "room_bytes",
    )

    def __init__(
        self,
        host: int,
        epoch: int,
        signer: Signer,
        *,
        mtu_bytes: int,
        is_repaired: bool,
    ) -> None:
        self._host = host
        self.epoch = epoch
        """Own epoch; a clock that ran backwards can make it grow later."""
        self._signer = signer
        self.is_repaired = is_repaired
        self.room_bytes = entries_bytes(mtu_bytes)
        """Room for entries in one datagram."""
        self._batch = min(_BATCH, self.room_bytes // _TOUCH_BYTES - 1)
        self._changed_batch = min(_BATCH, self.room_bytes // _CHANGED_BYTES - 1)

    def numbered(
        self, peer: Peer, entries: bytes, now: float, *, flags: int = 0
    ) -> Datagram:
        """Make the next datagram of the stream."""
        number = peer.out.number(entries, now, is_kept=self.is_repaired)
        return self._datagram(peer, entries, number, NUMBERED | flags, now)

    def repeated(
        self, peer: Peer, entries: bytes, now: float, *, number: int, flags: int = 0
    ) -> Datagram:
        """Make a datagram of the stream once more."""
        peer.repairs += 1
        return self._datagram(peer, entries, number, NUMBERED | flags, now)

    def plain(self, peer: Peer, entries: bytes, now: float) -> Datagram:
        """Make a datagram outside the stream; it tells the last number sent."""
        return self._datagram(peer, entries, peer.out.last, 0, now)

    def _datagram(
        self, peer: Peer, entries: bytes, sequence: int, flags: int, now: float
    ) -> Datagram:
        peer.sent += 1
        if peer.has_answered:
            peer.hello_due = max(peer.hello_due, now + HELLO_IDLE_S)
        if not self.is_repaired:
            flags |= UNREPAIRED
        header = Header(
            self._host,
            peer.host,
            self.epoch,
            peer.epoch,
            sequence,
            peer.inbox.arrived,
            flags,
        )
        return Datagram(peer.host, encode(header, entries, self._signer))

    def hello(self, peer: Peer, now: float, *, wants_answer: bool) -> Datagram:
        """Greet a peer; without entries of the stream, so it is never repeated."""
        return self.plain(peer, codec.encode_hello(Hello(wants_answer)), now)

    def heartbeat(self, peer: Peer, now: float) -> Datagram:
        """Say what was sent and what can be repeated."""
        beat = Heartbeat(peer.out.last, peer.out.oldest)
        return self.plain(peer, codec.encode_heartbeat(beat), now)

    def repeat(self, peer: Peer, nack: Nack, now: float) -> list[Datagram]:
        """Repeat what is asked for; say so where the ring no longer has it."""
        datagrams = [
            self.repeated(peer, entries, now, number=number)
            for number, entries in peer.out.repeats(nack, now)
        ]
        if widen(nack.first, peer.out.last) < peer.out.oldest:
            datagrams.append(self.heartbeat(peer, now))
        return datagrams

    def flush(self, peer: Peer, now: float) -> list[Datagram]:
        """Send touches and removals that have waited long enough."""
        out = peer.out
        if out.flush_due is None or out.flush_due > now:
            return []
        all_touches, removes = list(out.touches.values()), list(out.removes)
        touches = [one for one in all_touches if one.version is None]
        changed = [one for one in all_touches if one.version is not None]
        out.touches, out.removes, out.flush_due = {}, {}, None
        entries = [
            codec.encode_touches(touches[i : i + self._batch], now)
            for i in range(0, len(touches), self._batch)
        ]
        entries += [
            _encode_changed(changed[i : i + self._changed_batch], now)
            for i in range(0, len(changed), self._changed_batch)
        ]
        entries += [
            codec.encode_removes(removes[i : i + self._batch])
            for i in range(0, len(removes), self._batch)
        ]
        batches = pack(entries, self.room_bytes)
        return [self.numbered(peer, batch, now) for batch in batches]

    def sync_burst(self, peer: Peer, now: float) -> list[Datagram]:
        """Send the next part of a sync, and its end after the last."""
        out = peer.out
        bursts = out.sync_burst(self._host, self.room_bytes, now)
        datagrams = [self.numbered(peer, batch, now) for batch in bursts]
        if out.sync_queue is not None and not out.sync_queue:
            out.sync_queue = None
            done = codec.encode_sync_done(out.sync_number)
            datagrams.append(self.numbered(peer, done, now))
        return datagrams

    def control(self, peer: Peer, now: float) -> list[Datagram]:
        """Make the questions and greetings that are due."""
        datagrams = []
        nacks = peer.inbox.nacks(now)
        if nacks:
            datagrams.append(self.plain(peer, codec.encode_nacks(nacks), now))
        request = peer.inbox.sync_request(now)
        if request is not None:
            entry = codec.encode_sync_request(request)
            datagrams.append(self.plain(peer, entry, now))
        if peer.out.heartbeat(now) is not None:
            datagrams.append(self.heartbeat(peer, now))
        if peer.hello_due <= now:
            peer.plan_hello(now)
            datagrams.append(self.hello(peer, now, wants_answer=True))
        return datagrams


def _encode_changed(touches: Sequence[codec.Touch], now: float) -> bytes:
    """Encode touches and the versions they are of, which must not be parted."""
    versions = [one.version for one in touches if one.version is not None]
    return codec.encode_touches(touches, now) + encode_versions(versions)
