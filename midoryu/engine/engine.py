# SPDX-License-Identifier: Apache-2.0
"""The engine's one door: `handle` takes an event and returns what to do about it.

The lanes do the work; here the event is handed to its lane and the clock is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from midoryu.engine import (
    adoption,
    advertiser,
    block_exceptions,
    change_lane,
    gateways,
    health,
    learning,
    leases,
    memory,
    packet_lane,
    paths,
    questions,
    refusals,
    report,
    rerouting,
    resolving,
    returning,
    segments,
    shares,
    snooping,
    state_lane,
)
from midoryu.engine.config import EngineConfig
from midoryu.engine.core import Core
from midoryu.engine.effect import Effects
from midoryu.engine.event import (
    Event,
    FlowRefused,
    FlowRemoved,
    InterfacesChanged,
    JournalRead,
    KeysChanged,
    NsdbDisconnected,
    PacketIn,
    PacketsShed,
    Resolved,
    SwitchConnected,
    SwitchDisconnected,
    Tick,
    TopologyChanged,
    WriteRefused,
)
from midoryu.engine.express import settle
from midoryu.simulation.outcome import StateWanted

_INFO: Final = 20
_WARNING: Final = 30


class Engine:
    """One host's controller without its rims. Not safe for use by several threads."""

    def __init__(self, config: EngineConfig, now: float) -> None:
        self._core = Core(config, now)
        self._next_touch = now + config.touch_interval_s
        self._has_memory = False

    def handle(self, event: Event, now: float) -> Effects:
        """Take one event in.

        Args:
            event: what happened.
            now: monotonic seconds, never smaller than at the call before.

        Returns:
            What the rims shall do, in the order of the fields of `Effects`.
        """
        effects = Effects()
        if isinstance(event, PacketIn):
            self.take(event, effects, now)
        elif isinstance(event, Tick):
            self._tick(effects, now)
        else:
            _LANES[type(event)](self._core, event, effects, now)
        self.finish(effects, now)
        return effects

    def take(self, event: PacketIn, effects: Effects, now: float) -> None:
        """Take one of several packet-ins that came at once; `finish` has to follow.

        Their records go to each peer together: that costs a fraction of a datagram
        for each, here and there.
        """
        places = self._core.places
        if event.in_port == places.state_ofport and places.state_ofport:
            self._state(event.frame, effects, now)
        else:
            if self._core.shares.wanted:
                self._core.shares.sample(event.in_port, event.frame)
            packet_lane.handle(self._core, event, effects, now)

    def finish(self, effects: Effects, now: float) -> None:
        """Complete the effects of one event, or of several packet-ins."""
        if self._core.arrivals:
            change_lane.arrive(self._core, effects, now)
        express = self._core.express
        if express.taken != express.counted:
            settle(self._core)
        state_lane.push_made(self._core, effects, now)
        if self._core.nat.may_run_low:
            leases.prefetch(self._core, effects, now)
        if now >= self._core.shares.due:
            shares.look(self._core, effects, now)
        effects.deadline = self._deadline(now)

    def inspect(self, query: str, arguments: Mapping[str, str], now: float) -> object:
        """Answer a question about what this engine knows, as JSON-able values.

        Raises:
            ValueError: the query or one of its arguments is unknown.
        """
        return report.answer(self._core, query, arguments, now)

    def _state(self, frame: bytes, effects: Effects, now: float) -> None:
        core = self._core
        received, known = state_lane.receive(core, frame, effects, now)
        if received.sender and received.refusal is None:
            gateways.heard(core, received.sender, effects, now)
        paths.heard(core, received.echoed, now)
        core.held.release(received.confirmed, effects)
        for query in received.queries:
            questions.answer(core, received.sender, query, effects, now)
        for number in received.unknown:
            wanted = questions.unknown(core, received.sender, number)
            if wanted is not None:
                known.add(wanted)
        for wanted in known:
            packet_lane.resume_all(core, wanted, effects, now)
        gateways.told(core, received.sender, received.notices, effects, now)
        for emission in health.hear(core, received.probe_answers, effects, now):
            packet_lane.emit(core, emission, effects, now)
        self._remember(effects, now)

    def _remember(self, effects: Effects, now: float) -> None:
        """Let packets go on that waited for what peers remember, once that is here."""
        core = self._core
        if self._has_memory or not core.has_memory(now):
            return
        self._has_memory = True
        for wanted in core.waiting.wanted():
            if isinstance(wanted, StateWanted):
                packet_lane.resume_all(core, wanted, effects, now)

    def _tend(self, effects: Effects, now: float) -> None:
        """Do what is due every few seconds."""
        core = self._core
        state_lane.touch_held(core, effects, now)
        learning.age_macs(core, effects, now)
        for emission in learning.refresh_neighbors(core, now):
            packet_lane.emit(core, emission, effects, now)
        leases.release_idle(core, effects, now)
        returning.sweep(core, effects, now)

    def _tick(self, effects: Effects, now: float) -> None:
        core = self._core
        late = core.held.release_overdue(now, effects)
        core.counters["first packets sent without confirmation"] += late
        self._remember(effects, now)
        for parked in core.waiting.take_overdue(now):
            packet_lane.resume(core, parked, effects, now)
        packet_lane.answer_unsolicited(core, effects, now)
        for wanted in core.waiting.wanted():
            packet_lane.ask(core, wanted, effects, now)
        for wanted in [w for w in core.asked if w not in core.waiting.wanted()]:
            del core.asked[wanted]
        lost = core.fragments.expire(now)
        if lost:
            core.counters["fragments that waited in vain"] += lost
        state_lane.expire(core, effects, now)
        state_lane.touch_some(core, effects, now)
        if now >= self._next_touch:
            self._next_touch = now + core.config.touch_interval_s
            self._tend(effects, now)
        if core.replicator is not None:
            state_lane.send(core, core.replicator.tick(now), effects)
        for emission in gateways.step(core, effects, now):
            packet_lane.emit(core, emission, effects, now)
        for emission in segments.died(core):
            packet_lane.emit(core, emission, effects, now)
        for emission in advertiser.step(core, now):
            packet_lane.emit(core, emission, effects, now)
        questions.repeat(core, effects, now)
        questions.forget_old(core, now)
        refusals.tidy(core, now)
        snooping.step(core, effects, now)
        leases.take_up(core, now)
        block_exceptions.step(core, effects)
        core.affinity.expire(now, core.connections)
        self._watch_members(effects, now)
        adoption.step(core, effects, now)
        change_lane.tidy(core, effects, now)

    def _watch_members(self, effects: Effects, now: float) -> None:
        core = self._core
        wishes = health.step(core, effects, now)
        for emission in wishes.emissions:
            packet_lane.emit(core, emission, effects, now)
        for neighbor in wishes.neighbors:
            packet_lane.ask(core, neighbor, effects, now)

    def _deadline(self, now: float) -> float:
        """Return when something is due, whatever it is."""
        core = self._core
        due = (
            core.waiting.deadline(),
            core.unsolicited.deadline(),
            core.held.deadline(),
            core.fragments.deadline(),
            core.connections.deadline(),
            core.affinity.deadline(),
            health.deadline(core, now),
            core.liveness.deadline(),
            paths.deadline(core),
            rerouting.deadline(core, now),
            core.snooping.deadline(),
            core.shares.deadline(),
            advertiser.deadline(core),
            block_exceptions.deadline(core, now),
            core.replicator.deadline() if core.replicator is not None else None,
            questions.deadline(core, now),
            now + state_lane.TOUCH_PAUSE_S if core.to_touch else None,
            core.adopt_at if core.orphans else None,
            max(core.tidy_at, now + 0.1) if core.found_base else None,
            now + 0.1 if core.old_leases else None,
            now + packet_lane.ASK_INTERVAL_S if len(core.waiting) else None,
        )
        first = min(
            (instant for instant in due if instant is not None),
            default=self._next_touch,
        )
        # Records are aged in batches: a late end costs nothing, a busy loop does.
        return max(min(first, self._next_touch), now + 0.005)


def _switch_disconnected(core: Core, _: object, effects: Effects, __: float) -> None:
    core.switch_connected = False
    effects.log.append((_WARNING, "the switch disconnected"))


def _nsdb_disconnected(core: Core, _: object, effects: Effects, __: float) -> None:
    core.counters["NSDB connections lost"] += 1
    effects.log.append((_WARNING, "NSDB lost: going on from memory"))


def _resolved(core: Core, event: Resolved, effects: Effects, now: float) -> None:
    for emission in resolving.answered(core, event):
        packet_lane.emit(core, emission, effects, now)


_LANES: Final[dict[type, Callable[[Core, Any, Effects, float], None]]] = {
    FlowRemoved: change_lane.flow_removed,
    FlowRefused: change_lane.flow_refused,
    TopologyChanged: change_lane.topology_changed,
    InterfacesChanged: change_lane.interfaces_changed,
    JournalRead: memory.read,
    KeysChanged: change_lane.keys_changed,
    Resolved: _resolved,
    SwitchConnected: change_lane.switch_connected,
    SwitchDisconnected: _switch_disconnected,
    NsdbDisconnected: _nsdb_disconnected,
    WriteRefused: change_lane.write_refused,
    PacketsShed: shares.shed,
}
