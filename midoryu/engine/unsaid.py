# SPDX-License-Identifier: Apache-2.0
"""What devices would say, but for a next hop whose MAC address nobody knows yet.

An ICMP error or an echo reply to the outside may be the first packet by a gateway. It
waits here for a moment, as a machine's packet does in `waiting`; `packet_lane` asks for
the next hop, and says what waited once that is known. What is too much, or waited too
long, is dropped: all of it may get lost (RFC 1122, section 3.2.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from midoryu.simulation.outcome import Emission, NeighborWanted

_PATIENCE_S: Final = 3.0
_MAX_WANTED: Final = 64
_MAX_EACH: Final = 8


class Unsaid:
    """Emissions by the neighbour that they wait for."""

    def __init__(self) -> None:
        self._waiting: dict[NeighborWanted, tuple[float, list[Emission]]] = {}

    def __len__(self) -> int:
        return sum(len(emissions) for _, emissions in self._waiting.values())

    def wait(self, wanted: NeighborWanted, emission: Emission, now: float) -> bool:
        """Take an emission in; tell whether the neighbour has to be asked for."""
        known = self._waiting.get(wanted)
        if known is not None and now - known[0] < _PATIENCE_S:
            if len(known[1]) < _MAX_EACH:
                known[1].append(emission)
            return False
        for old in [
            w for w, (at, _) in self._waiting.items() if now - at >= _PATIENCE_S
        ]:
            del self._waiting[old]
        if len(self._waiting) >= _MAX_WANTED:
            return False
        self._waiting[wanted] = now, [emission]
        return True

    def wanted(self) -> Iterable[NeighborWanted]:
        """Return what is waited for."""
        return self._waiting.keys()

    def take(self, wanted: NeighborWanted, now: float) -> list[Emission]:
        """Take out what waits for a neighbour, but for what did so too long."""
        since, emissions = self._waiting.pop(wanted, (now, []))
        return emissions if now - since < _PATIENCE_S else []
