# SPDX-License-Identifier: Apache-2.0
"""The packet lane: a frame from a local vport is simulated, then carried out.

1. decode; 2. simulate; 3. learn; 4. park, where something is missing; 5. commit the
record and push it; 6. install the flow; 7. send the packet, and what devices say.
`carrying` and `state_lane` do steps 5 to 7, `express` all of them for known kinds.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, get_args

from midoryu.engine import (
    express,
    health,
    learning,
    leases,
    moving,
    port_blocks,
    questions,
    refusals,
    resolving,
    rule_log,
    subport,
)
from midoryu.engine.carrying import (
    carry_out,
    commit,
    expect_answers,
    install,
    must_wait,
    returns,
)
from midoryu.engine.core import Core
from midoryu.engine.effect import Effects
from midoryu.engine.event import PacketIn
from midoryu.engine.fragments import Refusal
from midoryu.engine.waiting import Parked
from midoryu.errors import DecodeError
from midoryu.openflow import pipeline
from midoryu.openflow.flow import PacketOut
from midoryu.packet.codec import decode
from midoryu.packet.fragment import lend, read_fragment
from midoryu.packet.packet import Packet
from midoryu.packet.rewrite import set_ttl
from midoryu.simulation import neighbor
from midoryu.simulation.outcome import (
    Blocked,
    Consumed,
    Drop,
    Emission,
    Flood,
    Forward,
    NeighborWanted,
    Outcome,
    Reason,
    Simulation,
    StateWanted,
    Wanted,
)
from midoryu.simulation.simulator import simulate, simulate_emission
from midoryu.topology.model import Vport
from midoryu.translation import flows as translation

# A next hop is asked for again after this time, while a packet waits for it.
ASK_INTERVAL_S: Final = 1.0
# Emissions that emissions caused (an answer to an answer): more is a loop.
_EMISSION_DEPTH: Final = 4
_DEBUG: Final = 10
_PROBE: Final = Consumed(Reason.PROBE)
_NO_BINDING: Final = Drop(Reason.NO_BINDING)


_COUNTED: Final = {
    kind: f"outcome {kind.__name__.lower()}" for kind in get_args(Outcome)
}


class Again(Enum):
    """How often a packet has been simulated before."""

    FIRST = 1
    """Never."""
    RESUMED = 2
    """It has waited for something."""
    LAST = 3
    """It has waited for as long as it may."""


def handle(core: Core, event: PacketIn, effects: Effects, now: float) -> None:
    """Take a frame from a local vport through the virtual topology."""
    if express.take(core, event, effects, now):
        return
    key = core.places.vport_by_ofport.get(event.in_port)
    vport = core.topology.vport(key) if key is not None else None
    if vport is None:
        if event.in_port in core.awaited:
            moving.hear(core, event)
            return
        vport = port_blocks.enter(core, event)
        if vport is None:
            core.counters["packets from an unknown port"] += 1
            return
        core.counters["packet-ins handed on by gateways"] += 1
    core.counters["packet-ins"] += 1
    if core.places.vport_by_tag:
        entered = subport.enter(core, event, vport)
        if entered is None:
            return
        event, vport = entered
    core.packet_ins[vport.key] += 1
    try:
        packet = _decode(event)
    except DecodeError as error:
        _malformed(core, vport, error, effects)
        return
    if packet.ip_frag:
        _fragment(core, event, packet, vport, effects=effects, now=now)
        return
    _run(core, event, packet, vport, effects=effects, now=now, again=Again.FIRST)


def _malformed(core: Core, vport: Vport, error: DecodeError, effects: Effects) -> None:
    core.counters["malformed frames"] += 1
    name = core.topology.vport_name(vport.key)
    effects.log.append((_DEBUG, f"malformed frame at {name}: {error}"))


def _fragment(
    core: Core,
    event: PacketIn,
    packet: Packet,
    vport: Vport,
    *,
    effects: Effects,
    now: float,
) -> None:
    """Let a fragment go on with what the first one of its datagram says."""
    try:
        place = read_fragment(packet)
    except DecodeError as error:
        _malformed(core, vport, error, effects)
        return
    core.counters["fragments"] += 1
    datagram = core.fragments.enter(vport.key, packet, place, now)
    if isinstance(datagram, Refusal):
        core.counters[datagram.value] += 1
        return
    if place.start and datagram.first is not None:
        packet = lend(packet, datagram.first)
    elif place.start and simulate(packet, vport, core.world, now=now).needs_first:
        if not core.fragments.wait(datagram, event, packet):
            core.counters[Refusal.NO_ROOM.value] += 1
        return
    _run(core, event, packet, vport, effects=effects, now=now, again=Again.FIRST)
    if not place.start and datagram.waiting:
        for event, later in core.fragments.release(datagram):
            lent = lend(later, packet)
            _run(core, event, lent, vport, effects=effects, now=now, again=Again.FIRST)
    core.fragments.close(datagram)


def _decode(event: PacketIn) -> Packet:
    if event.reason == pipeline.REASON_INVALID_TTL:
        # The switch stopped at the n-th decrement: n-1 of them are undone, so that the
        # simulation stops at the same router.
        return decode(set_ttl(event.frame, max(1, event.hops)))
    return decode(event.frame)


def resume(core: Core, parked: Parked, effects: Effects, now: float) -> None:
    """Simulate a packet again that had waited; its time may be over."""
    vport = core.topology.vport(parked.vport)
    if vport is None or not (parked.event.tunnel_key or _is_here(core, vport)):
        core.counters["waiting packets lost their vport"] += 1
        return
    packet = parked.packet or _decode(parked.event)
    again = Again.RESUMED
    if not isinstance(parked.wanted, StateWanted):
        # What lay behind is seen only now: it may be for peers to know.
        again = Again.LAST if now >= parked.deadline else Again.FIRST
    _run(core, parked.event, packet, vport, effects=effects, now=now, again=again)


def _is_here(core: Core, vport: Vport) -> bool:
    return vport.key in core.places.ofport_by_vport


def answer_unsolicited(core: Core, effects: Effects, now: float) -> None:
    """Tell senders of SYNs that nobody waited for, once the silence is over."""
    for one in core.unsolicited.take_due(now):
        vport = core.topology.vport(one.vport)
        if vport is None or not (one.event.tunnel_key or _is_here(core, vport)):
            continue
        core.counters["unsolicited SYNs looked at again"] += 1
        packet = _decode(one.event)
        again = simulate(packet, vport, core.world, now=now, give_up=True)
        if again.outcome == Consumed(Reason.NO_BINDING):
            for emission in again.emissions:
                emit(core, emission, effects, now)


def resume_all(core: Core, wanted: Wanted, effects: Effects, now: float) -> None:
    """Let go on what waited for one thing that has just become known."""
    core.asked.pop(wanted, None)
    for parked in core.waiting.take(wanted):
        resume(core, parked, effects, now)
    if isinstance(wanted, NeighborWanted):
        for emission in core.unsaid.take(wanted, now):
            emit(core, emission, effects, now)


def _run(
    core: Core,
    event: PacketIn,
    packet: Packet,
    vport: Vport,
    *,
    effects: Effects,
    now: float,
    again: Again,
) -> None:
    is_learning = questions.is_learning(core, vport.key, now)
    if again is Again.FIRST and not is_learning:
        simulation = core.replays.simulate(packet, vport, core.world, now=now)
    else:
        simulation = simulate(
            packet,
            vport,
            core.world,
            now=now,
            give_up=again is Again.LAST,
            ask_peers=again is Again.FIRST,
            has_memory=not is_learning,
        )
    outcome = simulation.outcome
    if isinstance(outcome, Blocked) and isinstance(outcome.wanted, StateWanted):
        peers = questions.who_may_know(core, vport.key, outcome.wanted)
        if not peers and core.has_memory(now):
            again = Again.RESUMED
            _run(core, event, packet, vport, effects=effects, now=now, again=again)
            return
        if core.waiting.has_room(vport.key):
            questions.ask(core, outcome.wanted, peers, effects, now)
    core.counters[_COUNTED[type(outcome)]] += 1
    if simulation.learned:
        _learn(core, simulation, effects, now)
    if isinstance(outcome, Blocked):
        kept = packet if packet.borrowed else None
        parked = Parked(event, vport.key, now, outcome.wanted, kept)
        _park(core, parked, effects, now)
        return
    if packet.ip_frag and outcome == Consumed(Reason.REASSEMBLY):
        _gather(core, event, packet, vport, effects=effects, now=now)
        return
    _decided(core, event, vport, simulation, effects=effects, now=now)


def _decided(
    core: Core,
    event: PacketIn,
    vport: Vport,
    simulation: Simulation,
    *,
    effects: Effects,
    now: float,
) -> None:
    """Carry out what became of a packet that waits for nothing."""
    outcome = simulation.outcome
    if not isinstance(outcome, (Forward, Flood, Blocked)):
        core.counters[f"{outcome.reason.name.lower()}"] += 1
        if refusals.is_flood(core, vport.key, outcome, now):
            wide = refusals.widen(core, event, vport, simulation, now)
            for entry in wide:
                install(core, entry, effects)
            if wide:
                return
    if simulation.logs or outcome == _NO_BINDING:
        _note(core, event, vport, simulation, effects=effects, now=now)
    connection = commit(core, simulation, effects, now)
    if returns(simulation):
        core.shares.answers[vport.key] += 1
    if must_wait(core, simulation, connection):
        held = core.held.put(connection, now + core.config.hold_first_packet_s)
        carry_out(core, event, simulation, connection, effects=held, now=now)
        plan = None
    else:
        made = carry_out(core, event, simulation, connection, effects=effects, now=now)
        plan = express.learn(core, event, simulation, made) if made else None
    if core.blocks.ways and vport.key not in core.shares.limited:
        answer = expect_answers(core, simulation, connection, effects, now)
        if plan is not None and answer is not None:
            express.learn_answer(core, plan, simulation, answer)
    _speak(core, simulation, effects, now)


def _speak(core: Core, simulation: Simulation, effects: Effects, now: float) -> None:
    """Send what devices say about the packet, or have others asked."""
    if simulation.outcome == _PROBE:
        for emission in health.arrived(core, simulation, effects, now):
            emit(core, emission, effects, now)
    for emission in simulation.emissions:
        emit(core, emission, effects, now)
    if simulation.lookup is not None:
        for emission in resolving.ask(core, simulation.lookup, effects, now):
            emit(core, emission, effects, now)


def _note(
    core: Core,
    event: PacketIn,
    vport: Vport,
    simulation: Simulation,
    *,
    effects: Effects,
    now: float,
) -> None:
    """Keep what is of use later: lines for the log, a SYN that nobody waits for."""
    core.unsolicited.note(event, vport.key, simulation, now)
    rule_log.write(core, vport.key, simulation, effects, now)


def _learn(core: Core, simulation: Simulation, effects: Effects, now: float) -> None:
    for wanted in learning.learn(core, simulation.learned, effects, now):
        resume_all(core, wanted, effects, now)


def _gather(
    core: Core,
    event: PacketIn,
    packet: Packet,
    vport: Vport,
    *,
    effects: Effects,
    now: float,
) -> None:
    """Keep a fragment for a virtual device; with the last one the packet goes on."""
    whole = core.fragments.gather(vport.key, packet, now)
    if isinstance(whole, Refusal):
        core.counters[whole.value] += 1
    if not isinstance(whole, bytes):
        return
    core.counters["datagrams put together"] += 1
    event, again = event._replace(frame=whole), Again.FIRST
    try:
        packet = decode(whole)
    except DecodeError as error:
        _malformed(core, vport, error, effects)
        return
    _run(core, event, packet, vport, effects=effects, now=now, again=again)


def _park(core: Core, parked: Parked, effects: Effects, now: float) -> None:
    wanted = parked.wanted
    is_state = isinstance(wanted, StateWanted)
    wait_s = questions.STATE_WAIT_S if is_state else core.config.neighbor_timeout_s
    deadline = now + wait_s
    if is_state:
        deadline = max(deadline, questions.learnt_at(core, parked.vport, now))
    if not core.waiting.park(parked._replace(deadline=deadline)):
        core.counters["no room to wait"] += 1
        return
    ask(core, wanted, effects, now)


def ask(core: Core, wanted: Wanted, effects: Effects, now: float) -> None:
    """Ask for what a packet waits for, at most once per interval.

    Peers were asked for a record when the packet came (`questions`).
    """
    if isinstance(wanted, StateWanted):
        return
    if now - core.asked.get(wanted, -ASK_INTERVAL_S) < ASK_INTERVAL_S:
        return
    core.asked[wanted] = now
    if not isinstance(wanted, NeighborWanted):
        leases.ask(core, wanted, effects)
        return
    vport = core.topology.vport(wanted.vport)
    if vport is not None:
        core.counters["neighbours asked for"] += 1
        frame = neighbor.request(vport, wanted.address)
        emit(core, Emission(vport.key, frame), effects, now)


def emit(
    core: Core, emission: Emission, effects: Effects, now: float, depth: int = 0
) -> None:
    """Send what a virtual device says, wherever it leaves the overlay."""
    simulation = simulate_emission(emission, core.world)
    _learn(core, simulation, effects, now)
    if isinstance(simulation.outcome, Blocked):
        wanted = simulation.outcome.wanted
        if isinstance(wanted, NeighborWanted) and core.unsaid.wait(
            wanted, emission, now
        ):
            ask(core, wanted, effects, now)
        return
    vports = translation.vports_of(simulation.outcome)
    outputs = translation.outputs(vports, core.places, pipeline.PORT_CONTROLLER)
    if outputs.actions:
        for frame in translation.frames_of(simulation):
            effects.packet_outs.append(PacketOut(frame, outputs.actions))
        core.counters["emissions"] += 1
    if depth < _EMISSION_DEPTH:
        for answer in simulation.emissions:
            emit(core, answer, effects, now, depth + 1)
