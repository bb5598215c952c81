# SPDX-License-Identifier: Apache-2.0
"""One record, changed by two hosts at once or told of late: all hosts agree in the end.

The fabric simulation (`tests/fabric`) found what is tested here in small.
"""

from __future__ import annotations

from dataclasses import replace

from midoryu.packet.codec import decode
from midoryu.topology.model import Put, Vport
from tests.helpers import frames
from tests.helpers.builder import Builder, cloud
from tests.helpers.fabric import Fabric, Underlay
from tests.scenarios.test_main_job import (
    DNAT,
    SERVER,
    from_outside,
    from_vm,
    only,
    router_mac,
)


def client(gateway: int, flags: str) -> bytes:
    return from_outside(
        gateway, dst=DNAT, sport=50000, dport=8080, flags=flags, payload=b"x"
    )


def ingresses(fabric: Fabric) -> dict[str, str]:
    return {name: fabric.records(name)[0]["ingress"] for name in ("node1", "node3")}


def close(fabric: Fabric, uplink: str) -> None:
    """Take an uplink down: its connections come in by another one from now on."""
    key = fabric.builder.key(uplink)
    (row,) = (
        row for row in fabric.builder.rows if isinstance(row, Vport) and row.key == key
    )
    fabric.change(Put(replace(row, up=False)))


def three_gateways() -> Builder:
    b = cloud()
    uplinks = [f"provider/uplink{number}" for number in (1, 2, 4)]
    b.vport(uplinks[1], host="node2", mac="02:cc:00:00:00:02", ip="192.0.2.6/30")
    b.ingress_set("uplinks", *uplinks)
    return b


def test_two_gateways_that_change_a_record_at_once_agree_on_one_change() -> None:
    fabric = Fabric(three_gateways())
    fabric.advance(3.0)
    only(fabric.send("provider/uplink2", client(2, "S")))
    close(fabric, "provider/uplink2")
    # Both push their change at the same time: neither hears of the other's before.
    fabric.drop = lambda packet: packet.is_state
    fabric.send("provider/uplink1", client(1, "A"))
    fabric.drop = lambda packet: packet.is_state and packet.source == "node4"
    fabric.send("provider/uplink4", client(4, "A"))
    fabric.drop = lambda packet: False
    fabric.advance(2.0)
    seen = {
        (record["ingress"], record["id"])
        for name in ("node1", "node3", "node4")
        for record in fabric.records(name)
    }
    assert len(seen) == 1
    assert next(iter(seen))[0] in ("provider/uplink1", "provider/uplink4")


def test_a_late_old_state_of_a_record_does_not_undo_a_change() -> None:
    fabric = Fabric(cloud())
    fabric.advance(3.0)
    # The record's first state is lost between node1 and node3 and repaired later.
    fabric.drop = lambda p: (
        p.is_state
        and (p.source, p.destination)
        == (
            "node1",
            "node3",
        )
    )
    only(fabric.send("provider/uplink1", client(1, "S")))
    close(fabric, "provider/uplink1")
    fabric.send("provider/uplink4", client(4, "A"))
    fabric.drop = lambda packet: False
    fabric.advance(2.0)
    assert ingresses(fabric) == dict.fromkeys(("node1", "node3"), "provider/uplink4")


def test_a_syn_ack_that_overtakes_its_state_waits_for_it() -> None:
    fabric = Fabric(cloud())
    fabric.advance(3.0)
    fabric.drop = lambda p: p.is_state and p.destination == "node3"
    only(fabric.send("provider/uplink1", client(1, "S")))
    fabric.drop = lambda packet: False
    answer = from_vm(fabric.builder, 3, sport=80, dport=50000, flags="SA")
    fabric.send("web/vm3", answer)
    (delivery,) = fabric.delivered
    headers = decode(delivery.frame).headers
    assert (headers.ip_src & 0xFF, headers.l4_src) == (20, 8080)


def test_a_udp_answer_of_a_service_waits_for_the_record_that_made_it_one() -> None:
    builder = cloud(filters=False)
    builder.dnat(
        "tenant", DNAT, "10.0.1.3", ip_proto=17, ports=(5353, 5353), to_port=80
    )
    fabric = Fabric(builder)
    fabric.advance(3.0)
    fabric.drop = lambda p: p.is_state and p.destination == "node3"
    ask = frames.udp(
        src=SERVER,
        dst=DNAT,
        sport=50000,
        dport=5353,
        eth_src="02:ff:00:00:00:01",
        eth_dst="02:cc:00:00:00:01",
    )
    fabric.send("provider/uplink1", ask)
    fabric.drop = lambda packet: False
    fabric.send("web/vm3", from_vm_udp(builder))
    sources = [decode(d.frame).headers.ip_src & 0xFF for d in fabric.delivered]
    assert sources == [20]


def from_vm_udp(builder: Builder) -> bytes:
    return frames.udp(
        src="10.0.1.3",
        dst=SERVER,
        sport=80,
        dport=50000,
        eth_src="02:00:00:00:00:03",
        eth_dst=router_mac(builder),
    )


def test_a_restarted_agent_makes_no_record_before_peers_told_what_they_know() -> None:
    fabric = Fabric(cloud())
    fabric.advance(3.0)
    echo = frames.icmp_echo(
        src="10.0.1.2",
        dst=SERVER,
        eth_src="02:00:00:00:00:02",
        eth_dst=router_mac(fabric.builder),
    )
    (before,) = fabric.send("web/vm2", echo)
    fabric.stop("node2")
    fabric.start("node2")
    fabric.send("web/vm2", echo)
    held = list(fabric.delivered)
    (after,) = held + fabric.advance(2.5)
    assert decode(after.frame).frame[-12:] == decode(before.frame).frame[-12:]
    assert len(fabric.records("node1")) == 1


def test_who_leases_a_port_keeps_its_record_although_the_vm_moved_away() -> None:
    fabric = Fabric(cloud())
    fabric.advance(3.0)
    only(fabric.send("web/vm2", from_vm(fabric.builder, 2)))
    fabric.move("web/vm2", "node3")
    fabric.advance(0.5)
    fabric.stop("node2")
    fabric.start("node2")
    fabric.advance(2.5)
    assert len(fabric.records("node2")) == 1


def phases(fabric: Fabric) -> set[str]:
    names = ("node1", "node3", "node4")
    return {record["phase"] for name in names for record in fabric.records(name)}


def test_hosts_that_saw_no_reply_talk_nobody_out_of_it() -> None:
    fabric = Fabric(cloud(), touch_interval_s=1.0)
    fabric.advance(3.0)
    lost: list[object] = []

    def lose_first(packet: Underlay) -> bool:
        is_it = (packet.source, packet.destination) == ("node1", "node3")
        if not packet.is_state or not is_it or lost:
            return False
        lost.append(packet)
        return True

    fabric.drop = lose_first
    fabric.send("provider/uplink1", client(1, "S"))
    answer = from_vm(fabric.builder, 3, sport=80, dport=50000, flags="SA")
    # The record comes as an answer and, a little later, as the repair: both are older.
    fabric.send("web/vm3", answer)
    fabric.advance(0.5)
    assert phases(fabric) == {"tcp_established"}
    fabric.advance(1.1)
    assert phases(fabric) == {"tcp_established"}
