# SPDX-License-Identifier: Apache-2.0
"""Suite `micro`: each step of the packet path, per call, in this process.

The reference is what Ryu's own library takes to parse the same frame.
"""

from __future__ import annotations

import contextlib
import cProfile
import gc
import importlib
import pstats
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from midoryu.bench import rules, world
from midoryu.bench.report import Figure
from midoryu.bench.stage import Stage
from midoryu.engine import state_lane
from midoryu.engine.config import EngineConfig
from midoryu.engine.effect import Effects, LeaseBlock
from midoryu.engine.engine import Engine
from midoryu.engine.event import (
    InterfacesChanged,
    PacketIn,
    SwitchConnected,
    Tick,
    TopologyChanged,
)
from midoryu.openflow import flow, wire
from midoryu.packet.address import parse_ip
from midoryu.packet.codec import decode
from midoryu.simulation.simulator import simulate
from midoryu.topology.model import Change, Lease, Put
from midoryu.translation import flows as translation

_CALLS: Final = 1500
_WARM: Final = 300
_SNAT: Final = "l3+ct+snat"
_PEER: Final = "node2"
_REFERENCE: Final = "ryu packet.Packet"
_PROFILE_LINES: Final = 45
# As many packet-ins as the agent handles before it sends.
_TOGETHER: Final = 16


class Rig:
    """The engine of the host under test, and one of a peer, without rims."""

    def __init__(self, rows: tuple[Change, ...]) -> None:
        self.now = 1000.0
        self._numbers = dict.fromkeys(world.KINDS, 0)
        self._blocks = 100
        self.engine = self._start(world.HOST, rows)
        self.peer = self._start(_PEER, rows)
        ofports = {place.iface_id: place.ofport for place in world.places()}
        self.handle(InterfacesChanged(ofports))
        self.now += 3.0  # nobody answers: the memory of peers is not waited for
        self.handle(Tick())
        self.core: Any = self.engine._core  # noqa: SLF001

    def _start(self, host: str, rows: tuple[Change, ...]) -> Engine:
        config = EngineConfig(host=host, epoch=1, seed=len(host), max_flows=1_000_000)
        engine = Engine(config, self.now)
        engine.handle(TopologyChanged(rows), self.now)
        ofports = (world.GRE_OFPORT, world.STATE_OFPORT)
        engine.handle(SwitchConnected(*ofports), self.now)
        return engine

    def handle(self, event: Any) -> Effects:
        """Give the engine an event; grant the leases that it asks for."""
        self.now += 1e-4
        effects = self.engine.handle(event, self.now)
        self.grant(effects)
        return effects

    def grant(self, effects: Effects) -> None:
        """Do what the NSDB would with leases."""
        for write in effects.nsdb_writes:
            if isinstance(write, LeaseBlock):
                self._blocks += 1
                block = 16 + self._blocks % 1000
                key = f"lease/{self._blocks}"
                host = self.engine._core.host  # noqa: SLF001
                row = Lease(key, write.router, write.address, block, host)
                self.handle(TopologyChanged((Put(row),)))

    def events(self, kind: str, count: int) -> list[PacketIn]:
        """Make the next packet-ins of a kind."""
        first = self._numbers[kind]
        self._numbers[kind] += count
        return [
            PacketIn(*world.packet(kind, first + n), table=10) for n in range(count)
        ]


def run(
    repeat: int, tell: Callable[[str], None], *, is_profiled: bool = False
) -> list[Figure]:
    """Measure every step, so many times."""
    tell("starting the NSDB")
    with Stage() as stage:
        rows = stage.start_nsdb()
    rig = Rig(rows)
    steps: dict[str, Callable[[Rig], float]] = {
        "decode": _decode,
        "simulate": _simulate,
        "translate + encode": _translate,
        "push to 3 peers": _push,
        "state receive": _receive,
        f"state receive, each of {_TOGETHER}": _receive_together,
        **{f"engine {kind}": _engine(kind) for kind in world.KINDS},
        f"engine + wire {_SNAT}": _engine(_SNAT, is_encoded=True),
        **{f"{_TOGETHER} at once + wire {kind}": _batch(kind) for kind in world.KINDS},
        f"filter, {rules.FEW} rules": rules.filtered(rules.FEW),
        f"filter, {rules.MANY:,} rules": rules.filtered(rules.MANY),
        f"filter, {rules.MANY:,} rules, groups of {rules.MEMBERS:,}": rules.filtered(
            rules.MANY, members=rules.MEMBERS
        ),
        f"change of a group of {rules.MEMBERS:,}": rules.member_change(rules.MEMBERS),
    }
    for kind in world.KINDS:
        for event in rig.events(kind, _WARM):
            rig.handle(event)
    gc.set_threshold(20_000, 20, 1_000_000)
    figures = {name: Figure("micro", name, "us", _REFERENCE) for name in steps}
    parse = _ryu_parse()
    for turn in range(repeat):
        tell(f"{turn + 1}/{repeat}")
        # As the agent does it (`agent.garbage`).
        gc.collect(1)
        gc.freeze()
        reference = parse(rig)
        for name, step in steps.items():
            figures[name].samples.append(step(rig))
            figures[name].reference_samples.append(reference)
    if is_profiled:
        _profile(rig)
    return list(figures.values())


def _timed(calls: Sequence[Callable[[], object]]) -> float:
    """Return microseconds of processor time per call: others use the machine, too."""
    start = time.thread_time()
    for call in calls:
        call()
    return (time.thread_time() - start) / max(len(calls), 1) * 1e6


def _ryu_parse() -> Callable[[Rig], float]:
    with _eventlet_complete():
        parse: Any = importlib.import_module("ryu.lib.packet.packet").Packet

    def step(rig: Rig) -> float:
        frames = [event.frame for event in rig.events(_SNAT, _CALLS)]
        return _timed([_call(parse, frame) for frame in frames])

    return step


@contextlib.contextmanager
def _eventlet_complete() -> Iterator[None]:
    """Let Ryu 4.34 import on today's eventlet."""
    wsgi: types.ModuleType = importlib.import_module("eventlet.wsgi")
    if not hasattr(wsgi, "ALREADY_HANDLED"):
        wsgi.ALREADY_HANDLED = object()  # type: ignore[attr-defined]
    yield


def _decode(rig: Rig) -> float:
    frames = [event.frame for event in rig.events(_SNAT, _CALLS)]
    return _timed([_call(decode, frame) for frame in frames])


def _simulations(rig: Rig, count: int) -> list[tuple[PacketIn, Callable[[], Any]]]:
    places, topology = rig.core.places, rig.core.topology
    calls = []
    for event in rig.events(_SNAT, count):
        vport = topology.vport(places.vport_by_ofport[event.in_port])
        packet = decode(event.frame)
        calls.append((event, _simulation(rig, packet, vport)))
    return calls


def _simulation(rig: Rig, packet: Any, vport: Any) -> Callable[[], Any]:
    return lambda: simulate(packet, vport, rig.core.world, now=rig.now)


def _simulate(rig: Rig) -> float:
    return _timed([call for _, call in _simulations(rig, _CALLS)])


def _translate(rig: Rig) -> float:
    places = rig.core.places
    results = [(event, call()) for event, call in _simulations(rig, 300)]

    def step(event: PacketIn, simulation: Any) -> None:
        out = translation.outputs(
            translation.vports_of(simulation.outcome), places, event.in_port
        )
        actions = translation.rewrites(simulation) + out.actions
        match = translation.match_of(simulation, event.in_port)
        entry = flow.Flow(10, 1000, match, actions, 1, idle_timeout_s=60)
        wire.encode_flow_mod(flow.InstallFlow(entry), 1)
        sent = flow.PacketOut(event.frame, actions, event.in_port)
        wire.encode_packet_out(sent, 1)

    return _timed([_call(step, *result) for result in results] * 5)


def _call(step: Callable[..., object], *arguments: Any) -> Callable[[], object]:
    return lambda: step(*arguments)


def _push(rig: Rig) -> float:
    made = [call().connection for _, call in _simulations(rig, 300)]
    connections = [one for one in made if one is not None]
    for number, one in enumerate(connections):
        one.id, one.owner, one.last_used = number + 1, rig.core.host, rig.now
    replicator, core = rig.core.replicator, rig.core
    peers = state_lane.interested_peers(core, connections[0])
    effects = Effects()

    def step(connection: Any) -> None:
        state_lane.send(core, replicator.push((connection,), peers, rig.now), effects)

    return _timed([_call(step, one) for one in connections])


def _receive(rig: Rig) -> float:
    peer: Any = rig.peer._core  # noqa: SLF001
    underlay = parse_ip(world.UNDERLAY[_PEER])
    frames = [
        push.frame
        for event in rig.events(_SNAT, 500)
        for push in rig.handle(event).state_pushes
        if any(underlay in action for action in push.actions)
    ]
    assert peer.host
    calls = [
        _call(rig.peer.handle, PacketIn(world.STATE_OFPORT, frame), rig.now)
        for frame in frames
    ]
    return _timed(calls)


def _engine(kind: str, *, is_encoded: bool = False) -> Callable[[Rig], float]:
    def step(rig: Rig) -> float:
        events = rig.events(kind, _CALLS)
        spent = 0.0
        clock = time.thread_time
        for event in events:
            rig.now += 1e-4
            start = clock()
            effects = rig.engine.handle(event, rig.now)
            if is_encoded:
                _encode(effects)
            spent += clock() - start
            rig.grant(effects)
        return spent / len(events) * 1e6

    return step


def _batch(kind: str) -> Callable[[Rig], float]:
    def step(rig: Rig) -> float:
        events = rig.events(kind, _CALLS)
        spent = 0.0
        clock = time.thread_time
        for first in range(0, len(events), _TOGETHER):
            rig.now += 1e-3
            start = clock()
            effects = _together(rig, events[first : first + _TOGETHER])
            _encode(effects)
            spent += clock() - start
            rig.grant(effects)
        return spent / len(events) * 1e6

    return step


def _together(rig: Rig, events: Sequence[PacketIn]) -> Effects:
    effects = Effects()
    for event in events:
        rig.engine.take(event, effects, rig.now)
    rig.engine.finish(effects, rig.now)
    return effects


def _receive_together(rig: Rig) -> float:
    underlay = parse_ip(world.UNDERLAY[_PEER])
    frames = []
    events = rig.events(_SNAT, 640)
    for first in range(0, len(events), _TOGETHER):
        rig.now += 1e-3
        effects = _together(rig, events[first : first + _TOGETHER])
        frames += [
            push.frame
            for push in effects.state_pushes
            if any(underlay in action for action in push.actions)
        ]
        rig.grant(effects)
    calls = [
        _call(rig.peer.handle, PacketIn(world.STATE_OFPORT, frame), rig.now)
        for frame in frames
    ]
    return _timed(calls) * len(calls) / len(events)


def _encode(effects: Effects) -> None:
    for push in effects.state_pushes:
        wire.encode_packet_out(push, 1)
    for mod in effects.flow_mods:
        wire.encode_flow_mod(mod, 1)
    for packet in effects.packet_outs:
        wire.encode_packet_out(packet, 1)


def _profile(rig: Rig) -> None:
    step = _engine(_SNAT, is_encoded=True)
    profile = cProfile.Profile()
    profile.runcall(step, rig)
    stats = pstats.Stats(profile, stream=sys.stderr)
    stats.sort_stats("tottime").print_stats(_PROFILE_LINES)
