# SPDX-License-Identifier: Apache-2.0
"""The express lane does with answers what the packet lane does, to the byte."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from midoryu.engine import event
from midoryu.engine.effect import Effects
from midoryu.openflow import pipeline
from midoryu.packet.address import Prefix, format_ip, parse_ip
from midoryu.state.connection import Connection, Phase, Translation, TranslationKind
from midoryu.topology import model
from tests.helpers import frames
from tests.helpers.builder import Builder
from tests.helpers.worlds import GATEWAY_MAC, V4, V6, Family, two_networks
from tests.unit.engine.test_express import STATEFUL, Twins, known

UPLINK = 20
UPLINK_MAC = "02:cc:00:00:00:01"
FORBIDDEN = model.RouteKind.BLACKHOLE
PHASES = (Phase.TCP_TRANSITORY, Phase.TCP_ESTABLISHED, Phase.TCP_CLOSING)


def world(family: Family, *, stateful: bool) -> Builder:
    """Make a world whose uplink is at node1, as vm1 is; vm2 is at node2."""
    b = two_networks(family, ingress_chain="out" if stateful else "")
    if stateful:
        b.chain("out", *STATEFUL)
    rows = [row for row in b.rows if isinstance(row, model.Vport)]
    (uplink,) = (row for row in rows if row.key == b.key("r/up"))
    b.put(replace(uplink, host=b.key("node1")))
    b.put(model.VportStatus(uplink.key, b.key("node1"), up=True))
    return b


class Ends(Twins):
    """Twins at the uplink, who know records of vm1 and of vm2."""

    interfaces: ClassVar = {"a/vm1": 11, "a/vm3": 13, "r/up": UPLINK}

    def __init__(
        self, family: Family, *, masquerade: bool, stateful: bool = True, **config: Any
    ) -> None:
        rules = STATEFUL if stateful else ()
        b = world(family, stateful=stateful)
        super().__init__(family, *rules, masquerade=masquerade, builder=b, **config)
        self.masquerade = masquerade
        self.serial = 0

    def record(self, **values: Any) -> None:
        """Let both hear of a connection from vm1 or vm2 to the outside."""
        self.serial += 1
        for engine in self.engines:
            core = engine._core
            one = self._made(**values)
            keys = core.connections.insert(one, self.now)
            core.nat.commit(one, self.now)
            core.invalidate(keys, Effects(), self.now)

    def _made(
        self,
        *,
        vm: int = 2,
        peer: int = 1,
        sport: int = 1100,
        dport: int = 443,
        nat_port: int = 0,
        proto: int = 6,
        phase: Phase = Phase.TCP_TRANSITORY,
        **values: Any,
    ) -> Connection:
        family, key = self.family, self.b.key
        network = "ab"[vm - 1]
        made: tuple[Translation, ...] = ()
        if nat_port:
            kind = TranslationKind.SOURCE
            nat = parse_ip(family.nat_ip(1))
            made = (Translation(key("r"), kind, nat, nat_port),)
        source = parse_ip(family.ip(vm, 10 + vm))
        one = Connection(
            0x5000 + self.serial,
            proto,
            (source, parse_ip(self.peer(peer)), sport, dport),
            key(network),
            key(f"{network}/vm{vm}"),
            key("r"),
            key("r/up"),
            made,
            key("node2"),
            phase,
            self.now,
        )
        return replace(one, **values)

    def peer(self, number: int) -> str:
        return f"{self.family.outside[:-1]}{number}"

    def answer(self, one: Connection, **values: Any) -> Effects:
        """Let the peer of a connection answer."""
        source, peer, sport, dport = one.original
        if one.translations:
            source, sport = one.translations[-1].address, one.translations[-1].port
        chosen = {
            "src": format_ip(peer),
            "dst": format_ip(source),
            "sport": dport,
            "dport": sport,
            "eth_src": GATEWAY_MAC,
            "eth_dst": UPLINK_MAC,
            **values,
        }
        if one.ip_proto == 6:
            frame = frames.tcp(**{"flags": "SA", **chosen})
        else:
            chosen.pop("flags", None)
            frame = frames.udp(**chosen)
        return self.do(event.PacketIn(UPLINK, frame, pipeline.VPORT))

    def records(self) -> list[Connection]:
        return list(self.engines[1]._core.connections)

    def same(self) -> None:
        super().same()
        one, other = (engine._core for engine in self.engines)
        assert one.shares.answers == other.shares.answers
        assert told_journal(one) == told_journal(other)


def told_journal(core: Any) -> list[Any]:
    """List what the table says of the records' ends."""
    return sorted((one.id, one.last_used, one.phase) for one in core.connections)


@pytest.mark.parametrize("family", [V4, V6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("masquerade", [False, True])
@pytest.mark.parametrize("vm", [1, 2], ids=["vm here", "vm elsewhere"])
@pytest.mark.parametrize("proto", [6, 17], ids=["TCP", "UDP"])
def test_answers_of_one_kind_go_by_express(
    family: Family, masquerade: bool, vm: int, proto: int
) -> None:
    ends = Ends(family, masquerade=masquerade, journal=True)
    phase = Phase.TCP_TRANSITORY if proto == 6 else Phase.UDP_UNREPLIED
    for number in range(16):
        values = {"vm": vm, "peer": 1 + number % 9, "sport": 1100 + number}
        if masquerade:
            values["nat_port"] = 2000 + number
        ends.record(proto=proto, phase=phase, **values)
    for one in ends.records():
        made = ends.answer(one)
        assert len(made.flow_mods) == len(made.packet_outs) == 1
    ends.same()
    assert ends.taken >= 12
    core = ends.engines[0]._core
    notes = {bool(one.flow.note) for one in core.flows if one.returns}
    assert notes == {vm == 1}
    phase = Phase.TCP_ESTABLISHED if proto == 6 else Phase.UDP
    assert {one.phase for one in core.connections} == {phase}


def test_what_is_no_answer_of_a_known_kind_is_left_to_the_packet_lane() -> None:
    ends = Ends(V4, masquerade=True)
    for number in range(12):
        ends.record(sport=1100 + number, nat_port=2000 + number)
    records = ends.records()
    for one in records[:6]:
        ends.answer(one)
    taken = ends.taken
    assert taken == 4
    changed: list[dict[str, Any]] = [
        {"dport": 3000},
        {"sport": 444},
        {"flags": "A"},
        {"ttl": 63},
        {"tos": 4},
        {"eth_dst": "02:cc:00:00:00:02"},
        {"payload": b"x" * 600},
        {"src": "0.0.0.1"},
    ]
    for values in changed:
        ends.answer(records[6], **values)
    assert ends.taken == taken
    ends.answer(records[7])
    assert ends.taken == taken + 1
    ends.same()


def test_a_record_with_a_past_or_another_way_is_left_to_the_packet_lane() -> None:
    ends = Ends(V4, masquerade=True)
    values: list[dict[str, Any]] = [
        *({} for _ in range(4)),
        {"version": 1},
        {"owner": 0},
        {"egress_vport": 0},
        {"ingress_vport": ends.b.key("a/vm3")},
        {"ingress_device": ends.b.key("a")},
        {"vm": 1},
    ]
    for number, more in enumerate(values):
        ends.record(sport=1100 + number, nat_port=2000 + number, **more)
    for one in ends.records():
        ends.answer(one)
    assert ends.taken == 2
    ends.same()


@pytest.mark.parametrize(
    ("flags", "payload", "phase"),
    [
        ("SA", b"", Phase.TCP_TRANSITORY),
        ("A", b"", Phase.TCP_CLOSING),
        ("A", b"more", Phase.TCP_ESTABLISHED),
        ("FA", b"", Phase.TCP_CLOSING),
    ],
)
@pytest.mark.parametrize("family", [V4, V6], ids=["IPv4", "IPv6"])
def test_what_an_answer_says_changes_its_record(
    family: Family, flags: str, payload: bytes, phase: Phase
) -> None:
    ends = Ends(family, masquerade=True, journal=True)
    for number in range(5):
        values = {"sport": 1100 + number, "nat_port": 2000 + number}
        ends.record(phase=Phase.TCP_CLOSING, **values)
    for one in ends.records():
        ends.answer(one, flags=flags, payload=payload)
    assert ends.taken == 3
    assert {one.phase for one in ends.records()} == {phase}
    ends.same()


def test_a_peer_that_rows_name_is_left_to_the_packet_lane() -> None:
    ends = Ends(V4, masquerade=True)
    prefix = Prefix(parse_ip(ends.peer(7)), 128)
    ends.change(model.Route("more", ends.b.key("r"), prefix, kind=FORBIDDEN))
    for number in range(5):
        ends.record(peer=1 + number % 2, sport=1100 + number, nat_port=2000 + number)
    ends.record(peer=7, sport=1200, nat_port=2100)
    for one in ends.records():
        ends.answer(one)
    assert ends.taken == 3
    ends.same()


def test_plans_end_with_any_row() -> None:
    ends = Ends(V4, masquerade=True)
    for number in range(8):
        ends.record(sport=1100 + number, nat_port=2000 + number)
    for one in ends.records()[:4]:
        ends.answer(one)
    assert ends.taken == 2
    ends.change(replace(ends._vport("b/vm2"), ingress_chain=""))
    for one in ends.records()[4:]:
        ends.answer(one)
    assert ends.taken == 4
    ends.same()


def test_kinds_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midoryu.engine.answering._MAX_PLANS", 8)
    ends = Ends(V4, masquerade=True)
    for number in range(40):
        ends.record(sport=1100 + number, nat_port=2000 + number)
    for number, one in enumerate(ends.records()):
        ends.answer(one, ttl=64 + number)
        answered = ends.engines[0]._core.express.answered
        assert sum(map(len, answered.values())) <= 8
    ends.same()


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["answer"] * 24
            + ["record", "record", "open"]
            + ["removed", "tick", "route", "rule", "down", "up", "lease", "moved"]
            + ["bare", "vm down"]
        ),
        st.integers(0, 7),
        st.integers(0, 5),
        st.sampled_from(["SA"] * 6 + ["A", "PA", "FA", "R", "S"]),
        st.booleans(),
    ),
    min_size=10,
    max_size=40,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=_STEPS, masquerade=st.booleans(), stateful=st.booleans(), is_v6=st.booleans()
)
def test_whatever_happens_both_lanes_answer_alike(
    steps: list[Any], masquerade: bool, stateful: bool, is_v6: bool
) -> None:
    family = V6 if is_v6 else V4
    ends = Ends(family, masquerade=masquerade, stateful=stateful, journal=True)
    for number in range(24):
        _record(ends, number, 3 * (number % 2), is_udp=False)
    for what, number, more, flags, is_udp in steps:
        if what == "answer":
            payload = b"data" if more > 3 else b""
            for one in (ends.records() * 2)[number * 4 :][:8]:
                ends.answer(one, flags=flags, payload=payload)
        elif what == "record":
            for at in range(4):
                _record(ends, number, more + at, is_udp=is_udp)
        else:
            _disturb(ends, what, number, more)
        ends.now += 0.25
    ends.same()


def _record(ends: Ends, number: int, more: int, *, is_udp: bool) -> None:
    values: dict[str, Any] = {"vm": 1 + number % 2, "peer": 1 + number}
    values |= {"sport": 1100 + ends.serial % 50, "dport": 80 if number == 3 else 443}
    if ends.masquerade and more:
        values["nat_port"] = values["sport"] + (ends.serial % 3) * 100
    if is_udp:
        values |= {"proto": 17, "phase": Phase.UDP_UNREPLIED}
    else:
        values["phase"] = PHASES[more % 3]
    ends.record(**values)


def _disturb(ends: Ends, what: str, number: int, more: int) -> None:  # noqa: C901
    b, family = ends.b, ends.family
    if what == "open":
        frame = ends.frame(sport=1200 + number, dst=ends.peer(1 + more))
        ends.do(event.PacketIn(11, frame, pipeline.VPORT))
    elif what == "removed":
        cookies = [one.cookie for one in ends.engines[1]._core.flows]
        if cookies:
            cookie = cookies[number % len(cookies)]
            ends.do(event.FlowRemoved(cookie, 0, 60, 90.0, number))
    elif what == "tick":
        ends.now += number * 20.0
        ends.do(event.Tick())
    elif what == "route":
        prefix = Prefix(parse_ip(family.ip(2, 12)), 128)
        blackhole = model.RouteKind.BLACKHOLE
        ends.change(model.Route("more", b.key("r"), prefix, kind=blackhole))
    elif what == "rule":
        for chain in [row for row in b.rows if isinstance(row, model.Chain)]:
            b.put(replace(chain, rules=chain.rules[::-1]))
        chains = [row for row in b.rows if isinstance(row, model.Chain)]
        if chains:
            ends.change(*chains)
    elif what in ("down", "up"):
        ends.change(replace(ends._vport("r/up"), up=what == "up"))
    elif what == "lease":
        ends.change(b.lease("r", family.nat_ip(1), 16 + more, "node1"))
    elif what == "bare":
        ends.change(replace(ends._vport("b/vm2"), ingress_chain="", egress_chain=""))
    elif what == "vm down":
        ends.do(event.InterfacesChanged({"a/vm3": 13, "r/up": UPLINK}))
    else:
        host = b.key("node2" if number % 2 else "node1")
        ends.change(model.VportStatus(b.key("r/up"), host, True))


def test_known_lists_what_answers_change() -> None:
    ends = Ends(V4, masquerade=True)
    ends.record(nat_port=2000)
    before = known(ends.engines[0])
    ends.answer(ends.records()[0])
    assert known(ends.engines[0]) != before
