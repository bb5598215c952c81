# SPDX-License-Identifier: Apache-2.0
"""Entries go where the engine looks for them."""

from __future__ import annotations

from midoryu.replication.entry import (
    Hello,
    Notice,
    Query,
    Record,
    Remove,
    Touch,
    Unknown,
)
from midoryu.replication.received import Received
from midoryu.state.connection import Connection, Phase

CONNECTION = Connection(5, 6, (1, 2, 3, 4), 1, 2, 3, 4, (), 1, Phase.UDP)


def test_entries_of_the_stream_are_sorted_by_kind_in_their_order() -> None:
    received = Received()
    touch = Touch(6, Phase.UDP, 1.0)
    notices = [Notice(1, False), Notice(2, True)]
    received.sort([*notices, Remove(7), Record(CONNECTION), touch, Hello(True)])
    assert received.records == [CONNECTION]
    assert received.touches == [touch]
    assert received.removed == [7]
    assert received.notices == notices


def test_questions_and_their_answers_are_handed_on() -> None:
    received = Received()
    query = Query(3, ((1, 6, 1, 2, 3, 4),))
    for entry in (query, Unknown(9), Hello(True)):
        received.hand_on(entry)
    assert received.queries == [query]
    assert received.unknown == [9]


def test_two_frames_share_nothing() -> None:
    one, other = Received(), Received()
    one.sort([Remove(1)])
    assert other.removed == []
