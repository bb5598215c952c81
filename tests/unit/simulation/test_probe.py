# SPDX-License-Identifier: Apache-2.0
"""Probes leave their device where the member is."""

from __future__ import annotations

from midoryu.packet.address import parse_ip
from midoryu.simulation.outcome import NeighborWanted
from midoryu.simulation.probe import ProbeWay, find_way
from midoryu.topology.balancer import vip_mac
from midoryu.topology.model import Vip
from tests.helpers.worlds import FAMILIES, Family, Overlay, two_networks


def vip(family: Family) -> Vip:
    return Vip("v", "b", parse_ip(family.ip(1, 80)), "p")


@FAMILIES
def test_a_router_asks_from_its_own_address(family: Family) -> None:
    world = Overlay(two_networks(family))
    target = parse_ip(family.ip(2, 12))
    way = find_way(world.topology, world.key("r"), vip(family), target)
    assert isinstance(way, ProbeWay)
    assert way.vport == world.key("r/b")
    assert way.ip_src == parse_ip(family.ip(2, 1))
    assert way.mac_dst == world.vport("b/vm2").mac


@FAMILIES
def test_a_router_wants_an_unknown_neighbour_first(family: Family) -> None:
    world = Overlay(two_networks(family))
    target = parse_ip(family.ip(2, 99))
    way = find_way(world.topology, world.key("r"), vip(family), target)
    assert way == NeighborWanted(world.key("r"), world.key("r/b"), target)


@FAMILIES
def test_a_network_asks_from_the_vip_beside_it_and_by_its_router(
    family: Family,
) -> None:
    world = Overlay(two_networks(family))
    near, far = parse_ip(family.ip(1, 13)), parse_ip(family.ip(2, 12))
    one = find_way(world.topology, world.key("a"), vip(family), near)
    other = find_way(world.topology, world.key("a"), vip(family), far)
    own, address = vip_mac(world.key("a")), parse_ip(family.ip(1, 80))
    assert one == ProbeWay(world.key("a/vm3"), own, world.vport("a/vm3").mac, address)
    assert other == ProbeWay(world.key("a/r"), own, world.vport("r/a").mac, address)


@FAMILIES
def test_without_a_route_there_is_no_way(family: Family) -> None:
    world = Overlay(two_networks(family, default=False))
    outside = parse_ip(family.outside)
    assert find_way(world.topology, world.key("r"), vip(family), outside) is None
    assert find_way(world.topology, 999, vip(family), outside) is None
