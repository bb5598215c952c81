# SPDX-License-Identifier: Apache-2.0
"""MAC addresses and neighbours: believed, told, withdrawn."""

from __future__ import annotations

from typing import Any

import pytest

from midoryu.engine import learning
from midoryu.engine.effect import Effects, ForgetMac, LearnMac, LearnNeighbor
from midoryu.engine.event import FlowRemoved
from midoryu.openflow.pipeline import REMOVED_IDLE
from midoryu.packet.address import parse_ip, parse_mac
from midoryu.simulation.outcome import MacSeen, NeighborSeen
from midoryu.topology.model import MacEntry
from tests.helpers import frames
from tests.helpers.bench import (
    GATEWAY,
    GATEWAY_MAC,
    Bench,
    installed,
    office,
    removed,
)

NESTED = "02:00:00:00:00:77"


def from_nested(bench: Bench, **fields: str) -> bytes:
    """Make a frame of a MAC address that no vport has."""
    return bench.beside(eth_src=NESTED, **fields)


def test_an_unknown_source_mac_is_believed_and_told_once() -> None:
    bench = Bench(office())
    effects = bench.send("web/vm1", from_nested(bench))
    row = LearnMac(bench.b.key("web"), parse_mac(NESTED), bench.b.key("web/vm1"))
    assert effects.nsdb_writes == [row]
    again = bench.send("web/vm1", from_nested(bench))
    assert again.nsdb_writes == []
    (out,) = bench.send("web/vm2", bench.beside(2, eth_dst=NESTED)).packet_outs
    assert out.actions == ((0, 11),)


def test_a_mac_that_shows_up_elsewhere_moves_and_its_flows_go() -> None:
    bench = Bench(office())
    bench.send("web/vm1", from_nested(bench))
    old = installed(bench.send("web/vm2", bench.beside(2, eth_dst=NESTED)))
    effects = bench.send("web/vm2", bench.beside(2, eth_src=NESTED, to=1))
    assert (
        LearnMac(bench.b.key("web"), parse_mac(NESTED), bench.b.key("web/vm2"))
        in effects.nsdb_writes
    )
    assert old[0].cookie in [f.cookie for f in removed(effects)]


def test_a_mac_without_flows_is_withdrawn_after_its_time() -> None:
    bench = Bench(office())
    (made,) = installed(bench.send("web/vm1", from_nested(bench)))
    bench.do(FlowRemoved(made.cookie, REMOVED_IDLE, 60, 60.0, 1))
    writes = []
    for _ in range(16):
        writes += bench.wait(20.0).nsdb_writes
    network, mac = bench.b.key("web"), parse_mac(NESTED)
    assert writes == [ForgetMac(network, mac, bench.b.key("web/vm1"))]
    assert bench.core.learned_macs == {}
    assert list(bench.core.topology.rows(MacEntry)) == []


def test_a_mac_that_flows_use_is_kept() -> None:
    bench = Bench(office())
    bench.send("web/vm1", from_nested(bench))
    for _ in range(40):
        bench.wait(20.0)
    assert (bench.b.key("web"), parse_mac(NESTED)) in bench.core.learned_macs


def test_a_neighbour_is_believed_and_told_and_lets_packets_go() -> None:
    bench = Bench(office(neighbor=False))
    bench.send("web/vm1", bench.frame())
    answer = frames.arp(
        GATEWAY,
        "192.0.2.2",
        operation=2,
        eth_src=GATEWAY_MAC,
        eth_dst="02:cc:00:00:00:01",
        target_mac="02:cc:00:00:00:01",
    )
    effects = bench.send("r/up", answer)
    router, mac = bench.b.key("r"), parse_mac(GATEWAY_MAC)
    assert LearnNeighbor(router, parse_ip(GATEWAY), mac) in effects.nsdb_writes
    assert len(installed(effects)) == 1
    assert len(effects.packet_outs) == 1
    assert len(bench.core.waiting) == 0


def test_a_neighbours_new_mac_removes_the_flows_through_it() -> None:
    bench = Bench(office())
    old = installed(bench.send("web/vm1", bench.frame()))
    effects = Effects()
    seen = NeighborSeen(bench.b.key("r"), parse_ip(GATEWAY), parse_mac(NESTED))
    assert learning.learn(bench.core, [seen], effects, bench.now) == ()
    assert [f.cookie for f in removed(effects)] == [f.cookie for f in old]


def test_what_waits_for_a_neighbour_is_found_whoever_asks() -> None:
    bench = Bench(office(neighbor=False))
    bench.send("web/vm1", bench.frame())
    router = bench.b.key("r")
    found = learning.waiting_for(bench.core, router, parse_ip(GATEWAY))
    assert [one.vport for one in found] == [bench.b.key("r/up")]
    assert learning.waiting_for(bench.core, router, parse_ip("192.0.2.3")) == []


def test_the_time_of_a_mac_begins_when_its_last_flow_went() -> None:
    bench = Bench(office())
    (made,) = installed(bench.send("web/vm1", from_nested(bench)))
    for _ in range(40):
        bench.wait(20.0)
    bench.do(FlowRemoved(made.cookie, REMOVED_IDLE, 60, 860.0, 1))
    assert bench.wait(20.0).nsdb_writes == []
    assert bench.core.learned_macs != {}


def mac_seen(bench: Bench, mac: int, vport: str = "web/vm1") -> MacSeen:
    return MacSeen(bench.b.key("web"), mac, bench.b.key(vport))


@pytest.mark.parametrize(
    ("config", "counter"),
    [
        ({"vport_mac_limit": 3}, "MAC addresses beyond a port's limit"),
        ({"network_mac_limit": 3}, "MAC addresses beyond a network's limit"),
    ],
)
def test_tables_of_addresses_are_bounded(config: dict[str, Any], counter: str) -> None:
    bench = Bench(office(), **config)
    seen = [mac_seen(bench, 0x02_AA_00_00_00_00 | number) for number in range(5)]

    effects = Effects()
    learning.learn(bench.core, seen, effects, bench.now)

    assert len(effects.nsdb_writes) == 3
    assert bench.counters[counter] == 2


def test_a_ports_own_bound_goes_before_the_agents() -> None:
    b = office()
    mac, ip = "02:00:00:00:00:01", "10.0.1.1"
    b.vport("web/vm1", host="node1", mac=mac, ip=ip, up=False, mac_limit=1)
    bench = Bench(b)
    effects = Effects()
    seen = [mac_seen(bench, 0x02_AA_00_00_00_00 | number) for number in range(3)]
    learning.learn(bench.core, seen, effects, bench.now)

    assert len(effects.nsdb_writes) == 1


def test_an_address_that_flaps_stays_for_a_while_where_it_is() -> None:
    bench = Bench(office(), mac_moves_max=4)
    effects = Effects()
    for number in range(20):
        vport = "web/vm1" if number % 2 else "web/vm2"
        learning.learn(
            bench.core, [mac_seen(bench, 0x02_AA_00_00_00_01, vport)], effects, 1000.0
        )

    # From vm2 it has moved four times and is at vm2; each claim of vm1 is a fifth.
    assert bench.counters["MAC moves refused"] == 8
    view = bench.core.topology.network(bench.b.key("web"))
    assert view is not None
    place = bench.core.topology.mac_location(view, 0x02_AA_00_00_00_01)
    assert place == bench.b.key("web/vm2")
    seen = mac_seen(bench, 0x02_AA_00_00_00_01, "web/vm1")
    learning.learn(bench.core, [seen], effects, 1011.0)
    place = bench.core.topology.mac_location(view, 0x02_AA_00_00_00_01)
    assert place == bench.b.key("web/vm1")


def gateway_questions(bench: Bench, seconds: float) -> int:
    """Count how often the gateway is asked for while nothing else happens."""
    counted = bench.core.counters["neighbours asked for anew"]
    outs = 0
    for _ in range(int(seconds / 20.0)):
        outs += len(bench.wait(20.0).packet_outs)
    assert outs == bench.core.counters["neighbours asked for anew"] - counted
    return outs


def test_a_next_hop_in_use_is_asked_for_anew() -> None:
    bench = Bench(office())
    assert gateway_questions(bench, 200.0) == 0
    (made,) = installed(bench.send("web/vm1", bench.frame()))
    assert 3 <= gateway_questions(bench, 240.0) <= 4
    bench.do(FlowRemoved(made.cookie, REMOVED_IDLE, 60, 60.0, 1))
    assert gateway_questions(bench, 200.0) == 0


def test_a_next_hop_is_left_alone_where_the_option_says_so() -> None:
    bench = Bench(office(), neighbor_refresh_s=0.0)
    bench.send("web/vm1", bench.frame())
    assert gateway_questions(bench, 400.0) == 0


def test_neighbours_that_nobody_asked_for_are_bounded() -> None:
    bench = Bench(office(neighbor=False), max_neighbors=3)
    bench.send("web/vm1", bench.frame())
    router, effects = bench.b.key("r"), Effects()
    addresses = [parse_ip(f"10.0.1.{number}") for number in range(100, 105)]
    seen = [NeighborSeen(router, one, 0x02_AA_00_00_00_01) for one in addresses]

    learning.learn(bench.core, seen, effects, bench.now)
    told = [one.address for one in effects.nsdb_writes]  # type: ignore[union-attr]
    assert told == addresses[:3]

    more = [
        NeighborSeen(router, addresses[0], 0x02_AA_00_00_00_02),
        NeighborSeen(router, parse_ip(GATEWAY), parse_mac(GATEWAY_MAC)),
    ]
    learning.learn(bench.core, more, effects, bench.now)
    assert len(effects.nsdb_writes) == 5, "known and wanted ones go on"
    assert bench.core.counters["neighbours beyond a router's limit"] == 2
