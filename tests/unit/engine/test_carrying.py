# SPDX-License-Identifier: Apache-2.0
"""What is installed and sent for a packet, and what is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from midoryu.engine.event import FlowRemoved, Tick
from midoryu.openflow import flow, pipeline
from midoryu.topology import model
from tests.helpers.bench import Bench, installed, office


def test_packets_of_one_burst_install_their_flow_once() -> None:
    bench = Bench(office())
    first = bench.send("web/vm1", bench.beside())
    second = bench.send("web/vm1", bench.beside())
    assert len(installed(first)) == 1
    assert installed(second) == []
    assert len(second.packet_outs) == 1
    assert len(bench.core.flows) == 1


def test_above_the_flow_limit_packets_pass_without_a_flow() -> None:
    bench = Bench(office(), max_flows=2)
    for sport in range(1, 6):
        effects = bench.send("web/vm1", bench.beside(to=2, sport=sport))
        assert len(effects.packet_outs) == 1
    bench.send("web/vm2", bench.beside(2, to=1))
    effects = bench.send("web/vm1", bench.beside(to=3))
    assert installed(effects) == []
    assert len(effects.packet_outs) == 1
    assert len(bench.core.flows) == 2


def test_a_drop_gets_a_flow_without_actions_and_with_a_hard_end() -> None:
    b = office()
    b.route("r", "198.18.0.0/15", kind=model.RouteKind.BLACKHOLE)
    bench = Bench(b)
    effects = bench.send("web/vm1", bench.frame(dst="198.18.0.1"))
    assert effects.packet_outs == []
    (made,) = installed(effects)
    assert (made.actions, made.idle_timeout_s, made.hard_timeout_s) == ((), 0, 5)
    assert bench.counters["blackhole"] == 1


def test_a_replaced_flow_lets_go_of_its_record() -> None:
    bench = Bench(office(masquerade=True))
    bench.lease()
    (made,) = installed(bench.send("web/vm1", bench.frame()))
    (connection,) = bench.core.connections
    assert bench.core.connections.is_held(connection.id)
    bench.do(FlowRemoved(made.cookie, pipeline.REMOVED_IDLE, 60, 60.0, 1))
    assert not bench.core.connections.is_held(connection.id)
    bench.do(Tick())
    assert len(bench.core.flows) == 0


def test_a_flow_in_the_place_of_another_one_takes_over_its_hold() -> None:
    bench = Bench(office(masquerade=True))
    bench.lease()
    bench.send("web/vm1", bench.frame())
    (entry,) = bench.core.flows
    wrong = replace(entry.flow, actions=((flow.OUTPUT, 12),), cookie=99)
    bench.core.flows.add(replace(entry, flow=wrong))
    (made,) = installed(bench.send("web/vm1", bench.frame()))
    assert made.match == wrong.match
    bench.do(FlowRemoved(made.cookie, pipeline.REMOVED_IDLE, 60, 60.0, 1))
    assert not bench.core.connections.is_held(entry.connection)


@pytest.mark.parametrize("masquerade", [False, True])
def test_replayed_connections_get_the_flows_that_simulated_ones_get(
    masquerade: bool,
) -> None:
    found = []
    for is_replayed in (True, False):
        bench = Bench(office(masquerade=masquerade, gateways=True))
        bench.greet()
        bench.lease(block=100)
        bench.lease(block=625)  # has the port that the VM chose
        seen = []
        for sport in (*range(39998, 40004), 45000):
            if not is_replayed:
                bench.core.replays.clear()
            there = f"198.51.100.{sport % 256}"
            effects = bench.send("web/vm1", bench.frame(sport=sport, dst=there))
            (made,) = installed(effects)
            seen.append((replace(made, cookie=0), effects.packet_outs))
        entries = [(one.tags | one.shared, one.returns) for one in bench.core.flows]
        records = [one.original for one in bench.core.connections]
        found.append((seen, entries, records))
        assert (bench.core.replays.replayed > 0) is is_replayed

    assert found[0] == found[1]
