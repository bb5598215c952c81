# SPDX-License-Identifier: Apache-2.0
"""Bit sets of rules against rules asked one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midoryu.packet.address import parse_ip, parse_prefix
from midoryu.topology.model import PortRange, Rule, RuleAction
from midoryu.topology.rule_index import PortIndex, PrefixIndex, RuleIndex, ValueIndex

SMALL_PORTS = st.integers(0, 12)
RANGES = st.lists(st.tuples(SMALL_PORTS, SMALL_PORTS), max_size=4).map(tuple)


def test_value_rules_out_rules_that_ask_for_another() -> None:
    index = ValueIndex([6, 0, 17, 6])

    assert index.asks == 0b1101
    assert index.holds(6) == 0b1011
    assert index.holds(17) == 0b0110
    assert index.holds(1) == 0b0010


@pytest.mark.parametrize(
    ("address", "holds"),
    [("10.1.2.3", 0b0111), ("10.2.0.1", 0b0110), ("192.0.2.1", 0b1100)],
)
def test_address_is_in_any_prefix_or_in_none_when_negated(
    address: str, holds: int
) -> None:
    ten = (parse_prefix("10.0.0.0/8"),)
    wanted = [
        (0, (parse_prefix("10.1.0.0/16"), parse_prefix("172.16.0.0/12")), False),
        (1, ten, False),
        (3, ten, True),
    ]

    index = PrefixIndex(4, wanted)

    assert index.asks == 0b1011
    assert index.holds(parse_ip(address)) == holds


def test_ipv6_default_prefix_holds_no_ipv4_address() -> None:
    index = PrefixIndex(1, [(0, (parse_prefix("::/0"),), False)])

    assert index.holds(parse_ip("2001:db8::1")) == 1
    assert index.holds(parse_ip("10.0.0.1")) == 0


@given(
    wanted=st.lists(st.tuples(RANGES, st.booleans()), max_size=5),
    port=st.sampled_from([*range(14), 0xFFFF]),
)
def test_port_is_in_any_range_or_in_none_when_negated(
    wanted: list[tuple[tuple[PortRange, ...], bool]], port: int
) -> None:
    numbered = [(n, ranges, negated) for n, (ranges, negated) in enumerate(wanted)]

    index = PortIndex(len(wanted), numbered)

    assert index.holds(port) == sum(
        (any(a <= port <= b for a, b in ranges) is not negated) << n
        for n, ranges, negated in numbered
    )


def test_icmp_types_and_what_is_negated_together_are_left_to_the_rule() -> None:
    accept = RuleAction.ACCEPT
    index = RuleIndex(
        [
            Rule(accept, source_group="some"),
            Rule(accept, ct_states=3),
            Rule(accept, icmp_type=8),
            Rule(
                accept,
                destination=(parse_prefix("10.0.0.0/8"),),
                destination_group="some",
                not_destination=True,
            ),
        ]
    )

    assert index.hard == 0b1100
    assert index.source_groups.asks == 0b0001
    assert index.asks_ct == 0b0010
    assert index.by_ct_state == {1: 0b0010, 2: 0b0010, 4: 0, 8: 0}
    assert index.every == 0b1111
