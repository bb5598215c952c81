# SPDX-License-Identifier: Apache-2.0
"""The table of connection records."""

from __future__ import annotations

import dataclasses
import random

import pytest

from midoryu.packet.address import parse_ip
from midoryu.packet.protocol import TCP, UDP
from midoryu.state.connection import (
    Connection,
    Direction,
    Phase,
    Translation,
    TranslationKind,
    direction_of,
    state_keys,
)
from midoryu.state.table import ConnectionTable
from midoryu.state.watched import watch_key, ways_of

VM = parse_ip("10.0.1.11")
SERVER = parse_ip("198.51.100.1")
NAT = parse_ip("203.0.113.10")
NETWORK, ROUTER, PROVIDER = 1, 2, 3


def record(
    id_: int, sport: int = 1000, phase: Phase = Phase.TCP_TRANSITORY, at: float = 0.0
) -> Connection:
    translation = Translation(ROUTER, TranslationKind.SOURCE, NAT, sport)
    return Connection(
        id=id_,
        ip_proto=UDP if phase in (Phase.UDP, Phase.UDP_UNREPLIED) else TCP,
        original=(VM, SERVER, sport, 80),
        ingress_device=NETWORK,
        ingress_vport=11,
        egress_device=PROVIDER,
        egress_vport=12,
        translations=(translation,),
        owner=1,
        phase=phase,
        last_used=at,
    )


def test_a_record_is_found_from_both_sides_at_each_device() -> None:
    table, one = ConnectionTable(), record(5)
    keys = table.insert(one, 0.0)
    assert set(keys) == {
        (NETWORK, TCP, VM, SERVER, 1000, 80),
        (ROUTER, TCP, VM, SERVER, 1000, 80),
        (ROUTER, TCP, SERVER, NAT, 80, 1000),
        (PROVIDER, TCP, SERVER, NAT, 80, 1000),
    }
    for key, direction in state_keys(one):
        hit = table.find(key)
        assert hit is not None
        assert (hit.connection, hit.direction) == (one, direction)
    assert table.find((PROVIDER, TCP, VM, SERVER, 1000, 80)) is None


def test_a_removed_record_is_found_no_more() -> None:
    table = ConnectionTable()
    keys = table.insert(record(5), 0.0)
    assert set(table.remove(5)) == set(keys)
    assert table.remove(5) == ()
    assert [table.find(key) for key in keys] == [None] * 4
    assert len(table) == 0


def test_an_update_replaces_the_record_and_its_keys() -> None:
    table, old = ConnectionTable(), record(5, at=50.0)
    table.insert(old, 50.0)
    new = dataclasses.replace(record(5), egress_device=9, last_used=40.0)
    table.insert(new, 60.0)
    assert table.find((PROVIDER, TCP, SERVER, NAT, 80, 1000)) is None
    hit = table.find((9, TCP, SERVER, NAT, 80, 1000))
    assert hit is not None
    assert hit == (new, Direction.RETURN)
    assert new.last_used == 50.0
    assert len(table) == 1


@pytest.mark.parametrize("order", [(5, 6), (6, 5)], ids=["low first", "high first"])
def test_keys_of_a_record_that_ends_go_to_who_claims_them_too(
    order: tuple[int, int],
) -> None:
    table = ConnectionTable()
    for id_ in order:
        table.insert(record(id_), 0.0)
    table.remove(5)
    six = table.get(6)
    assert six is not None
    for key, _ in state_keys(six):
        hit = table.find(key)
        assert hit is not None
        assert hit.connection is six
    table.remove(6)
    assert (table._index, table._narrow, table._exact) == ({}, {}, {})
    assert table._rivals == {}


@pytest.mark.parametrize("phase", list(Phase))
def test_a_record_lives_its_phases_lifetime_from_its_last_use(phase: Phase) -> None:
    table = ConnectionTable()
    table.insert(record(5, phase=phase), 0.0)
    life = table.lifetime_s(phase)
    table.touch(5, 0.5 * life)
    assert table.expire(1.5 * life - 0.1) == []
    assert [one.id for one in table.expire(1.5 * life + 1.0)] == [5]
    assert table.deadline() is None


def test_the_deadline_leads_from_expiry_to_expiry() -> None:
    table = ConnectionTable()
    for id_ in range(1, 50):
        table.insert(record(id_, sport=id_, at=id_ * 3.3), id_ * 3.3)
    table.touch(10, 500.0)
    seen = []
    while (now := table.deadline()) is not None:
        for one in table.expire(now):
            seen.append(one.id)
            assert 0 <= now - (one.last_used + 240) <= 1.0
    assert seen == [*range(1, 10), *range(11, 50), 10]


def test_very_many_ends_are_spread_over_several_calls() -> None:
    table = ConnectionTable()
    for id_ in range(1, 51):
        table.insert(record(id_, sport=id_), 0.0)
    seen = []
    while (due := table.deadline()) is not None and due <= 240.0:
        gone = table.expire(240.0, limit=20)
        assert 0 < len(gone) <= 20
        seen += [one.id for one in gone]
    assert sorted(seen) == [*range(1, 51)]
    assert (len(table), table.deadline()) == (0, None)


def test_a_fin_shortens_the_wait() -> None:
    table = ConnectionTable()
    table.insert(record(5, phase=Phase.TCP_ESTABLISHED), 0.0)
    table.touch(5, 10.0, Phase.TCP_TRANSITORY)
    assert table.deadline() == 250.0
    assert [one.id for one in table.expire(250.0)] == [5]
    assert table.expire(10_000.0) == []


def test_a_held_record_stays_until_it_is_released() -> None:
    table = ConnectionTable()
    table.insert(record(5), 0.0)
    table.hold(5)
    table.hold(5)
    assert table.expire(100_000.0) == []
    table.release(5, 100_100.0)
    assert table.is_held(5)
    table.release(5, 100_100.0)
    assert table.expire(100_339.0) == []
    assert [one.id for one in table.expire(100_340.0)] == [5]


def test_a_release_in_the_past_counts_from_the_last_use() -> None:
    table = ConnectionTable()
    table.insert(record(5), 0.0)
    table.hold(5)
    table.expire(240.0)
    table.release(5, 241.0)
    assert table.deadline() == 480.0
    assert table.touch(5, 1.0) is not None
    record_ = table.get(5)
    assert record_ is not None
    assert record_.last_used == 241.0


def test_a_full_table_drops_the_oldest_unreplied() -> None:
    table = ConnectionTable(max_connections=3)
    table.insert(record(1, 1, Phase.TCP_ESTABLISHED), 0.0)
    table.insert(record(2, 2, Phase.UDP_UNREPLIED), 1.0)
    table.insert(record(3, 3, Phase.TCP_TRANSITORY), 2.0)
    assert table.admit(3.0)
    table.insert(record(4, 4), 3.0)
    assert table.deadline() == 0.0
    assert [one.id for one in table.expire(3.0)] == [2]
    assert sorted(one.id for one in table) == [1, 3, 4]


def test_a_table_full_of_established_connections_refuses() -> None:
    table = ConnectionTable(max_connections=2)
    table.insert(record(1, 1), 0.0)
    table.insert(record(2, 2, Phase.UDP), 1.0)
    table.touch(1, 2.0, Phase.TCP_ESTABLISHED)
    assert not table.admit(3.0)
    assert table.insert(record(3, 3), 3.0) == ()
    assert table.counters.refused == 1
    assert sorted(one.id for one in table) == [1, 2]


def test_a_flood_leaves_replied_connections_alone_and_memory_bounded() -> None:
    table = ConnectionTable(max_connections=100)
    for id_ in range(1, 51):
        table.insert(record(id_, id_, Phase.TCP_ESTABLISHED), 0.0)
    for id_ in range(51, 20_000):
        table.insert(record(id_, id_ % 65536, Phase.UDP_UNREPLIED), id_ / 1000)
    ids = {one.id for one in table}
    assert ids == {*range(1, 51), *range(19_950, 20_000)}
    assert len(table._unreplied) < 2000


def test_a_full_table_drops_records_of_the_vport_that_has_most() -> None:
    table = ConnectionTable(max_connections=40, max_unreplied_per_vport=90)
    quiet = record(1, 1, Phase.UDP_UNREPLIED)
    quiet.ingress_vport = 7
    table.insert(quiet, 0.0)
    for id_ in range(2, 200):
        table.insert(record(id_, id_, Phase.ICMP), 1.0)

    assert table.get(1) is quiet
    assert len(table) == 40
    assert (table.counters.over_share, table.counters.evicted) == (0, 159)


def test_a_vport_has_its_share_of_unreplied_records_and_no_more() -> None:
    table = ConnectionTable(max_unreplied_per_vport=10)
    for id_ in range(1, 31):
        table.insert(record(id_, id_, Phase.ICMP), 1.0)
    table.touch(30, 2.0, Phase.UDP)

    assert sorted(one.id for one in table) == [*range(21, 31)]
    assert table.unreplied_of(record(1, 1).ingress_vport) == 9
    assert table.counters.over_share == table.counters.evicted == 20


def test_records_of_a_watched_vport_are_known_and_told() -> None:
    table = ConnectionTable()
    first, second, other = record(1, 1), record(2, 2), record(3, 3)
    other.ingress_vport = other.egress_vport = 77
    vport = first.ingress_vport
    table.insert(first, 0.0)
    table.watch(vport)

    assert watch_key(vport) in table.insert(second, 1.0)
    assert watch_key(vport) not in table.insert(other, 1.0)
    ways = {*ways_of(first, vport), *ways_of(second, vport)}
    assert set(table.watched(vport)) == ways
    table.remove(1)
    assert set(table.watched(vport)) == set(ways_of(second, vport))
    table.unwatch(vport)
    assert watch_key(vport) not in table.insert(record(4, 4), 2.0)


def test_random_life_leaves_no_key_and_no_count_behind() -> None:
    table, dice = ConnectionTable(max_connections=40), random.Random(7)
    now = 0.0
    for _ in range(5000):
        now += dice.random() * 10
        id_ = dice.randrange(1, 80)
        action = dice.randrange(6)
        if action <= 2:
            phase = Phase(dice.randrange(6))
            table.insert(record(id_, dice.randrange(1, 9), phase, now), now)
        elif action == 3:
            table.touch(id_, now, Phase(dice.randrange(6)))
        elif action == 4:
            table.remove(id_)
        else:
            table.expire(now)
    table.expire(now + 1e6)
    assert (len(table), table._index, table._narrow, table._exact) == (0, {}, {}, {})
    assert (table._unreplied.total, table._buckets) == (0, {})


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_quick_direction_is_the_one_that_the_keys_say(count: int) -> None:
    one = record(5)
    second = Translation(PROVIDER, TranslationKind.DESTINATION, VM + 9, 8080)
    one.translations = (*one.translations, second)[:count]
    for key, direction in state_keys(one):
        assert direction_of(one, key) is direction
        other = (99, *key[1:])
        assert direction_of(one, other) is None
        assert direction_of(one, (key[0], UDP, *key[2:])) is None


def test_a_copy_of_a_queued_record_under_a_new_id_ages_too() -> None:
    table = ConnectionTable()
    table.insert(record(5), 0.0)
    first = table.get(5)
    assert first is not None
    table.insert(dataclasses.replace(first, id=6, ingress_device=70), 0.0)
    assert {one.id for one in table.expire(240.0)} == {5, 6}


def test_what_a_full_table_dropped_is_told_of_in_parts() -> None:
    table = ConnectionTable(max_connections=10)
    for id_ in range(1, 61):
        table.insert(record(id_, sport=1000 + id_), 0.0)
    told = [len(table.expire(0.0, limit=20)) for _ in range(2)]
    assert told == [20, 20]
    assert table.deadline() == 0.0
    assert len(table.expire(0.0, limit=20)) == 10
    assert table.deadline() != 0.0
