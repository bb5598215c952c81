# SPDX-License-Identifier: Apache-2.0
"""The stream to a peer: the ring, heartbeats, repeats, sync."""

from __future__ import annotations

import pytest

from midoryu.replication.entry import Context, Nack, Record, decode_entries
from midoryu.replication.outbox import (
    CONFIRM_BURST,
    HEARTBEATS_S,
    REPEAT_PAUSE_S,
    REPEATS,
    RING,
    SYNC_BURST,
    SYNC_PAUSE_S,
    Outbox,
)
from midoryu.state.connection import Connection, Phase


def outbox(count: int) -> Outbox:
    box = Outbox()
    for number in range(1, count + 1):
        assert box.number(f"{number}".encode(), 0.0) == number
    return box


def records(count: int) -> list[Connection]:
    tuple4 = (1, 2, 3, 4)
    phase = Phase.TCP_ESTABLISHED
    return [
        Connection(id_, 6, tuple4, 1, 2, 3, 4, (), 1, phase)
        for id_ in range(1, count + 1)
    ]


def test_what_is_asked_for_comes_with_its_number() -> None:
    box = outbox(5)
    assert box.repeats(Nack(2, 3), 1.0) == [(2, b"2"), (3, b"3")]
    assert box.repeats(Nack(4, 99), 1.0) == [(4, b"4"), (5, b"5")]


def test_one_datagram_is_not_repeated_twice_in_a_moment() -> None:
    box = outbox(2)
    assert len(box.repeats(Nack(1, 2), 1.0)) == 2
    assert box.repeats(Nack(1, 2), 1.0) == []
    assert len(box.repeats(Nack(1, 2), 1.0 + REPEAT_PAUSE_S)) == 2


def test_one_question_gets_a_bounded_answer() -> None:
    box = outbox(RING)
    first = box.repeats(Nack(1, RING), 1.0)
    assert [number for number, _ in first] == list(range(1, REPEATS + 1))
    second = box.repeats(Nack(1, RING), 1.0)
    assert second[0][0] == REPEATS + 1


def test_the_ring_keeps_the_last_ones_and_says_which() -> None:
    box = outbox(RING + 10)
    assert box.oldest == 11
    assert box.repeats(Nack(1, 10), 1.0) == []
    assert outbox(0).oldest == 1


def test_an_acknowledgement_empties_the_ring_up_to_there() -> None:
    box = outbox(5)
    box.acknowledge(3)
    assert (box.lag, box.oldest) == (2, 4)
    box.acknowledge(2)
    box.acknowledge(99)
    assert box.lag == 2
    box.acknowledge(5)
    assert (box.lag, box.oldest, box.heartbeat_due) == (0, 6, None)


def test_heartbeats_follow_a_burst_and_end() -> None:
    box = outbox(2)
    found = []
    while (due := box.deadline()) is not None:
        beat = box.heartbeat(due)
        assert beat == (2, 1)
        found.append(due)
    assert found == pytest.approx(HEARTBEATS_S)
    box.number(b"3", 10.0)
    assert box.deadline() == pytest.approx(10.0 + HEARTBEATS_S[0])


def test_a_stream_that_is_not_kept_beats_not_and_repeats_nothing() -> None:
    box = Outbox()
    assert box.number(b"1", 0.0, is_kept=False) == 1
    assert box.deadline() is None
    assert box.repeats(Nack(1, 1), 1.0) == []


def test_confirmations_come_with_the_acknowledgement() -> None:
    box = outbox(3)
    box.await_confirmation(2, (20, 21), 0.5)
    box.await_confirmation(3, (30,), 0.6)
    assert box.deadline() == HEARTBEATS_S[0]
    assert box.acknowledge(1) == ()
    assert box.acknowledge(2) == (20, 21)
    assert box.confirm_due == 0.5
    assert box.acknowledge(3) == (30,)
    assert box.confirm_due is None


def test_unconfirmed_datagrams_are_repeated_in_bounded_bursts() -> None:
    box = outbox(CONFIRM_BURST + 5)
    for number in range(1, CONFIRM_BURST + 6):
        box.await_confirmation(number, (number,), 0.5)
    found, given_up = box.confirm_repeats(0.4, 0.01, 3)
    assert (list(found), list(given_up)) == ([], [])
    found, given_up = box.confirm_repeats(0.5, 0.01, 3)
    assert (len(found), list(given_up)) == (CONFIRM_BURST, [])


def test_a_sync_is_sent_whole_in_paced_bursts_that_fit_their_room() -> None:
    box, room = Outbox(), 300
    assert box.sync_burst(1, room, 0.0) == ()
    box.start_sync(records(500), 1.0)
    now, ids = 1.0, []
    while box.sync_queue:
        batches = box.sync_burst(1, room, now)
        assert 0 < len(batches) <= SYNC_BURST
        assert max(map(len, batches)) <= room
        assert box.sync_burst(1, room, now) == ()
        assert box.deadline() == pytest.approx(now + SYNC_PAUSE_S)
        for batch in batches:
            for entry in decode_entries(memoryview(batch), Context(1, now)):
                assert isinstance(entry, Record)
                ids.append(entry.connection.id)
        now += SYNC_PAUSE_S
    assert ids == list(range(1, 501))
