# SPDX-License-Identifier: Apache-2.0
"""Layer 2 services over several hosts: floods, trunks, limits, mirrors."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from midoryu.openflow import flow as of
from midoryu.openflow import service_flows
from midoryu.topology import model
from midoryu.topology.l2 import Mirror, MirrorDirection, Qos
from tests.helpers import frames
from tests.helpers.builder import Builder
from tests.helpers.fabric import Fabric

EVERYBODY = "ff:ff:ff:ff:ff:ff"


def mac(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


def office(**vports: dict[str, Any]) -> Builder:
    """Network web: vm1, vm2 at node1, vm3..vm5 at node2, vm6, vm7 at node3."""
    b = Builder()
    for number in (1, 2, 3):
        b.host(f"node{number}", f"172.31.0.{number}")
    b.network("web")
    for number, host in enumerate("1122233", 1):
        name = f"vm{number}"
        b.vport(
            f"web/{name}",
            host=f"node{host}",
            mac=mac(number),
            ip=f"10.0.1.{number}",
            **vports.get(name, {}),
        )
    return b


def broadcast(source: int = 1, **fields: Any) -> bytes:
    values = {"src": f"10.0.1.{source}", "dst": "10.0.1.255"}
    return frames.udp(eth_src=mac(source), eth_dst=EVERYBODY, **{**values, **fields})


def unicast(source: int, target: int, **fields: Any) -> bytes:
    values = {"src": f"10.0.1.{source}", "dst": f"10.0.1.{target}"}
    return frames.udp(eth_src=mac(source), eth_dst=mac(target), **{**values, **fields})


def names(fabric: Fabric, vport: str, frame: bytes) -> list[str]:
    """Send twice (by the agent, then by its flow); both come out alike."""
    first = sorted(one.vport for one in fabric.send(vport, frame))
    second = sorted(one.vport for one in fabric.send(vport, frame))
    assert first == second
    return first


def copies(fabric: Fabric) -> Counter[str]:
    return Counter(one.destination for one in fabric.underlay if not one.is_state)


OTHERS = [f"web/vm{number}" for number in range(2, 8)]


def test_a_flood_crosses_the_underlay_once_for_each_host() -> None:
    fabric = Fabric(office())

    assert names(fabric, "web/vm1", broadcast()) == OTHERS
    assert copies(fabric) == {"node2": 2, "node3": 2}
    keys = {one.tunnel_key for one in fabric.underlay if not one.is_state}
    assert keys == {fabric.builder.key("web")}


def test_a_filter_of_one_vport_holds_and_the_others_there_still_hear() -> None:
    b = office()
    closed = b.chain("closed", accept=False)
    row = b.vport(
        "web/vm4", host="node2", mac=mac(4), ip="10.0.1.4", egress_chain=closed
    )
    fabric = Fabric(b)

    expected = [name for name in OTHERS if name != "web/vm4"]
    assert names(fabric, "web/vm1", broadcast()) == expected
    fabric.change(model.Put(replace(row, egress_chain="")))
    assert names(fabric, "web/vm1", broadcast()) == OTHERS


def test_a_flood_follows_vports_that_move_and_go_down() -> None:
    fabric = Fabric(office())
    names(fabric, "web/vm1", broadcast())

    fabric.move("web/vm6", "node2")
    assert names(fabric, "web/vm1", broadcast()) == OTHERS
    assert names(fabric, "web/vm7", broadcast(7)) == [
        f"web/vm{number}" for number in range(1, 7)
    ]
    rows = {row.key: row for row in fabric.builder.rows if isinstance(row, model.Vport)}
    down = replace(rows[fabric.builder.key("web/vm3")], up=False)
    fabric.change(model.Put(down))
    expected = [name for name in OTHERS if name != "web/vm3"]
    assert names(fabric, "web/vm1", broadcast()) == expected


def trunk() -> Builder:
    """vm1 at node1 is a trunk: tag 101 is on network `blue`, with vm8 at node2."""
    b = office()
    b.network("blue")
    b.vport("blue/sub", mac=mac(0x11), ip="10.0.2.1", parent=b.key("web/vm1"), vlan=101)
    b.vport("blue/vm8", host="node2", mac=mac(8), ip="10.0.2.8")
    b.vport("blue/vm9", host="node1", mac=mac(9), ip="10.0.2.9")
    return b


def blue(source: int, target: int, **fields: Any) -> bytes:
    ips = {"src": f"10.0.2.{source & 15}", "dst": f"10.0.2.{target & 15}"}
    macs = {"eth_src": mac(source), "eth_dst": mac(target)}
    return frames.udp(**{**ips, **macs, **fields})


@pytest.mark.parametrize("peer", [8, 9], ids=["another host", "the same host"])
def test_a_sub_port_sends_and_receives_with_its_tag(peer: int) -> None:
    fabric = Fabric(trunk())
    for _ in range(2):
        (out,) = fabric.send("web/vm1", blue(0x11, peer, vlan=101))
        assert out == (f"blue/vm{peer}", blue(0x11, peer))
        (back,) = fabric.send(f"blue/vm{peer}", blue(peer, 0x11))
        assert back == ("web/vm1", blue(peer, 0x11, vlan=101))
    assert fabric.hosts["node1"].packet_ins == (2 if peer == 9 else 1)


def test_a_trunk_keeps_its_own_network_apart() -> None:
    fabric = Fabric(trunk())

    assert names(fabric, "web/vm1", broadcast()) == OTHERS
    tagged = frames.udp(eth_src=mac(0x11), eth_dst=EVERYBODY, vlan=101)
    assert names(fabric, "web/vm1", tagged) == ["blue/vm8", "blue/vm9"]
    (out,) = (
        one
        for one in fabric.send("blue/vm8", blue(8, 0x11, dst="10.0.2.255"))
        if one.vport == "web/vm1"
    )
    assert out.frame == blue(8, 0x11, dst="10.0.2.255", vlan=101)


def test_a_sub_port_goes_with_its_parent_and_its_row() -> None:
    fabric = Fabric(trunk())
    fabric.send("web/vm1", blue(0x11, 8, vlan=101))

    fabric.move("web/vm1", "node3")
    (out,) = fabric.send("blue/vm8", blue(8, 0x11))
    assert out == ("web/vm1", blue(8, 0x11, vlan=101))
    fabric.change(model.Gone(model.Vport, fabric.builder.key("blue/sub")))
    assert fabric.send("web/vm1", blue(0x11, 8, vlan=101)) == []


def meters(fabric: Fabric, host: str) -> dict[int, tuple[int, int]]:
    found = fabric.hosts[host].switch.meters.values()
    return {m.meter: (m.rate_pps, m.burst) for m in found if m.meter >= 1 << 24}


def test_limits_and_marks_stand_at_the_vport_and_go_with_the_policy() -> None:
    b = office(vm3={"qos": "gold"})
    gold = Qos("gold", "gold", 2000, 0, 1000, 500, dscp=10)
    fabric = Fabric(b)
    fabric.change(model.Put(gold))
    key = b.key("web/vm3")

    assert meters(fabric, "node2") == {
        service_flows.METER_FROM | key: (1000, 500),
        service_flows.METER_TO | key: (2000, 1600),
    }
    (out,) = fabric.send("web/vm3", unicast(3, 1, tos=3))
    assert out == ("web/vm1", unicast(3, 1, tos=10 << 2 | 3))
    assert names(fabric, "web/vm1", unicast(1, 3)) == ["web/vm3"]
    assert names(fabric, "web/vm4", unicast(4, 3)) == ["web/vm3"]
    assert names(fabric, "web/vm1", broadcast()) == OTHERS
    fabric.change(model.Gone(Qos, "gold"))
    assert meters(fabric, "node2") == {}
    (out,) = fabric.send("web/vm3", unicast(3, 1, tos=3))
    assert out == ("web/vm1", unicast(3, 1, tos=3))
    assert names(fabric, "web/vm4", unicast(4, 3)) == ["web/vm3"]


def test_a_flood_is_held_to_the_storm_limit_of_its_sender() -> None:
    fabric = Fabric(office(vm1={"storm_pps": 50}))
    names(fabric, "web/vm1", broadcast())
    names(fabric, "web/vm1", unicast(1, 3))

    meter = service_flows.METER_STORM | fabric.builder.key("web/vm1")
    assert meters(fabric, "node1") == {meter: (50, 50)}
    held = [
        one.actions[-1] if one.actions[0] == (of.METER, meter) else None
        for one in fabric.hosts["node1"].switch.flows(10)
        if one.notify_removed
    ]
    assert sum(one is not None for one in held) == 1


def mirrored(
    direction: MirrorDirection = MirrorDirection.BOTH, target: str = "web/vm6"
) -> Fabric:
    b = office()
    b.put(
        Mirror(
            b.key("mirror"),
            "watch",
            frozenset((b.key("web/vm3"),)),
            b.key(target),
            direction,
        )
    )
    return Fabric(b)


@pytest.mark.parametrize("target", ["web/vm6", "web/vm4"], ids=["far", "near"])
@pytest.mark.parametrize("direction", MirrorDirection)
@pytest.mark.parametrize("peer", [1, 5], ids=["another host", "the same host"])
def test_a_mirror_copies_what_its_vport_sees(
    peer: int, direction: MirrorDirection, target: str
) -> None:
    fabric = mirrored(direction, target)
    both = direction is MirrorDirection.BOTH

    copied = [target] if both or direction is MirrorDirection.EGRESS else []
    sent = names(fabric, "web/vm3", unicast(3, peer))
    assert sent == sorted([f"web/vm{peer}", *copied])
    copied = [target] if both or direction is MirrorDirection.INGRESS else []
    got = names(fabric, f"web/vm{peer}", unicast(peer, 3))
    assert got == sorted(["web/vm3", *copied])


def test_a_mirror_sees_what_filters_drop_and_its_own_filter_does_not_count() -> None:
    b = office()
    closed = b.chain("closed", accept=False)
    b.vport("web/vm3", host="node2", mac=mac(3), ip="10.0.1.3", ingress_chain=closed)
    b.vport("web/vm6", host="node3", mac=mac(6), ip="10.0.1.6", egress_chain=closed)
    vports = frozenset((b.key("web/vm3"),))
    b.put(Mirror(b.key("mirror"), "watch", vports, b.key("web/vm6")))
    fabric = Fabric(b)

    assert names(fabric, "web/vm3", unicast(3, 1)) == ["web/vm6"]


def test_mirrors_of_each_other_do_not_go_round() -> None:
    b = office()
    for one, other in ((3, 6), (6, 3), (1, 6)):
        vports = frozenset((b.key(f"web/vm{one}"),))
        key = b.key(f"mirror{one}")
        b.put(Mirror(key, f"m{one}", vports, b.key(f"web/vm{other}")))
    fabric = Fabric(b)

    assert names(fabric, "web/vm3", unicast(3, 1)) == ["web/vm1", *["web/vm6"] * 2]
    assert names(fabric, "web/vm3", unicast(3, 6)) == ["web/vm3", *["web/vm6"] * 2]


def test_a_mirror_ends_with_its_row_and_follows_its_target() -> None:
    fabric = mirrored()
    names(fabric, "web/vm1", unicast(1, 3))

    fabric.move("web/vm6", "node2")
    assert names(fabric, "web/vm1", unicast(1, 3)) == ["web/vm3", "web/vm6"]
    fabric.change(model.Gone(Mirror, fabric.builder.key("mirror")))
    assert names(fabric, "web/vm1", unicast(1, 3)) == ["web/vm3"]
    assert names(fabric, "web/vm3", unicast(3, 1)) == ["web/vm1"]


def test_a_transparent_network_forwards_each_tag_for_itself() -> None:
    b = office()
    b.network("web", vlan_transparent=True)
    fabric = Fabric(b)
    nested = "02:dd:00:00:00:01"

    def says(vport: str, vlan: int) -> None:
        hello = frames.udp(eth_src=nested, eth_dst=EVERYBODY, vlan=vlan)
        assert len(fabric.send(vport, hello)) == 6

    says("web/vm3", 5)
    says("web/vm6", 6)
    for vlan, place in ((5, "web/vm3"), (6, "web/vm6"), (5, "web/vm3")):
        frame = frames.udp(eth_src=mac(1), eth_dst=nested, vlan=vlan)
        assert names(fabric, "web/vm1", frame) == [place]
        assert {one.frame for one in fabric.delivered} == {frame}
    untagged = frames.udp(eth_src=mac(1), eth_dst=nested)
    assert names(fabric, "web/vm1", untagged) == OTHERS
    declared = frames.udp(eth_src=mac(1), eth_dst=mac(4), vlan=5)
    assert names(fabric, "web/vm1", declared) == ["web/vm4"]


def test_other_networks_drop_tags_and_frames_of_the_link() -> None:
    fabric = Fabric(office())
    lldp = frames.udp(eth_src=mac(1), eth_dst="01:80:c2:00:00:0e")

    assert names(fabric, "web/vm1", unicast(1, 3, vlan=5)) == []
    assert names(fabric, "web/vm1", lldp) == []
    network = next(r for r in fabric.builder.rows if isinstance(r, model.Network))
    fabric.change(model.Put(replace(network, forward_bpdu=True)))
    assert names(fabric, "web/vm1", lldp) == OTHERS


def test_a_sub_port_is_down_with_its_trunk() -> None:
    fabric = Fabric(trunk())
    rows = {row.key: row for row in fabric.builder.rows if isinstance(row, model.Vport)}
    parent = rows[fabric.builder.key("web/vm1")]

    fabric.change(model.Put(replace(parent, up=False)))
    assert fabric.send("web/vm1", blue(0x11, 8, vlan=101)) == []
    assert fabric.send("blue/vm8", blue(8, 0x11)) == []
    fabric.change(model.Put(parent))
    assert names(fabric, "web/vm1", blue(0x11, 8, vlan=101)) == ["blue/vm8"]


def test_an_agent_that_starts_again_keeps_the_flows_of_a_trunk() -> None:
    b = trunk()
    b.vport("blue/vm9", host="node1", mac=mac(9), ip="10.0.2.9", storm_pps=50)
    fabric = Fabric(b)
    fabric.send("web/vm1", blue(0x11, 8, vlan=101))
    fabric.send("blue/vm9", blue(9, 9, dst="10.0.2.255", eth_dst=EVERYBODY))
    host = fabric.hosts["node1"]

    def reactive() -> set[tuple[Any, ...]]:
        flows = host.switch.flows(10)
        return {(f.match, f.actions) for f in flows if f.notify_removed}

    before = reactive()
    fabric.stop("node1")
    fabric.start("node1")
    packet_ins = host.packet_ins
    for _ in range(5):
        (out,) = fabric.send("web/vm1", blue(0x11, 8, vlan=101))
        assert out == ("blue/vm8", blue(0x11, 8))
        fabric.advance(2)
    assert host.packet_ins == packet_ins
    assert reactive() == before
    assert fabric.inspect("node1", "stats")["counters"]["flows adopted"] == 2
