# SPDX-License-Identifier: Apache-2.0
"""Connections between two vports of one host: no peer has their records.

Its agent is killed and has no journal. What the switch keeps with the flows is enough.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from midoryu.openflow import pipeline
from midoryu.openflow.flow import Flow, RemoveFlow
from midoryu.packet.packet import Packet
from midoryu.topology.model import Put, Router, Vport
from tests.helpers.builder import Builder, cloud
from tests.helpers.fabric import Delivery, Fabric
from tests.scenarios.test_main_job import (
    DNAT,
    from_outside,
    from_vm,
    only,
)


def one_host() -> Builder:
    """Both VMs and an uplink are on node1."""
    b = cloud()
    for number in (2, 3):
        b.vport(
            f"web/vm{number}",
            host="node1",
            mac=f"02:00:00:00:00:0{number}",
            ip=f"10.0.1.{number}",
            egress_chain="to-vm",
        )
    return b


def alone() -> Fabric:
    """Return a cloud in which node1's state reaches nobody."""
    fabric = Fabric(one_host())
    fabric.advance(3.0)
    fabric.drop = lambda packet: packet.is_state
    return fabric


def to_neighbour(flags: str, *, back: bool = False) -> bytes:
    two, three = ("10.0.1.2", "02:00:00:00:00:02"), ("10.0.1.3", "02:00:00:00:00:03")
    here, there = (three, two) if back else (two, three)
    ports = (80, 40000) if back else (40000, 80)
    return from_vm(
        one_host(),
        2,
        src=here[0],
        eth_src=here[1],
        dst=there[0],
        eth_dst=there[1],
        sport=ports[0],
        dport=ports[1],
        flags=flags,
    )


def forget(fabric: Fabric, *, early: bool = False) -> None:
    """Kill the agent; start it with its switch's flows and nothing else."""
    fabric.stop("node1")
    fabric.start("node1")
    if not early:
        fabric.advance(3.0)


def reactive(fabric: Fabric) -> list[Flow]:
    flows = fabric.hosts["node1"].switch.flows(pipeline.VPORT)
    return [flow for flow in flows if flow.priority == pipeline.PRIORITY_REACTIVE]


def remove_flows(fabric: Fabric) -> None:
    """Take the flows out of the switch behind the agent's back."""
    mods = [RemoveFlow(flow) for flow in reactive(fabric)]
    fabric.hosts["node1"].switch.apply(mods)


def lose_flows(fabric: Fabric, *, early: bool = False) -> None:
    """Change rows on which flows of all VMs depend; early they have no tags yet."""
    if early:
        remove_flows(fabric)
    for row in fabric.builder.rows:
        if isinstance(row, (Router, Vport)):
            fabric.change(Put(replace(row, up=False)))
            fabric.change(Put(row))
    assert reactive(fabric) == []


def outward(fabric: Fabric) -> tuple[int, Packet]:
    """Open a masqueraded connection that leaves by node1's own uplink."""
    for sport in range(40000, 40020):
        syn = from_vm(fabric.builder, 2, sport=sport)
        uplink, packet = only(fabric.send("web/vm2", syn))
        if uplink == "provider/uplink1":
            return sport, packet
        # Its record is with the other gateway, which nobody reaches: not our case.
        remove_flows(fabric)
    raise AssertionError("no connection leaves by uplink1")


def ports(deliveries: list[Delivery]) -> tuple[str, int, int]:
    vport, packet = only(deliveries)
    return vport, packet.headers.l4_src, packet.headers.l4_dst


@pytest.mark.parametrize("early", [False, True])
def test_neighbours_behind_filters_go_on_without_their_flows(early: bool) -> None:
    fabric = alone()
    for flags, back in (("S", False), ("SA", True), ("A", False)):
        vport = "web/vm3" if back else "web/vm2"
        only(fabric.send(vport, to_neighbour(flags, back=back)))
    forget(fabric, early=early)
    lose_flows(fabric, early=early)
    # The server speaks first: no filter would let it begin.
    pushed = fabric.send("web/vm3", to_neighbour("PA", back=True))
    assert ports(pushed) == ("web/vm2", 80, 40000)
    assert only(fabric.send("web/vm2", to_neighbour("A")))[0] == "web/vm3"
    (record,) = fabric.records("node1")
    assert record["phase"] == "tcp_established"


@pytest.mark.parametrize("early", [False, True])
def test_a_masqueraded_connection_keeps_its_port_without_its_flows(early: bool) -> None:
    fabric = alone()
    sport, packet = outward(fabric)
    outside = packet.headers.l4_src
    answer = from_outside(1, dport=outside, flags="SA")
    only(fabric.send("provider/uplink1", answer))
    forget(fabric, early=early)
    lose_flows(fabric, early=early)
    push = from_outside(1, dport=outside, flags="PA", payload=b"x")
    seen = ports(fabric.send("provider/uplink1", push))
    assert seen == ("web/vm2", 80, sport)
    ack = from_vm(fabric.builder, 2, sport=sport, flags="A", payload=b"x")
    assert ports(fabric.send("web/vm2", ack)) == ("provider/uplink1", outside, 80)


def test_a_connection_to_a_service_goes_on_without_its_flows() -> None:
    fabric = alone()
    client = {"dst": DNAT, "sport": 50000, "dport": 8080}
    only(fabric.send("provider/uplink1", from_outside(1, flags="S", **client)))
    only(
        fabric.send(
            "web/vm3", from_vm(fabric.builder, 3, sport=80, dport=50000, flags="SA")
        )
    )
    forget(fabric)
    lose_flows(fabric)
    answer = from_vm(fabric.builder, 3, sport=80, dport=50000, flags="PA", payload=b"x")
    assert ports(fabric.send("web/vm3", answer)) == ("provider/uplink1", 8080, 50000)


def test_a_connection_goes_on_when_its_vm_left_while_the_agent_was_dead() -> None:
    fabric = alone()
    for flags, back in (("S", False), ("SA", True), ("A", False)):
        vport = "web/vm3" if back else "web/vm2"
        only(fabric.send(vport, to_neighbour(flags, back=back)))
    fabric.stop("node1")
    fabric.drop = lambda packet: False
    fabric.move("web/vm2", "node2")
    fabric.start("node1")
    fabric.advance(3.0)
    pushed = fabric.send("web/vm3", to_neighbour("PA", back=True))
    assert ports(pushed) == ("web/vm2", 80, 40000)
    assert only(fabric.send("web/vm2", to_neighbour("A")))[0] == "web/vm3"
    assert len(fabric.records("node2")) == 1
