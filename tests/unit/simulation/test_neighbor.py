# SPDX-License-Identifier: Apache-2.0
"""What ARP and neighbour discovery ask and claim, and how routers ask themselves."""

from __future__ import annotations

import pytest

from midoryu.packet.address import link_local_of, parse_ip, parse_mac
from midoryu.packet.codec import decode
from midoryu.simulation.neighbor import (
    asked_address,
    claimed,
    request,
    source_address,
)
from midoryu.topology.model import Vport
from tests.helpers import frames
from tests.helpers.builder import interface
from tests.helpers.frames import ARP, IP6_1, IP6_2, IP_1, IP_2, MAC_1, Ether

MAC = parse_mac("02:aa:00:00:00:01")
UPLINK = Vport(
    1,
    "up",
    2,
    mac=MAC,
    addresses=tuple(
        interface(text)
        for text in ("192.0.2.2/30", "10.0.0.254/24", "2001:db8::2/64", "fd00::fe/64")
    ),
)


@pytest.mark.parametrize(
    ("frame", "address"),
    [
        (frames.arp(IP_1, IP_2), IP_2),
        (frames.arp("0.0.0.0", IP_2), IP_2),
        (frames.neighbor_solicitation(IP6_1, IP6_2), IP6_2),
    ],
    ids=["ARP", "ARP probe", "ND"],
)
def test_question_asks_for_its_target(frame: bytes, address: str) -> None:
    assert asked_address(decode(frame)) == parse_ip(address)


@pytest.mark.parametrize(
    "frame",
    [
        frames.arp(IP_1, IP_1),
        frames.arp(IP_1, IP_2, operation=2),
        frames.neighbor_solicitation("::", IP6_2),
        frames.neighbor_advertisement(IP6_1, IP6_2, IP6_1),
        frames.udp(),
        frames.icmp6_echo(),
    ],
    ids=["gratuitous", "ARP reply", "DAD", "NA", "UDP", "echo"],
)
def test_everything_else_asks_nothing(frame: bytes) -> None:
    assert asked_address(decode(frame)) == 0


@pytest.mark.parametrize(
    ("frame", "address"),
    [
        (frames.arp(IP_1, IP_2), IP_1),
        (frames.arp(IP_1, IP_2, operation=2), IP_1),
        (frames.neighbor_solicitation(IP6_1, IP6_2), IP6_1),
        (frames.neighbor_advertisement(IP6_1, IP6_2, "fd00::5"), "fd00::5"),
    ],
    ids=["ARP request", "ARP reply", "NS", "NA"],
)
def test_claim_is_address_and_mac(frame: bytes, address: str) -> None:
    assert claimed(decode(frame)) == (parse_ip(address), parse_mac(MAC_1))


@pytest.mark.parametrize(
    "frame",
    [frames.arp("0.0.0.0", IP_2), frames.neighbor_solicitation("::", IP6_2)],
    ids=["ARP probe", "DAD"],
)
def test_probe_claims_nothing(frame: bytes) -> None:
    assert claimed(decode(frame)) is None


@pytest.mark.parametrize(
    ("towards", "source"),
    [
        ("192.0.2.1", "192.0.2.2"),
        ("10.0.0.7", "10.0.0.254"),
        ("198.51.100.1", "192.0.2.2"),
        ("fd00::7", "fd00::fe"),
        ("2001:db8:9::9", "2001:db8::2"),
    ],
)
def test_router_speaks_from_the_nearest_address(towards: str, source: str) -> None:
    assert source_address(UPLINK, parse_ip(towards)) == parse_ip(source)


def test_router_without_addresses_speaks_unnumbered() -> None:
    bare = Vport(1, "bare", 2, mac=MAC)

    assert source_address(bare, parse_ip("10.0.0.1")) == parse_ip("0.0.0.0")
    assert source_address(bare, parse_ip("fd00::1")) == link_local_of(MAC)


def test_arp_request_for_a_next_hop() -> None:
    frame = Ether(request(UPLINK, parse_ip("192.0.2.1")))

    assert (frame.dst, frame.src) == ("ff:ff:ff:ff:ff:ff", "02:aa:00:00:00:01")
    asked = frame[ARP]
    assert (asked.op, asked.psrc, asked.pdst) == (1, "192.0.2.2", "192.0.2.1")
    assert asked.hwsrc == "02:aa:00:00:00:01"


def test_solicitation_for_a_next_hop() -> None:
    sent = request(UPLINK, parse_ip("2001:db8::1"))
    frame = Ether(sent)

    assert frames.recomputed(sent) == sent
    assert frame.dst == "33:33:ff:00:00:01"
    body = frame.payload
    assert (body.src, body.dst, body.hlim) == ("2001:db8::2", "ff02::1:ff00:1", 255)
    assert body.payload.tgt == "2001:db8::1"
    assert body.payload.payload.lladdr == "02:aa:00:00:00:01"
