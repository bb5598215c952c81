# SPDX-License-Identifier: Apache-2.0
"""Gateways beat, fall silent, come back; others are told."""

from __future__ import annotations

from midoryu.engine import gateways
from midoryu.engine.effect import Effects
from midoryu.openflow import flow
from midoryu.packet import protocol
from midoryu.packet.address import parse_ip
from midoryu.packet.codec import decode
from midoryu.replication.entry import Notice
from tests.helpers.bench import Bench, installed, office, removed
from tests.helpers.worlds import neighbor


def fellows() -> Bench:
    """Let node1 and node2 share an ingress set and hear each other."""
    bench = Bench(office(gateways=True))
    bench.greet()
    return bench


def beat(bench: Bench, seconds: float) -> None:
    """Let time pass while node2 beats."""
    for _ in range(round(seconds / 0.1)):
        bench.wait(0.1)
        bench.tell(bench.peer.beat([bench.b.key("node1")], bench.now))


def silence(bench: Bench, seconds: float) -> list[Effects]:
    """Let time pass while node2 is silent."""
    return [bench.wait(0.1) for _ in range(round(seconds / 0.1))]


def notices(bench: Bench) -> list[Notice]:
    return [notice for heard in bench.heard for notice in heard.notices]


def test_only_hosts_that_share_an_ingress_set_are_watched() -> None:
    assert fellows().core.liveness.watched == {2}
    assert Bench(office()).core.liveness.watched == frozenset()


def test_a_fellow_is_beaten_and_its_beats_keep_it_alive() -> None:
    bench = fellows()
    before = len(bench.heard)
    beat(bench, 2.0)
    assert len(bench.heard) - before >= 19
    assert bench.core.topology.dead_hosts == frozenset()


def test_a_silent_fellow_is_dead_after_three_beats_and_everybody_is_told() -> None:
    bench = fellows()
    beat(bench, 1.5)
    effects = silence(bench, 0.5)
    node2 = bench.b.key("node2")
    assert bench.core.topology.dead_hosts == {node2}
    assert Notice(node2, False) in notices(bench)
    assert bench.counters["hosts fallen silent"] == 1
    assert any("node2" in text for one in effects for _, text in one.log)


def test_a_death_leads_the_flows_through_the_dead_gateway_elsewhere() -> None:
    b = office(gateways=True)
    b.route("r", "198.18.0.0/15", via="192.0.2.5")
    neighbor(b, "r", "192.0.2.5", "02:ff:00:00:00:05")
    bench = Bench(b)
    bench.greet()
    beat(bench, 1.5)
    (out,) = bench.send("web/vm1", bench.frame(dst="198.18.0.1")).packet_outs
    assert (flow.SET_TUNNEL, b.key("r/up2"), parse_ip("172.31.0.2")) in out.actions
    local = bench.send("web/vm1", bench.beside()).flow_mods
    after = silence(bench, 0.5)
    (made,) = [f for effects in after for f in installed(effects)]
    assert [f for effects in after for f in removed(effects)] == []
    outputs = [action for action in made.actions if action[0] == flow.OUTPUT]
    assert flow.SET_TUNNEL not in {action[0] for action in made.actions}
    assert len(outputs) == 1
    assert len(bench.core.flows) == len(local) + 1 == 2


def test_a_fellow_that_speaks_again_is_alive_and_that_is_told() -> None:
    bench = fellows()
    beat(bench, 1.5)
    silence(bench, 0.5)
    bench.heard.clear()
    beat(bench, 0.2)
    assert bench.core.topology.dead_hosts == frozenset()
    assert Notice(bench.b.key("node2"), True) in notices(bench)


def test_a_death_is_told_again_while_it_lasts() -> None:
    bench = fellows()
    beat(bench, 1.5)
    silence(bench, 3.5)
    assert 3 <= notices(bench).count(Notice(bench.b.key("node2"), False)) <= 5


def told(bench: Bench, host: int, alive: bool) -> None:
    notes = [Notice(host, alive)]
    bench.tell(bench.peer.notify(notes, [bench.b.key("node1")], bench.now))


def test_a_told_death_is_believed_for_a_while() -> None:
    b = office()
    b.host("node3", "172.31.0.3")
    bench = Bench(b)
    bench.greet()
    node3 = b.key("node3")
    told(bench, node3, False)
    assert bench.core.topology.dead_hosts == {node3}
    silence(bench, 3.0)
    assert bench.core.topology.dead_hosts == {node3}
    silence(bench, 1.0)
    assert bench.core.topology.dead_hosts == frozenset()


def test_a_told_return_ends_a_told_death() -> None:
    b = office()
    b.host("node3", "172.31.0.3")
    bench = Bench(b)
    bench.greet()
    told(bench, b.key("node3"), False)
    told(bench, b.key("node3"), True)
    assert bench.core.topology.dead_hosts == frozenset()


def test_a_host_believes_no_word_of_its_own_death_or_of_whom_it_watches() -> None:
    bench = fellows()
    effects = Effects()
    own, fellow = bench.b.key("node1"), bench.b.key("node2")
    notes = [Notice(own, False), Notice(fellow, False)]
    gateways.told(bench.core, 2, notes, effects, bench.now)
    assert bench.core.topology.dead_hosts == frozenset()


def test_nat_addresses_on_the_uplinks_subnet_are_announced() -> None:
    b = office(gateways=True)
    b.masquerade("r", "10.0.0.0/16", "192.0.2.2", vport="r/up")
    b.floating("r", "203.0.113.99", "10.0.1.1")
    bench = Bench(b)
    (emission,) = gateways.announcements(bench.core)
    packet = decode(emission.frame)
    assert emission.vport == b.key("r/up")
    assert packet.eth_type == protocol.ETH_ARP
    assert packet.headers.ip_src == packet.headers.ip_dst == parse_ip("192.0.2.2")
    assert packet.headers.eth_src == 0x02CC00000001
    bench.greet()
    beat(bench, 1.5)
    frames = [o.frame for one in silence(bench, 0.5) for o in one.packet_outs]
    assert emission.frame in frames
