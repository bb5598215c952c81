# SPDX-License-Identifier: Apache-2.0
"""Records are read for what a balancer chose, and whether that still stands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from midoryu.packet.address import parse_ip
from midoryu.simulation.chosen import choice_of, is_outdated
from midoryu.state.connection import Translation, TranslationKind
from midoryu.topology.model import Gone, HealthMonitor, MemberStatus, PoolMember, Put
from tests.helpers.bench import Bench, office

VIP, MEMBER = parse_ip("203.0.113.80"), parse_ip("10.0.1.2")
CLIENT = parse_ip("198.51.100.9")
KEY = "member/shop/10.0.1.2:8080"


def bench(**pool: Any) -> Bench:
    b = office()
    b.balancer("shop", "r", ["203.0.113.80:80/6"], ["10.0.1.2:8080"], **pool)
    return Bench(b)


def record(world: Bench) -> Any:
    kind = TranslationKind.DESTINATION
    translation = Translation(world.b.key("r"), kind, MEMBER, 8080)
    return world.record(original=(CLIENT, VIP, 40000, 80), translations=(translation,))


def test_a_record_tells_its_vip_client_and_member() -> None:
    world = bench()
    choice = choice_of(world.core.topology, record(world))
    assert choice is not None
    assert choice.vip.pool == "pool/shop"
    assert choice.source == CLIENT
    assert choice.member == (MEMBER, 8080)
    assert choice_of(world.core.topology, world.record()) is None


def test_a_choice_stands_while_its_member_gets_new_connections() -> None:
    world = bench(monitor=HealthMonitor("", ""))
    topology, connection = world.core.topology, record(world)
    (row,) = topology.rows(PoolMember)
    assert not is_outdated(topology, connection)
    assert not is_outdated(topology, world.record())
    for change in (
        Put(MemberStatus(row.key, world.b.key("node1"), False)),
        Put(replace(row, weight=0)),
        Put(replace(row, up=False)),
        Gone(PoolMember, row.key),
    ):
        topology.apply([change])
        assert is_outdated(topology, connection)
        topology.apply([Put(row), Gone(MemberStatus, row.key)])
        assert not is_outdated(topology, connection)
