# SPDX-License-Identifier: Apache-2.0
"""Which vport has more new flows than its share: the account from which `shares` acts.

A port is limited while it causes more packet-ins than a rate and another port with few
of them is there: who is alone, or among equals, has all that its meter allows. Behind
an uplink are many: there it is a destination that may have more than its share.

The rate counts what the agent left out, too: one that cannot keep up has a port send
less than the limit allows, and lowers the limit until it can.

Where a sample of a port's packets shows that most are for a few addresses, only what is
for these is limited, and not the port as a whole.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Final

from midoryu.compat import SLOTS
from midoryu.packet.address import V4_MAPPED

# Rates are looked at so often while packets come.
WINDOW_S: Final = 0.1
# A port that spoke within this time is there.
PRESENT_S: Final = 5.0
# The others are small if they cause less than this share of a port's packet-ins.
_SMALL: Final = 4
# A limited port whose rate is below this share of the limit for so long is free again.
# A busy agent takes less than the limit lets through: that is no sign of calm.
_CALM: Final = 0.25
CALM_S: Final = 2.0
# A limit is halved while packets of the port are left out, so often at most, and not
# before it had this time to show.
_MAX_HALVED: Final = 4
_HALVE_S: Final = 0.5
# Packets of a sample, and how many of one port tell something.
SAMPLE: Final = 64
_TELLING: Final = 16
# A destination is flooded if it has this part of a port's packets; so many at most.
_FLOODED: Final = 4
_MAX_FLOODED: Final = 4
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"


@dataclass(**SLOTS)
class Share:
    """What one vport causes."""

    total: int = 0
    """Packet-ins up to the last look."""
    own: int = 0
    """Those among them that were no answers."""
    lost: int = 0
    """Packet-ins left out since the last look."""
    rate_pps: float = 0.0
    """Packet-ins per second between the last two looks, with those left out."""
    halved: int = 0
    """How often its limit was halved."""
    halved_at: float = 0.0
    """When that was last, or when the limit began."""
    spoke: float = 0.0
    """When a look last found packet-ins."""
    busy: float = 0.0
    """When the rate was last not far below the limit, once limited."""
    mixed: float = -math.inf
    """When a sample last showed packets to others than the flooded destinations."""
    times: int = 0
    """How often it was limited."""


class ShareBook:
    """Packet-ins of vports for new flows, by time.

    Args:
        limit_pps: rate above which a port may be limited, and to which; 0: none is.
        now: monotonic seconds.
    """

    def __init__(self, limit_pps: int, now: float) -> None:
        self._limit = limit_pps
        self._looked = now
        self.due = now if limit_pps else math.inf
        """When to look next, if packets come."""
        self.answers: Counter[int] = Counter()
        """Packet-ins that belong to a connection that someone else opened."""
        self.limited: set[int] = set()
        """Vports that are limited now, as a whole or for some destinations."""
        self.whole: set[int] = set()
        """Those among them that are limited as a whole."""
        self.flooded: dict[int, tuple[int, ...]] = {}
        """Vport -> addresses for which it is limited."""
        self.shares: dict[int, Share] = {}
        self.wanted = 0
        """Packets that the sample still lacks."""
        self._sample: dict[int, Counter[int]] = {}

    def look(
        self,
        packet_ins: Mapping[int, int],
        vport_by_ofport: Mapping[int, int],
        uplinks: Container[int],
        now: float,
    ) -> tuple[list[int], list[int], list[int]]:
        """Judge what came since the last look.

        Args:
            packet_ins: how many each vport has caused ever.
            vport_by_ofport: whose packets those of the sample are.
            uplinks: vports that many others are behind.
            now: monotonic seconds.

        Returns:
            Vports that are limited from now on, that are limited otherwise than before,
            and those that are free again.
        """
        span = max(now - self._looked, WINDOW_S / 2)
        self._looked, self.due = now, now + WINDOW_S
        for vport, count in packet_ins.items():
            share = self.shares.get(vport)
            if share is None:
                share = self.shares[vport] = Share()
            own = count - self.answers[vport]
            share.rate_pps = (max(own - share.own, 0) + share.lost) / span
            if count != share.total:
                share.spoke = now
            share.total, share.own = count, own
        before = frozenset(self.limited)
        self._begin(now)
        turned: set[int] = set()
        if not self.wanted:
            for ofport, found in self._sample.items():
                vport = vport_by_ofport.get(ofport, 0)
                if self._turn(vport, found, now, is_uplink=vport in uplinks):
                    turned.add(vport)
        begun = self.limited - before
        turned.update(self._halve(now))
        ended = self._end(now)
        if self.limited or any(s.rate_pps > self._limit for s in self.shares.values()):
            self._sample.clear()
            self.wanted = SAMPLE
        return sorted(begun), sorted(turned - begun), ended

    def limit_of(self, vport: int) -> int:
        """Return what a limited port may send, in packets per second."""
        share = self.shares.get(vport)
        return max(self._limit >> (share.halved if share is not None else 0), 1)

    def lose(self, vport: int, count: int) -> None:
        """Note packet-ins of a vport that were left out."""
        share = self.shares.get(vport)
        if share is not None:
            share.lost += count

    def sample(self, ofport: int, frame: bytes) -> None:
        """Note where one packet goes."""
        self.wanted -= 1
        kind, address = frame[12:14], 0
        if kind == _IPV4:
            address = V4_MAPPED | int.from_bytes(frame[30:34], "big")
        elif kind == _IPV6:
            address = int.from_bytes(frame[38:54], "big")
        self._sample.setdefault(ofport, Counter())[address] += 1

    def is_flood(self, vport: int, address: int) -> bool:
        """Tell whether a port's packets to an address are what it is limited for."""
        return vport in self.whole or address in self.flooded.get(vport, ())

    def deadline(self) -> float | None:
        """Return when to look though no packets come, None where nobody is limited."""
        return self.due + WINDOW_S if self.limited else None

    def _free(self, vport: int) -> None:
        self.limited.discard(vport)
        self.whole.discard(vport)
        self.flooded.pop(vport, None)

    def _begin(self, now: float) -> None:
        for vport, share in self.shares.items():
            if share.rate_pps <= self._limit or vport in self.limited:
                continue
            if self._is_beside_small(vport, share.rate_pps, now):
                self._limit_one(vport, now)
                self.whole.add(vport)

    def _limit_one(self, vport: int, now: float) -> None:
        share = self.shares[vport]
        share.busy = share.halved_at = now
        share.halved = 0
        share.times += 1
        self.limited.add(vport)

    def _halve(self, now: float) -> list[int]:
        """Lower the limits of ports that are left out even so."""
        found = []
        for vport, share in self.shares.items():
            lost, share.lost = share.lost, 0
            if lost and vport in self.limited and now - share.halved_at >= _HALVE_S:
                share.halved_at = now
                if share.halved < _MAX_HALVED:
                    share.halved += 1
                    found.append(vport)
        return found

    def _turn(
        self, vport: int, found: Counter[int], now: float, *, is_uplink: bool
    ) -> bool:
        """Limit a port for some destinations, where these are what it floods.

        Returns:
            Whether anything is different now.
        """
        share, count = self.shares.get(vport), sum(found.values())
        if share is None or count < _TELLING:
            return False
        known = self.flooded.get(vport, ())
        heavy = [one for one, n in found.most_common(_MAX_FLOODED) if one]
        heavy = [one for one in heavy if found[one] * _FLOODED >= count]
        flooded = (*known, *(one for one in heavy if one not in known))[:_MAX_FLOODED]
        rest = count - sum(found[one] for one in flooded)
        if rest:
            share.mixed = now
        if vport not in self.limited:
            is_over = share.rate_pps > self._limit
            if not (is_uplink and is_over and flooded and rest):
                return False
            self._limit_one(vport, now)
        rest_pps = share.rate_pps * rest / count
        is_whole = not flooded or rest_pps > self.limit_of(vport)
        before = (known, vport in self.whole)
        if flooded:
            self.flooded[vport] = flooded
        (self.whole.add if is_whole else self.whole.discard)(vport)
        return before != (flooded, is_whole)

    def _end(self, now: float) -> list[int]:
        found = []
        for vport in self.limited:
            share = self.shares[vport]
            if share.rate_pps >= self.limit_of(vport) * _CALM and (
                now - share.mixed < PRESENT_S
                or self._is_beside_small(vport, share.rate_pps, now)
            ):
                share.busy = now
            elif now - share.busy >= CALM_S:
                found.append(vport)
        for vport in found:
            self._free(vport)
        return found

    def _is_beside_small(self, vport: int, rate_pps: float, now: float) -> bool:
        """Tell whether another port is there that causes far fewer packet-ins."""
        return any(
            now - one.spoke < PRESENT_S and one.rate_pps * _SMALL < rate_pps
            for key, one in self.shares.items()
            if key != vport and one.spoke
        )
