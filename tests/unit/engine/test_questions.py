# SPDX-License-Identifier: Apache-2.0
"""Questions for records: answered, not known, without an answer."""

from __future__ import annotations

from midoryu.engine.questions import STATE_WAIT_S
from midoryu.packet.address import parse_ip
from midoryu.replication.entry import Query
from midoryu.replication.session import Replicator
from midoryu.state.connection import state_keys
from tests.helpers.bench import NAT, Bench, office

PORT = 6500


def asked(*, host: str = "node2") -> Bench:
    """Let a reply come whose record node2 may have; it waits."""
    bench = Bench(office(masquerade=True))
    bench.greet()
    bench.lease(PORT // 64, host)
    bench.send("r/up", bench.reply(dport=PORT))
    return bench


def queries(bench: Bench) -> list[Query]:
    """List the questions that node2 heard."""
    return [query for heard in bench.heard for query in heard.queries]


def test_the_holder_of_the_port_block_is_asked_once_and_the_packet_waits() -> None:
    bench = asked()
    (query,) = queries(bench)
    assert any(key[3] == parse_ip(NAT) and key[5] == PORT for key in query.keys)
    assert len(bench.core.waiting) == 1
    bench.send("r/up", bench.reply(dport=PORT))
    assert len(queries(bench)) == 1
    assert len(bench.core.waiting) == 2


def test_a_record_that_comes_as_the_answer_lets_the_packet_go() -> None:
    bench = asked()
    record = bench.record(
        original=(parse_ip("10.0.1.3"), parse_ip("198.51.100.9"), 40000, 80),
        translations=(bench.source_nat(PORT),),
    )
    assert set(queries(bench)[0].keys) & {key for key, _ in state_keys(record)}
    (effects,) = bench.push(record)
    (out,) = effects.packet_outs
    assert (6, parse_ip("10.0.1.3")) in out.actions
    assert bench.b.key("web/vm3") in out.actions[-2]
    assert len(bench.core.waiting) == 0


def test_unknown_lets_the_packet_go_on_without_a_record() -> None:
    bench = asked()
    (query,) = queries(bench)
    bench.tell(bench.peer.say_unknown(bench.b.key("node1"), query.number, bench.now))
    assert len(bench.core.waiting) == 0
    assert bench.core.questions == {}
    assert bench.counters["no_binding"] == 1


def test_an_answer_to_another_question_changes_nothing() -> None:
    bench = asked()
    bench.tell(bench.peer.say_unknown(bench.b.key("node1"), 12345, bench.now))
    assert len(bench.core.waiting) == 1


def test_without_an_answer_a_packet_waits_for_a_moment_only() -> None:
    bench = asked()
    bench.wait(STATE_WAIT_S / 2)
    assert len(bench.core.waiting) == 1
    bench.wait(STATE_WAIT_S)
    assert len(bench.core.waiting) == 0
    assert bench.counters["no_binding"] == 1
    bench.wait(1.0)
    assert bench.core.questions == {}
    assert bench.core.asked == {}


def test_nobody_is_asked_where_nobody_may_know() -> None:
    bench = asked(host="node1")
    assert queries(bench) == []
    assert len(bench.core.waiting) == 0


def test_the_host_that_had_the_vport_before_is_asked() -> None:
    bench = Bench(office(masquerade=True))
    bench.greet()
    bench.core.moved_from[bench.b.key("r/up")] = bench.b.key("node2")
    bench.send("r/up", bench.reply(dport=PORT))
    assert len(queries(bench)) == 1


def test_fellows_of_an_ingress_set_are_asked() -> None:
    bench = Bench(office(masquerade=True, gateways=True))
    bench.greet()
    bench.send("r/up", bench.reply(dport=PORT))
    assert len(queries(bench)) == 1


def test_a_peers_question_is_answered_with_the_record() -> None:
    bench = Bench(office(masquerade=True))
    bench.greet()
    bench.lease()
    bench.send("web/vm1", bench.frame())
    (record,) = bench.core.connections
    keys = [key for key, _ in state_keys(record)]
    _, datagrams = bench.peer.query(keys, [bench.b.key("node1")], bench.now)
    bench.tell(datagrams)
    assert [one.id for heard in bench.heard for one in heard.records] == [record.id]
    assert bench.counters["questions answered"] == 1


def test_a_peers_question_for_what_is_not_here_is_answered_unknown() -> None:
    bench = Bench(office())
    bench.greet()
    keys = [key for key, _ in state_keys(bench.record())]
    number, datagrams = bench.peer.query(keys, [bench.b.key("node1")], bench.now)
    bench.tell(datagrams)
    assert [one for heard in bench.heard for one in heard.unknown] == [number]
    assert bench.counters["questions not known"] == 1


def test_as_long_as_one_peer_may_still_know_the_packet_waits() -> None:
    b = office(masquerade=True)
    b.host("node3", "172.31.0.3")
    bench = Bench(b)
    bench.greet()
    bench.lease(PORT // 64, "node2")
    bench.core.moved_from[b.key("r/up")] = b.key("node3")
    bench.send("r/up", bench.reply(dport=PORT))
    (query,) = queries(bench)
    node1 = b.key("node1")
    bench.tell(bench.peer.say_unknown(node1, query.number, bench.now))
    assert len(bench.core.waiting) == 1
    other = Replicator(
        host=b.key("node3"), epoch=9, keys=(b"",), mtu_bytes=1500, now=0.0
    )
    bench.tell(other.say_unknown(node1, query.number, bench.now))
    assert len(bench.core.waiting) == 0
