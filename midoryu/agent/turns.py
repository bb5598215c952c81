# SPDX-License-Identifier: Apache-2.0
"""Fair queueing of what a switch sends: a bounded line for each port, in turns.

`connection` sorts messages in here when more have come than it handles at once, so
that packets wait for one turn of a flood at another port, not for all of it.
"""

from __future__ import annotations

from collections import Counter, deque
from functools import lru_cache
from typing import Final, Union

from midoryu.errors import DecodeError
from midoryu.openflow import wire
from midoryu.openflow.pipeline import CLASSIFY, ECHOED_MAC
from midoryu.openflow.wire_decode import decode_packet_in

# OXM header of in_port (OpenFlow 1.3.5, section 7.2.3.7); OVS puts it first.
_IN_PORT: Final = b"\x80\x00\x00\x04"
_VLAN, _IPV4, _IPV6 = b"\x81\x00", b"\x08\x00", b"\x86\xdd"
# Destinations of one port with a row of their own; further ones share one.
_MAX_ROWS: Final = 64
# However many ports have something to say, so many packets of each may wait.
_MIN_SHARE: Final = 16


class _Line:
    """Packets of one port that wait: those to each destination in a row of their own.

    A server that answers a flood, or an uplink that it comes in by, has packets of
    others as well; they wait for one turn of it, too.
    """

    __slots__ = ("_ring", "_rows", "size")

    def __init__(self) -> None:
        self._rows: dict[bytes, deque[bytes]] = {}
        self._ring: deque[tuple[bytes, deque[bytes]]] = deque()
        self.size = 0

    def add(self, message: bytes) -> None:
        to = _destination_of(message)
        row = self._rows.get(to)
        if row is None:
            if len(self._rows) >= _MAX_ROWS:
                to, row = b"", self._rows.get(b"")
            if row is None:
                row = self._rows[to] = deque()
                self._ring.append((to, row))
        row.append(message)
        self.size += 1

    def take(self) -> bytes:
        to, row = self._ring[0]
        message = row.popleft()
        self.size -= 1
        if row:
            self._ring.rotate(-1)
        else:
            self._ring.popleft()
            del self._rows[to]
        return message

    def shed(self) -> None:
        """Leave out the oldest packet of the longest row."""
        to, row = max(self._ring, key=_row_length)
        row.popleft()
        self.size -= 1
        if not row:
            self._ring.remove((to, row))
            del self._rows[to]


class Turns:
    """Messages that wait to be handled.

    Flow state, and every message that is no packet, goes first and is never left out.
    Packets of vports go in turns, and those of one vport in turns of where they go.
    The vports share the room: a port that is alone has all of it. Where its part is
    full its oldest packet to whom most go is left out: its sender sends it again, and
    the latest ones are worth most.

    Args:
        room: packets that may wait, over all ports.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._urgent: deque[bytes] = deque()
        self._lines: dict[bytes, _Line] = {}
        self._ring: deque[tuple[bytes, _Line]] = deque()
        self._shed: Counter[bytes] = Counter()

    def __bool__(self) -> bool:
        """Tell whether anything waits."""
        return bool(self._ring or self._urgent)

    def add(self, message: bytes) -> None:
        """Let one whole message wait for its turn."""
        if message[1] != wire.PACKET_IN:
            self._urgent.append(message)
            return
        if message[15:16] == _STATE_TABLE:
            # An echo that waited behind a burst of records would tell of a lost way.
            if message.startswith(_ECHOED, _frame_at(message)):
                self._urgent.appendleft(message)
            else:
                self._urgent.append(message)
            return
        port = message[32:36] if message[28:32] == _IN_PORT else _port_of(message)
        line = self._lines.get(port)
        if line is None:
            line = self._lines[port] = _Line()
            self._ring.append((port, line))
        elif line.size >= _MIN_SHARE:
            share = max(self._room // len(self._ring), _MIN_SHARE)
            while line.size >= share:
                line.shed()
                self._shed[port] += 1
        line.add(message)

    def take(self) -> Union[bytes, None]:
        """Take out the message whose turn it is, None where nothing waits."""
        if self._urgent:
            return self._urgent.popleft()
        if not self._ring:
            return None
        port, line = self._ring[0]
        message = line.take()
        if line.size:
            self._ring.rotate(-1)
        else:
            self._ring.popleft()
            del self._lines[port]
        return message

    def take_shed(self) -> dict[int, int]:
        """Return how many packets were left out since the last call, by ofport."""
        if not self._shed:
            return {}
        found = {int.from_bytes(port, "big"): n for port, n in self._shed.items()}
        self._shed.clear()
        return found


def _row_length(item: tuple[bytes, deque[bytes]]) -> int:
    return len(item[1])


def _frame_at(message: bytes) -> int:
    """Return where a packet-in's frame begins, bytes."""
    # OpenFlow 1.3.5, section 7.4.1: the match is padded to 8 bytes, then come 2.
    return 26 + (int.from_bytes(message[26:28], "big") + 7 & -8)


def _destination_of(message: bytes) -> bytes:
    """Read the IP destination of a packet-in, of others the start of their frame."""
    at = _frame_at(message)
    kind = message[at + 12 : at + 14]
    if kind == _VLAN:
        at += 4
        kind = message[at + 12 : at + 14]
    if kind == _IPV4:
        return message[at + 30 : at + 34]
    if kind == _IPV6:
        return message[at + 38 : at + 54]
    return kind


_STATE_TABLE: Final = bytes((CLASSIFY,))
_ECHOED: Final = ECHOED_MAC.to_bytes(6, "big")


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
