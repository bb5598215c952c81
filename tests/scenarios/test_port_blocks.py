# SPDX-License-Identifier: Apache-2.0
"""Gateways out of the loop: answers to masqueraded connections without a packet-in."""

from __future__ import annotations

from typing import Any

import pytest

from midoryu.openflow import pipeline
from midoryu.openflow.flow import Flow
from midoryu.packet.address import format_ip
from midoryu.packet.codec import decode
from midoryu.packet.fragment import split
from midoryu.packet.packet import Packet
from midoryu.topology.model import Dnat, Gone, Put
from tests.helpers import frames
from tests.helpers.builder import Builder, cloud
from tests.helpers.fabric import Fabric
from tests.scenarios.test_main_job import NAT, from_outside, from_vm, only, other

FIRST_BLOCK = 100


@pytest.fixture
def fabric() -> Fabric:
    return made()


def made(builder: Builder | None = None, **config: Any) -> Fabric:
    fabric = Fabric(builder or cloud(), gateway_return="holder", **config)
    # The first connection waits for its block.
    fabric.send("web/vm2", from_vm(fabric.builder, 2, sport=39999))
    fabric.advance(2.5)
    return fabric


class Count:
    """Packet-ins of each host since it was made."""

    def __init__(self, fabric: Fabric) -> None:
        self._hosts = fabric.hosts
        self._before = {name: host.packet_ins for name, host in self._hosts.items()}

    def __call__(self) -> dict[str, int]:
        counted = {
            name: host.packet_ins - self._before[name]
            for name, host in self._hosts.items()
        }
        return {name: count for name, count in counted.items() if count}


def connect(fabric: Fabric, sport: int = 40000) -> tuple[str, Packet]:
    return only(fabric.send("web/vm2", from_vm(fabric.builder, 2, sport=sport)))


def answer(fabric: Fabric, gateway: int, packet: Packet, **fields: Any) -> str:
    values = {"dport": packet.headers.l4_src, "flags": "SA", **fields}
    vport, _ = only(
        fabric.send(f"provider/uplink{gateway}", from_outside(gateway, **values))
    )
    return vport


def block_flows(fabric: Fabric, name: str, priority: int = 0) -> list[Flow]:
    wanted = priority or pipeline.PRIORITY_BLOCK
    flows = fabric.hosts[name].switch.flows(pipeline.VPORT)
    return [flow for flow in flows if flow.priority == wanted]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_one_packet_in_makes_a_connection_and_its_answers_by_both_gateways(
    fabric: Fabric, protocol: str
) -> None:
    make = getattr(frames, protocol)
    b = fabric.builder
    count = Count(fabric)
    mac = f"02:aa:00:00:{b.key('tenant'):02x}:{b.key('web'):02x}"
    ends = {"src": "10.0.1.2", "dst": "198.51.100.10"}
    eth = {"eth_src": "02:00:00:00:00:02", "eth_dst": mac}
    _, packet = only(fabric.send("web/vm2", make(**ends, **eth, sport=7, dport=80)))
    for gateway in (1, 4, 1):
        back = make(
            "198.51.100.10",
            NAT,
            sport=80,
            dport=packet.headers.l4_src,
            eth_src=f"02:ff:00:00:00:0{gateway}",
            eth_dst=f"02:cc:00:00:00:0{gateway}",
            ttl=60,
        )
        vport, seen = only(fabric.send(f"provider/uplink{gateway}", back))
        assert vport == "web/vm2"
        assert format_ip(seen.headers.ip_dst) == "10.0.1.2"
        assert (seen.headers.l4_dst, seen.headers.ip_ttl) == (7, 58)
    assert count() == {"node2": 1}


def test_classic_gateways_translate_themselves() -> None:
    fabric = Fabric(cloud(), gateway_return="classic")
    uplink, packet = connect(fabric)
    count = Count(fabric)
    gateway = other(uplink)
    assert answer(fabric, gateway, packet) == "web/vm2"
    assert count() == {f"node{gateway}": 1}


def test_fragments_and_errors_go_the_classic_way(fabric: Fabric) -> None:
    _, packet = connect(fabric)
    whole = from_outside(1, dport=packet.headers.l4_src, flags="PA", payload=b"x" * 900)
    count = Count(fabric)
    for piece in split(decode(whole), 576, 77):
        assert only(fabric.send("provider/uplink1", piece))[0] == "web/vm2"
    assert set(count()) == {"node1"}


def test_a_port_that_leads_to_a_server_is_not_handed_on(fabric: Fabric) -> None:
    assert len(block_flows(fabric, "node1")) > 0
    b = fabric.builder
    port = FIRST_BLOCK * 64 + 5
    rule = b.dnat("tenant", NAT, "10.0.1.3", ip_proto=6, ports=(port, port), to_port=80)
    before = len(block_flows(fabric, "node1"))
    fabric.change(Put(rule))
    assert len(block_flows(fabric, "node1")) < before
    vport, _ = only(
        fabric.send("provider/uplink1", from_outside(1, sport=9, dport=port))
    )
    assert vport == "web/vm3"
    fabric.change(Gone(Dnat, rule.key))
    assert len(block_flows(fabric, "node1")) == before


def test_a_moved_machine_keeps_its_connection_though_the_holder_dies(
    fabric: Fabric,
) -> None:
    _, packet = connect(fabric)
    fabric.move("web/vm2", "node3")
    fabric.advance(2.0)
    fabric.stop("node2")
    fabric.drop = lambda p: "node2" in (p.source, p.destination)
    for gateway in (1, 4):
        assert answer(fabric, gateway, packet, flags="A") == "web/vm2"


def test_a_holder_sends_on_what_belongs_to_a_moved_machine(fabric: Fabric) -> None:
    _, packet = connect(fabric)
    fabric.stop("node1")
    fabric.move("web/vm2", "node3")
    # node1's agent does not know of the move: its switch still hands on to node2.
    assert answer(fabric, 1, packet, flags="A") == "web/vm2"


def test_a_holder_that_restarts_keeps_its_answers(fabric: Fabric) -> None:
    _, packet = connect(fabric)
    fabric.stop("node2")
    assert answer(fabric, 1, packet) == "web/vm2"
    fabric.start("node2")
    fabric.advance(40.0)
    count = Count(fabric)
    assert answer(fabric, 4, packet, flags="A") == "web/vm2"
    assert count() == {}


def test_an_answered_connection_lives_as_long_as_one_that_gateways_saw(
    fabric: Fabric,
) -> None:
    _, packet = connect(fabric)
    answer(fabric, 1, packet)
    fabric.advance(120.0, step=1.0)
    phases = {record["phase"] for record in fabric.records("node1")}
    assert "tcp_established" in phases


def test_a_flow_that_was_adopted_still_shows_that_answers_came(fabric: Fabric) -> None:
    uplink, packet = connect(fabric)
    fabric.stop("node2")
    # Only the switch sees the answer.
    answer(fabric, int(uplink[-1]), packet)
    fabric.start("node2")
    fabric.advance(4.0)
    ((before, _),) = phases(fabric, "node2", 40000)
    fabric.idle_flows()
    ((after, _),) = phases(fabric, "node2", 40000)
    assert (before, after) == ("tcp_transitory", "tcp_established")


def phases(fabric: Fabric, name: str, port: int) -> list[tuple[str, str]]:
    return [
        (record["phase"], record["id"])
        for record in fabric.records(name)
        if record["original"]["source_port"] == port
    ]
