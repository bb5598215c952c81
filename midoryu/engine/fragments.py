# SPDX-License-Identifier: Apache-2.0
"""Datagrams of which fragments are under way: their first fragments, and what waits.

Only the first fragment of a datagram has ports, so `packet_lane` asks here what it
said. A later fragment that came before it waits; fragments for a virtual device are
gathered until they are all there. Bounded in datagrams, bytes and age.

Overlapping fragments condemn their whole datagram, in IPv4 too: an honest sender never
makes them, and hosts disagree about which one wins.

Source: RFC 791, section 3.2; RFC 8200, section 4.5; RFC 5722; RFC 1858; RFC 4963.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import Final, NamedTuple, Union

from midoryu.engine.event import PacketIn
from midoryu.packet import fragment
from midoryu.packet.fragment import Fragment
from midoryu.packet.packet import Packet
from midoryu.packet.protocol import ETH_IPV4

# The largest datagram in fragments of 576 bytes has 119 of them.
MAX_PIECES: Final = 128
# One vport may use this share of the datagrams and bytes.
_SHARE: Final = 4

# (vport, VLAN, source, destination, protocol, identification): RFC 791 names a datagram
# by these, RFC 8200 does so without the protocol.
Key = tuple[int, int, int, int, int, int]


class Refusal(Enum):
    """Why a fragment goes no further; one counter each."""

    OVERLAP = "fragments that overlap"
    CONDEMNED = "fragments of a datagram with overlaps"
    TOO_MANY = "fragments of a datagram in too many pieces"
    NO_ROOM = "fragments without room to wait"


class Waiting(NamedTuple):
    """A later fragment that came before the first one."""

    event: PacketIn
    packet: Packet


class Datagram:
    """What is known of one datagram."""

    __slots__ = (
        "condemned",
        "deadline",
        "end",
        "first",
        "gathered",
        "gathers",
        "key",
        "pieces",
        "seen_bytes",
        "stored_bytes",
        "waiting",
    )

    def __init__(self, key: Key, deadline: float) -> None:
        self.key = key
        self.deadline = deadline
        self.first: Union[Packet, None] = None
        """Its first fragment, once that came."""
        self.pieces: dict[int, tuple[int, int]] = {}
        """Start -> (end, hash of the bytes)."""
        self.seen_bytes = 0
        self.end = 0
        """Offset of its end, 0 until the last fragment came."""
        self.condemned = False
        self.waiting: list[Waiting] = []
        self.gathered: dict[int, Packet] = {}
        """Start -> fragment for a virtual device."""
        self.gathers = False
        """Its fragments are for a virtual device."""
        self.stored_bytes = 0

    @property
    def is_complete(self) -> bool:
        """Every fragment was seen."""
        return bool(self.end) and self.seen_bytes == self.end

    def add(self, place: Fragment, digest: int) -> Union[Refusal, None]:
        """Note a fragment; exact duplicates are let pass."""
        if self.condemned:
            return Refusal.CONDEMNED
        if self.pieces.get(place.start) == (place.end, digest):
            return None
        if len(self.pieces) >= MAX_PIECES:
            return Refusal.TOO_MANY
        if self._contradicts(place):
            self.condemned = True
            return Refusal.OVERLAP
        self.pieces[place.start] = (place.end, digest)
        self.seen_bytes += place.end - place.start
        if not place.more:
            self.end = place.end
        return None

    def _contradicts(self, place: Fragment) -> bool:
        if self.end and (place.end > self.end or not place.more):
            return True
        return any(
            start < place.end
            and place.start < end
            or (not place.more and end > place.end)
            for start, (end, _) in self.pieces.items()
        )


class FragmentTable:
    """All datagrams under way, oldest first."""

    def __init__(self, limit: int, limit_bytes: int, age_s: float) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._age_s = age_s
        self._datagrams: OrderedDict[Key, Datagram] = OrderedDict()
        self._by_vport: dict[int, OrderedDict[Key, Datagram]] = {}
        self._bytes_by_vport: dict[int, int] = {}
        self.stored_bytes = 0
        """Bytes of fragments that wait or are gathered."""
        self.evicted = 0
        """Datagrams that had to go before their time, over all."""

    def __len__(self) -> int:
        return len(self._datagrams)

    def enter(
        self, vport: int, packet: Packet, place: Fragment, now: float
    ) -> Union[Datagram, Refusal]:
        """Take a fragment in; return its datagram, or why it goes no further."""
        key = _key(vport, packet, place)
        datagram = self._datagrams.get(key) or self._open(key, now)
        if datagram is None:
            return Refusal.NO_ROOM
        body = packet.frame[place.payload : packet.l3 + packet.l3_length]
        refusal = datagram.add(place, hash(body))
        if refusal is not None:
            self._empty(datagram)
            return refusal
        if place.start == 0 and datagram.first is None:
            datagram.first = packet
        return datagram

    def wait(self, datagram: Datagram, event: PacketIn, packet: Packet) -> bool:
        """Let a later fragment wait for the first one; False where there is no room."""
        if not self._store(datagram, len(packet.frame)):
            return False
        datagram.waiting.append(Waiting(event, packet))
        return True

    def release(self, datagram: Datagram) -> tuple[Waiting, ...]:
        """Take out what waited for a datagram's first fragment, in order of arrival."""
        waiting = tuple(datagram.waiting)
        datagram.waiting.clear()
        self._unstore(datagram, sum(len(one.packet.frame) for one in waiting))
        return waiting

    def gather(
        self, vport: int, packet: Packet, now: float
    ) -> Union[bytes, Refusal, None]:
        """Keep a fragment for a virtual device.

        Returns:
            The whole frame with the last missing one; None while some are missing.
        """
        place = fragment.read_fragment(packet)
        key = _key(vport, packet, place)
        datagram = self._datagrams.get(key) or self._open(key, now)
        if datagram is None:
            return Refusal.NO_ROOM
        if place.start in datagram.gathered:
            return None
        if not self._store(datagram, len(packet.frame)):
            return Refusal.NO_ROOM
        datagram.gathers = True
        datagram.gathered[place.start] = packet
        if not place.more:
            datagram.end = place.end
        pieces = [one for _, one in sorted(datagram.gathered.items())]
        try:
            whole = fragment.join(pieces)
        except ValueError:
            return None
        self._forget(datagram)
        return whole

    def close(self, datagram: Datagram) -> None:
        """Forget a datagram that was seen completely and gathers nothing."""
        if datagram.is_complete and not datagram.waiting and not datagram.gathers:
            self._forget(datagram)

    def expire(self, now: float) -> int:
        """Forget what is too old; return how many fragments waited in vain."""
        lost = 0
        while self._datagrams:
            datagram = next(iter(self._datagrams.values()))
            if datagram.deadline > now:
                break
            lost += len(datagram.waiting) + len(datagram.gathered)
            self._forget(datagram)
        return lost

    def deadline(self) -> Union[float, None]:
        """Return when the oldest datagram is too old, None where there is none."""
        for datagram in self._datagrams.values():
            return datagram.deadline
        return None

    def _open(self, key: Key, now: float) -> Union[Datagram, None]:
        own = self._by_vport.setdefault(key[0], OrderedDict())
        if len(own) >= max(1, self._limit // _SHARE):
            # Its own oldest one: a flood of fragments is the flooder's loss.
            self._forget(next(iter(own.values())))
            self.evicted += 1
            own = self._by_vport.setdefault(key[0], OrderedDict())
        elif len(self._datagrams) >= self._limit:
            if not own:
                del self._by_vport[key[0]]
            return None
        datagram = Datagram(key, now + self._age_s)
        self._datagrams[key] = own[key] = datagram
        return datagram

    def _store(self, datagram: Datagram, size: int) -> bool:
        vport = datagram.key[0]
        own = self._bytes_by_vport.get(vport, 0) + size
        room = self._limit_bytes - self.stored_bytes
        if size > room or own > self._limit_bytes // _SHARE:
            return False
        self._bytes_by_vport[vport] = own
        self.stored_bytes += size
        datagram.stored_bytes += size
        return True

    def _unstore(self, datagram: Datagram, size: int) -> None:
        vport = datagram.key[0]
        datagram.stored_bytes -= size
        self.stored_bytes -= size
        left = self._bytes_by_vport.get(vport, 0) - size
        if left > 0:
            self._bytes_by_vport[vport] = left
        else:
            self._bytes_by_vport.pop(vport, None)

    def _empty(self, datagram: Datagram) -> None:
        datagram.waiting.clear()
        datagram.gathered.clear()
        self._unstore(datagram, datagram.stored_bytes)

    def _forget(self, datagram: Datagram) -> None:
        self._empty(datagram)
        self._datagrams.pop(datagram.key, None)
        own = self._by_vport.get(datagram.key[0])
        if own is not None:
            own.pop(datagram.key, None)
            if not own:
                del self._by_vport[datagram.key[0]]


def _key(vport: int, packet: Packet, place: Fragment) -> Key:
    headers = packet.headers
    proto = place.ip_proto if packet.eth_type == ETH_IPV4 else 0
    addresses = headers.ip_src, headers.ip_dst
    return (vport, packet.vlan, *addresses, proto, place.identification)
