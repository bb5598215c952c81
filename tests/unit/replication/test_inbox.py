# SPDX-License-Identifier: Apache-2.0
"""The stream from a peer: gaps, questions, late entries, sync."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from midoryu.replication.entry import (
    Heartbeat,
    Hello,
    Nack,
    Record,
    Remove,
    Touch,
)
from midoryu.replication.inbox import (
    NACK_GAPS,
    NACK_PAUSE_S,
    NACK_TRIES,
    REORDER,
    SYNC_RETRY_S,
    WINDOW,
    Inbox,
)
from midoryu.state.connection import Connection, Phase


def inbox(*numbers: int) -> Inbox:
    made = Inbox()
    for number in numbers:
        made.arrive(number, 0.0)
    return made


def record(id_: int) -> Record:
    tuple4 = (1, 2, 3, 4)
    return Record(Connection(id_, 6, tuple4, 1, 2, 3, 4, (), 1, Phase.TCP_ESTABLISHED))


@given(st.permutations(range(1, 30)))
def test_in_whatever_order_they_come_all_arrive(numbers: list[int]) -> None:
    box = inbox(*numbers)
    assert (box.arrived, box.highest) == (29, 29)
    assert box.nacks(1.0) == []
    assert box.gaps == box.repairs


@given(st.sets(st.integers(1, 40), min_size=1))
def test_exactly_what_is_missing_is_asked_for(numbers: set[int]) -> None:
    box = inbox(*sorted(numbers))
    asked = {n for gap in box.nacks(0.0) for n in range(gap.first, gap.last + 1)}
    assert asked == set(range(1, max(numbers))) - numbers


def test_a_gap_is_asked_for_again_after_a_pause() -> None:
    box = inbox(1, 3)
    assert box.nacks(0.0) == [Nack(2, 2)]
    assert box.nacks(NACK_PAUSE_S / 2) == []
    assert box.nacks(NACK_PAUSE_S) == [Nack(2, 2)]
    box.arrive(2, 1.0)
    assert box.deadline() is None


def test_a_gap_that_stays_is_given_up_for_a_sync() -> None:
    box = inbox(1, 3)
    for turn in range(NACK_TRIES):
        assert box.nacks(turn * 1.0) == [Nack(2, 2)]
    assert box.nacks(NACK_TRIES * 1.0) == []
    assert box.arrived == 3
    assert box.sync_request(NACK_TRIES * 1.0) == 1


def test_many_gaps_are_asked_for_a_few_at_a_time() -> None:
    box = inbox(*range(1, 200, 2))
    assert len(box.nacks(0.0)) == NACK_GAPS


def test_what_arrived_before_is_known() -> None:
    box = inbox(1, 2, 5)
    assert [box.is_known(number) for number in range(1, 7)] == [
        True,
        True,
        False,
        False,
        True,
        False,
    ]


def test_a_far_jump_is_a_sync_and_no_gap() -> None:
    box = inbox(1)
    box.expect(WINDOW * 3, 0.0)
    assert box.sync_request(0.0) == 1
    assert box.arrived >= WINDOW * 2


def test_an_unrepaired_stream_asks_for_nothing_and_waits_for_reordering_only() -> None:
    box = Inbox()
    box.arrive(1, 0.0, is_repaired=False)
    box.arrive(3, 0.0, is_repaired=False)
    assert (box.gaps, box.nacks(0.0)) == (1, [])
    assert not box.is_known(2)
    box.arrive(2 + REORDER, 0.0, is_repaired=False)
    assert box.is_known(2)


def test_a_heartbeat_shows_a_lost_last_datagram() -> None:
    box = inbox(1)
    box.hear(Heartbeat(3, 1), 5.0)
    assert box.nacks(5.0) == [Nack(2, 3)]


def test_a_heartbeat_says_what_cannot_be_repeated_any_more() -> None:
    box = inbox(1)
    box.hear(Heartbeat(9, 6), 5.0)
    assert box.arrived == 5
    assert box.sync_request(5.0) == 1
    assert box.nacks(5.0) == [Nack(6, 9)]


def test_a_sync_is_asked_for_until_its_end_and_all_before_it_have_come() -> None:
    box = inbox(1)
    box.ask_sync(0.0)
    now, pauses = 0.0, []
    for _ in range(len(SYNC_RETRY_S) + 1):
        assert box.sync_request(now) == 1
        assert box.sync_due is not None
        pauses.append(round(box.sync_due - now, 6))
        now = box.sync_due
    assert pauses == [*SYNC_RETRY_S, SYNC_RETRY_S[-1]]
    box.arrive(4, now)
    box.end_sync(1, 4)
    assert not box.is_synced
    box.arrive(2, now)
    box.arrive(3, now)
    assert box.is_synced
    assert box.sync_request(now + 100) is None


def test_the_end_of_an_older_sync_is_no_end() -> None:
    box = inbox(1)
    box.ask_sync(0.0)
    box.ask_sync(0.0)
    box.end_sync(1, 1)
    assert not box.is_synced
    box.end_sync(2, 1)
    assert box.is_synced


def test_without_a_gap_entries_come_as_they_are() -> None:
    entries = [record(1), Touch(1, Phase.UDP, 0.0), Remove(1), Hello(True)]
    assert list(inbox().settle(1, entries)) == entries


def test_a_late_record_of_a_removed_connection_stays_away() -> None:
    box = inbox(1)
    assert list(box.settle(3, [Remove(7)])) == [Remove(7)]
    box.arrive(3, 0.0)
    late = [record(7), record(8)]
    assert list(box.settle(2, late)) == late[1:]


def test_a_late_record_brings_the_later_touch_again() -> None:
    box, touch = inbox(1), Touch(7, Phase.TCP_TRANSITORY, 5.0)
    list(box.settle(3, [touch]))
    box.arrive(3, 0.0)
    late = record(7)
    assert list(box.settle(2, [late])) == [late, touch]


def test_a_late_touch_after_a_later_record_is_dropped() -> None:
    box = inbox(1)
    list(box.settle(3, [record(7)]))
    box.arrive(3, 0.0)
    assert list(box.settle(2, [Touch(7, Phase.UDP, 0.0), Hello(True)])) == [Hello(True)]
