# SPDX-License-Identifier: Apache-2.0
"""What a network answers itself: DHCP, router solicitations, DNS, metadata.

`simulator` asks `greet` before a vport's filters (a machine gets its address whatever
they say), `network` asks `serve` behind them. Both return None for what is none of
theirs, and neither is called on a network without services. An answer is made of the
packet's payload, so it never installs a flow.
"""

from __future__ import annotations

from typing import Final, Union

from midoryu.errors import DecodeError
from midoryu.packet import build, dhcp4, dhcp6, dns, field, protocol
from midoryu.packet.codec import decode
from midoryu.packet.packet import Packet
from midoryu.packet.rewrite import rewrite
from midoryu.simulation import advertise, dhcp, dhcp_v6, resolver
from midoryu.simulation.outcome import Consumed, Drop, Outcome, Reason
from midoryu.simulation.walk import Walk
from midoryu.simulation.world import READ_IP_DST, READ_L4_DST, READ_PROTO
from midoryu.topology.model import Vport
from midoryu.topology.service_view import METADATA_ADDRESSES, ServiceView
from midoryu.topology.snapshot import NetworkView
from midoryu.topology.tag import device_tag

_HTTP: Final = 80
_ECHO: Final = (
    (protocol.ICMP, protocol.ICMP_ECHO_REQUEST),
    (protocol.ICMPV6, protocol.ICMPV6_ECHO_REQUEST),
)


def greet(walk: Walk, network: NetworkView, vport: Vport) -> Union[Outcome, None]:
    """Answer DHCP and router solicitations of a machine that begins."""
    packet, services = walk.packet, network.services
    if walk.generated or vport.peer or not walk.is_ip or services is None:
        return None
    if not network.row.up:
        return None
    walk.fields |= READ_IP_DST
    if packet.headers.ip_dst not in services.addresses or packet.vlan:
        return None
    walk.tags.add(device_tag(vport.device))
    # A fragment must not install the flow that a whole request then takes.
    walk.fields |= READ_PROTO | field.IP_FRAG
    if packet.ip_proto == protocol.UDP and not packet.ip_frag:
        walk.fields |= READ_L4_DST
        port = packet.headers.l4_dst
        if port == dhcp4.SERVER_PORT and packet.eth_type == protocol.ETH_IPV4:
            return _dhcp4(walk, services, vport)
        if port == dhcp6.SERVER_PORT and packet.eth_type == protocol.ETH_IPV6:
            return _dhcp6(walk, services, vport)
    elif packet.ip_proto == protocol.ICMPV6 and services.routers:
        return _solicited(walk, services, vport)
    return None


def serve(
    walk: Walk, services: ServiceView, vport: Vport
) -> Union[Outcome, Vport, None]:
    """Answer DNS and pings of the services' addresses; redirect metadata.

    Returns:
        The vport of the metadata proxy for what goes there.
    """
    headers = walk.headers
    if not walk.is_ip:
        return None
    walk.fields |= READ_IP_DST
    proxy = services.metadata
    if (
        proxy is not None
        and vport.key == proxy.key
        and walk.packet.nd_target in METADATA_ADDRESSES
    ):
        # Each host has one with these addresses: they must not find each other.
        return Drop(Reason.LOCAL)
    address = headers.ip_dst
    if address not in services.addresses or walk.packet.vlan:
        return None
    walk.fields |= READ_PROTO | field.IP_FRAG
    if address in METADATA_ADDRESSES and proxy is not None:
        return _metadata(walk, proxy, vport)
    if address in services.resolvers and _is_dns(walk):
        if walk.packet.ip_proto == protocol.TCP:
            return _reset(walk, vport)
        return _resolve(walk, services, vport)
    if headers.eth_dst == services.mac:
        return _to_nobody(walk, services, vport)
    return None


def _dhcp4(walk: Walk, services: ServiceView, vport: Vport) -> Union[Outcome, None]:
    walk.fields |= field.PAYLOAD
    try:
        request = dhcp4.decode(_payload(walk.packet))
    except DecodeError:
        return Drop(Reason.BAD_REQUEST)
    return dhcp.answer(walk, services, vport, request)


def _dhcp6(walk: Walk, services: ServiceView, vport: Vport) -> Union[Outcome, None]:
    walk.fields |= field.PAYLOAD
    try:
        request = dhcp6.decode(_payload(walk.packet))
    except DecodeError:
        return Drop(Reason.BAD_REQUEST)
    return dhcp_v6.answer(walk, services, vport, request)


def _solicited(walk: Walk, services: ServiceView, vport: Vport) -> Union[Outcome, None]:
    """Answer a router solicitation (the codec has checked it), to its sender alone.

    Source: RFC 4861, sections 6.1.1 and 6.2.6.
    """
    headers = walk.packet.headers
    walk.fields |= field.L4_SRC
    if headers.l4_src != protocol.ND_ROUTER_SOLICITATION or vport.peer:
        return None
    walk.fields |= field.PAYLOAD
    for frame in advertise.frames(
        services, mac_dst=headers.eth_src, ip_dst=headers.ip_src
    ):
        walk.emit(vport.key, frame)
    if walk.steps is not None:
        name = walk.world.topology.vport_name(vport.key)
        walk.note(name, "advertise", f"{len(services.routers)} routers")
    return Consumed(Reason.ANSWERED)


def _metadata(walk: Walk, proxy: Vport, vport: Vport) -> Union[Outcome, Vport, None]:
    """Send metadata requests to the proxy of the host where they came in.

    The frame may have been on its way to a router; the proxy sees the sender's address
    and answers from the metadata address itself.
    """
    if walk.is_neighbor_talk:
        return None
    if walk.packet.ip_proto != protocol.TCP:
        return Drop(Reason.NO_ROUTE)
    walk.fields |= READ_L4_DST
    if walk.headers.l4_dst != _HTTP or vport.key == proxy.key or vport.peer:
        return Drop(Reason.NO_ROUTE)
    walk.headers.eth_dst = proxy.mac
    return proxy


def _is_dns(walk: Walk) -> bool:
    packet = walk.packet
    if packet.ip_proto not in (protocol.UDP, protocol.TCP) or packet.ip_frag:
        return False
    walk.fields |= READ_L4_DST
    if walk.headers.l4_dst != dns.PORT:
        return False
    walk.fields |= field.PAYLOAD
    return True


def _resolve(walk: Walk, services: ServiceView, vport: Vport) -> Outcome:
    packet = _here(walk)
    try:
        payload = _payload(packet)
    except DecodeError:
        return Drop(Reason.BAD_REQUEST)
    return resolver.answer(walk, services, vport, packet, payload)


def _here(walk: Walk) -> Packet:
    """Return the packet as it reached this network, maybe by a router."""
    if walk.headers == walk.packet.headers:
        return walk.packet
    return decode(rewrite(walk.packet, walk.headers))


def _to_nobody(walk: Walk, services: ServiceView, vport: Vport) -> Outcome:
    """Take what goes to a service's own MAC address: answer pings, refuse others."""
    packet = _here(walk)
    walk.fields |= field.PAYLOAD
    addresses = {"mac_src": services.mac, "mac_dst": packet.headers.eth_src}
    if (packet.ip_proto, packet.headers.l4_src) in _ECHO and not packet.ip_frag:
        walk.emit(vport.key, build.echo_reply(packet, **addresses))
        return Consumed(Reason.ANSWERED)
    if packet.ip_proto == protocol.TCP:
        return _reset(walk, vport)
    return Drop(Reason.LOCAL)


def _reset(walk: Walk, vport: Vport) -> Outcome:
    """Say politely that nobody listens to TCP."""
    packet = _here(walk)
    walk.fields |= field.PAYLOAD
    if packet.ip_frag or packet.tcp_flags & protocol.TCP_RST:
        return Drop(Reason.LOCAL)
    frame = build.tcp_reset(
        packet, mac_src=packet.headers.eth_dst, mac_dst=packet.headers.eth_src
    )
    walk.emit(vport.key, frame)
    return Consumed(Reason.LOCAL)


def _payload(packet: Packet) -> bytes:
    """Return what a UDP datagram carries.

    Raises:
        DecodeError: its length is wrong.
    """
    length = int.from_bytes(packet.frame[packet.l4 + 4 : packet.l4 + 6], "big")
    if length < 8 or packet.l4 + length > packet.l3 + packet.l3_length:
        raise DecodeError(f"UDP header at byte {packet.l4}: length {length}")
    return packet.frame[packet.l4 + 8 : packet.l4 + length]
