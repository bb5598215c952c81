# SPDX-License-Identifier: Apache-2.0
"""What a network itself answers: DHCP, router advertisements, DNS, metadata.

Part of `view.NetworkView`, None for a network that has nothing of this; the simulation
asks `wants` first, so other packets cost one look into a set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple, Union

from midoryu.packet import dhcp6, router_advert
from midoryu.packet.address import V4_BROADCAST, is_v4, parse_ip
from midoryu.topology import model
from midoryu.topology.mtu import network_mtu
from midoryu.topology.service import RaMode, Subnet

if TYPE_CHECKING:
    from midoryu.topology.snapshot import Topology

METADATA_V4: Final = parse_ip("169.254.169.254")
METADATA_V6: Final = parse_ip("fe80::a9fe:a9fe")
METADATA_ADDRESSES: Final = frozenset((METADATA_V4, METADATA_V6))
_SERVICE_MAC: Final = 0x02_6D_73 << 24


class Offer(NamedTuple):
    """An address that the topology gives a vport."""

    subnet: Subnet
    address: int
    """128-bit."""


class ServiceView:
    """The services of one network, compiled of its subnets and vports."""

    __slots__ = (
        "_names",
        "_vports",
        "addresses",
        "dhcp4",
        "dhcp6",
        "info6",
        "mac",
        "metadata",
        "mtu",
        "own_macs",
        "resolvers",
        "routers",
    )

    def __init__(
        self,
        row: model.Network,
        topology: Topology,
        subnets: Iterable[Subnet],
        vports: tuple[model.Vport, ...],
        mac_by_ip: dict[int, int],
    ) -> None:
        subnets = sorted(subnets, key=lambda subnet: (subnet.prefix, subnet.key))
        self._vports = vports
        self._names: Union[Names, None] = None
        self.mac = _SERVICE_MAC | row.key
        """MAC address of services that nobody else's address stands for."""
        self.mtu = network_mtu(topology, row.key)
        self.dhcp4 = tuple(s for s in subnets if s.is_v4 and s.dhcp)
        self.dhcp6 = tuple(s for s in subnets if not s.is_v4 and s.answers_dhcp)
        """Subnets with addresses by DHCPv6."""
        self.info6 = tuple(
            s
            for s in subnets
            if not s.is_v4
            and (s.answers_dhcp or s.advertising.mode is RaMode.STATELESS)
        )
        """Subnets with anything by DHCPv6."""
        self.resolvers = {s.resolver: s for s in subnets if s.resolver}
        self.own_macs: dict[int, int] = {}
        """Addresses that only services have -> MAC address: for ARP and ND."""
        for address in self._own_addresses(subnets):
            self.own_macs[address] = mac_by_ip.get(address, self.mac)
        self.routers = _by_router(subnets, mac_by_ip, self.mac)
        """Source MAC of router advertisements -> subnets that they are about."""
        self.metadata = next((v for v in vports if v.metadata and not v.peer), None)
        """Vport of the metadata proxy; None for none."""
        if self.metadata is not None:
            for address in METADATA_ADDRESSES:
                self.own_macs[address] = self.metadata.mac
        self.addresses = frozenset(self._listened())
        """Destination addresses that may concern a service."""

    def _own_addresses(self, subnets: Iterable[Subnet]) -> Iterator[int]:
        for subnet in subnets:
            if subnet.dhcp and subnet.is_v4 and server_of(subnet):
                yield server_of(subnet)
            if subnet.resolver:
                yield subnet.resolver

    def _listened(self) -> Iterator[int]:
        yield from self.own_macs
        if self.dhcp4:
            yield V4_BROADCAST
        if self.info6:
            yield dhcp6.ALL_SERVERS
        if self.routers:
            yield router_advert.ALL_ROUTERS

    def offers(
        self, vport: model.Vport, subnets: Iterable[Subnet]
    ) -> tuple[Offer, ...]:
        """List the addresses that a vport is given in some subnets."""
        return tuple(
            Offer(subnet, address.value)
            for subnet in subnets
            for address in vport.addresses
            if subnet.prefix.contains(address.value)
        )

    def names(self) -> Names:
        """Return the names of the network's hosts, made at first use."""
        if self._names is None:
            # Every domain of the network holds every host, whatever its subnets.
            subnets = {id(s): s for s in self.resolvers.values()}.values()
            self._names = Names(self._vports, subnets)
        return self._names


class Names:
    """Hosts' names and addresses, both ways."""

    __slots__ = ("addresses", "by_address", "domains")

    def __init__(
        self, vports: Iterable[model.Vport], resolving: Iterable[Subnet]
    ) -> None:
        self.domains = frozenset(s.domain.lower() for s in resolving if s.domain)
        self.addresses: dict[str, list[int]] = {}
        """Lower-case name, with and without domain -> addresses."""
        self.by_address: dict[int, str] = {}
        for vport in vports:
            if vport.peer or not vport.addresses or vport.metadata:
                continue
            name = (vport.hostname or vport.name).lower()
            for full in (name, *(f"{name}.{domain}" for domain in self.domains)):
                known = self.addresses.setdefault(full, [])
                known.extend(address.value for address in vport.addresses)
            domain = min(self.domains, default="")
            for address in vport.addresses:
                full = f"{name}.{domain}" if domain else name
                self.by_address.setdefault(address.value, full)

    def is_ours(self, name: str) -> bool:
        """Tell whether nobody else could know a name."""
        return any(name == d or name.endswith(f".{d}") for d in self.domains)


def server_of(subnet: Subnet) -> int:
    """Return the address that a subnet's DHCP server identifies itself by."""
    return subnet.server or subnet.gateway


def _by_router(
    subnets: Iterable[Subnet], mac_by_ip: dict[int, int], own_mac: int
) -> dict[int, list[Subnet]]:
    """Group advertised subnets by who speaks for them: the gateway, else nobody's MAC.

    A gateway that is nowhere in the topology cannot be spoken for: its own link-local
    address is not known.
    """
    found: dict[int, list[Subnet]] = {}
    for subnet in subnets:
        if subnet.is_v4 or subnet.advertising.mode is RaMode.NONE:
            continue
        mac = mac_by_ip.get(subnet.gateway, own_mac) if subnet.gateway else own_mac
        found.setdefault(mac, []).append(subnet)
    return found


def family_matches(addresses: Iterable[int], *, v4: bool) -> tuple[int, ...]:
    """Pick the addresses of one family."""
    return tuple(address for address in addresses if is_v4(address) == v4)
