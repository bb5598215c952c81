# SPDX-License-Identifier: Apache-2.0
"""Time and machines of the simulation: the queue of events, a host and its memory.

`net` connects them; nothing here decides anything.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable

from midoryu.engine import effect
from midoryu.engine.engine import Engine
from midoryu.topology import model
from tests.fabric.timed_switch import TimedSwitch

GRE, STATE = 1, 2


class InvariantError(Exception):
    """Something that must never be."""


class Loop:
    """Events in order of (time, serial)."""

    def __init__(self, now: float) -> None:
        self.now = now
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Do something at an instant, not before now."""
        self._serial += 1
        heapq.heappush(self._heap, (max(when, self.now), self._serial, what))

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Do something in a while."""
        self.at(self.now + seconds, what)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            self.now, _, what = heapq.heappop(self._heap)
            what()
        self.now = end


class Host:
    """One host: a switch, and an agent that may be down."""

    def __init__(self, row: model.Host, now: float) -> None:
        self.name, self.key, self.underlay = row.name, row.key, row.underlay
        self.ofports: dict[str, int] = {}
        self.switch = TimedSwitch({GRE, STATE}, now)
        self.engine: Engine | None = None
        self.is_up = True
        """The machine is on."""
        self.is_switch_up = True
        self.starts = 0
        self.life = 0
        """Changes whenever the agent starts or stops: old events then mean nothing."""
        self.tick_at: float | None = None
        self.in_at = 0.0
        """When the last packet-in under way arrives: they keep their order."""
        self.nsdb_at = 0.0
        self.journal: dict[int, tuple[bytes, float]] = {}
        self.unwritten: deque[tuple[float, effect.JournalWrite]] = deque()
