# SPDX-License-Identifier: Apache-2.0
"""Flows that are made anew before a packet asks."""

from __future__ import annotations

from midoryu.engine import rerouting
from midoryu.engine.effect import Effects
from midoryu.packet.address import parse_ip, parse_mac
from midoryu.topology.model import Neighbor, Put
from midoryu.topology.tag import vport_tag
from tests.helpers.bench import Bench, installed, office, removed


def crowded(count: int) -> Bench:
    """Let vm1 talk to some hosts outside."""
    bench = Bench(office())
    for number in range(count):
        address = f"198.18.{number // 250}.{number % 250 + 1}"
        bench.send("web/vm1", bench.frame(dst=address))
    return bench


def begin(bench: Bench) -> Effects:
    """Let the way by the uplink be another, and have flows follow."""
    address = parse_mac("02:ff:00:00:00:77")
    row = Neighbor("neighbor/new", bench.b.key("r"), parse_ip("192.0.2.1"), address)
    tags = bench.core.topology.apply([Put(row)])
    effects = Effects()
    rerouting.begin(bench.core, tags, effects, bench.now)
    return effects


def test_flows_that_lead_elsewhere_take_the_places_of_the_old_ones() -> None:
    bench = crowded(3)
    before = {one.flow.match: one.flow.actions for one in bench.core.flows}
    effects = begin(bench)
    after = {one.match: one.actions for one in installed(effects)}
    assert after.keys() == before.keys()
    assert set(after.values()) != set(before.values())
    assert {one.flow.match: one.flow.actions for one in bench.core.flows} == after
    assert removed(effects) == []
    assert effects.packet_outs == []


def test_flows_that_are_right_stay() -> None:
    bench = crowded(3)
    before = {one.cookie for one in bench.core.flows}
    effects = Effects()
    tags = [vport_tag(bench.b.key("r/up"))]
    rerouting.begin(bench.core, tags, effects, bench.now)
    assert effects.flow_mods == []
    assert {one.cookie for one in bench.core.flows} == before


def test_many_flows_take_several_turns() -> None:
    bench = crowded(450)
    made = len(installed(begin(bench)))
    assert 0 < made < 450
    while bench.core.rerouting:
        assert rerouting.deadline(bench.core, bench.now) == bench.now + 0.005
        effects = Effects()
        rerouting.step(bench.core, effects, bench.now)
        made += len(installed(effects))
        assert removed(effects) == []
    assert made == len(bench.core.flows) == 450
    assert rerouting.deadline(bench.core, bench.now) is None
