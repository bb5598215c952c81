# SPDX-License-Identifier: Apache-2.0
"""Port security lets in only the sources that belong to a vport."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from midoryu.packet import field
from midoryu.packet.address import parse_mac, parse_prefix
from midoryu.simulation.outcome import Drop, Reason
from tests.helpers import frames, groups
from tests.helpers.worlds import FAMILIES, V4, V6, Family, Overlay, two_networks

OWN = "02:00:00:00:00:01"
OTHER = "02:dd:00:00:00:09"
VM3 = "02:00:00:00:00:03"


def secured(family: Family, **fields: Any) -> Overlay:
    overlay = Overlay(two_networks(family))
    row = replace(overlay.vport("a/vm1"), port_security=True, **fields)
    overlay.change(row)
    return overlay


def is_let_in(overlay: Overlay, frame: bytes) -> bool:
    return overlay.send("a/vm1", frame).outcome != Drop(Reason.PORT_SECURITY)


@FAMILIES
@pytest.mark.parametrize(
    ("mac", "host", "allowed"),
    [(OWN, 11, True), (OTHER, 11, False), (OWN, 99, False)],
    ids=["own", "foreign MAC", "foreign address"],
)
def test_ip_source_is_checked(
    family: Family, mac: str, host: int, *, allowed: bool
) -> None:
    frame = frames.udp(family.ip(1, host), family.ip(1, 13), eth_src=mac, eth_dst=VM3)

    assert is_let_in(secured(family), frame) is allowed


@FAMILIES
def test_without_port_security_any_source_enters(family: Family) -> None:
    frame = frames.udp(family.ip(1, 99), family.ip(1, 13), eth_src=OTHER, eth_dst=VM3)

    assert is_let_in(Overlay(two_networks(family)), frame)


@FAMILIES
def test_further_pairs_are_let_in(family: Family) -> None:
    pair = (parse_mac(OTHER), parse_prefix(family.subnet(7)))
    overlay = secured(family, allowed=(pair,))

    further = frames.udp(family.ip(7, 5), family.outside, eth_src=OTHER)
    assert is_let_in(overlay, further)
    mixed = frames.udp(family.ip(1, 11), family.outside, eth_src=OTHER)
    assert not is_let_in(overlay, mixed)


@FAMILIES
def test_further_address_of_the_own_mac_is_let_in(family: Family) -> None:
    overlay = secured(family, allowed=((0, parse_prefix(family.subnet(7))),))

    assert is_let_in(overlay, frames.udp(family.ip(7, 5), family.outside, eth_src=OWN))


def test_client_without_an_address_may_ask_for_one() -> None:
    frame = frames.udp(
        "0.0.0.0",
        "255.255.255.255",
        68,
        67,
        eth_src=OWN,
        eth_dst="ff:ff:ff:ff:ff:ff",
    )

    assert is_let_in(secured(V4), frame)


def test_own_link_local_address_is_let_in() -> None:
    own, other = "fe80::ff:fe00:1", "fe80::ff:fe00:2"

    assert is_let_in(secured(V6), frames.udp(own, V6.outside, eth_src=OWN))
    assert not is_let_in(secured(V6), frames.udp(other, V6.outside, eth_src=OWN))


def test_other_protocols_are_kept_out() -> None:
    frame = frames.ethernet(frames.Raw(b"x" * 46), eth_src=OWN)

    assert not is_let_in(secured(V4), frame)


@pytest.mark.parametrize("operation", [1, 2], ids=["request", "reply"])
@pytest.mark.parametrize(
    ("host", "claims", "allowed"),
    [(11, OWN, True), (1, OWN, False), (11, OTHER, False)],
    ids=["own", "the router's address", "another MAC"],
)
def test_arp_is_held_to_what_it_claims(
    operation: int, host: int, claims: str, *, allowed: bool
) -> None:
    frame = frames.arp(
        V4.ip(1, host), V4.ip(1, 77), operation=operation, eth_src=claims
    )
    from_own = frame[:6] + bytes.fromhex(OWN.replace(":", "")) + frame[12:]

    simulation = secured(V4).send("a/vm1", from_own)

    assert (simulation.outcome != Drop(Reason.PORT_SECURITY)) is allowed
    assert simulation.fields & field.PAYLOAD


@pytest.mark.parametrize(
    ("target", "claims", "allowed"),
    [(11, OWN, True), (1, OWN, False), (11, OTHER, False)],
    ids=["own", "the router's address", "another MAC"],
)
def test_advertisement_is_held_to_what_it_claims(
    target: int, claims: str, *, allowed: bool
) -> None:
    frame = frames.neighbor_advertisement(
        V6.ip(1, 11), V6.ip(1, 13), V6.ip(1, target), eth_src=claims, eth_dst=VM3
    )
    from_own = frame[:6] + bytes.fromhex(OWN.replace(":", "")) + frame[12:]

    assert is_let_in(secured(V6), from_own) is allowed


@pytest.mark.parametrize(
    ("host", "claims", "allowed"),
    [(11, OWN, True), (1, OWN, False), (11, OTHER, False)],
    ids=["own", "the router's address", "another MAC"],
)
def test_solicitation_is_held_to_what_it_claims(
    host: int, claims: str, *, allowed: bool
) -> None:
    frame = frames.neighbor_solicitation(V6.ip(1, host), V6.ip(1, 77), eth_src=claims)
    from_own = frame[:6] + bytes.fromhex(OWN.replace(":", "")) + frame[12:]

    assert is_let_in(secured(V6), from_own) is allowed


def test_probe_for_a_duplicate_address_is_let_in() -> None:
    frame = frames.neighbor_solicitation("::", V6.ip(1, 11), eth_src=OWN)

    assert is_let_in(secured(V6), frame)


@pytest.mark.parametrize(
    ("frame", "allowed"),
    [
        (frames.udp("0.0.0.0", "255.255.255.255", sport=68, dport=67), True),
        (frames.udp("0.0.0.0", "255.255.255.255", sport=68, dport=53), False),
        (frames.udp("0.0.0.0", "10.0.1.13", sport=68, dport=67), False),
        (frames.tcp("0.0.0.0", "10.0.1.13"), False),
        (frames.arp("0.0.0.0", "10.0.1.11", eth_src=OWN), True),
        (groups.igmp(0x16, "239.1.1.1", src="0.0.0.0"), True),
        (groups.igmp(0x16, "239.1.1.1", src="10.0.1.99"), False),
    ],
    ids=["DHCP", "DNS", "unicast", "TCP", "probe", "IGMP", "IGMP of another"],
)
def test_a_client_without_an_address_may_only_get_one(
    frame: bytes, *, allowed: bool
) -> None:
    own = frame[:6] + parse_mac(OWN).to_bytes(6, "big") + frame[12:]

    assert is_let_in(secured(V4), own) is allowed


def test_an_arp_answer_from_nowhere_is_not_let_in() -> None:
    answer = frames.arp("0.0.0.0", "10.0.1.13", operation=2, eth_src=OWN)

    assert not is_let_in(secured(V4), answer)
