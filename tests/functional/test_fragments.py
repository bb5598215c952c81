# SPDX-License-Identifier: Apache-2.0
"""Fragments through NAT and stateful filters, and to virtual devices, on real parts."""

from __future__ import annotations

import json
import re
import sys

import pytest

from midoryu.lab.lab import Lab
from midoryu.packet.codec import decode
from midoryu.packet.fragment import split
from tests.functional.lab_tools import (
    LABS,
    LabMaker,
    counters,
    pings,
    send_frames,
    wait,
)
from tests.helpers import frames

SERVER = {4: "198.51.100.10", 6: "2001:db8:ff::10"}
ROUTER = {4: "10.0.1.1", 6: "fd00:1::1"}
FLOATING = {4: "203.0.113.33", 6: "2001:db8:113::33"}
PORT = 7008
_ECHO = """
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::", 7008))
print("ready", flush=True)
while True:
    data, peer = s.recvfrom(65535)
    s.sendto(data, peer)
"""
_ASK = """
import socket, sys
host, size, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.settimeout(1)
good = 0
for number in range(count):
    data = bytes([number]) * size
    s.sendto(data, (host, 7008))
    try:
        good += s.recv(65535) == data
    except TimeoutError:
        pass
print(good)
"""


@pytest.fixture(scope="module")
def lab(module_lab: LabMaker) -> Lab:
    lab = module_lab(LABS / "nat.yaml")
    for machine in ("server", "vm3"):
        child = lab.popen(machine, [sys.executable, "-c", _ECHO])
        assert child.stdout is not None
        child.stdout.readline()
    return lab


def echoes(lab: Lab, machine: str, ip: str, size: int, count: int = 5) -> int:
    """Send UDP datagrams of a size to an echo server; return how many came back."""
    command = [sys.executable, "-c", _ASK, ip, str(size), str(count)]
    return int(lab.exec(machine, command).stdout)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("machine", ["vm1", "vm2", "vm3"])
def test_large_pings_pass_nat_and_filters(lab: Lab, machine: str, family: int) -> None:
    assert pings(lab, machine, SERVER[family], "-s", "4000") == 3


@pytest.mark.parametrize("family", [4, 6])
def test_large_pings_reach_a_floating_address_from_outside(
    lab: Lab, family: int
) -> None:
    assert pings(lab, "server", FLOATING[family], "-s", "4000") == 3


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("size", ["4000", "20000"])
def test_a_router_answers_large_pings_to_its_own_address(
    lab: Lab, family: int, size: str
) -> None:
    assert pings(lab, "vm2", ROUTER[family], "-s", size) == 3


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("machine", ["vm1", "vm2"])
def test_large_udp_datagrams_pass_masquerade_both_ways(
    lab: Lab, machine: str, family: int
) -> None:
    assert echoes(lab, machine, SERVER[family], 4000) == 5


@pytest.mark.parametrize("family", [4, 6])
def test_large_udp_datagrams_reach_a_floating_address(lab: Lab, family: int) -> None:
    assert echoes(lab, "server", FLOATING[family], 8000) == 5


def test_nothing_of_a_datagram_is_left_behind(lab: Lab) -> None:
    assert echoes(lab, "vm1", SERVER[4], 4000) == 5
    assert wait(lambda: not counters(lab, "h1").get("fragments that waited in vain"))


def datagram(lab: Lab, number: int) -> list[bytes]:
    """Make the three fragments of a datagram from vm1 to the server."""
    router = lab.exec("vm1", ["ip", "neigh", "show", "10.0.1.1"]).stdout.split()
    whole = frames.udp(
        src="10.0.1.11",
        dst=SERVER[4],
        sport=4000,
        dport=9,
        payload=bytes(range(200)) * 20,
        eth_src="02:00:00:00:01:11",
        eth_dst=router[router.index("lladdr") + 1],
    )
    return split(decode(whole), 1500, number)


def arrivals(lab: Lab, parts: list[bytes]) -> int:
    """Send frames from vm1; return how many fragments reach the server."""
    assert pings(lab, "vm1", "10.0.1.1") == 3
    with lab.capture("server", expression="udp or ip[6:2] & 0x3fff != 0") as capture:
        send_frames(lab, "vm1", "eth0", parts)
        assert pings(lab, "vm1", SERVER[4]) == 3
    return sum(one.data[23] == 17 for one in capture.frames())


def test_fragments_out_of_order_all_arrive(lab: Lab) -> None:
    first, second, third = datagram(lab, 101)
    assert arrivals(lab, [third, second, first]) == 3


def test_overlapping_fragments_end_their_datagram(lab: Lab) -> None:
    first, second, third = datagram(lab, 102)
    overlap = second[:-1] + b"x"
    assert arrivals(lab, [first, second, overlap, third]) == 2


def test_later_fragments_without_a_first_one_go_nowhere(lab: Lab) -> None:
    _, second, third = datagram(lab, 103)
    assert arrivals(lab, [second, third]) == 0


def test_a_stream_of_large_datagrams_loses_nothing(lab: Lab) -> None:
    server = lab.popen("server", ["iperf3", "-s", "-1", "-p", "5301"])
    command = ["iperf3", "-u", "-l", "4000", "-b", "5M", "-t", "2", "-p", "5301"]
    assert wait(
        lambda: "5301" in lab.exec("server", ["ss", "-Hltn"]).stdout, timeout_s=5
    )

    text = lab.exec("vm2", [*command, "-J", "-c", SERVER[4]], timeout=20).stdout

    server.wait(timeout=10)
    total = json.loads(text)["end"]["sum"]
    assert total["packets"] > 250
    assert total["lost_packets"] <= total["packets"] // 100


@pytest.mark.parametrize("family", [4, 6])
def test_frag_needed_from_outside_reaches_the_vm_behind_masquerade(
    lab: Lab, family: int
) -> None:
    lab.exec("upstream", ["ip", "link", "set", "lan", "mtu", "1300"])
    try:
        command = ["ping", "-n", "-c", "2", "-W", "1", "-M", "do", "-s", "1400"]
        text = lab.exec("vm2", [*command, SERVER[family]], check=False).stdout
    finally:
        lab.exec("upstream", ["ip", "link", "set", "lan", "mtu", "1500"])
        lab.exec("vm2", ["ip", f"-{family}", "route", "flush", "cache"])

    assert re.search(r"mtu\s*=\s*1300", text), text
