# SPDX-License-Identifier: Apache-2.0
"""Records go to the interested set, and come from peers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from midoryu.engine import state_lane
from midoryu.engine.effect import Effects
from midoryu.engine.event import PacketIn, Tick
from midoryu.openflow import flow, pipeline
from midoryu.packet.address import parse_ip
from midoryu.replication.session import Datagram, Replicator
from midoryu.state.connection import Connection, Phase
from midoryu.topology.model import Host
from tests.helpers.bench import STATE, Bench, installed, office, removed


def bench_with_peer() -> Bench:
    """Let node2 share an ingress set, so that it is interested in what goes out."""
    bench = Bench(office(masquerade=True, gateways=True))
    bench.greet()
    bench.lease()
    bench.heard.clear()
    return bench


def records(bench: Bench) -> list[Connection]:
    return [one for heard in bench.heard for one in heard.records]


def test_a_new_record_leaves_with_the_packet_that_made_it() -> None:
    bench = bench_with_peer()
    effects = bench.send("web/vm1", bench.frame())
    (push,) = effects.state_pushes
    assert push.actions == (
        (flow.SET_TUNNEL, pipeline.FLOW_STATE_KEY, parse_ip("172.31.0.2")),
        (flow.OUTPUT, STATE),
    )
    (sent,) = records(bench)
    (known,) = bench.core.connections
    assert (sent.id, sent.translations) == (known.id, known.translations)
    assert known.id
    assert known.owner == bench.b.key("node1")


def test_records_of_packets_that_came_at_once_leave_together() -> None:
    bench = bench_with_peer()
    effects = Effects()
    for sport in (40001, 40002, 40003):
        frame = bench.frame(sport=sport)
        bench.engine.take(PacketIn(11, frame), effects, bench.now)
    assert effects.state_pushes == []

    bench.engine.finish(effects, bench.now)

    (push,) = effects.state_pushes
    sent = bench.peer.receive(push.frame, bench.now).records
    assert [one.original[2] for one in sent] == [40001, 40002, 40003]
    assert len(effects.flow_mods) == len(effects.packet_outs) == 3
    assert effects.deadline is not None
    bench.engine.finish(effects, bench.now)
    assert len(effects.state_pushes) == 1


def test_a_host_that_is_not_interested_is_sent_nothing() -> None:
    bench = Bench(office(masquerade=True))
    bench.greet()
    bench.lease()
    assert bench.send("web/vm1", bench.frame()).state_pushes == []


def test_a_peers_record_serves_the_packets_of_its_connection() -> None:
    bench = Bench(office(masquerade=True))
    record = bench.record(translations=(bench.source_nat(7000),))
    bench.push(record)
    assert bench.counters["connections imported"] == 1
    effects = bench.send("r/up", bench.reply(dport=7000))
    (made,) = installed(effects)
    assert (flow.SET_IP_DST, parse_ip("10.0.1.3")) in made.actions
    assert (flow.SET_L4_DST, 40000, 6) in made.actions


def test_a_peers_record_removes_flows_that_were_made_without_it() -> None:
    bench = Bench(office(masquerade=True))
    old = installed(bench.send("r/up", bench.reply(dport=7000)))
    assert len(old) == 1
    (effects,) = bench.push(bench.record(translations=(bench.source_nat(7000),)))
    assert [f.cookie for f in removed(effects)] == [f.cookie for f in old]


def test_touches_and_removals_of_a_peer_are_applied() -> None:
    bench = Bench(office(masquerade=True))
    record = bench.record(translations=(bench.source_nat(7000),))
    bench.push(record)
    known = bench.core.connections.get(77)
    assert known is not None
    made = installed(bench.send("r/up", bench.reply(dport=7000)))
    assert known.phase is Phase.TCP_ESTABLISHED
    record.phase, record.last_used = Phase.TCP_CLOSING, bench.now
    node1 = [bench.b.key("node1")]
    bench.peer.touch([record], node1, bench.now)
    bench.tell(bench.peer.tick(bench.now + 1.0))
    assert known.phase is Phase.TCP_CLOSING
    bench.peer.remove([77], node1, bench.now + 1.0)
    effects = bench.tell(bench.peer.tick(bench.now + 2.0))
    assert bench.core.connections.get(77) is None
    gone = [f.cookie for one in effects for f in removed(one)]
    assert gone == [f.cookie for f in made]


def test_a_second_word_about_a_connection_frees_the_ports_of_the_first() -> None:
    bench = Bench(office(masquerade=True))
    bench.push(bench.record(translations=(bench.source_nat(6400),)))
    bench.push(bench.record(translations=(bench.source_nat(6401),)))
    known = bench.core.connections.get(77)
    assert known is not None
    assert known.translations[0].port == 6401
    assert bench.send("r/up", bench.reply(dport=6400)).packet_outs == []
    assert len(bench.send("r/up", bench.reply(dport=6401)).packet_outs) == 1


@pytest.mark.parametrize("cut", [0, 1, 20, 60, -1])
def test_a_broken_state_packet_changes_nothing_and_is_counted(cut: int) -> None:
    bench = Bench(office())
    bench.greet()
    (one,) = bench.peer.push((bench.record(),), (bench.b.key("node1"),), bench.now)
    effects = bench.do(PacketIn(STATE, one.frame[:cut]))
    assert len(bench.core.connections) == 0
    assert effects.flow_mods == effects.packet_outs == []
    bench.tell([one])
    assert len(bench.core.connections) == 1


def test_a_state_packet_with_another_key_is_refused() -> None:
    bench = Bench(office())
    stranger = Replicator(
        host=bench.b.key("node2"), epoch=9, keys=(b"x",), mtu_bytes=1500, now=0.0
    )
    for one in stranger.push((bench.record(),), (1,), bench.now):
        bench.do(PacketIn(STATE, one.frame))
    assert len(bench.core.connections) == 0


def test_before_the_host_row_state_packets_are_counted() -> None:
    bench = Bench(office(), start=False)
    effects = Effects()
    received, known = state_lane.receive(bench.core, b"", effects, bench.now)
    assert (received.sender, known) == (0, set())
    assert bench.counters["state packets before the host key"] == 1


def test_a_peer_without_an_address_is_counted() -> None:
    bench = Bench(office())
    effects = Effects()
    state_lane.send(bench.core, [Datagram(99, b"frame")], effects)
    assert effects.state_pushes == []
    assert bench.counters["state packets without a way"] >= 1


def test_a_new_peer_gets_every_record_that_concerns_it() -> None:
    b = office(masquerade=True, gateways=True)
    bench = Bench(b)
    bench.greet()
    bench.lease()
    for sport in range(1000, 1050):
        bench.send("web/vm1", bench.frame(sport=sport))
    bench.heard.clear()
    bench.peer = Replicator(
        host=b.key("node2"), epoch=10, keys=(b"",), mtu_bytes=1500, now=bench.now
    )
    bench.peer.set_peers({b.key("node1")}, bench.now)
    found: set[int] = set()
    for _ in range(8):
        outgoing = [one for heard in bench.heard for one in heard.replies]
        found |= {one.id for one in records(bench)}
        bench.heard.clear()
        bench.tell(outgoing + bench.peer.tick(bench.now))
        bench.wait(0.01)
    found |= {one.id for one in records(bench)}
    assert found == {one.id for one in bench.core.connections}
    assert len(found) == 50
    assert bench.peer.synced_with(b.key("node1"))


def test_records_in_use_are_touched_at_peers() -> None:
    bench = bench_with_peer()
    bench.send("web/vm1", bench.frame())
    (known,) = bench.core.connections
    for _ in range(12):
        bench.wait(20.0)
        bench.wait(0.1)
    touches = [one for heard in bench.heard for one in heard.touches]
    assert {one.id for one in touches} == {known.id}
    assert bench.core.connections.get(known.id) is known


def test_an_expired_record_gives_its_nat_port_back() -> None:
    bench = Bench(office(masquerade=True))
    bench.lease()
    bench.send("web/vm1", bench.frame())
    for entry in list(bench.core.flows):
        bench.core.flows.remove(entry.flow.cookie)
        bench.core.release(entry, bench.now)
    bench.wait(245.0)
    assert bench.counters["connections expired"] == 1
    assert len(bench.core.connections) == 0
    for sport in range(64):
        bench.send("web/vm1", bench.frame(sport=2000 + sport))
    assert len(bench.core.connections) == 64


def test_a_peer_whose_row_goes_is_not_waited_for() -> None:
    bench = Bench(office(), young=True)
    assert not bench.core.has_memory(bench.now)
    bench.gone(Host, bench.b.key("node2"))
    assert bench.core.has_memory(bench.now)


def test_a_changed_record_keeps_its_id_and_frees_its_old_ports() -> None:
    bench = bench_with_peer()
    bench.send("web/vm1", bench.frame())
    (known,) = bench.core.connections
    changed = replace(known, translations=(bench.source_nat(6401),), version=1)
    effects = Effects()
    kept = state_lane.commit(bench.core, changed, (), effects, bench.now)
    state_lane.push_made(bench.core, effects, bench.now)
    assert (kept.id, kept.translations[0].port) == (known.id, 6401)
    assert bench.counters["connections changed"] == 1
    assert len(effects.state_pushes) == 1
    for sport in range(63):
        bench.send("web/vm2", bench.frame(2, sport=1000 + sport))
    ports = {one.translations[0].port for one in bench.core.connections}
    assert len(ports) == 64


def test_an_old_word_about_a_connection_does_not_replace_a_newer_one() -> None:
    bench = Bench(office(masquerade=True))
    bench.push(bench.record(translations=(bench.source_nat(6401),), version=2))
    bench.push(bench.record(translations=(bench.source_nat(6400),), version=1))
    known = bench.core.connections.get(77)
    assert known is not None
    assert known.translations[0].port == 6401


def test_records_in_use_are_told_of_bit_by_bit() -> None:
    bench = bench_with_peer()
    for block in range(101, 104):
        bench.lease(block)
    for number in range(150):
        bench.send("web/vm1", bench.frame(sport=20000 + number))
    bench.now = bench.engine._next_touch
    bench.heard.clear()

    first = bench.do(Tick())
    assert len(bench.core.to_touch) == 150 - 64
    assert first.deadline is not None
    assert first.deadline <= bench.now + 0.01
    for _ in range(12):
        bench.wait(0.01)

    assert bench.core.to_touch == []
    touched = {one.id for heard in bench.heard for one in heard.touches}
    assert touched == {one.id for one in bench.core.connections}
