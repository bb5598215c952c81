# SPDX-License-Identifier: Apache-2.0
"""Devices as the simulation sees them: a network or router with all that belongs to it.

`snapshot` makes views of its rows at first use and drops them when a row changes;
`routes` and `nat` are a router's compiled parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from midoryu.packet.address import Prefix, is_v4, link_local_of
from midoryu.topology import model
from midoryu.topology.balancer import NO_BALANCING, vip_mac
from midoryu.topology.mtu import vport_mtu
from midoryu.topology.nat import NatRules
from midoryu.topology.routes import RouteTable, connected
from midoryu.topology.segment import segments_of
from midoryu.topology.service_view import ServiceView

if TYPE_CHECKING:
    from midoryu.topology.snapshot import Topology

# An IPv4 /30; a /31 has no broadcast address (RFC 3021).
_LAST_WITH_BROADCAST: Final = 126


class NetworkView:
    """A network with its vports and the addresses that are known from the topology."""

    __slots__ = (
        "balancing",
        "exterior",
        "interior",
        "mac_by_ip",
        "row",
        "segments",
        "services",
        "subnets",
        "vport_by_mac",
    )

    def __init__(self, row: model.Network, topology: Topology) -> None:
        self.row = row
        vports = tuple(topology.vports_of(row.key))
        self.exterior = tuple(vport for vport in vports if not vport.peer)
        self.interior = tuple(vport for vport in vports if vport.peer)
        self.vport_by_mac: dict[int, int] = {}
        """Where the topology says that a MAC address is."""
        self.mac_by_ip: dict[int, int] = {}
        """What ARP and ND can be answered from."""
        for vport in self.exterior:
            self._add(vport, vport.key)
        for vport in self.interior:
            peer = topology.vport(vport.peer)
            if peer is not None:
                self._add_router(peer, vport.key, topology)
        self.segments = segments_of(topology, self.exterior)
        """Vport -> all ways to the outside segment that it leads to, where several."""
        self.services = self._services(topology)
        """What it answers itself; None where it answers nothing but ARP and ND."""
        self.subnets = self._subnets(topology)
        """What its routers say that is on the link."""
        balancing = topology.balancers.balancing(
            row.key, holds=self.may_hold, mac=vip_mac(row.key)
        )
        self.balancing = None if balancing is NO_BALANCING else balancing
        """VIPs, and members on the network; None where there are none."""
        for address in balancing.vips:
            self.mac_by_ip[address] = balancing.mac

    def _subnets(self, topology: Topology) -> tuple[Prefix, ...]:
        """List the subnets of the routers around."""
        peers = (topology.vport(vport.peer) for vport in self.interior)
        return tuple({s for peer in peers if peer is not None for s in subnets(peer)})

    def may_hold(self, addresses: set[int]) -> bool:
        """Tell whether any of some addresses could be on the network."""
        return not addresses.isdisjoint(self.mac_by_ip) or any(
            subnet.contains(address) for subnet in self.subnets for address in addresses
        )

    def _services(self, topology: Topology) -> ServiceView | None:
        rows = tuple(topology.rows_of(model.Subnet, self.row.key))
        if not rows and not any(vport.metadata for vport in self.exterior):
            return None
        services = ServiceView(self.row, topology, rows, self.exterior, self.mac_by_ip)
        for address, mac in services.own_macs.items():
            self.mac_by_ip.setdefault(address, mac)
        return services

    def _add(self, vport: model.Vport, at: int) -> None:
        if not vport.mac:
            return
        self.vport_by_mac[vport.mac] = at
        for address in vport.addresses:
            self.mac_by_ip[address.value] = vport.mac

    def _add_router(self, peer: model.Vport, at: int, topology: Topology) -> None:
        """Add a router's end of a link; one that is down answers for nothing."""
        router = topology.router(peer.device)
        if not peer.up or (router is not None and not router.row.up):
            if peer.mac:
                self.vport_by_mac[peer.mac] = at
            return
        self._add(peer, at)
        if router is None:
            return
        self.mac_by_ip[link_local_of(peer.mac)] = peer.mac
        for address in router.nat.addresses:
            if any(subnet.contains(address) for subnet in subnets(peer)):
                self.mac_by_ip.setdefault(address, peer.mac)


class RouterView:
    """A router with its vports, routes and NAT rules."""

    __slots__ = (
        "assumed_mtu",
        "broadcasts",
        "clamps",
        "is_narrow",
        "local",
        "mtus",
        "nat",
        "routes",
        "row",
        "vports",
    )

    def __init__(self, row: model.Router, topology: Topology) -> None:
        self.row = row
        self.vports = {vport.key: vport for vport in topology.vports_of(row.key)}
        self.assumed_mtu = topology.assumed_mtu
        """What may come in by any link, bytes; 0 where links keep to their MTU."""
        self.mtus = {
            key: vport_mtu(topology, vport) for key, vport in self.vports.items()
        }
        """Vport key -> MTU of its link, bytes."""
        smallest = min(self.mtus.values(), default=self.assumed_mtu)
        largest = max(self.mtus.values(), default=smallest)
        self.is_narrow = smallest < max(largest, self.assumed_mtu)
        """A packet that came by one link may be too large for another."""
        self.clamps = any(vport.mss_clamp for vport in self.vports.values())
        """A vport lowers the MSS option of TCP."""
        self.broadcasts: set[int] = set()
        """Broadcast addresses of its subnets."""
        self.local: dict[int, int] = {}
        """Own address -> vport key (link-local addresses are not in here)."""
        routes = [
            route if route.vport else replace(route, vport=self._towards(route.gateway))
            for route in topology.rows_of(model.Route, row.key)
        ]
        for vport in self.vports.values():
            for address in vport.addresses:
                self.local[address.value] = vport.key
                if is_v4(address.value) and address.length <= _LAST_WITH_BROADCAST:
                    self.broadcasts.add(address.value | ~address.mask & 0xFFFF_FFFF)
                routes.append(connected(row.key, vport.key, address))
        self.routes = RouteTable(routes)
        self.nat = NatRules(
            topology.rows_of(model.Masquerade, row.key),
            topology.rows_of(model.Dnat, row.key),
            topology.rows_of(model.FloatingIp, row.key),
            topology.balancers.balancing(row.key),
        )

    def _towards(self, address: int) -> int:
        # The vport whose subnet holds a next hop, 0 for none.
        for vport in self.vports.values():
            if any(subnet.contains(address) for subnet in subnets(vport)):
                return vport.key
        return 0


def subnets(vport: model.Vport) -> Iterator[Prefix]:
    """Yield the subnets of a vport's addresses, host bits cleared."""
    for address in vport.addresses:
        yield Prefix(address.value & address.mask, address.length)
