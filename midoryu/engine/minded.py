# SPDX-License-Identifier: Apache-2.0
"""Which multicast members this host minds: until when, and when it asks again.

`snooping` works on it.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple, Union


class Asked(NamedTuple):
    """When a vport is asked again."""

    at: float
    sent: int


Place = tuple[int, int, int]
"""Network, group, vport."""


class Snooping:
    """What this host minds."""

    def __init__(self) -> None:
        self.ends: dict[Place, float] = {}
        """Membership of a local vport -> when it ends unless reported again."""
        self.counts: Counter[int] = Counter()
        """Local vport -> its memberships."""
        self.asked: dict[int, Asked] = {}
        """Local vport on a network with snooping -> when to ask it."""

    def deadline(self) -> Union[float, None]:
        """Return when `step` has something to do, None for never."""
        times = [*self.ends.values(), *(asked.at for asked in self.asked.values())]
        return min(times) if times else None
