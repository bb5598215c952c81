# SPDX-License-Identifier: Apache-2.0
"""A replay says what the full simulation says, or leaves it to it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from midoryu.packet.address import parse_ip
from midoryu.packet.codec import decode
from midoryu.simulation.outcome import Simulation
from midoryu.simulation.replay import Replays
from midoryu.simulation.simulator import simulate
from midoryu.topology import model
from midoryu.topology.model import Rule, RuleAction
from tests.helpers import frames
from tests.helpers.worlds import FAMILIES, NOW, V4, V6, Family, Overlay, two_networks

OUTSIDE = ("198.51.100.9", "198.51.100.10", "198.51.101.1", "8.8.8.8", "203.0.113.1")
OUTSIDE_V6 = ("2001:db8:9::9", "2001:db8:9::a", "2001:db8:2::1", "2a00::1")


def office(family: Family, *rules: Rule, masquerade: bool = True) -> Overlay:
    """Two networks behind a router that masquerades, with a chain at vm1."""
    b = two_networks(family)
    if rules:
        b.chain("out", *rules)
        key = b.key("a/vm1")
        (vport,) = (
            row for row in b.rows if isinstance(row, model.Vport) and row.key == key
        )
        b.put(replace(vport, ingress_chain="out"))
    if masquerade:
        b.masquerade("r", family.subnet(1), family.nat_ip(1))
    overlay = Overlay(b)
    if masquerade:
        for block in (100, 101):
            router = b.key("r")
            overlay.nat.add_lease(router, parse_ip(family.nat_ip(1)), block)
    return overlay


class Pair:
    """One world, asked in full and by replay."""

    def __init__(self, overlay: Overlay) -> None:
        self.overlay = overlay
        self.replays = Replays()

    def ask(self, frame: bytes, at: str = "a/vm1") -> tuple[Simulation, Simulation]:
        vport, world = self.overlay.vport(at), self.overlay.world
        full = simulate(decode(frame), vport, world, now=NOW, ask_peers=True)
        other = self.replays.simulate(decode(frame), vport, world, now=NOW)
        same(full, other)
        return full, other


def same(full: Simulation, other: Simulation) -> None:
    def told(one: Simulation) -> dict[str, Any]:
        record = one.connection
        return {
            "record": None if record is None else replace(record),
            "plain": replace(one, connection=None, tags=one.all_tags()),
        }

    left, right = told(full), told(other)
    assert left["plain"] == right["plain"]
    made = [
        None if one is None else [getattr(one, each.name) for each in fields(one)]
        for one in (left["record"], right["record"])
    ]
    assert made[0] == made[1]


def syn(family: Family, dst: str, sport: int = 1000, **fields: Any) -> bytes:
    values: dict[str, Any] = {
        "src": family.ip(1, 11),
        "dst": dst,
        "sport": sport,
        "dport": 80,
        "eth_src": "02:00:00:00:00:01",
        **fields,
    }
    return frames.tcp(**values)


def eth(overlay: Overlay) -> dict[str, str]:
    return {"eth_dst": overlay.mac("r/a")}


@FAMILIES
@pytest.mark.parametrize("masquerade", [False, True])
def test_siblings_of_a_connection_are_replayed(
    family: Family, masquerade: bool
) -> None:
    chain = Rule(RuleAction.ACCEPT, ct_states=model.CT_NEW)
    pair = Pair(office(family, chain, masquerade=masquerade))
    for sport in range(1000, 1010):
        full, _ = pair.ask(syn(family, family.outside, sport, **eth(pair.overlay)))
        assert full.connection is not None
    assert pair.replays.replayed == 8


def test_another_address_that_no_row_tells_apart_is_replayed() -> None:
    pair = Pair(office(V4))
    for number in range(10):
        pair.ask(syn(V4, f"8.8.{number}.8", **eth(pair.overlay)))
    assert pair.replays.replayed == 8


@FAMILIES
def test_siblings_are_held_against_an_mtu_alike(family: Family) -> None:
    pair = Pair(office(family))
    pair.overlay.topology.assumed_mtu = 1500
    for sport in range(1000, 1010):
        full, _ = pair.ask(syn(family, family.outside, sport, **eth(pair.overlay)))
        assert full.limit == 1458
    assert pair.replays.replayed == 8


def test_siblings_that_may_be_too_large_for_a_link_are_not_replayed() -> None:
    overlay = office(V4)
    overlay.change(replace(overlay.vport("r/up"), mtu=500))
    pair = Pair(overlay)
    for sport in range(1000, 1006):
        pair.ask(syn(V4, V4.outside, sport, **eth(overlay)))
    large = syn(V4, V4.outside, 1006, payload=bytes(500), **eth(overlay))
    full, _ = pair.ask(large)
    assert full.packet.l3_length > full.limit == 500
    assert pair.replays.replayed == 0


def test_a_record_that_is_there_is_found() -> None:
    pair = Pair(office(V4))
    for sport in range(1000, 1003):
        pair.ask(syn(V4, V4.outside, sport, **eth(pair.overlay)))
    pair.overlay.carry("a/vm1", syn(V4, V4.outside, 1005, **eth(pair.overlay)))

    full, _ = pair.ask(syn(V4, V4.outside, 1005, **eth(pair.overlay)))

    assert full.found is not None


def test_rules_about_source_ports_are_asked_for_each_port() -> None:
    rule = Rule(RuleAction.DROP, ip_proto=6, source_ports=((1005, 1006),))
    pair = Pair(office(V4, rule))
    for sport in range(1000, 1010):
        pair.ask(syn(V4, V4.outside, sport, **eth(pair.overlay)))
    assert pair.replays.replayed == 0


def test_equal_routes_are_chosen_for_each_port() -> None:
    overlay = office(V4, masquerade=False)
    route = next(r for r in overlay.topology.rows(model.Route) if r.gateway)
    overlay.change(
        replace(route, key="second", gateway=0, vport=overlay.key("r/b")),
    )
    pair = Pair(overlay)
    for sport in range(1000, 1010):
        pair.ask(syn(V4, V4.outside, sport, **eth(overlay)))
    assert pair.replays.replayed == 0


def test_without_a_free_port_the_full_simulation_says_what_is_wanted() -> None:
    pair = Pair(office(V4))
    frame = syn(V4, V4.outside, 1000, **eth(pair.overlay))
    pair.ask(frame)
    pair.ask(frame)
    router, address = pair.overlay.key("r"), parse_ip(V4.nat_ip(1))
    for block in (100, 101):
        pair.overlay.nat.remove_lease(router, address, block)

    pair.ask(syn(V4, V4.outside, 1001, **eth(pair.overlay)))

    assert pair.replays.replayed == 0


def test_a_changed_row_drops_what_depends_on_it() -> None:
    pair = Pair(office(V4))
    for sport in range(1000, 1004):
        pair.ask(syn(V4, V4.outside, sport, **eth(pair.overlay)))
    assert len(pair.replays) == 1

    vport = pair.overlay.vport("r/up")
    pair.replays.forget(pair.overlay.change(replace(vport, up=False)))

    assert len(pair.replays) == 0
    pair.ask(syn(V4, V4.outside, 1005, **eth(pair.overlay)))


def test_a_walk_that_did_something_unknown_leaves_no_template() -> None:
    pair = Pair(office(V4))
    frame = syn(V4, V4.outside, 1000, **eth(pair.overlay))
    simulation = simulate(
        decode(frame), pair.overlay.vport("a/vm1"), pair.overlay.world, now=NOW
    )
    topology = pair.overlay.topology
    assert pair.replays._template(simulation, topology) is not None
    simulation = replace(simulation, vports=(1,), needs_first=True)
    assert pair.replays._template(simulation, topology) is None


_PORTS = st.sampled_from([((0, 0xFFFF),), ((80, 80),), ((1, 1003),), ((1005, 2000),)])


def _rules(family: Family) -> st.SearchStrategy[Rule]:
    prefixes = st.sampled_from(
        [
            (),
            (model.Prefix(parse_ip(family.outside), 127),),
            (model.Prefix(parse_ip(family.outside), 128),),
            (model.Prefix(parse_ip(family.ip(1, 11)), 128),),
            (model.Prefix(0, 0),),
        ]
    )
    return st.builds(
        Rule,
        action=st.sampled_from(
            [RuleAction.ACCEPT, RuleAction.DROP, RuleAction.REJECT, RuleAction.RETURN]
        ),
        ct_states=st.sampled_from([0, 0, 1, 2, 3]),
        ip_proto=st.sampled_from([0, 6, 17]),
        source=prefixes,
        destination=prefixes,
        not_destination=st.booleans(),
        source_ports=st.one_of(st.just(()), st.just(()), _PORTS),
        destination_ports=st.one_of(st.just(()), _PORTS),
    )


_STEPS = st.lists(
    st.tuples(
        st.integers(0, 5),  # destination
        st.integers(1000, 1006),  # source port
        st.sampled_from([80, 443]),
        st.sampled_from(["S", "S", "S", "A", "SA"]),
        st.sampled_from([64, 1]),
        st.booleans(),  # UDP
        st.sampled_from(["", "", "", "carry", "route", "rule", "down", "up"]),
    ),
    min_size=3,
    max_size=25,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), steps=_STEPS, masquerade=st.booleans(), is_v6=st.booleans())
def test_any_packets_in_any_world_are_replayed_as_they_are_simulated(
    data: st.DataObject, steps: list[Any], masquerade: bool, is_v6: bool
) -> None:
    family = V6 if is_v6 else V4
    rules = data.draw(st.lists(_rules(family), max_size=4))
    pair = Pair(office(family, *rules, masquerade=masquerade))
    overlay = pair.overlay
    places = (*(OUTSIDE_V6 if is_v6 else OUTSIDE), family.ip(2, 12), family.nat_ip(1))
    for where, sport, dport, flags, ttl, is_udp, then in steps:
        values = {"sport": sport, "dport": dport, "eth_dst": overlay.mac("r/a")}
        values |= {"src": family.ip(1, 11), "dst": places[where % len(places)]}
        values["eth_src"] = "02:00:00:00:00:01"
        if not is_v6:
            values["ttl"] = ttl
        if not is_udp:
            values["flags"] = flags
        frame = (frames.udp if is_udp else frames.tcp)(**values)
        pair.ask(frame)
        changed: set[Any] = set()
        if then == "carry":
            overlay.carry("a/vm1", frame)
        elif then == "route":
            prefix = model.Prefix(parse_ip(family.outside), 128)
            way = model.RouteKind.BLACKHOLE
            row = model.Route("more", overlay.key("r"), prefix, kind=way)
            changed = overlay.change(row)
        elif then == "rule" and rules:
            chain = next(iter(overlay.topology.rows(model.Chain)))
            changed = overlay.change(replace(chain, rules=chain.rules[::-1]))
        elif then in ("down", "up"):
            vport = overlay.vport("r/up")
            changed = overlay.change(replace(vport, up=then == "up"))
        pair.replays.forget(changed)
