# SPDX-License-Identifier: Apache-2.0
"""Every condition of a rule: for which packets it holds, and what it reads."""

from __future__ import annotations

from typing import Any

import pytest

from midoryu.packet import field
from midoryu.packet.address import parse_ip, parse_prefix
from midoryu.simulation.outcome import (
    Forward,
)
from midoryu.topology import model
from midoryu.topology.model import (
    Rule,
)
from midoryu.topology.tag import chain_tag, member_tag
from tests.helpers import frames
from tests.helpers.worlds import FAMILIES, V4, V6, Family, Overlay
from tests.unit.simulation.test_filter import (
    FILTERED,
    PING,
    TCP_80,
    UDP_53,
    guarded,
    later_fragment,
    passes,
    rule,
    to_vm3,
)


@pytest.mark.parametrize(
    ("condition", "frame", "holds"),
    [
        (rule(), TCP_80, True),
        (rule(ip_proto=6), TCP_80, True),
        (rule(ip_proto=17), TCP_80, False),
        (rule(eth_type=0x0800), TCP_80, True),
        (rule(eth_type=0x86DD), TCP_80, False),
        (rule(source="10.0.1.0/24"), TCP_80, True),
        (rule(source="10.0.2.0/24 10.0.1.11/32"), TCP_80, True),
        (rule(source="10.0.2.0/24"), TCP_80, False),
        (rule(source="10.0.1.0/24", not_source=True), TCP_80, False),
        (rule(source="10.0.2.0/24", not_source=True), TCP_80, True),
        (rule(destination="10.0.1.13/32"), TCP_80, True),
        (rule(destination="10.0.1.12/32"), TCP_80, False),
        (rule(destination="10.0.1.13/32", not_destination=True), TCP_80, False),
        (rule(destination="10.0.1.12/32", not_destination=True), TCP_80, True),
        (rule(destination_ports=((80, 80),)), TCP_80, True),
        (rule(destination_ports=((70, 79), (81, 90))), TCP_80, False),
        (rule(destination_ports=((70, 80),)), TCP_80, True),
        (rule(destination_ports=((80, 90),)), TCP_80, True),
        (
            rule(destination_ports=((80, 80),), not_destination_ports=True),
            TCP_80,
            False,
        ),
        (rule(destination_ports=((81, 81),), not_destination_ports=True), TCP_80, True),
        (rule(source_ports=((1000, 1000),)), TCP_80, True),
        (rule(source_ports=((1001, 2000),)), TCP_80, False),
        (rule(source_ports=((1000, 1000),), not_source_ports=True), TCP_80, False),
        (rule(source_ports=((1, 2),), not_source_ports=True), UDP_53, True),
        (rule(source_ports=((0, 0xFFFF),)), PING, False),
        (rule(source_ports=((5, 5),), not_source_ports=True), PING, False),
        (rule(ip_proto=1, icmp_type=8), PING, True),
        (rule(ip_proto=1, icmp_type=0), PING, False),
        (rule(ip_proto=1, icmp_type=8, icmp_code=0), PING, True),
        (rule(ip_proto=1, icmp_type=8, icmp_code=1), PING, False),
        (rule(icmp_type=8), TCP_80, False),
    ],
)
def test_condition(condition: Rule, frame: bytes, *, holds: bool) -> None:
    assert passes(condition, frame) is holds


@FAMILIES
def test_conditions_of_both_families(family: Family) -> None:
    frame = to_vm3(frames.tcp, dport=80, family=family)
    here, there = family.subnet(1), family.subnet(2)

    assert passes(rule(source=here, destination_ports=((80, 80),)), frame, family)
    assert not passes(rule(source=there), frame, family)
    other = V4 if family.is_v6 else V6
    assert not passes(rule(source=other.subnet(1)), frame, family)


def test_icmpv6_types() -> None:
    frame = to_vm3(frames.icmp6_echo, family=V6)

    assert passes(rule(ip_proto=58, icmp_type=128), frame, V6)
    assert not passes(rule(ip_proto=58, icmp_type=129), frame, V6)


@pytest.mark.parametrize(
    ("condition", "proto"),
    [
        (rule(ip_proto=1, icmp_type=0), 1),
        (rule(ip_proto=17, destination_ports=((0, 0),)), 17),
    ],
    ids=["ICMP type", "port"],
)
def test_later_fragment_has_no_layer_4_to_match(condition: Rule, proto: int) -> None:
    simulation = Overlay(guarded(condition)).send("a/vm1", later_fragment(proto))

    assert simulation.outcome == FILTERED
    assert simulation.fields & field.IP_FRAG


# Address groups.


def with_group(*members: str, **conditions: Any) -> Overlay:
    b = guarded(rule(**conditions))
    prefixes = frozenset(parse_prefix(member) for member in members)
    b.put(model.AddressGroup("g", "admins", prefixes))
    return Overlay(b)


def test_group_holds_its_members_only() -> None:
    inside = with_group("10.0.1.8/29", "2001:db8::/32", source_group="g")
    outside = with_group("10.0.1.0/29", source_group="g")

    assert isinstance(inside.send("a/vm1", TCP_80).outcome, Forward)
    assert outside.send("a/vm1", TCP_80).outcome == FILTERED


def test_group_can_be_negated() -> None:
    overlay = with_group("10.0.1.13/32", destination_group="g", not_destination=True)

    assert overlay.send("a/vm1", TCP_80).outcome == FILTERED


def test_changed_group_touches_what_asked_it() -> None:
    overlay = with_group("10.0.1.0/29", source_group="g")
    simulation = overlay.send("a/vm1", TCP_80)
    assert {member_tag(parse_ip("10.0.1.11")), chain_tag("main")} <= simulation.tags

    everybody = frozenset({parse_prefix("10.0.0.0/8")})
    tags = overlay.change(model.AddressGroup("g", "admins", everybody))

    assert tags & simulation.tags
    assert isinstance(overlay.send("a/vm1", TCP_80).outcome, Forward)


def test_missing_group_has_no_members() -> None:
    overlay = Overlay(guarded(rule(source_group="nobody")))

    assert overlay.send("a/vm1", TCP_80).outcome == FILTERED
