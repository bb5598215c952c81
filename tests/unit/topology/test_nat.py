# SPDX-License-Identifier: Apache-2.0
"""Which NAT rule serves which packet."""

from __future__ import annotations

from typing import Any

import pytest

from midoryu.packet.address import parse_ip, parse_prefix
from midoryu.topology.model import Dnat, Filtering, FloatingIp, Masquerade
from midoryu.topology.nat import ANY_VPORT, NatRules

OUTSIDE = parse_ip("198.51.100.9")


def masquerade(key: str, source: str, to: str = "203.0.113.1", **fields: Any) -> Any:
    return Masquerade(key, 1, parse_prefix(source), (parse_ip(to),), **fields)


def dnat(key: str, **fields: Any) -> Dnat:
    return Dnat(key, 1, parse_ip("203.0.113.2"), parse_ip("10.0.0.5"), **fields)


def key_for(rules: NatRules, source: str, vport: int = 9) -> str:
    found = rules.masquerade_for(parse_ip(source), OUTSIDE, vport)
    return found.key if found else ""


def test_most_specific_source_has_its_masquerade() -> None:
    rules = NatRules(
        [masquerade("a", "10.0.0.0/8"), masquerade("b", "10.1.0.0/16")], (), ()
    )

    assert key_for(rules, "10.1.0.1") == "b"
    assert key_for(rules, "10.2.0.1") == "a"
    assert key_for(rules, "11.0.0.1") == ""


def test_masquerade_of_one_vport_is_not_for_others() -> None:
    rules = NatRules([masquerade("a", "10.0.0.0/8", vport=9)], (), ())

    assert key_for(rules, "10.0.0.1", vport=9) == "a"
    assert key_for(rules, "10.0.0.1", vport=8) == ""


def test_masquerade_of_some_destinations_is_not_for_others() -> None:
    only = parse_prefix("192.0.2.0/24")
    rules = NatRules([masquerade("a", "10.0.0.0/8", destination=only)], (), ())

    assert key_for(rules, "10.0.0.1") == ""


def test_masquerade_keeps_the_family() -> None:
    rules = NatRules([masquerade("a", "::/0")], (), ())

    assert key_for(rules, "fd00::1") == ""
    assert key_for(rules, "10.0.0.1") == "a"


@pytest.mark.parametrize(
    ("proto", "port", "key"),
    [
        (6, 8000, "tcp"),
        (6, 8010, "tcp"),
        (6, 8011, "any"),
        (6, 7999, "any"),
        (17, 8000, "any"),
    ],
)
def test_dnat_of_a_protocol_goes_before_one_for_all(
    proto: int, port: int, key: str
) -> None:
    rules = NatRules((), [dnat("any"), dnat("tcp", ip_proto=6, ports=(8000, 8010))], ())

    found = rules.dnat_for(parse_ip("203.0.113.2"), proto, port)

    assert found is not None
    assert found.key == key
    assert rules.dnat_for(OUTSIDE, proto, port) is None


def test_all_outside_addresses_are_known() -> None:
    floating = FloatingIp("f", 1, parse_ip("203.0.113.3"), parse_ip("10.0.0.6"))
    rules = NatRules([masquerade("a", "10.0.0.0/8")], [dnat("d")], [floating])

    wanted = {parse_ip(f"203.0.113.{number}") for number in (1, 2, 3)}
    assert rules.addresses == wanted
    assert rules.dnat_targets == {parse_ip("10.0.0.5")}
    assert rules.floating[parse_ip("203.0.113.3")] is floating
    assert rules.floating_by_target[parse_ip("10.0.0.6")] is floating


def test_ports_of_dnat_are_kept_from_masquerade() -> None:
    address = parse_ip("203.0.113.2")
    hide = masquerade("a", "10.0.0.0/8", "203.0.113.2")
    rules = NatRules([hide], [dnat("d", ip_proto=6, ports=(1022, 1025))], ())

    assert rules.reserved == {address: {15: 3 << 62, 16: 3}}


def test_dnat_of_a_whole_address_keeps_no_port_from_masquerade() -> None:
    hide = masquerade("a", "10.0.0.0/8", "203.0.113.2")

    assert NatRules([hide], [dnat("d")], ()).reserved == {}
    assert NatRules([masquerade("a", "10.0.0.0/8")], [dnat("d")], ()).reserved == {}


def test_addresses_where_the_outside_may_speak_first() -> None:
    free = Filtering.ENDPOINT_INDEPENDENT
    rules = NatRules(
        [
            masquerade("a", "10.0.0.0/8", filtering=free),
            masquerade("b", "10.1.0.0/16", "203.0.113.9"),
        ],
        (),
        (),
    )

    assert rules.open == {parse_ip("203.0.113.1"): free}


def test_hairpin_finds_a_masquerade_of_any_vport() -> None:
    rules = NatRules([masquerade("a", "10.0.0.0/8", vport=9)], (), ())

    assert key_for(rules, "10.0.0.1", vport=ANY_VPORT) == "a"
