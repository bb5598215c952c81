# SPDX-License-Identifier: Apache-2.0
"""Records keep the affinity of clients, and end with their member."""

from __future__ import annotations

from typing import Any

from midoryu.engine import balancing
from midoryu.packet.address import parse_ip
from midoryu.state.connection import Translation, TranslationKind
from midoryu.topology.model import Gone, PoolMember, Put
from tests.helpers.bench import Bench, office

VIP, MEMBER = parse_ip("203.0.113.80"), parse_ip("10.0.1.2")
KEY = "member/shop/10.0.1.2:8080"


def bench(**pool: Any) -> Bench:
    b = office()
    b.balancer("shop", "r", ["203.0.113.80:80/6"], ["10.0.1.2:8080"], **pool)
    return Bench(b)


def record(world: Bench, **fields: Any) -> Any:
    kind = TranslationKind.DESTINATION
    translation = Translation(world.b.key("r"), kind, MEMBER, 8080)
    client = parse_ip("198.51.100.9")
    values = {
        "original": (client, VIP, 40000, 80),
        "translations": (translation,),
        **fields,
    }
    return world.record(**values)


def test_an_imported_record_brings_its_clients_affinity() -> None:
    world = bench(affinity_s=60.0)
    world.greet()
    world.push(record(world))
    source = parse_ip("198.51.100.9")
    assert world.core.affinity.find("pool/shop", source) == (MEMBER, 8080)


def test_a_record_of_a_removed_member_ends_and_does_not_come_back() -> None:
    for ends in (True, False):
        world = bench(ends_removed=ends)
        world.greet()
        world.push(record(world))
        world.gone(PoolMember, KEY)
        assert len(world.core.connections) == (0 if ends else 1)
        world.push(record(world, id_=78))
        assert len(world.core.connections) == (0 if ends else 2)


def test_other_rows_end_nothing() -> None:
    world = bench(ends_removed=True)
    world.greet()
    world.push(record(world))
    world.change(world.b.member("shop", "10.0.1.1:8080"))
    change = Put(world.b.member("shop", "10.0.1.2:8080", 0))
    assert balancing.before(world.core, (change, Gone(PoolMember, "x"))) == frozenset()
    world.change(change.row)
    assert len(world.core.connections) == 1
