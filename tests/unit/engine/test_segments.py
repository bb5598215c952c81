# SPDX-License-Identifier: Apache-2.0
"""Who announces what when a way to an outside segment becomes the designated one."""

from __future__ import annotations

from midoryu.packet.codec import decode
from midoryu.topology import model
from tests.helpers.builder import Builder
from tests.helpers.fabric import Delivery, Fabric


def world() -> Builder:
    b = Builder()
    for number in (1, 2):
        b.host(f"node{number}", f"172.31.0.{number}")
    b.network("web")
    b.router("r")
    b.vport("web/vm", host="node2", mac="02:00:00:00:00:01", ip=["10.0.1.1", "fd00::1"])
    b.attach("r", "web", ["10.0.1.254/24", "fd00::fe/64"])
    for number in (1, 2):
        b.vport(f"web/up{number}", host=f"node{number}")
    b.ingress_set("outside", "web/up1", "web/up2")
    return b


def switch_off(b: Builder, way: str, node: str) -> model.Put:
    return model.Put(model.VportStatus(b.key(way), b.key(node), False))


def news(fabric: Fabric, way: str) -> list[Delivery]:
    return [one for one in fabric.delivered if one.vport == way]


def test_the_new_way_announces_what_the_network_answers_for() -> None:
    b = world()
    fabric = Fabric(b)
    fabric.delivered = []
    fabric.change(switch_off(b, "web/up1", "node1"))
    assert news(fabric, "web/up2")[0].frame
    said = [decode(one.frame) for one in fabric.delivered if one.vport == "web/up2"]
    # r: IPv4, IPv6, link-local; vm: IPv4 and IPv6.
    assert len(said) == 5
    assert {one.headers.eth_dst >> 40 for one in said} <= {0xFF, 0x33}


def test_only_machines_that_route_are_announced_as_routers() -> None:
    b = world()
    fabric = Fabric(b)
    fabric.delivered = []
    fabric.change(switch_off(b, "web/up1", "node1"))
    router = fabric.builder.topology().vport(b.key("r/web"))
    assert router is not None
    packets = [one.frame for one in news(fabric, "web/up2")]
    # ICMPv6 neighbour advertisement: the R flag is the first bit behind the checksum.
    flags = {
        (decode(one).headers.eth_src == router.mac, bool(one[58] & 0x80))
        for one in packets
        if one[12:14] == b"\x86\xdd"
    }
    assert flags == {(True, True), (False, False)}


def test_nothing_is_announced_while_nothing_changes() -> None:
    b = world()
    fabric = Fabric(b)
    fabric.delivered = []
    fabric.change(model.Put(b.network("other")))
    assert fabric.advance(2.0) == []
    taken = [
        fabric.inspect(host, "stats")["counters"].get("segments taken over", 0)
        for host in ("node1", "node2")
    ]
    # node2's interface may have been there first.
    assert taken[0] == 1
    assert taken[1] <= 1


def test_a_host_that_dies_is_taken_over_for_without_a_database() -> None:
    b = world()
    fabric = Fabric(b)
    fabric.advance(1.0)
    fabric.stop("node1")
    told = fabric.advance(2.5)
    assert len([one for one in told if one.vport == "web/up2"]) == 5
