# SPDX-License-Identifier: Apache-2.0
"""What follows from a subnet's row."""

from __future__ import annotations

from midoryu.packet.address import parse_ip, parse_prefix
from midoryu.topology.service import Advertising, RaMode, Subnet


def test_resolver_and_domain_stand_in_for_what_is_not_said() -> None:
    subnet = Subnet(
        "s", 1, parse_prefix("10.0.0.0/24"), resolver=parse_ip("10.0.0.2"), domain="a.b"
    )

    assert subnet.is_v4
    assert subnet.dns_servers == (parse_ip("10.0.0.2"),)
    assert subnet.search_list == ("a.b",)


def test_default_router_lives_three_intervals_unless_said() -> None:
    assert Advertising(intervals_s=(3, 4)).router_s == 12
    assert Advertising(lifetime_s=0).router_s == 0


def test_stateful_mode_is_dhcp() -> None:
    prefix = parse_prefix("fd00::/64")

    assert Subnet("s", 1, prefix, advertising=Advertising(RaMode.STATEFUL)).answers_dhcp
    assert not Subnet(
        "s", 1, prefix, advertising=Advertising(RaMode.SLAAC)
    ).answers_dhcp
