# SPDX-License-Identifier: Apache-2.0
"""A watched vport's records are known, and new ones are told."""

from __future__ import annotations

from midoryu.state.connection import Connection, Phase
from midoryu.state.watched import Watched, watch_key


def record(id_: int, ingress: int, egress: int) -> Connection:
    """Make a record with nothing but its ends."""
    return Connection(
        id_, 17, (1, 2, 3, 4), 1, ingress, 1, egress, (), 0, Phase.UDP_UNREPLIED
    )


def test_records_are_found_that_come_in_or_leave_at_the_vport() -> None:
    all_ = {n: record(n, *ends) for n, ends in enumerate([(5, 6), (6, 5), (6, 7)])}
    watched = Watched()
    assert not watched
    watched.add(5, all_.values())

    assert watched
    assert watched.records(5, all_) == [all_[0], all_[1]]
    del all_[0]
    assert watched.records(5, all_) == [all_[1]]


def test_a_new_record_names_the_watched_vports_that_it_is_at() -> None:
    watched = Watched()
    watched.add(5, ())
    watched.add(6, ())
    new = record(1, 5, 6)

    assert set(watched.note(new)) == {watch_key(5), watch_key(6)}
    assert watched.records(5, {1: new}) == [new]
    assert watched.note(record(2, 7, 8)) == ()
    watched.remove(5)
    assert watched.note(record(3, 5, 5)) == ()


def test_a_record_that_has_moved_away_is_no_longer_the_vports() -> None:
    watched = Watched()
    watched.add(5, [record(1, 5, 6)])

    assert watched.records(5, {1: record(1, 7, 6)}) == []
