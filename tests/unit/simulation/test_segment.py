# SPDX-License-Identifier: Apache-2.0
"""One packet and several ways to one segment: in, out, and what it depends on."""

from __future__ import annotations

from typing import Any

import pytest

from midoryu.packet.address import parse_mac
from midoryu.packet.codec import decode
from midoryu.simulation.outcome import Drop, Reason
from midoryu.topology import model
from midoryu.topology.tag import vport_tag
from tests.helpers import frames
from tests.helpers.builder import Builder
from tests.helpers.worlds import Overlay

EVERYBODY = "ff:ff:ff:ff:ff:ff"
VM, STATION, STRANGER = (f"02:00:00:00:00:0{number}" for number in (1, 8, 9))
COPY = Drop(Reason.COPY)


def overlay(at: str = "web/up1", **network: Any) -> Overlay:
    """Make network web: a VM at node1, ways out at node1 and node2, a known station."""
    b = Builder()
    for number in (1, 2):
        b.host(f"node{number}", f"172.31.0.{number}")
    b.network("web", **network)
    b.vport("web/vm", host="node1", mac=VM, ip="10.0.1.1")
    b.vport("web/up1", host="node1")
    b.vport("web/up2", host="node2")
    b.ingress_set("outside", "web/up1", "web/up2")
    b.put(model.MacEntry("s", b.key("web"), parse_mac(STATION), b.key(at)))
    return Overlay(b)


def udp(source: str, target: str, **fields: Any) -> bytes:
    return frames.udp("10.0.1.8", "10.0.1.1", eth_src=source, eth_dst=target, **fields)


@pytest.mark.parametrize("target", [EVERYBODY, STRANGER], ids=["group", "unknown"])
def test_what_goes_to_everybody_comes_in_by_the_designated_way(target: str) -> None:
    one = overlay()
    frame = udp(STATION, target)
    assert one.names(one.send("web/up1", frame)) == ("web/vm",)
    copy = one.send("web/up2", frame)
    assert copy.outcome == COPY
    assert copy.learned == []
    ways = {vport_tag(one.key("web/up1")), vport_tag(one.key("web/up2"))}
    assert copy.tags >= ways


def test_a_known_station_inside_is_reached_by_either_way() -> None:
    one = overlay()
    for way in ("web/up1", "web/up2"):
        simulation = one.send(way, udp(STATION, VM))
        assert one.names(simulation) == ("web/vm",)
        # Fellows are one place.
        assert simulation.learned == []


@pytest.mark.parametrize("at", ["web/up1", "web/up2"])
def test_what_is_out_there_already_is_not_brought_there(at: str) -> None:
    one = overlay(at)
    for way in ("web/up1", "web/up2"):
        copy = one.send(way, udp(STRANGER, STATION))
        assert copy.outcome == COPY
        assert copy.learned == []


@pytest.mark.parametrize("at", ["web/up1", "web/up2"])
def test_wherever_a_station_was_seen_the_senders_host_decides(at: str) -> None:
    one = overlay(at)
    assert one.names(one.send("web/vm", udp(VM, STATION))) == ("web/up1",)
    one.change(model.VportStatus(one.key("web/vm"), one.key("node2"), True))
    assert one.names(one.send("web/vm", udp(VM, STATION))) == ("web/up2",)


def test_a_tagged_station_is_one_of_its_own() -> None:
    one = overlay(vlan_transparent=True)
    assert one.send("web/up2", udp(STRANGER, STATION, vlan=5)).outcome == COPY
    tagged = udp(STRANGER, STATION, vlan=5)
    station = parse_mac(STATION) | decode(tagged).vlan << 48
    one.change(model.MacEntry("v", one.key("web"), station, one.key("web/vm")))
    assert one.names(one.send("web/up2", tagged)) == ("web/vm",)


def test_what_the_network_answers_itself_is_taken_by_either_way() -> None:
    one = overlay()
    one.builder.balancer("b", "web", ["10.0.1.80:80/6"], ["10.0.1.1:80"])
    one = Overlay(one.builder)
    view = one.topology.network(one.key("web"))
    assert view is not None
    assert view.balancing is not None
    vip = f"{view.balancing.mac:012x}"
    mac = ":".join(vip[n : n + 2] for n in range(0, 12, 2))
    call = frames.tcp("10.0.1.8", "10.0.1.80", dport=80, eth_src=STATION, eth_dst=mac)
    assert one.names(one.send("web/up2", call)) == ("web/vm",)


def test_a_group_that_one_way_wants_goes_out_by_the_designated_one() -> None:
    one = overlay(multicast_snooping=True)
    group = 0xFFFF_E901_0101
    one.change(model.MulticastMember("g", one.key("web"), group, one.key("web/up2")))
    frame = frames.udp("10.0.1.1", "233.1.1.1", eth_src=VM, eth_dst="01:00:5e:01:01:01")
    assert one.names(one.send("web/vm", frame)) == ("web/up1",)
