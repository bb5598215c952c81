# SPDX-License-Identifier: Apache-2.0
"""ARP and neighbour discovery: what devices answer, and what routers hear.

`network` answers for addresses that the topology knows; `router` answers for its own,
and asks for next hops.
"""

from __future__ import annotations

from typing import Final, Union

from midoryu.packet import build, field, protocol
from midoryu.packet.address import is_link_local, is_v4, link_local_of
from midoryu.packet.packet import Packet
from midoryu.simulation.outcome import NeighborSeen
from midoryu.simulation.walk import Walk
from midoryu.topology.model import Vport
from midoryu.topology.snapshot import RouterView, subnets
from midoryu.topology.tag import device_tag, neighbor_tag, vport_tag

# What tells one question from another, in ARP and in neighbour discovery.
READ_QUESTION: Final = (
    field.ETH_TYPE
    | field.IP_PROTO
    | field.IP_SRC
    | field.IP_DST
    | field.L4_SRC
    | field.ND_TARGET
)


def asked_address(packet: Packet) -> int:
    """Return the address that an ARP request or neighbour solicitation asks for.

    Returns:
        The 128-bit address; 0 for anything else, for gratuitous ARP and for duplicate
        address detection (nobody else may answer those).
    """
    headers = packet.headers
    if packet.eth_type == protocol.ETH_ARP:
        asks = packet.ip_proto == protocol.ARP_REQUEST
        return headers.ip_dst if asks and headers.ip_src != headers.ip_dst else 0
    if (
        packet.ip_proto == protocol.ICMPV6
        and headers.l4_src == protocol.ND_SOLICITATION
    ):
        return packet.nd_target if headers.ip_src else 0
    return 0


def answer(walk: Walk, vport: int, mac: int, *, is_router: bool) -> None:
    """Emit the answer to a request or solicitation out of a vport."""
    packet = walk.packet
    walk.fields |= field.PAYLOAD
    if packet.eth_type == protocol.ETH_ARP:
        walk.emit(vport, build.arp_reply(packet, mac))
        return
    walk.emit(
        vport,
        build.neighbor_advertisement(
            source_mac=mac,
            source_ip=packet.nd_target,
            target_ip=packet.nd_target,
            destination_mac=packet.headers.eth_src,
            destination_ip=packet.headers.ip_src,
            router=is_router,
            solicited=True,
        ),
    )


def claimed(packet: Packet) -> Union[tuple[int, int], None]:
    """Return the (address, MAC) that ARP or ND says about its sender or target.

    The MAC is 0 where neighbour discovery does not say one.
    """
    headers = packet.headers
    if packet.eth_type == protocol.ETH_ARP:
        return (headers.ip_src, packet.arp_sha) if headers.ip_src & 0xFFFFFFFF else None
    if not packet.nd_target:
        return None
    if headers.l4_src == protocol.ND_ADVERTISEMENT:
        return packet.nd_target, packet.nd_mac
    return (headers.ip_src, packet.nd_mac) if headers.ip_src else None


def hear(walk: Walk, router: RouterView, vport: Vport) -> None:
    """Let a router learn from ARP or ND that reaches one of its vports.

    Only addresses on the vport's own subnets are believed, and none of the router's.
    """
    walk.fields |= READ_QUESTION
    walk.tags.update((device_tag(router.row.key), vport_tag(vport.key)))
    claim = claimed(walk.packet)
    if claim is None:
        return
    address, mac = claim
    on_link = is_link_local(address) or any(s.contains(address) for s in subnets(vport))
    if not on_link or address in router.local:
        return
    walk.fields |= field.PAYLOAD
    if mac in (0, vport.mac):
        return
    key = router.row.key
    walk.tags.add(neighbor_tag(key, address))
    if walk.world.topology.neighbor_mac(vport, address) != mac:
        walk.learned.append(NeighborSeen(key, address, mac))


def request(vport: Vport, address: int) -> bytes:
    """Build the ARP request or neighbour solicitation for a router's next hop."""
    if is_v4(address):
        source = source_address(vport, address)
        return build.arp_request(
            sender_mac=vport.mac, sender_ip=source, target_ip=address
        )
    return build.neighbor_solicitation(
        sender_mac=vport.mac,
        sender_ip=source_address(vport, address),
        target_ip=address,
    )


def source_address(vport: Vport, towards: int) -> int:
    """Choose a router vport's address to speak with.

    The one on the same subnet, else any of the family; for IPv6 the link-local address
    at last, and for IPv4 0.0.0.0 (a probe, RFC 5227) where the vport has none.
    """
    same_family = [a for a in vport.addresses if is_v4(a.value) == is_v4(towards)]
    for address in same_family:
        if (address.value ^ towards) & address.mask == 0:
            return address.value
    if same_family:
        return same_family[0].value
    return 0xFFFF_0000_0000 if is_v4(towards) else link_local_of(vport.mac)
