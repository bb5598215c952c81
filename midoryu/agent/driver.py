# SPDX-License-Identifier: Apache-2.0
"""Feeds the engine: one event at a time, reads the clock, carries out the effects.

The only place that calls `Engine.handle`, on the one thread that owns the engine, and
the only place with a catch-all: a fault in one packet is logged once for each place
and counted; a fault in anything that the agent stands on ends the process.
"""

from __future__ import annotations

import logging
import math
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Protocol

from midoryu.agent.log import RateLimit
from midoryu.agent.switch import Switch
from midoryu.agent.words import flow_mod_words
from midoryu.engine.effect import (
    Effects,
    JournalWrite,
    NsdbWrite,
    Resolve,
    SetVportStatus,
)
from midoryu.engine.event import (
    Event,
    FlowRefused,
    FlowRemoved,
    JournalRead,
    PacketIn,
    PacketsShed,
    Resolved,
    Tick,
    WriteRefused,
)
from midoryu.openflow import flow

LOG = logging.getLogger(__name__)
ENGINE_LOG = logging.getLogger("midoryu.engine")

# Faults in these concern one packet or one flow; in all others, everything.
_SMALL: Final = (
    PacketIn,
    PacketsShed,
    Resolved,
    FlowRemoved,
    FlowRefused,
    WriteRefused,
    Tick,
    JournalRead,  # else a journal that the engine stumbles over would end each start
)
_MAX_FAULT_PLACES: Final = 256
_MIN_TICK_S: Final = 0.001
_TICK_AFTER_FAULT_S: Final = 1.0


class EngineLike(Protocol):
    """What the driver asks of an engine."""

    def handle(self, event: Event, now: float) -> Effects:
        """Take one event."""

    def take(self, event: PacketIn, effects: Effects, now: float) -> None:
        """Take one of several packet-ins."""

    def finish(self, effects: Effects, now: float) -> None:
        """Complete the effects of several packet-ins."""

    def inspect(self, query: str, arguments: Mapping[str, str], now: float) -> object:
        """Answer a question."""


class Driver:
    """Owns the engine."""

    def __init__(
        self,
        engine: EngineLike,
        *,
        call_later: Callable[[float, Callable[[], None]], Any],
        fail: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._call_later = call_later
        self._fail = fail
        self.switch = Switch(self.handle, self.handle_packets)
        self.write: Callable[[list[NsdbWrite]], None] = _nowhere
        self.status_written: Callable[[SetVportStatus], None] = _nowhere
        self.journal: Callable[[list[JournalWrite]], None] = _nowhere
        self.resolve: Callable[[list[Resolve]], None] = _nowhere
        self.journal_stats: Callable[[], Mapping[str, object]] = dict
        self._due = math.inf
        self._timer: Any = None
        self._depth = 0
        self._limit = RateLimit()
        self._fault_places: set[str] = set()
        self.counters: dict[str, int] = {"events": 0, "faults": 0, "ticks": 0}

    def handle(self, event: Event) -> None:
        """Give the engine one event and carry out what it asks for.

        The bytes for the switch are queued; `switch.flush` sends them.
        """
        self.counters["events"] += 1
        now = time.monotonic()
        try:
            effects = self._engine.handle(event, now)
        except Exception:
            self._fault(event)
            return
        self._perform(effects, now)

    def handle_packets(self, events: list[PacketIn]) -> None:
        """Give the engine packet-ins that came at once, as `handle` does with one."""
        self.counters["events"] += len(events)
        now = time.monotonic()
        effects = Effects()
        take = self._engine.take
        for event in events:
            try:
                take(event, effects, now)
            except Exception:
                self._fault(event)
        try:
            self._engine.finish(effects, now)
        except Exception:
            self._fault(events[-1])
        self._perform(effects, now)

    def handle_and_send(self, event: Event) -> None:
        """Do as `handle`, and send at once."""
        self.handle(event)
        self.switch.flush()

    def inspect(self, query: str, arguments: Mapping[str, str]) -> object:
        """Answer a question from the control socket.

        Raises:
            ValueError: the engine does not know the query.
        """
        if query == "agent":
            return {
                **self.counters,
                **self.switch.counters,
                "switch_ready": self.switch.is_ready(),
                "journal": self.journal_stats(),
            }
        found = self._engine.inspect(query, arguments, time.monotonic())
        if query == "vports" and isinstance(found, list):
            shed = self.switch.shed_by_ofport
            return [{**row, "shed": shed.get(row["ofport"], 0)} for row in found]
        return found

    # ------------------------------------------------------------ effects

    def _perform(self, effects: Effects, now: float) -> None:
        for value, error in self.switch.perform(effects):
            self._cannot_encode(value, error)
        if effects.nsdb_writes:
            self.write(effects.nsdb_writes)
            for write in effects.nsdb_writes:
                if isinstance(write, SetVportStatus):
                    self.status_written(write)
        if effects.lookups:
            self.resolve(effects.lookups)
        if effects.journal:
            self.journal(effects.journal)
        for level, message in effects.log:
            self._log(level, message, now)
        if effects.deadline is not None:
            self._wake_at(effects.deadline, now)

    def _cannot_encode(self, value: Any, error: Exception) -> None:
        words = flow_mod_words(value)
        self._log(logging.ERROR, f"cannot send {words}: {error}", time.monotonic())
        if isinstance(value, flow.InstallFlow):
            refused = FlowRefused(value.flow.cookie, f"{words}: {error}")
            self._call_later(0.0, lambda: self.handle_and_send(refused))

    def _log(self, level: int, message: str, now: float) -> None:
        if not ENGINE_LOG.isEnabledFor(level):
            return
        if level < logging.WARNING:
            ENGINE_LOG.log(level, "%s", message)
            return
        line = self._limit.admit(message, now)
        if line is not None:
            ENGINE_LOG.log(level, "%s", line)

    # ------------------------------------------------------------ the clock

    def _wake_at(self, deadline: float, now: float) -> None:
        """Have a tick by then; one that comes early does no harm."""
        if deadline >= self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = deadline
        wait_s = max(deadline - now, _MIN_TICK_S)
        self._timer = self._call_later(wait_s, self._tick)

    def _tick(self) -> None:
        self._due = math.inf
        self._timer = None
        self.counters["ticks"] += 1
        self.handle_and_send(Tick())

    # ------------------------------------------------------------ faults

    def _fault(self, event: Event) -> None:
        self.counters["faults"] += 1
        _, error, trace = sys.exc_info()
        text = traceback.format_exc()
        name = type(event).__name__
        if not isinstance(event, _SMALL):
            LOG.critical("fault while handling %s\n%s", name, text)
            self._fail(f"fault while handling {name}: {error!r}")
            return
        place = _place(trace)
        if place not in self._fault_places and (
            len(self._fault_places) < _MAX_FAULT_PLACES
        ):
            self._fault_places.add(place)
            LOG.error("fault while handling %s (logged once)\n%s", name, text)
        if isinstance(event, Tick):
            now = time.monotonic()
            self._wake_at(now + _TICK_AFTER_FAULT_S, now)


def _nowhere(_: object) -> None:
    """Stand in for a receiver that is not there yet."""


def _place(trace: TracebackType | None) -> str:
    last = traceback.extract_tb(trace)[-1:]
    return f"{last[0].filename}:{last[0].lineno}" if last else ""
