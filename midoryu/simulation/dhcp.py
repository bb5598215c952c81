# SPDX-License-Identifier: Apache-2.0
"""The DHCPv4 server of a network: addresses come from the vports' own rows.

`services` hands it a client's message. Nothing is leased or remembered: a vport's
address is its own for good, so every host gives the same answer.

Source: RFC 2131; RFC 2132; RFC 3442.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Union

from midoryu.packet import build, dhcp4
from midoryu.packet.address import (
    MAC_BROADCAST,
    V4_BROADCAST,
    V4_MAPPED,
    format_ip,
)
from midoryu.packet.dhcp4 import Message
from midoryu.packet.name import encode_names
from midoryu.simulation.outcome import Consumed, Outcome, Reason
from midoryu.simulation.walk import Walk
from midoryu.topology.model import Vport
from midoryu.topology.service import Subnet
from midoryu.topology.service_view import (
    METADATA_V4,
    Offer,
    ServiceView,
    family_matches,
    server_of,
)

_LOW_32: Final = 0xFFFF_FFFF
_UDP_HEADERS: Final = 28
# The address of a TFTP server (RFC 5859): firmware looks for it in `siaddr` too.
_TFTP_ADDRESS: Final = 150


def answer(
    walk: Walk, services: ServiceView, vport: Vport, request: Message
) -> Union[Outcome, None]:
    """Answer a client; None for one that the topology gives no address."""
    offers = services.offers(vport, services.dhcp4)
    if not offers or request.relay or request.op != dhcp4.BOOT_REQUEST:
        return None
    if vport.mac and request.mac != vport.mac:
        return None
    offer = _choose(offers, request)
    told = request.number(dhcp4.SERVER_IDENTIFIER, 4)
    if told and told != server_of(offer.subnet) & _LOW_32:
        # It speaks to another server; maybe that is a VM of the same network.
        return None
    kind = _reply_type(request, offer)
    if kind:
        _send(walk, services, vport, request, offer, kind)
    if walk.steps is not None:
        walk.note(walk.world.topology.vport_name(vport.key), "dhcp", str(request.type))
    return Consumed(Reason.ANSWERED) if kind is not None else None


def _choose(offers: tuple[Offer, ...], request: Message) -> Offer:
    """Pick the address that the client has or wants, else the first."""
    wanted = request.client or request.number(dhcp4.REQUESTED_ADDRESS, 4)
    for offer in offers:
        if offer.address & _LOW_32 == wanted:
            return offer
    return offers[0]


def _reply_type(request: Message, offer: Offer) -> Union[int, None]:
    """Return the type of the answer, 0 for silence, None for what is no request."""
    if request.type == dhcp4.DISCOVER:
        return dhcp4.OFFER
    if request.type == dhcp4.INFORM:
        return dhcp4.ACK
    if request.type in (dhcp4.DECLINE, dhcp4.RELEASE):
        # The address stays the vport's; a decline tells of somebody else's mistake.
        return 0
    if request.type != dhcp4.REQUEST:
        return None
    # RFC 2131, section 4.3.2: selecting and rebooting clients name the address in an
    # option, renewing and rebinding ones have it.
    wanted = request.client or request.number(dhcp4.REQUESTED_ADDRESS, 4)
    return dhcp4.ACK if wanted == offer.address & _LOW_32 else dhcp4.NAK


def _send(
    walk: Walk,
    services: ServiceView,
    vport: Vport,
    request: Message,
    offer: Offer,
    kind: int,
) -> None:
    server = server_of(offer.subnet)
    reply = _reply(services, vport, request, offer, kind)
    mac_dst, ip_dst = _destination(request, offer, kind)
    walk.emit(
        vport.key,
        build.udp_frame(
            mac_src=services.own_macs.get(server, services.mac),
            mac_dst=mac_dst,
            ip_src=server,
            ip_dst=ip_dst,
            port_src=dhcp4.SERVER_PORT,
            port_dst=dhcp4.CLIENT_PORT,
            payload=dhcp4.encode(reply, _room(request, services)),
        ),
    )


def _destination(request: Message, offer: Offer, kind: int) -> tuple[int, int]:
    """Return MAC and IP address to answer to (RFC 2131, section 4.1)."""
    if kind == dhcp4.NAK:
        return MAC_BROADCAST, V4_BROADCAST
    if request.client:
        return request.mac, V4_MAPPED | request.client
    if request.flags & dhcp4.BROADCAST_FLAG:
        return MAC_BROADCAST, V4_BROADCAST
    return request.mac, offer.address


def _room(request: Message, services: ServiceView) -> int:
    """Return how long a message may be: what the client takes and the link carries."""
    takes = request.number(dhcp4.MAX_SIZE, 2) - _UDP_HEADERS
    return max(dhcp4.DEFAULT_MAX_BYTES, min(takes, services.mtu - _UDP_HEADERS))


def _reply(
    services: ServiceView, vport: Vport, request: Message, offer: Offer, kind: int
) -> Message:
    subnet = offer.subnet
    server = server_of(subnet) & _LOW_32
    reply = Message(
        op=dhcp4.BOOT_REPLY,
        xid=request.xid,
        mac=request.mac,
        flags=request.flags,
        relay=request.relay,
    )
    reply.options = {
        dhcp4.MESSAGE_TYPE: bytes((kind,)),
        dhcp4.SERVER_IDENTIFIER: server.to_bytes(4, "big"),
    }
    identifier = request.options.get(dhcp4.CLIENT_IDENTIFIER)
    if identifier is not None:
        reply.options[dhcp4.CLIENT_IDENTIFIER] = identifier  # RFC 6842
    if kind == dhcp4.NAK:
        reply.flags |= dhcp4.BROADCAST_FLAG
        return reply
    reply.client = request.client
    if request.type != dhcp4.INFORM:
        reply.yours = offer.address & _LOW_32
        reply.options.update(_times(subnet.lease_s))
    known = dict(_options(services, vport, subnet))
    known.update(subnet.options)
    known.update(vport.dhcp_options)
    reply.boot_file = known.get(dhcp4.BOOT_FILE, b"")
    reply.next_server = int.from_bytes(known.get(_TFTP_ADDRESS, b"")[:4], "big")
    # What the client asks for goes first: the rest may not fit.
    for code in request.options.get(dhcp4.PARAMETER_LIST, b""):
        if code in known:
            reply.options[code] = known[code]
    for code, data in known.items():
        reply.options.setdefault(code, data)
    return reply


def _times(lease_s: int) -> dict[int, bytes]:
    """Return the lease's options (RFC 2131, section 4.4.5, has T1 and T2)."""
    return {
        dhcp4.LEASE_TIME: lease_s.to_bytes(4, "big"),
        dhcp4.RENEWAL_TIME: (lease_s // 2).to_bytes(4, "big"),
        dhcp4.REBINDING_TIME: (lease_s * 7 // 8).to_bytes(4, "big"),
    }


def _options(
    services: ServiceView, vport: Vport, subnet: Subnet
) -> Iterator[tuple[int, bytes]]:
    """Yield what a subnet says, the most important first."""
    mask = subnet.prefix.mask & _LOW_32
    yield dhcp4.SUBNET_MASK, mask.to_bytes(4, "big")
    routes = dict(_routes(services, subnet))
    if subnet.gateway:
        yield dhcp4.ROUTER, dhcp4.encode_addresses((subnet.gateway,))
        if routes:
            # RFC 3442: who takes these ignores the router option.
            routes[V4_MAPPED, 0] = subnet.gateway
    if routes:
        yield dhcp4.CLASSLESS_ROUTES, dhcp4.encode_routes(routes)
    servers = family_matches(subnet.dns_servers, v4=True)
    if servers:
        yield dhcp4.DNS_SERVERS, dhcp4.encode_addresses(servers)
    if subnet.domain:
        yield dhcp4.DOMAIN_NAME, subnet.domain.encode()
    if subnet.search:
        yield dhcp4.DOMAIN_SEARCH, encode_names(subnet.search)
    yield dhcp4.INTERFACE_MTU, (subnet.mtu or services.mtu).to_bytes(2, "big")
    yield dhcp4.HOST_NAME, (vport.hostname or vport.name).encode()
    ntp = family_matches(subnet.ntp, v4=True)
    if ntp:
        yield dhcp4.NTP_SERVERS, dhcp4.encode_addresses(ntp)
    yield dhcp4.BROADCAST_ADDRESS, _broadcast(subnet)
    if subnet.boot_file:
        yield dhcp4.BOOT_FILE, subnet.boot_file.encode()
    if subnet.boot_server:
        yield dhcp4.TFTP_SERVER_NAME, format_ip(subnet.boot_server).encode()
        yield _TFTP_ADDRESS, dhcp4.encode_addresses((subnet.boot_server,))


def _broadcast(subnet: Subnet) -> bytes:
    host_bits = (1 << 128 - subnet.prefix.length) - 1
    return ((subnet.prefix.value | host_bits) & _LOW_32).to_bytes(4, "big")


def _routes(
    services: ServiceView, subnet: Subnet
) -> Iterator[tuple[tuple[int, int], int]]:
    for destination, via in subnet.routes:
        yield (destination.value, destination.length - 96), via
    proxy = services.metadata
    if proxy is None or subnet.gateway:
        # The way to the gateway passes the network, which takes it off there.
        return
    inside = [a.value for a in proxy.addresses if subnet.prefix.contains(a.value)]
    yield (METADATA_V4, 32), min(inside, default=V4_MAPPED)
