# SPDX-License-Identifier: Apache-2.0
"""Port security: which source addresses a vport lets in.

`simulator` asks it before the vport's ingress chain.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Union

from midoryu.packet import dhcp4, dhcp6, field, protocol
from midoryu.packet.address import Prefix, link_local_of
from midoryu.simulation.walk import Walk
from midoryu.simulation.world import (
    READ_IP_DST,
    READ_IP_SRC,
    READ_L4_DST,
    READ_L4_SRC,
    READ_PROTO,
)
from midoryu.topology.model import Vport

# Port that DHCP servers speak from -> port that clients listen at.
CLIENT_PORTS: Final = {
    dhcp4.SERVER_PORT: dhcp4.CLIENT_PORT,
    dhcp6.SERVER_PORT: dhcp6.CLIENT_PORT,
}
# Sources of a client that has no address yet (RFC 2131, section 4.1; RFC 4862, 5.4.2).
_NOBODY_4: Final = 0xFFFF_0000_0000
_NOBODY_6: Final = 0
_BROADCAST_4: Final = 0xFFFF_FFFF_FFFF
_IGMP: Final = 2


def is_allowed(walk: Walk, vport: Vport) -> bool:
    """Tell whether a packet's source addresses may enter at a vport.

    ARP and neighbour discovery are held to the addresses that they claim.
    """
    if not vport.port_security:
        return True
    packet, headers = walk.packet, walk.headers
    walk.fields |= field.ETH_SRC
    pairs = tuple(_pairs(vport, headers.eth_src))
    if not pairs:
        return False
    if packet.eth_type == protocol.ETH_ARP:
        walk.fields |= field.PAYLOAD
        # A probe asks (RFC 5227, section 2.1.1); nobody answers from nowhere.
        probes = headers.ip_src == _NOBODY_4 and packet.ip_proto == protocol.ARP_REQUEST
        known = probes or _holds(pairs, headers.ip_src)
        return packet.arp_sha == headers.eth_src and known
    if not walk.is_ip:
        return False
    walk.fields |= READ_IP_SRC
    known = _holds(pairs, headers.ip_src)
    if not known and headers.ip_src in (_NOBODY_4, _NOBODY_6):
        known = _may_have_no_address(walk)
    return known and not _is_rogue(walk) and _discovery_holds(walk, pairs)


def _may_have_no_address(walk: Walk) -> bool:
    """Hold a client without an address to what it needs to get one.

    DHCP, group membership, and for IPv6 also the search for duplicates and routers.

    Source: RFC 2131, section 4.1; RFC 4862, section 5.4.2; RFC 3376, section 4.2.13.
    """
    packet, headers = walk.packet, walk.headers
    walk.fields |= READ_PROTO
    if headers.ip_src == _NOBODY_6:
        return packet.ip_proto == protocol.ICMPV6
    if packet.ip_proto == _IGMP:
        return True
    walk.fields |= READ_IP_DST
    if packet.ip_proto != protocol.UDP or headers.ip_dst != _BROADCAST_4:
        return False
    walk.fields |= READ_L4_SRC | READ_L4_DST
    ports = (dhcp4.CLIENT_PORT, dhcp4.SERVER_PORT)
    return (headers.l4_src, headers.l4_dst) == ports


def _is_rogue(walk: Walk) -> bool:
    """Tell whether a machine poses as a DHCP server or a router.

    What servers send comes from their own port and goes to the clients', so other
    traffic from that port passes.
    """
    packet = walk.packet
    walk.fields |= READ_PROTO
    if packet.ip_proto == protocol.UDP:
        walk.fields |= field.IP_FRAG
        if packet.ip_frag == protocol.FRAG_LATER:
            return False
        walk.fields |= field.L4_SRC
        client_port = CLIENT_PORTS.get(packet.headers.l4_src)
        if client_port is None:
            return False
        walk.fields |= field.L4_DST
        return packet.headers.l4_dst == client_port
    if packet.eth_type != protocol.ETH_IPV6 or packet.ip_proto != protocol.ICMPV6:
        return False
    walk.fields |= field.L4_SRC
    return packet.headers.l4_src == protocol.ND_ROUTER_ADVERTISEMENT


def _discovery_holds(walk: Walk, pairs: tuple[Prefix, ...]) -> bool:
    """Hold neighbour discovery to the addresses that it claims for its sender."""
    packet = walk.packet
    if not walk.is_neighbor_talk or not packet.nd_target:
        return True
    walk.fields |= field.PAYLOAD
    if packet.nd_mac not in (0, packet.headers.eth_src):
        return False
    asks = packet.headers.l4_src == protocol.ND_SOLICITATION
    return asks or _holds(pairs, packet.nd_target)


def _pairs(vport: Vport, mac: int) -> Iterator[Prefix]:
    if mac == vport.mac or not vport.mac:
        for address in vport.addresses:
            yield Prefix(address.value, 128)
        yield Prefix(link_local_of(mac), 128)
    for allowed_mac, prefix in vport.allowed:
        if mac == (allowed_mac or vport.mac):
            yield prefix


def allowed_sources(vport: Vport) -> Union[frozenset[tuple[int, int]], None]:
    """List every (MAC, IP) address that may be a source at a vport; None for ranges."""
    if not vport.mac or any(prefix.length != 128 for _, prefix in vport.allowed):
        return None
    macs = {vport.mac, *(mac or vport.mac for mac, _ in vport.allowed)}
    return frozenset(
        (mac, address)
        for mac in macs
        for address in (
            *(prefix.value for prefix in _pairs(vport, mac)),
            # A client without an address.
            _NOBODY_4,
            _NOBODY_6,
        )
    )


def _holds(pairs: tuple[Prefix, ...], address: int) -> bool:
    return any(prefix.contains(address) for prefix in pairs)
