# SPDX-License-Identifier: Apache-2.0
"""Addresses that rows tell apart are never within one pair of bounds."""

from __future__ import annotations

import pytest

from midoryu.packet.address import parse_ip, parse_prefix
from midoryu.simulation.bounds import AddressBounds
from midoryu.topology.model import Rule, RuleAction
from midoryu.topology.tag import chain_tag, device_tag
from tests.helpers.worlds import V4, two_networks


def bounds(address: str, *, rules: tuple[Rule, ...] = ()) -> tuple[int, int]:
    b = two_networks(V4)
    b.chain("out", *rules)
    tags = frozenset((device_tag(b.key("r")), chain_tag("out")))
    return AddressBounds().around(b.topology(), tags, parse_ip(address))


@pytest.mark.parametrize(
    ("address", "other", "is_within"),
    [
        ("198.51.100.9", "198.51.100.77", True),
        ("198.51.100.9", "8.8.8.8", False),  # 10/24 and 192.0.2.0/30 lie between
        ("10.0.1.77", "10.0.1.78", True),
        ("10.0.1.77", "10.0.1.255", False),  # the subnet's broadcast address
        ("10.0.1.77", "10.0.2.77", False),
    ],
)
def test_addresses_of_rows_divide(address: str, other: str, is_within: bool) -> None:
    first, last = bounds(address)
    assert first <= parse_ip(address) <= last
    assert (first <= parse_ip(other) <= last) is is_within


def test_prefixes_of_rules_divide() -> None:
    rule = Rule(RuleAction.DROP, destination=(parse_prefix("198.51.100.64/26"),))
    first, last = bounds("198.51.100.9", rules=(rule,))
    assert last == parse_ip("198.51.100.63")
    first, last = bounds("198.51.100.70", rules=(rule,))
    # The first and the last one have a meaning of their own.
    assert (first, last) == (parse_ip("198.51.100.65"), parse_ip("198.51.100.126"))


@pytest.mark.parametrize("address", ["127.0.0.1", "224.0.0.9", "ff02::1", "fe80::1"])
def test_addresses_of_a_kind_of_their_own_have_no_siblings(address: str) -> None:
    assert bounds(address) == (parse_ip(address), parse_ip(address))
