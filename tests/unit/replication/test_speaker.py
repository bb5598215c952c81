# SPDX-License-Identifier: Apache-2.0
"""Datagrams of one host, as the receiver reads them."""

from __future__ import annotations

import pytest

from midoryu.replication import entry as codec
from midoryu.replication.entry import Heartbeat, Hello, Nack, Remove, SyncDone, Touch
from midoryu.replication.peer import HELLO_IDLE_S, Peer
from midoryu.replication.speaker import Datagram, Speaker
from midoryu.replication.version import Version
from midoryu.replication.wire import (
    CONFIRM,
    NUMBERED,
    UNREPAIRED,
    Message,
    Signer,
    decode,
)
from midoryu.state.connection import Connection, Phase

SIGNER = Signer([b"key"])
MTU = 1500


def speaker(*, is_repaired: bool = True, mtu_bytes: int = MTU) -> Speaker:
    return Speaker(1, 7, SIGNER, mtu_bytes=mtu_bytes, is_repaired=is_repaired)


def peer() -> Peer:
    made = Peer(2, 0.0)
    made.begin(9, 0.0)
    made.answer(0.0)
    made.inbox.sync_due = None
    return made


def read(datagram: Datagram, now: float = 100.0) -> Message:
    assert datagram.peer == 2
    return decode(datagram.frame, 2, SIGNER, now)


def record(id_: int) -> Connection:
    return Connection(id_, 6, (1, 2, 3, 4), 1, 2, 3, 4, (), 1, Phase.TCP_ESTABLISHED)


def test_numbered_datagrams_count_and_name_both_lives() -> None:
    one, two = speaker(), peer()
    first, second = (one.numbered(two, b"", 1.0) for _ in range(2))
    header = read(first).header
    assert (header.sender, header.receiver) == (1, 2)
    assert (header.epoch, header.receiver_epoch) == (7, 9)
    assert (header.sequence, header.flags) == (1, NUMBERED)
    assert read(second).header.sequence == 2
    assert two.sent == 2
    assert two.out.lag == 2


def test_a_plain_datagram_is_no_part_of_the_stream() -> None:
    one, two = speaker(), peer()
    one.numbered(two, b"", 1.0)
    header = read(one.plain(two, b"", 1.0)).header
    assert (header.sequence, header.flags) == (1, 0)
    assert two.out.last == 1


def test_every_datagram_acknowledges_what_arrived() -> None:
    one, two = speaker(), peer()
    two.inbox.arrive(1, 0.0)
    two.inbox.arrive(2, 0.0)
    assert read(one.plain(two, b"", 1.0)).header.acknowledged == 2


def test_what_is_sent_keeps_the_path_warm_without_a_hello() -> None:
    one, two = speaker(), peer()
    one.plain(two, b"", 10.0)
    assert two.hello_due == 10.0 + HELLO_IDLE_S


def test_a_stream_without_repair_says_so_and_keeps_nothing() -> None:
    one, two = speaker(is_repaired=False), peer()
    header = read(one.numbered(two, b"", 1.0)).header
    assert header.flags == NUMBERED | UNREPAIRED
    assert one.repeat(two, Nack(1, 1), 1.0) != []
    assert two.repairs == 0


def test_what_is_asked_for_is_repeated_with_its_number_and_content() -> None:
    one, two = speaker(), peer()
    entries = [codec.encode_unknown(number) for number in (1, 2, 3)]
    sent = [one.numbered(two, entry, 1.0, flags=CONFIRM) for entry in entries]
    again = one.repeat(two, Nack(2, 3), 2.0)
    assert [read(r).header.sequence for r in again] == [2, 3]
    assert [read(r).entries for r in again] == [read(s).entries for s in sent[1:]]
    assert two.repairs == 2


def test_what_cannot_be_repeated_is_said_by_a_heartbeat() -> None:
    one, two = speaker(), peer()
    one.numbered(two, b"", 1.0)
    one.numbered(two, b"", 1.0)
    two.out.acknowledge(1)
    *_, last = one.repeat(two, Nack(1, 1), 2.0)
    assert read(last).entries == (Heartbeat(2, 2),)


def test_touches_and_removals_wait_for_company_and_go_together() -> None:
    one, two = speaker(), peer()
    two.out.touches = {5: Touch(5, Phase.UDP, 99.0)}
    two.out.removes = {6: None, 7: None}
    two.out.flush_due = 2.0
    assert one.flush(two, 1.9) == []
    (sent,) = one.flush(two, 100.0)
    assert read(sent).entries == (Touch(5, Phase.UDP, 99.0), Remove(6), Remove(7))
    assert one.flush(two, 100.0) == []


@pytest.mark.parametrize("mtu_bytes", [576, 1500, 9000])
def test_no_datagram_is_larger_than_the_mtu_lets_it(mtu_bytes: int) -> None:
    one, two = speaker(mtu_bytes=mtu_bytes), peer()
    two.out.removes = dict.fromkeys(range(1, 5000))
    two.out.touches = {id_: Touch(id_, Phase.UDP, 1.0) for id_ in range(1, 5000)}
    two.out.flush_due = 1.0
    sent = one.flush(two, 1.0)
    assert max(len(datagram.frame) for datagram in sent) <= mtu_bytes - 40
    ids = [e.id for d in sent for e in read(d).entries if isinstance(e, Remove)]
    assert ids == list(range(1, 5000))


def test_the_versions_of_touched_records_travel_with_the_touches() -> None:
    one, two = speaker(mtu_bytes=576), peer()
    two.out.touches = {
        id_: Touch(id_, Phase.UDP, 1.0, Version(id_, id_, 7) if id_ % 2 else None)
        for id_ in range(1, 500)
    }
    two.out.flush_due = 1.0
    for datagram in one.flush(two, 1.0):
        assert len(datagram.frame) <= 576 - 40
        entries = read(datagram).entries
        touched = {e.id for e in entries if isinstance(e, Touch) and e.id % 2}
        told = {e.id for e in entries if isinstance(e, Version) and e.version == e.id}
        assert touched == told


def test_a_sync_goes_in_bursts_and_ends_with_its_number() -> None:
    one, two = speaker(), peer()
    two.out.start_sync([record(id_) for id_ in range(1, 1001)], 1.0)
    two.out.sync_number = 42
    now, found, bursts = 1.0, 0, 0
    while two.out.sync_queue is not None:
        sent = one.sync_burst(two, now)
        assert len(sent) <= 17
        entries = [entry for datagram in sent for entry in read(datagram).entries]
        found += sum(isinstance(entry, codec.Record) for entry in entries)
        bursts += 1
        assert one.sync_burst(two, now) == []
        now += 0.005
    assert found == 1000
    assert bursts > 1
    assert entries[-1] == SyncDone(42)


def test_control_makes_what_is_due_and_nothing_twice() -> None:
    one, two = speaker(), peer()
    two.has_answered = False
    two.inbox.expect(3, 5.0)
    two.inbox.ask_sync(5.0)
    one.numbered(two, b"", 4.9)
    two.hello_due = 5.0
    kinds = [type(e).__name__ for d in one.control(two, 5.0) for e in read(d).entries]
    assert kinds == ["Nack", "SyncRequest", "Heartbeat", "Hello"]
    assert one.control(two, 5.0) == []


def test_a_hello_says_whether_it_wants_an_answer() -> None:
    one, two = speaker(), peer()
    (entry,) = read(one.hello(two, 1.0, wants_answer=False)).entries
    assert entry == Hello(False)
