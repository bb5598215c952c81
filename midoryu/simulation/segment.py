# SPDX-License-Identifier: Apache-2.0
"""Ways to one outside segment: what comes in by them counts once, and so what leaves.

`simulator` and `network` ask it where a network has several ways to one segment
(`topology.segment`). What goes to everybody passes the designated way alone, in and
out; what came in by one way never leaves by another. A frame to one station takes the
way at the sender's own host.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Union

from midoryu.packet import field
from midoryu.packet.address import is_group_mac
from midoryu.simulation.walk import Walk
from midoryu.topology.model import Vport
from midoryu.topology.segment import designated, living
from midoryu.topology.snapshot import NetworkView
from midoryu.topology.tag import flood_tag, mac_tag, vport_tag


def station(walk: Walk, network: NetworkView, mac: int) -> int:
    """Return what a MAC address is looked up by: tagged stations are others.

    Source: IEEE 802.1Q, section 8.8.9 (independent learning). An address that the
    topology declares is its vport's whatever the tag.
    """
    if not walk.packet.vlan or mac in network.vport_by_mac:
        return mac
    mac |= walk.packet.vlan << 48
    walk.tags.add(mac_tag(network.row.key, mac))
    return mac


def is_copy(walk: Walk, network: NetworkView, vport: Vport) -> bool:
    """Tell whether the network gets a frame by another way than this one, or need not.

    It need not where the destination is out there, too.
    """
    ways = network.segments.get(vport.key)
    if ways is None:
        return False
    walk.fields |= field.ETH_DST
    mac = walk.headers.eth_dst
    topology = walk.world.topology
    _depend_on(walk, ways)
    if not is_group_mac(mac):
        if _is_own(network, mac):
            return False
        key = network.row.key
        walk.tags.add(mac_tag(key, mac))
        at = topology.mac_location(network, station(walk, network, mac))
        if at:
            return at in ways
    walk.tags.add(flood_tag(network.row.key))
    return designated(topology, ways) != vport.key


def way_to(walk: Walk, network: NetworkView, at: int) -> int:
    """Return by which vport to reach what is behind one: itself, or a fellow.

    The designated way, unless others are at the host where the packet came in.
    """
    ways = network.segments.get(at)
    if ways is None:
        return at
    topology = walk.world.topology
    _depend_on(walk, ways)
    usable = living(topology, ways)
    here = topology.location(walk.ingress.key)
    near = [key for key in usable if topology.location(key) == here]
    return next(iter(near or usable), 0)


def spread(
    walk: Walk,
    network: NetworkView,
    came_by: int,
    only: Union[frozenset[int], None] = None,
) -> Iterator[Vport]:
    """Yield the exterior vports that a flood goes to, one for each segment.

    Args:
        walk: the packet.
        network: where it goes everywhere.
        came_by: vport where it came into the network.
        only: the vports that want it; None for all.
    """
    topology = walk.world.topology
    for vport in network.exterior:
        ways = network.segments.get(vport.key, ())
        if came_by in ways or came_by == vport.key:
            continue
        if only is not None and only.isdisjoint(ways or (vport.key,)):
            continue
        if ways:
            _depend_on(walk, ways)
            if designated(topology, ways) != vport.key:
                continue
        yield vport


def _is_own(network: NetworkView, mac: int) -> bool:
    """Tell whether the network itself answers at a MAC address: a service, a VIP."""
    services, balancing = network.services, network.balancing
    return (services is not None and mac in services.own_macs.values()) or (
        balancing is not None and mac == balancing.mac
    )


def _depend_on(walk: Walk, ways: tuple[int, ...]) -> None:
    walk.tags.update(map(vport_tag, ways))
