# SPDX-License-Identifier: Apache-2.0
"""Connections that outlive lost packets, dead gateways and moved vports."""

from __future__ import annotations

import pytest

from midoryu.openflow import pipeline
from midoryu.packet.address import parse_ip
from midoryu.packet.codec import decode
from midoryu.topology.model import Put
from tests.helpers.builder import cloud
from tests.helpers.fabric import Fabric, Underlay
from tests.helpers.fake_switch import FakeSwitch
from tests.scenarios.test_main_job import (
    DNAT,
    NAT,
    from_outside,
    from_vm,
    only,
    other,
)


def carries_records(packet: Underlay) -> bool:
    # Anything longer than a greeting, a heartbeat or a question's frame and tag.
    return packet.is_state and len(packet.frame) > 130


def test_a_gateway_that_missed_the_state_asks_for_it() -> None:
    fabric = Fabric(cloud())
    fabric.advance(2.0)
    fabric.drop = carries_records
    uplink, packet = only(fabric.send("web/vm2", from_vm(fabric.builder, 2)))
    fabric.drop = lambda packet: False
    gateway = other(uplink)
    reply = from_outside(gateway, dport=packet.headers.l4_src, flags="SA")
    assert only(fabric.send(f"provider/uplink{gateway}", reply))[0] == "web/vm2"


def test_a_question_that_nobody_can_answer_holds_the_packet_for_a_moment_only() -> None:
    fabric = Fabric(cloud())
    stray = from_outside(1, dport=50000, flags="SA")
    assert fabric.send("provider/uplink1", stray) == []
    fabric.advance(0.2)
    stats = fabric.inspect("node1", "stats")
    assert stats["waiting"] == 0
    assert stats["counters"]["records asked for"] == 1


def test_a_silent_gateway_is_replaced_within_half_a_second() -> None:
    fabric = Fabric(cloud())
    fabric.advance(3.0)
    uplink, packet = only(fabric.send("web/vm2", from_vm(fabric.builder, 2)))
    dead, alive = int(uplink[-1]), other(uplink)
    fabric.stop(f"node{dead}")
    fabric.drop = lambda p: f"node{dead}" in (p.source, p.destination)
    fabric.advance(0.5)
    ack = from_vm(fabric.builder, 2, flags="A", payload=b"more")
    uplink, seen = only(fabric.send("web/vm2", ack))
    assert uplink == f"provider/uplink{alive}"
    assert seen.headers.l4_src == packet.headers.l4_src
    push = from_outside(alive, dport=packet.headers.l4_src, flags="PA", payload=b"x")
    assert only(fabric.send(f"provider/uplink{alive}", push))[0] == "web/vm2"


def test_the_outside_may_speak_first_after_its_gateway_died() -> None:
    fabric = Fabric(cloud())
    fabric.advance(3.0)
    syn = from_outside(1, dst=DNAT, sport=50000, dport=8080)
    only(fabric.send("provider/uplink1", syn))
    answer = from_vm(fabric.builder, 3, sport=80, dport=50000, flags="SA")
    assert only(fabric.send("web/vm3", answer))[0] == "provider/uplink1"
    fabric.stop("node1")
    fabric.drop = lambda p: "node1" in (p.source, p.destination)
    fabric.advance(0.5)
    data = from_outside(4, dst=DNAT, sport=50000, dport=8080, flags="PA", payload=b"x")
    assert only(fabric.send("provider/uplink4", data))[0] == "web/vm3"
    answer = from_vm(fabric.builder, 3, sport=80, dport=50000, flags="A")
    assert only(fabric.send("web/vm3", answer))[0] == "provider/uplink4"


def test_a_gateway_that_comes_back_takes_part_again_and_moves_no_connection() -> None:
    fabric = Fabric(cloud())
    fabric.advance(3.0)
    uplink, packet = only(fabric.send("web/vm2", from_vm(fabric.builder, 2)))
    dead, alive = int(uplink[-1]), other(uplink)
    fabric.stop(f"node{dead}")
    fabric.drop = lambda p: f"node{dead}" in (p.source, p.destination)
    fabric.advance(1.0)
    ack = from_vm(fabric.builder, 2, flags="A", payload=b"more")
    only(fabric.send("web/vm2", ack))
    fabric.drop = lambda p: False
    fabric.start(f"node{dead}")
    fabric.advance(3.0)
    assert fabric.hosts["node2"].engine is not None
    assert only(fabric.send("web/vm2", ack))[0] == f"provider/uplink{alive}"
    assert len(fabric.records(f"node{dead}")) == 1
    push = from_outside(dead, dport=packet.headers.l4_src, flags="PA", payload=b"x")
    assert only(fabric.send(f"provider/uplink{dead}", push))[0] == "web/vm2"


def test_a_moved_vport_keeps_its_connections() -> None:
    fabric = Fabric(cloud())
    fabric.advance(3.0)
    uplink, packet = only(fabric.send("web/vm2", from_vm(fabric.builder, 2)))
    fabric.move("web/vm2", "node3")
    fabric.advance(0.2)
    assert len(fabric.records("node3")) == 1
    ack = from_vm(fabric.builder, 2, flags="A", payload=b"more")
    again, seen = only(fabric.send("web/vm2", ack))
    assert (again, seen.headers.l4_src) == (uplink, packet.headers.l4_src)
    gateway = other(uplink)
    push = from_outside(gateway, dport=packet.headers.l4_src, flags="PA", payload=b"x")
    back = fabric.send(f"provider/uplink{gateway}", push)
    assert only(back)[0] == "web/vm2"
    assert decode(back[0].frame).headers.l4_dst == 40000


def test_a_moved_vport_finds_its_records_though_its_old_host_is_cut_off() -> None:
    fabric = Fabric(cloud())
    fabric.advance(3.0)
    _, packet = only(fabric.send("web/vm2", from_vm(fabric.builder, 2)))
    fabric.drop = lambda p: (
        p.is_state and {p.source, p.destination} == {"node2", "node3"}
    )
    fabric.move("web/vm2", "node3")
    fabric.advance(1.5)
    # It might begin a connection; the gateways know that it does not.
    _, seen = only(fabric.send("web/vm2", from_vm(fabric.builder, 2)))
    assert seen.headers.l4_src == packet.headers.l4_src


def test_a_moved_vport_brings_its_records_once_its_old_host_is_reached() -> None:
    fabric = Fabric(cloud())
    fabric.advance(3.0)
    only(fabric.send("web/vm2", from_vm(fabric.builder, 2)))
    fabric.drop = lambda p: p.is_state and p.destination == "node3"
    fabric.move("web/vm2", "node3")
    fabric.advance(1.5)
    assert fabric.records("node3") == []
    fabric.drop = lambda packet: False
    fabric.advance(3.0)
    assert len(fabric.records("node3")) == 1


def test_a_new_member_of_an_ingress_set_gets_the_records() -> None:
    builder = cloud()
    builder.ingress_set("uplinks", "provider/uplink1")
    fabric = Fabric(builder)
    fabric.advance(3.0)
    fabric.send("web/vm2", from_vm(builder, 2))
    fabric.send("web/vm2", from_vm(builder, 2, sport=40001))
    before = len(fabric.records("node4"))
    both = builder.ingress_set("uplinks", "provider/uplink1", "provider/uplink4")
    fabric.change(Put(both))
    fabric.advance(0.2)
    assert len(fabric.records("node4")) == 2 > before - 2
    assert len(fabric.records("node1")) == 2


def test_a_journal_brings_the_records_back_when_no_peer_is_there() -> None:
    fabric = Fabric(cloud(), journal=True, gateway_return="classic")
    fabric.advance(3.0)
    uplink, packet = only(fabric.send("web/vm2", from_vm(fabric.builder, 2)))
    gateway = int(uplink[-1])
    reply = from_outside(gateway, dport=packet.headers.l4_src, flags="SA")
    fabric.send(uplink, reply)
    fabric.drop = lambda p: p.is_state
    fabric.stop(f"node{gateway}")
    fabric.start(f"node{gateway}", keep_switch=False)
    (record,) = fabric.records(f"node{gateway}")
    assert record["phase"] == "tcp_established"
    push = from_outside(gateway, dport=packet.headers.l4_src, flags="PA", payload=b"x")
    assert only(fabric.send(uplink, push))[0] == "web/vm2"


def test_a_journal_does_not_bring_back_what_has_ended() -> None:
    fabric = Fabric(cloud(), journal=True)
    fabric.advance(3.0)
    fabric.send("web/vm2", from_vm(fabric.builder, 2))
    fabric.stop("node2")
    fabric.hosts["node2"].switch = FakeSwitch({1, 2, 10})
    fabric.now += 500.0
    fabric.drop = lambda p: p.is_state
    fabric.start("node2")
    assert fabric.records("node2") == []


def test_an_agent_that_restarted_watches_its_fellow_gateways_again() -> None:
    fabric = Fabric(cloud())
    fabric.advance(3.0)
    fabric.stop("node4")
    fabric.start("node4")
    fabric.advance(3.0)
    fabric.send("web/vm2", from_vm(fabric.builder, 2))
    fabric.stop("node1")
    # Its switch answers for it for a second.
    fabric.advance(1.5)
    stats = fabric.inspect("node4", "stats")
    assert stats["counters"]["hosts fallen silent"] == 1


def test_a_first_packet_can_wait_until_its_state_is_confirmed() -> None:
    fabric = Fabric(cloud(), delivery="confirm", hold_first_packet_s=0.5)
    fabric.advance(3.0)
    fabric.drop = carries_records
    syn = from_vm(fabric.builder, 2)
    assert fabric.send("web/vm2", syn) == []
    assert fabric.send("web/vm2", syn) == [], "sent again, it waits too"
    fabric.drop = lambda packet: False
    uplink, packet = only(fabric.advance(0.1, step=0.01)[:1])
    gateway = other(uplink)
    assert len(fabric.records(f"node{gateway}")) == 1
    reply = from_outside(gateway, dport=packet.headers.l4_src, flags="SA")
    assert only(fabric.send(f"provider/uplink{gateway}", reply))[0] == "web/vm2"


def test_a_first_packet_does_not_wait_longer_than_it_may() -> None:
    fabric = Fabric(cloud(), delivery="confirm", hold_first_packet_s=0.2)
    fabric.advance(3.0)
    fabric.drop = lambda packet: packet.is_state
    assert fabric.send("web/vm2", from_vm(fabric.builder, 2)) == []
    assert fabric.advance(0.1, step=0.01) == []
    only(fabric.advance(0.15, step=0.01))
    counters = fabric.inspect("node2", "stats")["counters"]
    assert counters["first packets sent without confirmation"] == 1


def test_a_confirmed_first_packet_waits_for_one_round_trip_only() -> None:
    fabric = Fabric(cloud(), delivery="confirm", hold_first_packet_s=0.5)
    fabric.advance(3.0)
    only(fabric.send("web/vm2", from_vm(fabric.builder, 2)))


def test_a_stray_reply_is_looked_at_again_after_a_second() -> None:
    fabric = Fabric(cloud())
    stray = from_outside(1, dport=50000, flags="SA")
    fabric.send("provider/uplink1", stray)
    fabric.advance(0.2)
    flows = fabric.hosts["node1"].switch.flows(pipeline.VPORT)
    drops = [flow for flow in flows if flow.hard_timeout_s and flow.priority == 1000]
    assert [flow.hard_timeout_s for flow in drops] == [1]


def test_a_changed_way_out_leaves_the_flows_of_the_way_back_in_place() -> None:
    """Else an agent that dies at once would leave its switch without them."""
    fabric = Fabric(cloud(), gateway_return="classic")
    fabric.advance(3.0)
    uplink, packet = only(fabric.send("web/vm2", from_vm(fabric.builder, 2)))
    dead, alive = int(uplink[-1]), other(uplink)
    reply = from_outside(alive, dport=packet.headers.l4_src, flags="SA")
    only(fabric.send(f"provider/uplink{alive}", reply))
    before = reactive(fabric, f"node{alive}")
    assert before
    fabric.stop(f"node{dead}")
    fabric.drop = lambda p: f"node{dead}" in (p.source, p.destination)
    fabric.advance(0.5)
    only(fabric.send("web/vm2", from_vm(fabric.builder, 2, flags="A", payload=b"x")))
    (record,) = fabric.records(f"node{alive}")
    assert record["egress"] == f"provider/uplink{alive}"
    assert before <= reactive(fabric, f"node{alive}")


def reactive(fabric: Fabric, name: str) -> set[int]:
    """Return the cookies of a host's flows for connections."""
    flows = fabric.hosts[name].switch.flows(pipeline.VPORT)
    return {f.cookie for f in flows if f.priority == pipeline.PRIORITY_REACTIVE}


@pytest.mark.parametrize("gateway_return", ["holder", "classic"])
def test_connections_outlive_the_address_that_masquerade_gave_them(
    gateway_return: str,
) -> None:
    builder = cloud()
    # One best way out: no other reason to look connections up where they come in.
    builder.route("provider", "0.0.0.0/0", via="192.0.2.13", metric=2)
    fabric = Fabric(builder, gateway_return=gateway_return)
    fabric.advance(3.0)
    uplink, packet = only(fabric.send("web/vm2", from_vm(fabric.builder, 2)))
    port, ways = packet.headers.l4_src, (int(uplink[-1]), other(uplink))
    rule = builder.masquerade(
        "tenant", "10.0.0.0/16", "203.0.113.11", vport="tenant/provider"
    )
    fabric.change(Put(rule))
    for gateway in ways:
        data = from_outside(gateway, dport=port, flags="PA", payload=b"x")
        assert only(fabric.send(f"provider/uplink{gateway}", data))[0] == "web/vm2"
    ack = from_vm(fabric.builder, 2, flags="A", payload=b"more")
    assert only(fabric.send("web/vm2", ack))[1].headers.ip_src == parse_ip(NAT)
    syn = from_vm(fabric.builder, 2, sport=40001)
    seen = only(fabric.send("web/vm2", syn))[1]
    assert seen.headers.ip_src == parse_ip("203.0.113.11")
    # What no record knows there is nobody's, and goes where routes lead: in a circle.
    stray = from_outside(1, dport=port ^ 1, flags="A")
    assert fabric.send("provider/uplink1", stray) == []


@pytest.mark.parametrize("apart", ["both ways", "there only", "gateway hears nobody"])
def test_a_lost_way_to_a_gateway_is_seen_by_those_who_use_it(apart: str) -> None:
    fabric = Fabric(cloud())
    fabric.advance(3.0)
    uplink, packet = only(fabric.send("web/vm2", from_vm(fabric.builder, 2)))
    lost, other_one = int(uplink[-1]), other(uplink)

    def is_cut(packet: Underlay) -> bool:
        if apart == "gateway hears nobody":
            return packet.destination == f"node{lost}"
        ends = (packet.source, packet.destination)
        there = ends == ("node2", f"node{lost}")
        return there or (apart == "both ways" and ends == (f"node{lost}", "node2"))

    fabric.advance(1.5)
    fabric.drop = is_cut
    fabric.advance(0.5)
    ack = from_vm(fabric.builder, 2, flags="A", payload=b"more")
    uplink, seen = only(fabric.send("web/vm2", ack))
    assert uplink == f"provider/uplink{other_one}"
    assert seen.headers.l4_src == packet.headers.l4_src
    # It stays so, whatever a gateway that hears nobody says of the others.
    fabric.advance(5.0)
    again = from_vm(fabric.builder, 2, sport=40007)
    assert only(fabric.send("web/vm2", again))[0] == f"provider/uplink{other_one}"
    fabric.drop = lambda packet: False
    fabric.advance(2.0)
    stats = fabric.inspect("node2", "stats")["counters"]
    assert stats["ways to gateways lost"] == 1


def test_hosts_whose_flows_use_no_gateway_ask_none() -> None:
    fabric = Fabric(cloud())
    fabric.advance(3.0)
    fabric.underlay.clear()
    fabric.advance(5.0)
    asked = [p for p in fabric.underlay if p.source == "node2" and p.is_state]
    assert asked == []


def test_flows_lead_elsewhere_before_a_packet_asks() -> None:
    fabric = Fabric(cloud())
    fabric.advance(3.0)
    uplink, _ = only(fabric.send("web/vm2", from_vm(fabric.builder, 2)))
    dead, alive = int(uplink[-1]), other(uplink)
    ports = {}
    for sport in range(41000, 41030):
        where, packet = only(
            fabric.send("web/vm2", from_vm(fabric.builder, 2, sport=sport))
        )
        fabric.send("web/vm2", from_vm(fabric.builder, 2, sport=sport, flags="A"))
        if where == uplink:
            ports[sport] = packet.headers.l4_src
    assert ports
    fabric.stop(f"node{dead}")
    fabric.drop = lambda p: f"node{dead}" in (p.source, p.destination)
    fabric.advance(0.5)
    before = fabric.hosts["node2"].packet_ins
    for sport, port in ports.items():
        ack = from_vm(fabric.builder, 2, sport=sport, flags="A", payload=b"more")
        where, packet = only(fabric.send("web/vm2", ack))
        assert (where, packet.headers.l4_src) == (f"provider/uplink{alive}", port)
    assert fabric.hosts["node2"].packet_ins == before
    assert len(fabric.records(f"node{alive}")) >= len(ports)
