# SPDX-License-Identifier: Apache-2.0
"""One client port, one server, two ways: by an address of a router, and straight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from midoryu.packet.address import parse_ip
from midoryu.packet.packet import Packet
from midoryu.topology import model
from tests.helpers import frames
from tests.helpers.worlds import FAMILIES, V4, Family
from tests.scenarios.test_balancer import (
    OUTSIDE,
    Shop,
    at,
    only,
    shop,
    tuple_of,
)

SPORT = 40000
Call = Callable[[], tuple[str, Packet]]


def with_member_outside(family: Family, source: str) -> Shop:
    b = shop(family, members=[at(OUTSIDE[family.name], 8080)])
    if source == "floating":
        b.floating("tenant", family.nat_ip(30), family.ip(1, 11))
        via = "fd64::2" if family.is_v6 else "100.64.0.2"
        b.route(
            "provider", f"{family.nat_ip(30)}/{128 if family.is_v6 else 32}", via=via
        )
    return Shop(family, builder=b)


def reply(world: Shop, where: str, packet: Packet, **fields: Any) -> bytes:
    server, port, client, client_port = tuple_of(packet)[2:] + tuple_of(packet)[:2]
    values = {"src": server, "sport": port, "dport": client_port, "flags": "SA"}
    return world.frame(f"gw{where[-1]}", client, **{**values, **fields})


@FAMILIES
@pytest.mark.parametrize("source", ["floating", "own"])
@pytest.mark.parametrize("first", ["VIP", "direct"])
def test_a_server_outside_sees_two_ports(
    family: Family, source: str, first: str
) -> None:
    world = with_member_outside(family, source)
    server = OUTSIDE[family.name]
    expected = {"VIP": (world.vip, 80), "direct": (server, 8080)}
    calls: dict[str, Call] = {
        name: lambda ip=ip, port=port: only(  # type: ignore[misc]
            world.send("vm1", ip, sport=SPORT, dport=port)
        )
        for name, (ip, port) in expected.items()
    }
    order = sorted(calls, key=lambda name: name != first)
    seen = {name: calls[name]() for name in order}

    assert {where[:8] for where, _ in seen.values()} == {"provider"}
    tuples = {name: tuple_of(packet) for name, (_, packet) in seen.items()}
    address = family.nat_ip(30) if source == "floating" else world.ip("vm1")
    assert {one[0] for one in tuples.values()} == {address}
    assert {one[2:] for one in tuples.values()} == {(server, 8080)}
    assert tuples[first][1] == SPORT != tuples[order[1]][1]
    for name in (*order, *order):
        where, packet = seen[name]
        back, answer = only(world.fabric.send(where, reply(world, where, packet)))
        assert back == "web/vm1"
        assert tuple_of(answer) == (*expected[name], world.ip("vm1"), SPORT)
        assert tuple_of(calls[name]()[1]) == tuples[name]


@pytest.mark.parametrize("first", ["rule", "direct"])
def test_a_server_sees_two_ports_of_who_calls_it_by_dnat_and_straight(
    first: str,
) -> None:
    b = shop(V4)
    b.dnat("tenant", "203.0.113.20", "10.0.2.14", ports=(9007, 9007), to_port=7007)
    b.route("provider", "203.0.113.20/32", via="100.64.0.2")
    world = Shop(V4, builder=b)
    targets = {"rule": ("203.0.113.20", 9007), "direct": ("10.0.2.14", 7007)}
    order = sorted(targets, key=lambda name: name != first)

    def call(name: str) -> tuple[str, Packet]:
        ip, port = targets[name]
        return only(world.send("gw1", ip, sport=SPORT, dport=port, make=frames.tcp))

    seen = {name: call(name) for name in order}
    assert {where for where, _ in seen.values()} == {"far/vm4"}
    assert len({tuple_of(packet) for _, packet in seen.values()}) == 2
    for name in (*order, *order):
        back, answer = world.answer("far/vm4", seen[name][1])
        assert back == "provider/uplink1"
        assert tuple_of(answer) == (*targets[name], OUTSIDE["IPv4"], SPORT)
        assert tuple_of(call(name)[1]) == tuple_of(seen[name][1])


def test_a_port_that_calls_again_follows_a_changed_dnat_rule() -> None:
    b = shop(V4)
    fields = {"ports": (9007, 9007), "to_port": 7007}
    rule = b.dnat("tenant", "203.0.113.20", "10.0.2.14", **fields)
    b.route("provider", "203.0.113.20/32", via="100.64.0.2")
    world = Shop(V4, builder=b)
    to: dict[str, Any] = {"sport": SPORT, "dport": 9007}

    def call(**more: Any) -> list[Any]:
        return world.send("gw1", "203.0.113.20", **to, **more)

    where, packet = only(call())
    world.answer(where, packet)
    assert where == "far/vm4"
    call(flags="FA")
    world.answer(where, packet, flags="FA")
    world.fabric.advance(30.0)

    world.change(replace(rule, to_address=parse_ip("10.0.1.11")))
    assert only(call())[0] == "web/vm1"
    world.change(model.Gone(model.Dnat, rule.key))
    assert call(seq=9) == []
