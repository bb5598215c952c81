# SPDX-License-Identifier: Apache-2.0
"""Simulation, model switch and real Open vSwitch agree on what comes out, and where.

Engines fill the model switches of a fabric; the same flows go as bytes into a real
ovs-vswitchd; the same frames go into both.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.functional.dummy_switch import DummySwitch, copies
from tests.helpers import frames
from tests.helpers.builder import cloud
from tests.helpers.fabric import Fabric, FabricHost
from tests.scenarios.test_main_job import DNAT, from_outside, from_vm, router_mac

FABRIC = Fabric(cloud(), gateway_return="holder")
# What the first VM that needs it leases.
FIRST_BLOCK = 100
BUILDER = FABRIC.builder


def vm_udp(**fields: object) -> bytes:
    values: dict[str, object] = {
        "src": "10.0.1.2",
        "dst": "198.51.100.10",
        "eth_src": "02:00:00:00:00:02",
        "eth_dst": router_mac(BUILDER),
    }
    return frames.udp(**{**values, **fields})  # type: ignore[arg-type]


# name -> (vport, frame)
CASES: dict[str, tuple[str, bytes]] = {
    "masqueraded TCP": ("web/vm2", from_vm(BUILDER, 2)),
    "masqueraded TCP with data": (
        "web/vm2",
        from_vm(BUILDER, 2, sport=40001, flags="PA", payload=b"x" * 700),
    ),
    "masqueraded UDP": ("web/vm2", vm_udp(payload=b"dns?")),
    "masqueraded UDP with a low TTL": ("web/vm2", vm_udp(sport=7, ttl=3)),
    "DNAT": ("provider/uplink1", from_outside(1, dst=DNAT, sport=5, dport=8080)),
    "the first port of a block that another host holds": (
        "provider/uplink1",
        from_outside(1, dport=FIRST_BLOCK * 64, flags="SA"),
    ),
    "the last port of such a block": (
        "provider/uplink1",
        from_outside(1, dport=FIRST_BLOCK * 64 + 63, flags="A", payload=b"x"),
    ),
    "a port below such a block": (
        "provider/uplink1",
        from_outside(1, dport=FIRST_BLOCK * 64 - 1, flags="SA"),
    ),
    "a filtered port": ("provider/uplink1", from_outside(1, dst=DNAT, dport=22)),
    "a filtered port, nearly there": (
        "provider/uplink1",
        from_outside(1, dst=DNAT, dport=22, ttl=3),
    ),
    "VM to VM": (
        "web/vm2",
        frames.tcp(
            "10.0.1.2",
            "10.0.1.3",
            dport=80,
            eth_src="02:00:00:00:00:02",
            eth_dst="02:00:00:00:00:03",
        ),
    ),
    "unknown unicast": (
        "web/vm2",
        frames.tcp(eth_src="02:00:00:00:00:02", eth_dst="02:00:00:00:99:99"),
    ),
    "IPv6 multicast": (
        "web/vm2",
        frames.udp(
            "fe80::2",
            "ff02::fb",
            eth_src="02:00:00:00:00:02",
            eth_dst="33:33:00:00:00:fb",
        ),
    ),
}


def behind(frame: bytes) -> bytes:
    """Return a segment that follows one; those that open connections have no flow."""
    packet = frames.Ether(frame)
    tcp = packet.getlayer("TCP")
    if tcp is None or tcp.flags != "S":
        return frame
    tcp.flags = "A"
    del tcp.chksum
    return bytes(packet)


def host_of(vport: str) -> FabricHost:
    return next(host for host in FABRIC.hosts.values() if vport in host.ofports)


@pytest.fixture(scope="module")
def switches() -> Iterator[dict[str, DummySwitch]]:
    for vport, frame in CASES.values():
        FABRIC.send(vport, frame)
    with copies(FABRIC) as made:
        yield made


@pytest.mark.parametrize("case", CASES)
def test_real_and_model_switch_agree_on(
    switches: dict[str, DummySwitch], case: str
) -> None:
    vport, frame = CASES[case]
    frame = behind(frame)
    host = host_of(vport)
    in_port = host.ofports[vport]
    outputs = host.switch.send(frame, in_port)
    assert not any(output.kind == "controller" for output in outputs), "no flow stands"
    expected = sorted((output.ofport, output.frame) for output in outputs)
    assert sorted(switches[host.name].send(frame, in_port)) == expected


def test_the_cases_are_not_all_drops(switches: dict[str, DummySwitch]) -> None:
    leaving = []
    for vport, frame in CASES.values():
        host = host_of(vport)
        switch, in_port = switches[host.name], host.ofports[vport]
        leaving.append(len(switch.send(behind(frame), in_port)))
    assert sum(1 for count in leaving if count) >= 6
