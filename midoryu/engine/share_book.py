# SPDX-License-Identifier: Apache-2.0
"""Which vport has more new flows than its share: the account from which `shares` acts.

A port is limited while it causes more packet-ins than a rate and another port with
few of them is there: who is alone, or among equals, has all that its meter allows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from midoryu.compat import SLOTS

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


@dataclass(**SLOTS)
class Share:
    """What one vport causes."""

    total: int = 0
    """Packet-ins up to the last look."""
    own: int = 0
    """Those among them that were no answers."""
    rate_pps: float = 0.0
    """Packet-ins per second between the last two looks."""
    spoke: float = 0.0
    """When a look last found packet-ins."""
    busy: float = 0.0
    """When the rate was last not far below the limit, once limited."""
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
        """Vports that are limited now."""
        self.shares: dict[int, Share] = {}

    def look(
        self, packet_ins: Mapping[int, int], now: float
    ) -> tuple[list[int], list[int]]:
        """Judge what came since the last look.

        Args:
            packet_ins: how many each vport has caused ever.
            now: monotonic seconds.

        Returns:
            Vports that are limited from now on, and those that are free again.
        """
        span = max(now - self._looked, WINDOW_S / 2)
        self._looked, self.due = now, now + WINDOW_S
        for vport, count in packet_ins.items():
            share = self.shares.get(vport)
            if share is None:
                share = self.shares[vport] = Share()
            own = count - self.answers[vport]
            share.rate_pps = max(own - share.own, 0) / span
            if count != share.total:
                share.spoke = now
            share.total, share.own = count, own
        return self._begin(now), self._end(now)

    def deadline(self) -> float | None:
        """Return when to look though no packets come, None where nobody is limited."""
        return self.due + WINDOW_S if self.limited else None

    def forget(self, vport: int) -> None:
        """Forget a vport that has left this host."""
        self.limited.discard(vport)
        self.shares.pop(vport, None)
        self.answers.pop(vport, None)

    def _begin(self, now: float) -> list[int]:
        found = []
        for vport, share in self.shares.items():
            if share.rate_pps <= self._limit or vport in self.limited:
                continue
            if self._is_beside_small(vport, share.rate_pps, now):
                self.limited.add(vport)
                share.busy = now
                share.times += 1
                found.append(vport)
        return found

    def _end(self, now: float) -> list[int]:
        found = []
        for vport in self.limited:
            share = self.shares[vport]
            if share.rate_pps >= self._limit * _CALM and self._is_beside_small(
                vport, share.rate_pps, now
            ):
                share.busy = now
            elif now - share.busy >= CALM_S:
                found.append(vport)
        self.limited.difference_update(found)
        return found

    def _is_beside_small(self, vport: int, rate_pps: float, now: float) -> bool:
        """Tell whether another port is there that causes far fewer packet-ins."""
        return any(
            now - one.spoke < PRESENT_S and one.rate_pps * _SMALL < rate_pps
            for key, one in self.shares.items()
            if key != vport and one.spoke
        )
