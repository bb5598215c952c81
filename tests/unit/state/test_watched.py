# SPDX-License-Identifier: Apache-2.0
"""A watched vport's records are known, and new ones are told."""

from __future__ import annotations

from midoryu.state.connection import Connection, Phase
from midoryu.state.watched import Watched, Way, watch_key, ways_of


def record(
    id_: int,
    ingress: int,
    egress: int,
    ports: tuple[int, int] = (3, 4),
    proto: int = 17,
) -> Connection:
    """Make a record with nothing but its ends."""
    original = (1, 2, *ports)
    phase = Phase.UDP_UNREPLIED
    return Connection(id_, proto, original, 1, ingress, 1, egress, (), 0, phase)


def test_packets_are_known_that_come_in_at_the_vport() -> None:
    one, back, other = record(1, 5, 6), record(2, 6, 5), record(3, 6, 7)
    known = {1: one, 2: back, 3: other}
    watched = Watched()
    assert not watched
    watched.add(5, known.values())

    assert watched
    forward, reply = Way(17, (1, 2, 3, 4)), Way(17, (2, 1, 4, 3))
    assert list(watched.ways(5, known)) == [forward, reply]
    del known[1]
    assert list(watched.ways(5, known)) == [reply]
    known.clear()
    assert list(watched.ways(5, known)) == []
    assert watched._vports[5] == {}


def test_returns_of_a_flooded_packet_come_in_anywhere_but_where_it_did() -> None:
    assert ways_of(record(1, 6, 0), 5) == [Way(17, (2, 1, 4, 3))]
    assert ways_of(record(1, 5, 0), 5) == [Way(17, (1, 2, 3, 4))]


def test_records_are_found_by_protocol_and_block() -> None:
    one, other = record(1, 5, 5, (1000, 53)), record(2, 5, 5, (1000, 80), proto=6)
    watched = Watched()
    watched.add(5, [one, other])
    known = {1: one, 2: other}

    assert list(watched.ways(5, known, 17, 0)) == [Way(17, (1, 2, 1000, 53))]
    assert list(watched.ways(5, known, 6, 1000 >> 6)) == [Way(6, (2, 1, 80, 1000))]
    assert list(watched.ways(5, known, 6, 99)) == []
    assert sorted(watched.ways(5, known, 6)) == sorted(ways_of(other, 5))


def test_a_new_record_names_the_watched_vports_that_it_is_at() -> None:
    watched = Watched()
    watched.add(5, ())
    watched.add(6, ())
    new = record(1, 5, 6)

    assert set(watched.note(new)) == {watch_key(5), watch_key(6)}
    assert list(watched.ways(5, {1: new})) == ways_of(new, 5)
    assert watched.note(record(2, 7, 8)) == ()
    watched.remove(5)
    assert watched.note(record(3, 5, 5)) == ()
