# SPDX-License-Identifier: Apache-2.0
"""Path MTU: a router between links of different size, on real parts."""

from __future__ import annotations

import json
import re
import struct
from typing import NamedTuple

import pytest
import yaml

from midoryu.lab.lab import Lab
from tests.functional.lab_tools import LABS, LabMaker, counters, pings, wait

FAR = {4: "10.0.2.12", 6: "fd00:2::12"}
# ICMP and IP headers.
HEADERS = {4: 28, 6: 48}
# What a tunnel over IPv4 leaves of 1500 bytes.
CARRIED = {"gre": 1458, "vxlan": 1450}


class Tunnel(NamedTuple):
    """A lab, and the largest IP packet that its tunnels carry."""

    lab: Lab
    carried: int


@pytest.fixture(scope="module")
def lab(module_lab: LabMaker) -> Lab:
    return module_lab(LABS / "mtu.yaml")


def forget(lab: Lab) -> None:
    """Let vm1 forget the path MTUs that it learned."""
    for family in ("-4", "-6"):
        lab.exec("vm1", ["ip", family, "route", "flush", "cache"])


@pytest.mark.parametrize("family", [4, 6])
def test_the_sender_learns_the_mtu_behind_the_router(lab: Lab, family: int) -> None:
    forget(lab)
    size = str(1500 - HEADERS[family])
    command = ["ping", "-n", "-c", "2", "-W", "1", "-M", "do", "-s", size, FAR[family]]

    text = lab.exec("vm1", command, check=False).stdout

    assert re.search(r"mtu\s*=\s*1400", text), text


@pytest.mark.parametrize("family", [4, 6])
def test_what_fits_exactly_passes_and_one_byte_more_does_not(
    lab: Lab, family: int
) -> None:
    fits = 1400 - HEADERS[family]
    for _ in range(2):
        forget(lab)
        assert pings(lab, "vm1", FAR[family], "-M", "do", "-s", str(fits)) == 3
        forget(lab)
        assert pings(lab, "vm1", FAR[family], "-M", "do", "-s", str(fits + 1)) == 0


def test_a_flow_lets_small_packets_pass_and_sends_large_ones_up(lab: Lab) -> None:
    forget(lab)
    assert pings(lab, "vm1", FAR[4], "-s", "100") == 3

    flows = lab.host("h1").ovs_ofctl("dump-flows")

    assert "reg1=0x1" in flows
    assert "check_pkt_larger(1414)" in flows


def test_large_packets_that_may_be_fragmented_arrive_whole(lab: Lab) -> None:
    forget(lab)
    assert pings(lab, "vm1", FAR[4], "-M", "dont", "-s", "1472") == 3
    assert pings(lab, "vm1", FAR[4], "-M", "dont", "-s", "4000") == 3


def test_large_ipv6_pings_pass_once_the_sender_knows(lab: Lab) -> None:
    forget(lab)
    pings(lab, "vm1", FAR[6], "-s", "4000", count=1)
    assert pings(lab, "vm1", FAR[6], "-s", "4000") == 3


@pytest.mark.parametrize("family", [4, 6])
def test_tracepath_finds_the_mtu(lab: Lab, family: int) -> None:
    forget(lab)
    command = ["tracepath", f"-{family}", "-n", FAR[family]]

    text = lab.exec("vm1", command, check=False).stdout

    assert "pmtu 1400" in text.splitlines()[-1], text


@pytest.mark.parametrize(("family", "mss"), [(4, 1360), (6, 1340)])
def test_the_mss_of_a_connection_is_clamped(lab: Lab, family: int, mss: int) -> None:
    forget(lab)
    with lab.capture("vm2", expression="tcp or ip6") as capture:
        lab.exec("vm1", f"nc -z -w 1 {FAR[family]} 9998", check=False)
        wait(lambda: counters(lab, "h1").get("packet-ins"))
    # The option kind 2, length 4, then the size.
    option = struct.pack("!BBH", 2, 4, mss)
    assert any(option in frame.data for frame in capture.frames())


@pytest.fixture(scope="module", params=["gre", "vxlan"])
def tunnel(request: pytest.FixtureRequest, module_lab: LabMaker) -> Tunnel:
    """Make an underlay of 1500 bytes; no option speaks of its size."""
    spec = yaml.safe_load((LABS / "mtu-tunnel.yaml").read_text())
    spec["agent"] = {"agent": {"tunnel_type": request.param}}
    return Tunnel(module_lab(spec), CARRIED[request.param])


@pytest.mark.parametrize("family", [4, 6])
def test_a_tunnel_carries_what_the_underlay_leaves_and_says_so(
    tunnel: Tunnel, family: int
) -> None:
    lab, fits = tunnel.lab, tunnel.carried - HEADERS[family]
    forget(lab)
    assert pings(lab, "vm1", FAR[family], "-M", "do", "-s", str(fits)) == 3
    assert pings(lab, "vm1", FAR[family], "-M", "do", "-s", str(fits + 1)) == 0
    forget(lab)
    size = str(1500 - HEADERS[family])
    command = ["ping", "-n", "-c", "2", "-W", "1", "-M", "do", "-s", size, FAR[family]]

    text = lab.exec("vm1", command, check=False).stdout

    assert re.search(rf"mtu\s*=\s*{tunnel.carried}", text), text


def test_what_may_be_fragmented_passes_the_tunnel_in_pieces(tunnel: Tunnel) -> None:
    forget(tunnel.lab)
    assert pings(tunnel.lab, "vm1", FAR[4], "-M", "dont", "-s", "1472") == 3


@pytest.mark.parametrize("family", [4, 6])
def test_tcp_finds_its_way_through_the_tunnel(tunnel: Tunnel, family: int) -> None:
    lab = tunnel.lab
    forget(lab)
    server = lab.popen("vm2", ["iperf3", "-s", "-1"])
    assert wait(lambda: "5201" in lab.exec("vm2", ["ss", "-Hltn"]).stdout)

    text = lab.exec("vm1", ["iperf3", "-J", "-t", "2", "-c", FAR[family]], timeout=20)

    server.wait(timeout=10)
    assert json.loads(text.stdout)["end"]["sum_received"]["bytes"] > 1_000_000
