# SPDX-License-Identifier: Apache-2.0
"""One network over three hosts: declared machines, and some that nobody declared."""

from __future__ import annotations

import pytest

from midoryu.lab.capture import CapturedFrame
from midoryu.lab.lab import Lab
from tests.functional.lab_tools import (
    LABS,
    LabMaker,
    added,
    counters,
    pings,
    send_frames,
)
from tests.helpers import frames

A1, B1 = "02:00:00:00:01:11", "02:00:00:00:aa:21"
A1_ADDRESS = bytes([10, 0, 1, 11])
STRANGER = "02:00:00:00:ff:01"
MEMBERS = ("a1", "a2", "b1", "b2", "c1")
IP = {"a1": 11, "a2": 12, "b1": 21, "b2": 22, "c1": 31}


@pytest.fixture(scope="module")
def lab(module_lab: LabMaker) -> Lab:
    return module_lab(LABS / "network.yaml")


def address(machine: str, family: str) -> str:
    return f"fd00:1::{IP[machine]}" if family == "IPv6" else f"10.0.1.{IP[machine]}"


def carrying(captured: list[CapturedFrame], text: bytes) -> int:
    return sum(text in frame.data for frame in captured)


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
@pytest.mark.parametrize(
    ("source", "target"),
    [("a1", "a2"), ("b1", "b2"), ("a1", "b1"), ("b1", "a2"), ("b2", "c1")],
    ids=[
        "declared, one host",
        "undeclared, one host",
        "declared to undeclared",
        "undeclared to declared",
        "undeclared, two hosts",
    ],
)
def test_every_packet_arrives(lab: Lab, source: str, target: str, family: str) -> None:
    assert pings(lab, source, address(target, family)) == 3


def test_fragments_of_large_packets_arrive(lab: Lab) -> None:
    assert pings(lab, "a1", address("b1", "IPv4"), "-s", "5000") == 3
    assert pings(lab, "a1", address("c1", "IPv6"), "-s", "5000") == 3


def test_other_network_with_the_same_subnet_is_apart(lab: Lab) -> None:
    with lab.capture("a1", expression="host 10.0.1.99") as capture:
        assert pings(lab, "o1", address("a1", "IPv4"), count=2) == 0

    assert capture.frames() == []


def test_arp_for_a_declared_address_is_answered_without_its_owner(lab: Lab) -> None:
    lab.exec("c1", "ip neigh flush all")
    with lab.capture("a1", expression="arp[7] == 1") as capture:
        assert pings(lab, "c1", address("a1", "IPv4"), count=1) == 1

    assert [f for f in capture.frames() if f.data[38:42] == A1_ADDRESS] == []


def test_unknown_unicast_and_broadcast_reach_every_other_member_once(
    lab: Lab,
) -> None:
    captures = {m: lab.capture(m) for m in (*MEMBERS, "o1")}
    for capture in captures.values():
        capture.__enter__()
    sent = [
        frames.udp(
            "10.0.1.11", "10.0.1.77", eth_src=A1, eth_dst=STRANGER, payload=b"to nobody"
        ),
        frames.udp(
            "10.0.1.11",
            "10.0.1.255",
            eth_src=A1,
            eth_dst="ff:ff:ff:ff:ff:ff",
            payload=b"to everybody",
        ),
    ]
    send_frames(lab, "a1", "eth0", sent)
    pings(lab, "a1", address("c1", "IPv4"))
    seen = {}
    for name, capture in captures.items():
        capture.stop()
        if name != "a1":
            got = capture.frames()
            seen[name] = (carrying(got, b"to nobody"), carrying(got, b"to everybody"))

    assert seen == {**{m: (1, 1) for m in MEMBERS if m != "a1"}, "o1": (0, 0)}


def test_learned_address_is_not_flooded(lab: Lab) -> None:
    pings(lab, "b1", address("c1", "IPv4"))
    with lab.capture("b2", expression="icmp") as capture:
        assert pings(lab, "a1", address("b1", "IPv4")) == 3
        assert pings(lab, "c1", address("b1", "IPv4")) == 3

    assert capture.frames() == []


def test_bulk_transfer_costs_no_packet_in_but_the_first_ones(lab: Lab) -> None:
    lab.popen("c1", "iperf3 -s -1")
    pings(lab, "a1", address("c1", "IPv4"))
    before = counters(lab, "n1")

    client = ["iperf3", "-c", address("c1", "IPv4"), "-n", "20M"]
    result = lab.exec("a1", client, check=False)

    assert result.returncode == 0, result.stdout + result.stderr
    assert added(before, counters(lab, "n1")).get("packet-ins", 0) <= 20


def test_address_that_moves_to_another_host_is_followed(lab: Lab) -> None:
    assert pings(lab, "a1", address("b1", "IPv4")) == 3
    lab.exec("b1", "ip link set eth0 down")
    lab.exec("c1", f"ip link add link eth0 name moved address {B1} type macvlan")
    lab.exec("c1", "ip addr add 10.0.1.21/32 dev moved")
    lab.exec("c1", "ip link set moved up")

    arp = frames.arp("10.0.1.21", "10.0.1.21", eth_src=B1)
    send_frames(lab, "c1", "eth0", [arp])

    assert pings(lab, "a1", address("b1", "IPv4"), count=5) >= 4
    assert pings(lab, "b2", address("b1", "IPv4"), count=5) >= 4
    lab.exec("c1", "ip link del moved")
    lab.exec("b1", "ip link set eth0 up")
