# SPDX-License-Identifier: Apache-2.0
"""Two hosts have an uplink into one outside segment: frames pass once, either way.

A learning bridge joins the uplinks at node1 and node2 outside; station `s` is on it.
Inside, network web has a VM at each of three hosts and a router r to network far.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from midoryu.packet import build
from midoryu.packet.address import is_v4, parse_ip, parse_mac, parse_prefix
from midoryu.packet.codec import decode
from midoryu.simulation.neighbor import asked_address
from midoryu.topology import model
from midoryu.topology.service import Advertising, RaMode
from tests.helpers import frames
from tests.helpers.builder import Builder
from tests.helpers.fabric import Delivery, Fabric
from tests.scenarios.test_l2 import EVERYBODY, mac

UPLINKS = ("web/up1", "web/up2")
STATION = {4: "10.0.1.200", 6: "fd00:1::c8"}
ROUTER = {4: "10.0.1.254", 6: "fd00:1::fe"}
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
# A frame that passes more often than this goes round for ever.
ROUNDS = 50


def cloud(*, together: bool = True) -> Builder:
    b = Builder()
    for number in (1, 2, 3):
        b.host(f"node{number}", f"172.31.0.{number}")
    b.network("web")
    for number in (1, 2, 3):
        ip = [f"10.0.1.{number}", f"fd00:1::{number}"]
        b.vport(f"web/vm{number}", host=f"node{number}", mac=mac(number), ip=ip)
    for number in (1, 2):
        b.vport(f"web/up{number}", host=f"node{number}")
    b.network("far")
    b.router("r")
    b.vport("far/vm8", host="node3", mac=mac(8), ip=["10.0.2.8", "fd00:2::8"])
    b.attach("r", "web", [f"{ROUTER[4]}/24", f"{ROUTER[6]}/64"])
    b.attach("r", "far", ["10.0.2.254/24", "fd00:2::254/64"])
    if together:
        b.ingress_set("outside", *UPLINKS)
    return b


class Outside:
    """The bridge out there, with a station that answers ARP and ND."""

    def __init__(self, builder: Builder) -> None:
        self.fabric = Fabric(builder)
        self.ports: dict[int, str] = {}
        """MAC address -> where the bridge has learned that it is."""
        self.passed: list[tuple[str, bytes]] = []
        """What crossed an uplink: (way, frame), inwards and outwards."""
        self.heard: list[bytes] = []
        """What reached the station."""
        self.inside: list[Delivery] = []
        """What came out at VMs."""
        self.cut: set[str] = set()
        """Uplinks that carry nothing."""
        self._take(self.fabric.delivered)

    def station(self, frame: bytes) -> None:
        """Let the station send."""
        self._begin()
        self._bridge("station", frame)

    def vm(self, vport: str, frame: bytes) -> None:
        """Let a VM send."""
        self._begin()
        self._take(self.fabric.send(vport, frame))

    def advance(self, seconds: float) -> None:
        self._begin()
        self._take(self.fabric.advance(seconds))

    def ways_out(self) -> list[str]:
        return [way for way, _ in self.passed if way.startswith("out ")]

    def at(self) -> list[str]:
        """Name the VMs that got something, one name for each frame."""
        return sorted(one.vport for one in self.inside)

    def router_mac(self, network: str = "web") -> str:
        b = self.fabric.builder
        return f"02:aa:00:00:{b.key('r'):02x}:{b.key(network):02x}"

    def _begin(self) -> None:
        self.passed, self.heard, self.inside = [], [], []

    def _take(self, delivered: list[Delivery]) -> None:
        for one in list(delivered):
            if one.vport not in UPLINKS:
                self.inside.append(one)
            elif one.vport not in self.cut:
                self._pass(f"out {one.vport}", one.frame)
                self._bridge(one.vport, one.frame)

    def _bridge(self, came_by: str, frame: bytes) -> None:
        headers = decode(frame).headers
        self.ports[headers.eth_src] = came_by
        to = self.ports.get(headers.eth_dst)
        for port in [to] if to else ["station", *UPLINKS]:
            if port == came_by or port in self.cut:
                continue
            if port == "station":
                self._answer(frame)
            else:
                self._pass(f"in {port}", frame)
                self._take(self.fabric.send(port, frame))

    def _pass(self, way: str, frame: bytes) -> None:
        self.passed.append((way, frame))
        assert len(self.passed) < ROUNDS, "frames circle"

    def _answer(self, frame: bytes) -> None:
        self.heard.append(frame)
        address = asked_address(decode(frame))
        if address in map(parse_ip, STATION.values()):
            self._bridge("station", answer(frame, address))


def answer(frame: bytes, address: int) -> bytes:
    """Make the station's answer to ARP or ND."""
    asked, own = decode(frame), parse_mac(mac(0xC8))
    if is_v4(address):
        return build.arp_reply(asked, own)
    return build.neighbor_advertisement(
        source_mac=own,
        source_ip=address,
        target_ip=address,
        destination_mac=asked.headers.eth_src,
        destination_ip=asked.headers.ip_src,
        router=False,
        solicited=True,
    )


def question(family: int) -> bytes:
    """Make the station's question for the router."""
    build_question = build.arp_request if family == 4 else build.neighbor_solicitation
    return build_question(
        sender_mac=parse_mac(mac(0xC8)),
        sender_ip=parse_ip(STATION[family]),
        target_ip=parse_ip(ROUTER[family]),
    )


def say(source: str, target: str, **fields: Any) -> bytes:
    return frames.udp(source, target, **fields)


def broadcast(number: int) -> bytes:
    source = STATION[4] if number == 0xC8 else f"10.0.1.{number}"
    return say(source, "10.0.1.255", eth_src=mac(number), eth_dst=EVERYBODY)


def to_station(family: int, vm: int, eth_dst: str = mac(0xC8)) -> bytes:
    source = f"10.0.1.{vm}" if family == 4 else f"fd00:1::{vm}"
    return say(source, STATION[family], eth_src=mac(vm), eth_dst=eth_dst)


def test_without_a_set_a_broadcast_would_circle() -> None:
    outside = Outside(cloud(together=False))
    with pytest.raises(AssertionError, match="frames circle"):
        outside.vm("web/vm3", broadcast(3))


@pytest.mark.parametrize("sender", [1, 2, 3], ids=["node1", "node2", "node3"])
def test_a_broadcast_of_a_vm_goes_out_once_and_does_not_come_back(sender: int) -> None:
    outside = Outside(cloud())
    for _ in range(3):
        outside.vm(f"web/vm{sender}", broadcast(sender))
        assert outside.ways_out() == ["out web/up1"]
        assert len(outside.heard) == 1
        others = sorted({f"web/vm{n}" for n in (1, 2, 3)} - {f"web/vm{sender}"})
        assert outside.at() == others


def test_a_broadcast_of_the_station_comes_in_once_and_does_not_go_out() -> None:
    outside = Outside(cloud())
    for _ in range(3):
        outside.station(broadcast(0xC8))
        assert outside.ways_out() == []
        assert outside.at() == ["web/vm1", "web/vm2", "web/vm3"]
    before = outside.fabric.hosts["node2"].packet_ins
    outside.station(broadcast(0xC8))
    # A flow drops the copies.
    assert outside.fabric.hosts["node2"].packet_ins == before


@FAMILIES
@pytest.mark.parametrize(
    ("vm", "way"), [(1, "up1"), (2, "up2"), (3, "up1")], ids=["first", "other", "none"]
)
def test_unicast_goes_out_at_the_senders_own_host(
    family: int, vm: int, way: str
) -> None:
    outside = Outside(cloud())
    outside.station(broadcast(0xC8))
    for _ in range(3):
        outside.vm(f"web/vm{vm}", to_station(family, vm))
        assert outside.ways_out() == [f"out web/{way}"]
        assert len(outside.heard) == 1
        assert outside.inside == []


def test_a_station_does_not_flap_between_the_ways() -> None:
    outside = Outside(cloud())
    outside.station(broadcast(0xC8))
    for vm in (1, 2, 3, 2, 1):
        outside.vm(f"web/vm{vm}", to_station(4, vm))
        back = say(STATION[4], f"10.0.1.{vm}", eth_src=mac(0xC8), eth_dst=mac(vm))
        outside.station(back)
        assert outside.at() == [f"web/vm{vm}"]
    learned = [
        outside.fabric.inspect(host, "stats")["counters"].get("MAC addresses learned")
        for host in outside.fabric.hosts
    ]
    assert sorted(map(int, filter(None, learned))) == [1]


@FAMILIES
def test_a_router_asks_once_and_is_answered_once(family: int) -> None:
    outside = Outside(cloud())
    source = "10.0.2.8" if family == 4 else "fd00:2::8"
    router = outside.router_mac("far")
    frame = say(source, STATION[family], eth_src=mac(8), eth_dst=router)
    outside.vm("far/vm8", frame)
    assert len(outside.ways_out()) == len(outside.heard) == 2
    assert decode(outside.heard[1]).headers.ip_dst == decode(frame).headers.ip_dst
    outside.vm("far/vm8", frame)
    assert len(outside.heard) == 1


@FAMILIES
def test_the_routers_answer_to_a_question_from_outside_comes_once(family: int) -> None:
    outside = Outside(cloud())
    outside.station(question(family))
    assert len(outside.heard) == 1
    assert outside.ways_out() == ["out web/up1"]


def test_what_hosts_say_by_themselves_leaves_by_one_way() -> None:
    b = cloud()
    b.network("web", multicast_snooping=True)
    prefix = parse_prefix("fd00:1::/64")
    gateway, slaac = parse_ip(ROUTER[6]), Advertising(RaMode.SLAAC)
    b.put(model.Subnet("s", b.key("web"), prefix, gateway=gateway, advertising=slaac))
    outside = Outside(b)
    outside.advance(20.0)
    # Advertisements, and questions for groups of both families.
    assert len(outside.ways_out()) >= 3
    assert set(outside.ways_out()) == {"out web/up1"}
    assert Counter(one.frame for one in outside.inside if one.vport == "web/vm1")
    assert outside.fabric.inspect("node2", "stats")["counters"].get("copy", 0) > 0

    outside.fabric.stop("node1")
    outside.cut.add("web/up1")
    outside.advance(200.0)
    assert set(outside.ways_out()) == {"out web/up2"}


def test_another_way_takes_over_when_an_interface_goes() -> None:
    outside = Outside(cloud())
    b, fabric = outside.fabric.builder, outside.fabric
    outside.station(broadcast(0xC8))
    outside.vm("web/vm3", to_station(4, 3))
    assert outside.ways_out() == ["out web/up1"]

    fabric.delivered = []
    fabric.change(model.Put(model.VportStatus(b.key("web/up1"), b.key("node1"), False)))
    told = list(fabric.delivered)
    outside.vm("web/vm3", to_station(4, 3))
    assert outside.ways_out() == ["out web/up2"]
    outside.vm("web/vm3", broadcast(3))
    assert outside.ways_out() == ["out web/up2"]
    outside.station(broadcast(0xC8))
    assert outside.at() == ["web/vm1", "web/vm2", "web/vm3"]
    # What answers inside has told the switches out there where it is now.
    ways = {one.vport for one in told}
    said = {decode(one.frame).headers.eth_src for one in told}
    assert ways >= {"web/up2"}
    assert len(said) == 4


def test_another_way_takes_over_when_a_host_dies() -> None:
    outside = Outside(cloud())
    outside.advance(1.0)
    outside.station(broadcast(0xC8))
    outside.fabric.stop("node1")
    outside.cut.add("web/up1")
    outside.advance(2.5)
    outside.vm("web/vm3", to_station(4, 3))
    assert outside.ways_out() == ["out web/up2"]
    outside.vm("web/vm3", broadcast(3))
    assert outside.ways_out() == ["out web/up2"]


def test_ways_that_leave_their_set_are_ways_of_their_own_again() -> None:
    b = cloud()
    outside = Outside(b)
    fabric = outside.fabric
    fabric.send("web/vm3", broadcast(3))
    assert sorted(one.vport for one in fabric.delivered if "up" in one.vport) == [
        "web/up1"
    ]
    fabric.change(model.Put(b.ingress_set("outside", "web/up1")))
    fabric.send("web/vm3", broadcast(3))
    assert sorted(one.vport for one in fabric.delivered if "up" in one.vport) == [
        "web/up1",
        "web/up2",
    ]
    fabric.change(model.Put(b.ingress_set("outside", *UPLINKS)))
    fabric.send("web/vm3", broadcast(3))
    assert sum("up" in one.vport for one in fabric.delivered) == 1


def test_a_way_with_a_machine_of_its_own_is_none() -> None:
    b = cloud()
    up2 = b.vport("web/up2", host="node2", mac=mac(9))
    outside = Outside(b)
    fabric = outside.fabric
    fabric.send("web/vm3", broadcast(3))
    assert sum("up" in one.vport for one in fabric.delivered) == 2
    fabric.change(model.Put(replace(up2, mac=0)))
    fabric.send("web/vm3", broadcast(3))
    assert sum("up" in one.vport for one in fabric.delivered) == 1
