# SPDX-License-Identifier: Apache-2.0
"""Longest prefix first, lowest metric first, both families in one table."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from midoryu.packet.address import Prefix, parse_ip, parse_prefix
from midoryu.topology.model import Route
from midoryu.topology.routes import RouteTable, connected
from tests.helpers.builder import interface


def route(prefix: str, metric: int = 0) -> Route:
    return Route(f"{prefix}/{metric}", 1, parse_prefix(prefix), metric=metric)


def found(table: RouteTable, address: str) -> list[list[str]]:
    groups = table.lookup(parse_ip(address))
    return [[route.key for route in group] for group in groups]


def test_longer_prefixes_come_first() -> None:
    table = RouteTable(
        route(text) for text in ("0.0.0.0/0", "10.0.0.0/8", "10.0.1.0/24", "11.0.0.0/8")
    )

    assert found(table, "10.0.1.5") == [
        ["10.0.1.0/24/0"],
        ["10.0.0.0/8/0"],
        ["0.0.0.0/0/0"],
    ]


def test_lower_metrics_come_first_in_a_group() -> None:
    table = RouteTable(route("10.0.0.0/8", metric) for metric in (5, 0, 3))

    assert found(table, "10.1.1.1") == [
        ["10.0.0.0/8/0", "10.0.0.0/8/3", "10.0.0.0/8/5"]
    ]


def test_routes_for_fewer_sources_come_first_among_equal_metrics() -> None:
    table = RouteTable(
        replace(route("10.0.0.0/8", metric), key=f"{source} {metric}", source=source)
        for source in map(parse_prefix, ("192.0.2.0/24", "::/0", "192.0.2.7/32"))
        for metric in (1, 0)
    )

    (group,) = table.lookup(parse_ip("10.1.1.1"))

    assert [(one.metric, one.source.length) for one in group] == [
        (0, 128), (0, 120), (0, 0), (1, 128), (1, 120), (1, 0),
    ]  # fmt: skip


def test_vports_share_where_equal_routes_leave_by_several() -> None:
    routes = [
        replace(route("0.0.0.0/0", metric), key=f"{vport}", vport=vport)
        for vport, metric in ((1, 0), (2, 0), (3, 5), (4, 5), (5, 9))
    ]
    behind_one = [replace(route("10.0.0.0/8"), key=key, vport=6) for key in "ab"]

    assert RouteTable(routes + behind_one).shared == {1, 2, 3, 4}


def test_families_do_not_meet() -> None:
    table = RouteTable([route("0.0.0.0/0"), route("2001:db8::/32")])

    assert found(table, "2001:db8::1") == [["2001:db8::/32/0"]]
    assert found(table, "2001:db9::1") == []
    assert found(table, "192.0.2.1") == [["0.0.0.0/0/0"]]


def test_connected_route_leads_to_the_subnet_on_the_link() -> None:
    made = connected(1, 7, interface("10.0.1.1/24"))

    assert made.destination == parse_prefix("10.0.1.0/24")
    assert (made.vport, made.gateway, made.router) == (7, 0, 1)


addresses = st.integers(0, 2**32 - 1)
prefixes = st.tuples(addresses, st.integers(0, 32))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(prefixes, max_size=12), addresses)
def test_first_group_is_the_longest_match_of_the_standard_library(
    pairs: list[tuple[int, int]], address: int
) -> None:
    nets = [
        ipaddress.ip_network((value, length), strict=False) for value, length in pairs
    ]
    holding = [net for net in nets if ipaddress.ip_address(address) in net]
    table = RouteTable(route(str(net)) for net in nets)

    groups = list(table.lookup(0xFFFF << 32 | address))

    lengths = [group[0].destination.length - 96 for group in groups]
    assert lengths == sorted({net.prefixlen for net in holding}, reverse=True)
    assert all(isinstance(one.destination, Prefix) for group in groups for one in group)


def test_a_default_route_of_one_family_is_none_of_the_other() -> None:
    v6 = Route("6", 1, parse_prefix("::/0"), vport=6)
    v4 = Route("4", 1, parse_prefix("0.0.0.0/0"), vport=4)
    assert list(RouteTable([v6]).lookup(parse_ip("10.0.0.1"))) == []
    assert list(RouteTable([v4]).lookup(parse_ip("2001:db8::1"))) == []
    both = RouteTable([v4, v6])
    assert [group[0].vport for group in both.lookup(parse_ip("10.0.0.1"))] == [4]
    assert [group[0].vport for group in both.lookup(parse_ip("2001:db8::1"))] == [6]
