# SPDX-License-Identifier: Apache-2.0
"""Devices as the simulation sees them: a network or router with all that belongs to it.

`snapshot` makes views of its rows at first use and drops them when a row changes;
`routes` and `nat` are a router's compiled parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from midoryu.packet.address import Prefix, link_local_of
from midoryu.topology import model
from midoryu.topology.nat import NatRules
from midoryu.topology.routes import RouteTable, connected
from midoryu.topology.service_view import ServiceView

if TYPE_CHECKING:
    from midoryu.topology.snapshot import Topology


class NetworkView:
    """A network with its vports and the addresses that are known from the topology."""

    __slots__ = (
        "exterior",
        "interior",
        "mac_by_ip",
        "row",
        "services",
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
                self._add(peer, vport.key)
                self._add_nat_addresses(peer, topology)
        self.services = self._services(topology)
        """What it answers itself; None where it answers nothing but ARP and ND."""

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

    def _add_nat_addresses(self, peer: model.Vport, topology: Topology) -> None:
        router = topology.router(peer.device)
        if router is None:
            return
        self.mac_by_ip[link_local_of(peer.mac)] = peer.mac
        for address in router.nat.addresses:
            if any(subnet.contains(address) for subnet in subnets(peer)):
                self.mac_by_ip.setdefault(address, peer.mac)


class RouterView:
    """A router with its vports, routes and NAT rules."""

    __slots__ = ("local", "nat", "routes", "row", "vports")

    def __init__(self, row: model.Router, topology: Topology) -> None:
        self.row = row
        self.vports = {vport.key: vport for vport in topology.vports_of(row.key)}
        self.local: dict[int, int] = {}
        """Own address -> vport key (link-local addresses are not in here)."""
        routes = [
            route if route.vport else replace(route, vport=self._towards(route.gateway))
            for route in topology.rows_of(model.Route, row.key)
        ]
        for vport in self.vports.values():
            for address in vport.addresses:
                self.local[address.value] = vport.key
                routes.append(connected(row.key, vport.key, address))
        self.routes = RouteTable(routes)
        self.nat = NatRules(
            topology.rows_of(model.Masquerade, row.key),
            topology.rows_of(model.Dnat, row.key),
            topology.rows_of(model.FloatingIp, row.key),
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
