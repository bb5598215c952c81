# SPDX-License-Identifier: Apache-2.0
"""The way of a health probe: from the device with the VIP to a member.

`engine.health` sends the frames; here it is only found where they leave the device,
and with which addresses.
"""

from __future__ import annotations

from typing import NamedTuple, Union

from midoryu.packet.address import is_v4
from midoryu.simulation.neighbor import source_address
from midoryu.simulation.outcome import NeighborWanted
from midoryu.topology.balancer import Vip, vip_mac
from midoryu.topology.model import RouteKind
from midoryu.topology.snapshot import NetworkView, RouterView, Topology


class ProbeWay(NamedTuple):
    """Where a probe leaves its device, and its addresses."""

    vport: int
    mac_src: int
    mac_dst: int
    ip_src: int


def find_way(
    topology: Topology, device: int, vip: Vip, member: int
) -> Union[ProbeWay, NeighborWanted, None]:
    """Find the way to a member; None where there is none now.

    A router asks from its own address on the link by which the probe leaves, a network
    from the VIP.
    """
    router = topology.router(device)
    if router is not None:
        return _from_router(topology, router, member)
    network = topology.network(device)
    if network is None or is_v4(vip.address) != is_v4(member):
        return None
    return _from_network(topology, network, vip, member)


def _from_router(
    topology: Topology, router: RouterView, member: int
) -> Union[ProbeWay, NeighborWanted, None]:
    for group in router.routes.lookup(member):
        for route in group:
            vport = router.vports.get(route.vport)
            if route.kind is not RouteKind.FORWARD or vport is None:
                continue
            if not topology.is_up(vport):
                continue
            next_hop = route.gateway or member
            mac = topology.neighbor_mac(vport, next_hop)
            if not mac:
                return NeighborWanted(router.row.key, vport.key, next_hop)
            source = source_address(vport, next_hop)
            return ProbeWay(vport.key, vport.mac, mac, source)
    return None


def _from_network(
    topology: Topology, network: NetworkView, vip: Vip, member: int
) -> Union[ProbeWay, None]:
    own = vip_mac(network.row.key)
    mac = network.mac_by_ip.get(member, 0)
    at = topology.mac_location(network, mac) if mac else 0
    if at:
        return ProbeWay(at, own, mac, vip.address)
    for vport in network.interior:
        peer = topology.vport(vport.peer)
        router = topology.router(peer.device) if peer is not None else None
        leads = router is not None and any(router.routes.lookup(member))
        if peer is not None and leads:
            return ProbeWay(vport.key, own, peer.mac, vip.address)
    return None
