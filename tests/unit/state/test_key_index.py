# SPDX-License-Identifier: Apache-2.0
"""Which of several records a key leads to."""

from __future__ import annotations

import random
from typing import Any

import pytest

from midoryu.packet.address import parse_ip
from midoryu.packet.protocol import TCP
from midoryu.state.connection import (
    Connection,
    Phase,
    Translation,
    TranslationKind,
    direction_of,
    state_keys,
)
from midoryu.state.table import ConnectionTable
from tests.unit.state.test_table import (
    NAT,
    NETWORK,
    SERVER,
    VM,
    record,
)


def colliding(id_: int) -> Connection:
    """A record whose forward key has the same hash for every id."""
    source = parse_ip("2001:db8::1") + id_ * (2**61 - 1)
    one = record(id_)
    one.original = (source, parse_ip("2001:db8::2"), 1000, 80)
    return one


@pytest.mark.parametrize("order", [(5, 6), (6, 5)], ids=["low first", "high first"])
def test_the_lower_id_wins_a_key_in_any_order(order: tuple[int, int]) -> None:
    table = ConnectionTable()
    for id_ in order:
        table.insert(record(id_), 0.0)
    hit = table.find((NETWORK, TCP, VM, SERVER, 1000, 80))
    assert hit is not None
    assert hit.connection.id == 5
    assert table.counters.conflicts == 4
    table.remove(6)
    assert table.find((NETWORK, TCP, VM, SERVER, 1000, 80)) is not None


def test_records_of_tenants_with_the_same_addresses_are_told_apart() -> None:
    table, dice = ConnectionTable(), random.Random(11)
    live: dict[int, Connection] = {}
    contested: set[Any] = set()
    for _ in range(4000):
        id_ = dice.randrange(1, 30)
        if dice.random() < 0.4:
            table.remove(id_)
            live.pop(id_, None)
        else:
            one = record(id_, dice.randrange(1, 4))
            one.ingress_device = dice.randrange(1, 4)
            one.egress_device = dice.randrange(1, 4)
            if dice.random() < 0.5:
                one.translations = ()
            elif dice.random() < 0.5:
                kind = TranslationKind.SOURCE
                one.translations = (Translation(dice.randrange(1, 4), kind, NAT, 9),)
            live[id_] = one
            table.insert(one, 0.0)
        claims: dict[Any, list[int]] = {}
        for number, known in live.items():
            for key, _ in state_keys(known):
                claims.setdefault(key, []).append(number)
        contested = {key for key in contested if key in claims}
        contested.update(key for key, numbers in claims.items() if len(numbers) > 1)
        for key, numbers in claims.items():
            hit = table.find(key)
            if hit is None:
                # Who had it is gone, and who is left had lost it.
                assert key in contested
                continue
            assert hit.connection.id in numbers
            assert hit.direction is direction_of(hit.connection, key)
    for id_ in list(live):
        table.remove(id_)
    assert (table._index, table._narrow, table._exact) == ({}, {}, {})


def test_keys_with_one_hash_are_told_apart() -> None:
    table = ConnectionTable()
    keys = {id_: table.insert(colliding(id_), 0.0)[0] for id_ in (1, 2, 3)}
    assert len({hash(key) for key in keys.values()}) == 1
    table.remove(1)
    table.insert(colliding(2), 0.0)
    found = {id_: table.find(key) for id_, key in keys.items()}
    assert found.pop(1) is None
    assert {id_: hit and hit.connection.id for id_, hit in found.items()} == {
        2: 2,
        3: 3,
    }
    table.remove(2)
    table.remove(3)
    assert (table._index, table._exact) == ({}, {})


def test_many_keys_with_one_hash_are_bounded() -> None:
    table = ConnectionTable()
    for id_ in range(1, 500):
        table.insert(colliding(id_), 0.0)
    assert len(table._exact) == 256
    assert table.counters.collisions > 0
    for id_ in range(1, 500):
        table.remove(id_)
    assert (table._index, table._exact) == ({}, {})


@pytest.mark.parametrize("later_first", [False, True])
@pytest.mark.parametrize("later_id", [1, 3])
@pytest.mark.parametrize("what", ["client port", "translation"])
def test_what_is_used_again_belongs_to_the_later_connection(
    what: str, later_id: int, later_first: bool
) -> None:
    def used(id_: int, client: int, port: int, last_used: float) -> Connection:
        return Connection(
            id=id_,
            ip_proto=6,
            original=(client, 20, 40003, 80),
            ingress_device=1,
            ingress_vport=2,
            egress_device=3,
            egress_vport=4,
            translations=(Translation(5, TranslationKind.SOURCE, 30, port),),
            owner=1,
            phase=Phase.TCP_TRANSITORY,
            last_used=last_used,
        )

    keys = {
        "client port": ((10, 6401), (1, 6, 10, 20, 40003, 80)),
        "translation": ((11, 6400), (3, 6, 20, 30, 80, 6400)),
    }
    ends, key = keys[what]
    earlier, later = used(2, 10, 6400, 100.0), used(later_id, *ends, 103.0)
    table = ConnectionTable()
    for one in (later, earlier) if later_first else (earlier, later):
        table.insert(one, 104.0)

    hit = table.find(key)

    assert hit is not None
    assert hit.connection is later
