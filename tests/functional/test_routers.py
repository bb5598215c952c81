# SPDX-License-Identifier: Apache-2.0
"""Five routers in a row, dual stack, with two ingress sets and VMs on gateways."""

from __future__ import annotations

import pytest

from midoryu.lab.lab import Lab
from tests.functional.lab_tools import (
    LABS,
    LabMaker,
    counters,
    echo,
    hops,
    opened,
    pings,
)

NORTH, NORTH6 = "198.51.100.10", "2001:db8:ff::10"
SOUTH, SOUTH6 = "198.51.101.10", "2001:db8:fe::10"


@pytest.fixture(scope="module")
def lab(module_lab: LabMaker) -> Lab:
    return module_lab(LABS / "routers.yaml")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("l1", "10.5.0.11"),
        ("l1", "fd00:5::11"),
        ("l2", "10.5.0.11"),
        ("r1", "10.1.0.12"),
        ("r1", "fd00:1::12"),
        ("l1", NORTH),
        ("l1", NORTH6),
        ("l2", SOUTH),
        ("l2", SOUTH6),
        ("r1", NORTH),
        ("ns", "10.1.0.11"),
        ("ss", "fd00:1::12"),
    ],
)
def test_every_packet_arrives(lab: Lab, source: str, target: str) -> None:
    assert pings(lab, source, target) == 3


@pytest.mark.parametrize(
    "address",
    ["10.1.0.1", "100.64.1.2", "100.64.3.1", "192.0.2.6", "fd00:1::1", "fd64:2::2"],
)
def test_router_answers_pings_to_its_addresses(lab: Lab, address: str) -> None:
    assert pings(lab, "l1", address) == 3


@pytest.mark.parametrize(
    ("target", "way"),
    [
        ("10.5.0.11", "10.1.0.1 100.64.1.2 100.64.2.2 100.64.3.2 100.64.4.2 10.5.0.11"),
        ("fd00:5::11", "fd00:1::1 fd64:1::2 fd64:2::2 fd64:3::2 fd64:4::2 fd00:5::11"),
        (NORTH, f"10.1.0.1 100.64.1.2 100.64.2.2 * {NORTH}"),
        (SOUTH6, f"fd00:1::1 fd64:1::2 fd64:2::2 fd64:3::2 fd64:4::2 * {SOUTH6}"),
    ],
    ids=["IPv4", "IPv6", "IPv4 to outside", "IPv6 to outside"],
)
def test_every_router_shows_itself_to_a_route_trace(
    lab: Lab, target: str, way: str
) -> None:
    # With the flow of longer-lived packets in place: the switch counts the hops.
    assert pings(lab, "l1", target) == 3

    seen = hops(lab, "l1", target, len(way.split()))

    # An outside router answers from whichever address it likes.
    assert [s for s, w in zip(seen, way.split()) if w != "*"] == [
        w for w in way.split() if w != "*"
    ]
    assert "nobody" not in seen


def test_trace_from_outside_shows_the_routers_backwards(lab: Lab) -> None:
    seen = hops(lab, "ns", "10.1.0.11", 5)

    assert seen[1:] == ["192.0.2.2", "100.64.2.1", "100.64.1.1", "10.1.0.11"]


def test_unroutable_packets_are_refused_or_vanish_as_the_route_says(lab: Lab) -> None:
    refused = lab.exec("l1", "ping -c 1 -W 1 10.66.0.1", check=False).stdout
    vanished = lab.exec("l1", "ping -c 1 -W 1 10.67.0.1", check=False).stdout

    assert "From 10.1.0.1 icmp_seq=1 Packet filtered" in refused
    assert "From" not in vanished


@pytest.mark.parametrize("target", [NORTH, NORTH6, SOUTH, SOUTH6])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("machine", ["l1", "l2"])
def test_replies_pass_a_filter_that_lets_in_nothing_else(
    lab: Lab, machine: str, protocol: str, target: str
) -> None:
    assert echo(lab, machine, protocol, target) == "ok"


def test_outside_cannot_open_a_connection(lab: Lab) -> None:
    # One after the other would wait three seconds for each.
    before = counters(lab, "g1").get("filtered", 0)
    lab.exec("ns", "nc -z -w 1 10.1.0.11 7007", check=False)
    refused = lab.exec("ns", "nc -z -w 1 fd00:1::11 7007", check=False)

    assert refused.returncode == 1
    assert counters(lab, "g1").get("filtered", 0) >= before + 2


def test_closed_port_outside_is_told(lab: Lab) -> None:
    assert "refused" in echo(lab, "l1", "tcp", SOUTH, port=81)
    assert "refused" in echo(lab, "l1", "udp", SOUTH, port=81)
    assert "refused" in echo(lab, "l1", "udp", SOUTH6, port=81)


@pytest.mark.parametrize(
    ("target", "upstream", "out", "back"),
    [(NORTH, "north", "b", "a"), (SOUTH, "south", "a", "b")],
    ids=["north", "south"],
)
def test_connection_leaves_by_one_gateway_and_returns_by_the_other(
    lab: Lab, target: str, upstream: str, out: str, back: str
) -> None:
    port = "tcp port 7007"
    outward = lab.capture(upstream, out, port)
    inward = lab.capture(upstream, back, port)
    with outward, inward, opened(lab, "l1", "tcp", target) as session:
        assert session.exchange().ok
        at = {
            host
            for host in ("g1", "g2", "h1")
            for record in lab.agent_query(host, "records")
            if record["original"]["source_port"] == session.source_port
        }

    server = bytes(map(int, target.split(".")))
    assert {frame.data[30:34] for frame in outward.frames()} == {server}
    assert {frame.data[26:30] for frame in inward.frames()} == {server}
    assert at == {"g1", "g2", "h1"}
