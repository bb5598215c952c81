# SPDX-License-Identifier: Apache-2.0
"""Who is refused how often: the account from which `refusals` acts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from midoryu.compat import SLOTS

# A vport counts as flooding for so long after the rate was last above the limit.
FLOOD_S: Final = 10.0


@dataclass(**SLOTS)
class Tally:
    """What one vport was refused."""

    total: int = 0
    """Refused packets that came to the agent."""
    since: float = 0.0
    """Beginning of the second that is counted."""
    count: int = 0
    """Refused in this second."""
    flood_until: float = 0.0
    flows: int = 0
    """Wide flows that were made for it."""


class RefusalBook:
    """Refused packets by vport.

    Args:
        limit_pps: refused packets of a vport in one second that are no flood; 0: none
            ever is.
    """

    def __init__(self, limit_pps: int) -> None:
        self._limit = limit_pps
        self.tallies: dict[int, Tally] = {}
        self.watched: dict[int, float] = {}
        """Vport whose records are watched -> until when flows may need it."""

    def note(self, vport: int, now: float) -> bool:
        """Count a refused packet; tell whether it is part of a flood."""
        tally = self.tallies.get(vport)
        if tally is None:
            tally = self.tallies[vport] = Tally()
        tally.total += 1
        if now - tally.since >= 1.0:
            tally.since, tally.count = now, 0
        tally.count += 1
        if self._limit and tally.count > self._limit:
            tally.flood_until = now + FLOOD_S
        return now < tally.flood_until
