# SPDX-License-Identifier: Apache-2.0
"""Fair queueing of what a switch sends: one bounded queue for each port, in turns.

`connection` sorts messages in here when more have come than it handles at once, so
that packets wait for one turn of a flood at another port, not for all of it.
"""

from __future__ import annotations

from collections import Counter, deque
from functools import lru_cache
from typing import Final, Union

from midoryu.errors import DecodeError
from midoryu.openflow import wire
from midoryu.openflow.pipeline import CLASSIFY
from midoryu.openflow.wire_decode import decode_packet_in

# OXM header of in_port (OpenFlow 1.3.5, section 7.2.3.7); OVS puts it first.
_IN_PORT: Final = b"\x80\x00\x00\x04"
# However many ports have something to say, so many packets of each may wait.
_MIN_SHARE: Final = 16


class Turns:
    """Messages that wait to be handled.

    Flow state, and every message that is no packet, goes first and is never left out.
    Packets of vports go in turns. Their queues share the room: a port that is alone has
    all of it. Where a queue is full its oldest packet goes: its sender sends it again,
    and the latest ones are worth most.

    Args:
        room: packets that may wait, over all ports.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._urgent: deque[bytes] = deque()
        self._queues: dict[bytes, deque[bytes]] = {}
        self._ring: deque[tuple[bytes, deque[bytes]]] = deque()
        self._shed: Counter[bytes] = Counter()

    def __bool__(self) -> bool:
        """Tell whether anything waits."""
        return bool(self._ring or self._urgent)

    def add(self, message: bytes) -> None:
        """Let one whole message wait for its turn."""
        if message[1] != wire.PACKET_IN or message[15:16] == _STATE_TABLE:
            self._urgent.append(message)
            return
        port = message[32:36] if message[28:32] == _IN_PORT else _port_of(message)
        queue = self._queues.get(port)
        if queue is None:
            queue = self._queues[port] = deque()
            self._ring.append((port, queue))
        elif len(queue) >= _MIN_SHARE:
            share = max(self._room // len(self._ring), _MIN_SHARE)
            while len(queue) >= share:
                queue.popleft()
                self._shed[port] += 1
        queue.append(message)

    def take(self) -> Union[bytes, None]:
        """Take out the message whose turn it is, None where nothing waits."""
        if self._urgent:
            return self._urgent.popleft()
        if not self._ring:
            return None
        port, queue = self._ring[0]
        message = queue.popleft()
        if queue:
            self._ring.rotate(-1)
        else:
            self._ring.popleft()
            del self._queues[port]
        return message

    def take_shed(self) -> dict[int, int]:
        """Return how many packets were left out since the last call, by ofport."""
        if not self._shed:
            return {}
        found = {int.from_bytes(port, "big"): n for port, n in self._shed.items()}
        self._shed.clear()
        return found


_STATE_TABLE: Final = bytes((CLASSIFY,))


def _port_of(message: bytes) -> bytes:
    """Read the port of a packet-in that does not say it first."""
    length = int.from_bytes(message[26:28], "big")
    return _decoded_port(message[: 24 + (length + 7) // 8 * 8 + 2])


@lru_cache(maxsize=256)
def _decoded_port(head: bytes) -> bytes:
    try:
        return decode_packet_in(head).in_port.to_bytes(4, "big")
    except DecodeError:
        # Whoever handles it counts it.
        return bytes(4)
