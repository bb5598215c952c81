# SPDX-License-Identifier: Apache-2.0
"""The main job on four engines: NAT across hosts, asymmetric ways, forgotten memory."""

from __future__ import annotations

import pytest

from midoryu.packet.address import format_ip, parse_ip
from midoryu.packet.codec import decode
from midoryu.packet.packet import Packet
from midoryu.topology.model import Put
from tests.helpers import frames
from tests.helpers.builder import Builder, cloud
from tests.helpers.fabric import Delivery, Fabric

SERVER = "198.51.100.10"
NAT = "203.0.113.10"
DNAT = "203.0.113.20"


def router_mac(b: Builder) -> str:
    return f"02:aa:00:00:{b.key('tenant'):02x}:{b.key('web'):02x}"


def from_vm(b: Builder, vm: int, **fields: object) -> bytes:
    values: dict[str, object] = {
        "src": f"10.0.1.{vm}",
        "dst": SERVER,
        "sport": 40000,
        "dport": 80,
        "eth_src": f"02:00:00:00:00:0{vm}",
        "eth_dst": router_mac(b),
    }
    return frames.tcp(**{**values, **fields})  # type: ignore[arg-type]


def from_outside(gateway: int, **fields: object) -> bytes:
    values: dict[str, object] = {
        "src": SERVER,
        "dst": NAT,
        "sport": 80,
        "eth_src": f"02:ff:00:00:00:0{gateway}",
        "eth_dst": f"02:cc:00:00:00:0{gateway}",
    }
    return frames.tcp(**{**values, **fields})  # type: ignore[arg-type]


def only(deliveries: list[Delivery]) -> tuple[str, Packet]:
    assert len(deliveries) == 1, deliveries
    return deliveries[0].vport, decode(deliveries[0].frame)


def other(uplink: str) -> int:
    return 4 if uplink.endswith("1") else 1


@pytest.fixture
def fabric() -> Fabric:
    return Fabric(cloud())


def test_a_masqueraded_connection_crosses_hosts_with_one_packet_in(
    fabric: Fabric,
) -> None:
    before = {name: host.packet_ins for name, host in fabric.hosts.items()}
    uplink, packet = only(fabric.send("web/vm2", from_vm(fabric.builder, 2)))
    assert uplink in ("provider/uplink1", "provider/uplink4")
    assert format_ip(packet.headers.ip_src) == NAT
    assert packet.headers.ip_ttl == 62
    after = {name: host.packet_ins for name, host in fabric.hosts.items()}
    assert {n: after[n] - before[n] for n in after if after[n] != before[n]} == {
        "node2": 1
    }


def test_state_leaves_before_data_to_exactly_the_interested_set(fabric: Fabric) -> None:
    fabric.advance(5.0)
    fabric.underlay.clear()
    fabric.send("web/vm2", from_vm(fabric.builder, 2))
    assert [packet.is_state for packet in fabric.underlay] == [True, True, False]
    states = fabric.states()
    assert {packet.destination for packet in states} == {"node1", "node4"}
    assert {packet.tunnel_key for packet in states} == {0xFFFFFF}
    assert [len(fabric.records(f"node{n}")) for n in (1, 2, 3, 4)] == [1, 1, 0, 1]


@pytest.mark.parametrize("way", ["same", "other"])
def test_replies_come_back_by_either_gateway(fabric: Fabric, way: str) -> None:
    uplink, packet = only(fabric.send("web/vm2", from_vm(fabric.builder, 2)))
    gateway = other(uplink) if way == "other" else int(uplink[-1])
    crossed = len(fabric.underlay)
    reply = from_outside(
        gateway, dport=packet.headers.l4_src, flags="SA", payload=b"hello"
    )
    vport, seen = only(fabric.send(f"provider/uplink{gateway}", reply))
    assert vport == "web/vm2"
    assert format_ip(seen.headers.ip_dst) == "10.0.1.2"
    assert seen.headers.l4_dst == 40000
    data = [p for p in fabric.underlay[crossed:] if not p.is_state]
    assert [(p.source, p.destination) for p in data] == [(f"node{gateway}", "node2")]


def test_an_outside_client_moves_to_the_other_gateway_in_mid_connection(
    fabric: Fabric,
) -> None:
    syn = from_outside(1, dst=DNAT, sport=50000, dport=8080)
    vport, packet = only(fabric.send("provider/uplink1", syn))
    assert vport == "web/vm3"
    assert format_ip(packet.headers.ip_dst) == "10.0.1.3"
    assert packet.headers.l4_dst == 80
    reply = from_vm(fabric.builder, 3, sport=80, dport=50000, flags="SA")
    _, seen = only(fabric.send("web/vm3", reply))
    assert format_ip(seen.headers.ip_src) == DNAT
    assert seen.headers.l4_src == 8080
    ack = from_outside(4, dst=DNAT, sport=50000, dport=8080, flags="A")
    vport, packet = only(fabric.send("provider/uplink4", ack))
    assert (vport, packet.headers.l4_dst) == ("web/vm3", 80)
    ids = {fabric.records(f"node{n}")[0]["id"] for n in (1, 3, 4)}
    assert len(ids) == 1


def test_outside_cannot_open_a_connection_to_the_vm(fabric: Fabric) -> None:
    syn = from_outside(1, dst=DNAT, sport=50000, dport=22)
    assert fabric.send("provider/uplink1", syn) == []
    b = fabric.builder
    fabric.change(Put(b.route("provider", "10.0.1.0/24", via="100.64.0.2")))
    direct = from_outside(1, dst="10.0.1.2", sport=50000, dport=22)
    assert fabric.send("provider/uplink1", direct) == []


@pytest.mark.parametrize("victim", ["node1", "node4", "node2"])
def test_an_agent_without_memory_gets_its_records_back(
    fabric: Fabric, victim: str
) -> None:
    uplink, packet = only(fabric.send("web/vm2", from_vm(fabric.builder, 2)))
    fabric.stop(victim)
    fabric.start(victim)
    assert fabric.records(victim) == []
    fabric.advance(3.0)
    assert len(fabric.records(victim)) == 1
    gateway = other(uplink)
    reply = from_outside(gateway, dport=packet.headers.l4_src, flags="SA")
    assert only(fabric.send(f"provider/uplink{gateway}", reply))[0] == "web/vm2"


def test_a_reply_that_overtakes_its_state_works_as_soon_as_the_state_is_there() -> None:
    fabric = Fabric(cloud(), gateway_return="classic")
    fabric.advance(2.5)
    uplink, packet = only(fabric.send("web/vm2", from_vm(fabric.builder, 2)))
    gateway = other(uplink)
    late = from_vm(fabric.builder, 2, sport=41000)
    held: list[object] = []
    fabric.drop = lambda p: p.is_state and (held.append(p) is None)
    uplink, packet = only(fabric.send("web/vm2", late))
    gateway = other(uplink)
    reply = from_outside(gateway, dport=packet.headers.l4_src, flags="SA")
    assert fabric.send(f"provider/uplink{gateway}", reply) == []
    fabric.drop = lambda p: False
    fabric.advance(1.0)
    assert only(fabric.send(f"provider/uplink{gateway}", reply))[0] == "web/vm2"


def test_icmp_echo_and_its_reply_pass_the_masquerade(fabric: Fabric) -> None:
    echo = frames.icmp_echo(
        "10.0.1.2",
        SERVER,
        eth_src="02:00:00:00:00:02",
        eth_dst=router_mac(fabric.builder),
    )
    uplink, packet = only(fabric.send("web/vm2", echo))
    assert packet.headers.ip_src == parse_ip(NAT)
    gateway = other(uplink)
    reply = frames.icmp_echo(
        SERVER,
        NAT,
        identifier=packet.headers.icmp_id,
        reply=True,
        eth_src=f"02:ff:00:00:00:0{gateway}",
        eth_dst=f"02:cc:00:00:00:0{gateway}",
    )
    vport, seen = only(fabric.send(f"provider/uplink{gateway}", reply))
    assert vport == "web/vm2"
    assert seen.headers.icmp_id == decode(echo).headers.icmp_id


def test_vms_on_two_hosts_talk_with_one_packet_in_each_way(fabric: Fabric) -> None:
    before = fabric.hosts["node2"].packet_ins
    for flags in ("S", "A", "FA"):
        tcp = frames.tcp(
            "10.0.1.2",
            "10.0.1.3",
            dport=80,
            flags=flags,
            eth_src="02:00:00:00:00:02",
            eth_dst="02:00:00:00:00:03",
        )
        assert only(fabric.send("web/vm2", tcp))[0] == "web/vm3"
    assert fabric.hosts["node2"].packet_ins - before == 1
