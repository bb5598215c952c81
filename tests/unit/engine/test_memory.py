# SPDX-License-Identifier: Apache-2.0
"""What the journal is told, and what comes back from it."""

from __future__ import annotations

from midoryu.engine import memory
from midoryu.engine.core import SYNC_LIMIT_S
from midoryu.engine.effect import Effects, JournalWrite
from midoryu.engine.event import InterfacesChanged, JournalRead
from midoryu.replication.entry import (
    Context,
    Hello,
    Record,
    decode_entries,
    encode_hello,
    encode_record,
)
from midoryu.state.connection import Connection, Phase
from tests.helpers.bench import Bench, installed, office, removed


def journal(bench: Bench) -> list[JournalWrite]:
    return [write for effects in bench.done for write in effects.journal]


def decoded(write: JournalWrite, now: float) -> Connection:
    (entry,) = decode_entries(memoryview(write.entry), Context(0, now))
    assert isinstance(entry, Record)
    return entry.connection


def test_a_new_and_a_changed_record_are_remembered_an_expired_one_is_not() -> None:
    bench = Bench(office(masquerade=True), journal=True)
    bench.lease()
    effects = bench.send("web/vm1", bench.frame())
    (first,) = journal(bench)
    record = decoded(first, bench.now)
    (known,) = bench.core.connections
    assert (record.id, record.original, record.owner) == (
        known.id,
        known.original,
        bench.b.key("node1"),
    )
    (port,) = [one.port for one in known.translations]
    bench.send("r/up", bench.reply(dport=port))
    assert decoded(journal(bench)[-1], bench.now).phase is Phase.TCP_ESTABLISHED
    assert len(effects.journal) == 1
    for entry in list(bench.core.flows):
        bench.core.flows.remove(entry.flow.cookie)
        bench.core.release(entry, bench.now)
    bench.wait(8000.0)
    assert journal(bench)[-1] == JournalWrite(known.id, b"")


def test_without_a_journal_nothing_is_written() -> None:
    bench = Bench(office(masquerade=True))
    bench.lease()
    bench.send("web/vm1", bench.frame())
    bench.push(bench.record())
    assert journal(bench) == []


def test_records_of_peers_are_remembered_and_forgotten_too() -> None:
    bench = Bench(office(), journal=True)
    bench.push(bench.record(77))
    assert [write.connection for write in journal(bench)] == [77]
    bench.peer.remove([77], [bench.b.key("node1")], bench.now)
    bench.tell(bench.peer.tick(bench.now + 1.0))
    assert journal(bench)[-1] == JournalWrite(77, b"")


def test_a_record_in_use_is_renewed_a_few_times_in_its_lifetime() -> None:
    bench = Bench(office(), journal=True)
    record = bench.record(phase=Phase.TCP_ESTABLISHED)
    bench.core.connections.insert(record, bench.now)
    effects = Effects()
    lifetime_s = bench.core.connections.lifetime_s(record.phase)
    sweeps = int(lifetime_s / bench.core.config.touch_interval_s)
    for sweep in range(sweeps):
        memory.refresh(bench.core, record, sweep, effects, bench.now)
    assert 3 <= len(effects.journal) <= 4


def read(bench: Bench, *entries: tuple[bytes, float]) -> Effects:
    return bench.do(JournalRead(entries))


def test_a_record_comes_back_with_its_age() -> None:
    bench = Bench(office(), start=False)
    record = bench.record(last_used=bench.now - 5.0)
    read(bench, (encode_record(record, 0, bench.now), 10.0))
    known = bench.core.connections.get(77)
    assert known is not None
    assert known.last_used == bench.now - 10.0
    assert known.owner == bench.b.key("node2")
    assert bench.counters["connections from the journal"] == 1


def test_a_record_whose_lifetime_is_over_stays_away() -> None:
    bench = Bench(office(), start=False)
    entry = encode_record(bench.record(), 0, bench.now)
    read(bench, (entry, 7440.0))
    assert bench.core.connections.get(77) is None


def test_a_broken_entry_is_counted_and_the_others_are_taken() -> None:
    bench = Bench(office(), start=False)
    entry = encode_record(bench.record(), 0, bench.now)
    hello = encode_hello(Hello(True))
    read(bench, (entry[:-1], 0.0), (b"\xff", 0.0), (hello, 0.0), (entry, 0.0))
    assert bench.counters["journal entries refused"] == 2
    assert bench.core.connections.get(77) is not None


def test_what_a_peer_said_is_not_overwritten() -> None:
    bench = Bench(office())
    bench.push(bench.record())
    old = bench.record(phase=Phase.TCP_TRANSITORY)
    read(bench, (encode_record(old, 0, bench.now), 0.0))
    known = bench.core.connections.get(77)
    assert known is not None
    assert known.phase is Phase.TCP_ESTABLISHED


def test_nat_ports_of_the_journal_are_not_given_out_again() -> None:
    bench = Bench(office(masquerade=True), start=False)
    taken = bench.source_nat(6428)
    record = bench.record(translations=(taken,), owner=bench.b.key("node1"))
    read(bench, (encode_record(record, 0, bench.now), 0.0))
    bench.read_topology()
    bench.connect()
    bench.wait(SYNC_LIMIT_S)
    bench.lease()
    for sport in range(70):
        bench.send("web/vm1", bench.frame(sport=1000 + sport))
    ports = [one.port for r in bench.core.connections for one in r.translations]
    assert ports.count(6428) == 1
    assert len(ports) > 60


def test_a_flow_keeps_its_record_where_both_ends_are_here() -> None:
    bench = Bench(office(masquerade=True))
    bench.lease()
    (made,) = installed(bench.send("web/vm1", bench.frame()))
    (connection,) = bench.core.connections
    kept = memory.noted(bench.core, made, bench.now)
    assert kept is not None
    assert (kept.id, kept.owner) == (connection.id, connection.owner)
    assert kept.translations == connection.translations


def test_a_flow_whose_other_end_is_on_another_host_keeps_nothing() -> None:
    bench = Bench(office(masquerade=True))
    bench.lease()
    bench.send("web/vm1", bench.frame())
    (connection,) = bench.core.connections
    assert memory.note(bench.core, connection.id, bench.now) != b""
    bench.do(InterfacesChanged({"web/vm1": 11}))
    assert memory.note(bench.core, connection.id, bench.now) == b""
    assert memory.note(bench.core, 1, bench.now) == b""


def test_what_the_journal_brings_late_removes_flows_made_without_it() -> None:
    bench = Bench(office(masquerade=True))
    bench.lease()
    frame = bench.reply(dport=6428)
    (drop,) = installed(bench.send("r/up", frame))
    assert drop.actions == ()
    record = bench.record(translations=(bench.source_nat(6428),))
    read(bench, (encode_record(record, 0, bench.now), 0.0))
    assert [flow.cookie for flow in removed(bench.done[-1])] == [drop.cookie]
