# SPDX-License-Identifier: Apache-2.0
"""The express lane does what the packet lane does, to the byte."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from midoryu.engine import event
from midoryu.engine.config import EngineConfig
from midoryu.engine.effect import Effects
from midoryu.engine.engine import Engine
from midoryu.engine.express_book import Plan
from midoryu.openflow import flow, wire
from midoryu.packet.address import Prefix, parse_ip
from midoryu.state.connection import Connection, Phase, Translation, TranslationKind
from midoryu.topology import model
from tests.helpers import frames
from tests.helpers.builder import Builder
from tests.helpers.worlds import V4, V6, Family, two_networks

GRE, STATE = 1, 2
ACCEPT = model.RuleAction.ACCEPT
STATEFUL = (
    model.Rule(ACCEPT, ct_states=model.CT_ESTABLISHED),
    model.Rule(ACCEPT, ct_states=model.CT_NEW),
)
# What is to be seen of an engine afterwards.
RECORD_FIELDS = [one.name for one in fields(Connection) if one.name != "bucket"]


class Twins:
    """Two engines of node1 that hear the same; one has no express lane."""

    interfaces: ClassVar = {"a/vm1": 11, "a/vm3": 13}

    def __init__(
        self,
        family: Family,
        *rules: model.Rule,
        masquerade: bool,
        builder: Builder | None = None,
        **config: Any,
    ) -> None:
        b = builder or two_networks(family)
        self.family, self.b, self.now = family, b, 1000.0
        if rules:
            b.chain("out", *rules)
            self.put(replace(self._vport("a/vm1"), ingress_chain="out"))
        if masquerade:
            b.masquerade("r", family.subnet(1), family.nat_ip(1), vport="r/up")
            for block in (15 + n for n in (1, 2, 600)):
                b.lease("r", family.nat_ip(1), block, "node1")
        self.engines = []
        for is_on in (True, False):
            values = {"host": "node1", "epoch": 5, "seed": 7, **config}
            engine = Engine(EngineConfig(**values), self.now)
            engine._core.express.is_on = is_on
            self.engines.append(engine)
        self.change(*b.rows)
        self.do(event.SwitchConnected(GRE, STATE))
        self.do(event.InterfacesChanged(dict(self.interfaces)))
        self.now += 5.0
        self.do(event.Tick())

    def _vport(self, name: str) -> model.Vport:
        rows = [row for row in self.b.rows if isinstance(row, model.Vport)]
        return next(row for row in rows if row.key == self.b.key(name))

    def put(self, row: Any) -> None:
        self.b.put(row)

    @property
    def taken(self) -> int:
        """How many packets the express lane took."""
        return self.engines[0]._core.express.taken

    def do(self, what: event.Event) -> Effects:
        """Let both handle it; they ask for the same."""
        one, other = (engine.handle(what, self.now) for engine in self.engines)
        assert told(one) == told(other)
        return one

    def change(self, *rows: Any) -> None:
        self.do(event.TopologyChanged(tuple(model.Put(row) for row in rows)))

    def frame(self, *, udp: bool = False, **values: Any) -> bytes:
        """Make a frame of vm1 to the outside."""
        key = self.b.key
        mac = f"02:aa:00:00:{key('r'):02x}:{key('a'):02x}"
        chosen = {
            "src": self.family.ip(1, 11),
            "dst": self.family.outside,
            "sport": 1024,
            "dport": 443,
            "eth_src": "02:00:00:00:00:01",
            "eth_dst": mac,
        }
        make = frames.udp if udp else frames.tcp
        return make(**{**chosen, **values})

    def same(self) -> None:
        """See that both know the same."""
        one, other = (known(engine) for engine in self.engines)
        assert one == other


def told(effects: Effects) -> dict[str, Any]:
    """List what effects ask for, as bytes where there are any."""
    return {
        "pushes": [wire.encode_packet_out(one, 7) for one in effects.state_pushes],
        "mods": [wire.encode_flow_mod(one, 7) for one in effects.flow_mods],
        "made from": [one.flow for one in effects.flow_mods if hasattr(one, "flow")],
        "outs": [wire.encode_packet_out(one, 7) for one in effects.packet_outs],
        "the same outs": [(one.frame, one.actions) for one in effects.packet_outs],
        "writes": effects.nsdb_writes,
        "journal": effects.journal,
        "log": effects.log,
        "deadline": effects.deadline,
    }


def known(engine: Engine) -> dict[str, Any]:
    """List what an engine knows of records and flows."""
    core = engine._core
    records = {
        one.id: [getattr(one, name) for name in RECORD_FIELDS]
        for one in core.connections
    }
    flows = {
        one.cookie: (one.flow, one.tags | one.shared, one.connection, one.returns)
        for one in core.flows
    }
    return {
        "records": records,
        "held": sorted(core.connections.held()),
        "flows": flows,
        "counters": dict(core.counters),
        "packet-ins": dict(core.packet_ins),
        "unproven": core.blocks.unproven,
        "unreplied": {n: core.connections.unreplied_of(n) for n in range(20)},
    }


@pytest.mark.parametrize("family", [V4, V6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("masquerade", [False, True])
@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize("udp", [False, True], ids=["TCP", "UDP"])
def test_siblings_go_by_express(
    family: Family, masquerade: bool, stateful: bool, udp: bool
) -> None:
    rules = STATEFUL if stateful else ()
    twins = Twins(family, *rules, masquerade=masquerade, journal=True)
    outside = family.outside[:-1]
    for number in range(40):
        # Some of the ports are leased, so that they stay as they are.
        sport, there = 1100 + number % 30, f"{outside}{number + 1}"
        twins.do(event.PacketIn(11, twins.frame(udp=udp, sport=sport, dst=there), 10))
    twins.same()
    assert twins.taken > 10
    if masquerade:
        blocks = twins.engines[0]._core.blocks
        assert (len(blocks.unproven) > 20) is bool(blocks.ways)


@pytest.mark.parametrize("masquerade", [False, True])
def test_flows_that_look_at_the_size_go_by_express(masquerade: bool) -> None:
    twins = Twins(V4, *STATEFUL, masquerade=masquerade, assumed_mtu_bytes=1500)
    for number in range(20):
        twins.do(event.PacketIn(11, twins.frame(sport=1100 + number), 10))
    twins.same()
    assert twins.taken > 10
    core = twins.engines[0]._core
    kinds = {one.flow.actions[0][0] for one in core.flows if one.flow.actions}
    assert flow.CHECK_SIZE in kinds


def test_a_full_table_and_a_crowded_vport_are_left_to_the_packet_lane() -> None:
    config = {"max_connections": 24, "max_unreplied_per_vport": 20}
    twins = Twins(V4, *STATEFUL, masquerade=True, **config)
    for number in range(60):
        twins.do(event.PacketIn(11, twins.frame(sport=1100 + number), 10))
    twins.same()
    assert 0 < twins.taken < 40


def test_frames_that_are_malformed_are_not_taken() -> None:
    twins = Twins(V4, *STATEFUL, masquerade=True)
    for number in range(8):
        twins.do(event.PacketIn(11, twins.frame(sport=1100 + number), 10))
    taken = twins.taken
    frame = twins.frame(sport=1200)
    for at in (14, 16, 17, 20, 24, 25):
        wrong = bytearray(frame)
        wrong[at] ^= 1
        twins.do(event.PacketIn(11, bytes(wrong), 10))
    for length in range(0, 54, 3):
        twins.do(event.PacketIn(11, frame[:length], 10))
    twins.same()
    assert twins.taken == taken


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["send"] * 12
            + ["removed", "tick", "route", "rule", "down", "up", "lease", "moved"]
            + ["record", "other way"]
        ),
        st.integers(0, 7),
        st.integers(1000, 1009),
        st.sampled_from([80, 443]),
        st.sampled_from(["S", "S", "S", "S", "A", "SA", "F"]),
        st.booleans(),
    ),
    min_size=10,
    max_size=50,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=_STEPS, masquerade=st.booleans(), stateful=st.booleans(), is_v6=st.booleans()
)
def test_whatever_happens_both_lanes_do_the_same(
    steps: list[Any], masquerade: bool, stateful: bool, is_v6: bool
) -> None:
    family = V6 if is_v6 else V4
    rules = STATEFUL if stateful else ()
    twins = Twins(family, *rules, masquerade=masquerade)
    for what, number, sport, dport, flags, udp in steps:
        there = f"{family.outside[:-1]}{number + 1}"
        if what == "send":
            values = {"sport": sport, "dport": dport, "dst": there}
            values |= {} if udp else {"flags": flags}
            for more in range(3):
                frame = twins.frame(udp=udp, **{**values, "sport": sport + more * 16})
                twins.do(event.PacketIn(11, frame, 10))
        else:
            _disturb(twins, what, number, sport)
        twins.now += 0.25
    twins.same()


def _disturb(twins: Twins, what: str, number: int, sport: int) -> None:
    b, family = twins.b, twins.family
    if what == "removed":
        cookies = [one.cookie for one in twins.engines[1]._core.flows]
        if cookies:
            cookie = cookies[number % len(cookies)]
            twins.do(event.FlowRemoved(cookie, 0, 60, 90.0, number))
    elif what == "tick":
        twins.now += number * 20.0
        twins.do(event.Tick())
    elif what == "route":
        prefix = Prefix(parse_ip(family.outside), 128)
        blackhole = model.RouteKind.BLACKHOLE
        twins.change(model.Route("more", b.key("r"), prefix, kind=blackhole))
    elif what == "rule":
        chains = [row for row in b.rows if isinstance(row, model.Chain)]
        for chain in chains:
            b.put(replace(chain, rules=chain.rules[::-1]))
            twins.change(*(row for row in b.rows if isinstance(row, model.Chain)))
    elif what in ("down", "up"):
        twins.change(replace(twins._vport("r/up"), up=what == "up"))
    elif what == "lease":
        twins.change(b.lease("r", family.nat_ip(1), 16 + sport % 7, "node1"))
    elif what == "moved":
        key = b.key("r/up")
        host = b.key("node2" if number % 2 else "node1")
        twins.change(model.VportStatus(key, host, True))
    else:
        _import(twins, number, sport, is_back=what == "other way")


def _import(twins: Twins, number: int, sport: int, *, is_back: bool) -> None:
    """Let a record come from somewhere that looks like one of vm1's."""
    b, family = twins.b, twins.family
    here = parse_ip(family.ip(1, 11))
    there = parse_ip(f"{family.outside[:-1]}{number + 1}")
    ends = (there, here, 443, sport) if is_back else (here, there, sport, 443)
    made = ()
    if number % 2 and not is_back:
        nat = parse_ip(family.nat_ip(1))
        kind = TranslationKind.SOURCE
        made = (Translation(b.key("r"), kind, nat, 1024 + sport % 64),)
    for engine in twins.engines:
        core = engine._core
        one = Connection(
            sport << 8 | number,
            6,
            ends,
            b.key("a"),
            b.key("a/vm1"),
            b.key("r"),
            b.key("r/up"),
            made,
            b.key("node2"),
            Phase.TCP_ESTABLISHED,
            twins.now,
        )
        if core.connections.get(one.id) is None:
            keys = core.connections.insert(one, twins.now)
            core.nat.commit(one, twins.now)
            core.invalidate(keys, Effects(), twins.now)


def plan_of(family: Family) -> Plan:
    """Return the plan of a VM's masqueraded connections."""
    twins = Twins(family, *STATEFUL, masquerade=True)
    for number in range(4):
        twins.do(event.PacketIn(11, twins.frame(sport=1100 + number), 10))
    ((plan,),) = twins.engines[0]._core.express.plans.values()
    return plan


def test_a_plan_ends_with_the_rows_that_it_was_made_from() -> None:
    twins = Twins(V4, *STATEFUL, masquerade=True)
    for number in range(6):
        twins.do(event.PacketIn(11, twins.frame(sport=1100 + number), 10))
    ((plan,),) = twins.engines[0]._core.express.plans.values()
    taken = twins.taken
    assert plan.template.is_live
    twins.change(replace(twins._vport("a/vm1"), ingress_chain=""))
    assert not plan.template.is_live
    twins.do(event.PacketIn(11, twins.frame(sport=1200), 10))
    assert twins.taken == taken
    twins.same()


@pytest.mark.parametrize("masquerade", [False, True])
def test_a_new_record_removes_the_flows_that_it_makes_wrong(masquerade: bool) -> None:
    twins = Twins(V4, *STATEFUL, masquerade=masquerade)
    for number in range(4):
        twins.do(event.PacketIn(11, twins.frame(sport=1100 + number), 10))
    twins.do(event.PacketIn(11, twins.frame(sport=1110, flags="F"), 10))
    twins.now += 0.1  # nobody knows its record
    assert twins.do(event.Tick()).flow_mods
    opened = twins.do(event.PacketIn(11, twins.frame(sport=1110), 10))
    assert any(isinstance(one, flow.RemoveFlow) for one in opened.flow_mods)
    twins.same()
