# SPDX-License-Identifier: Apache-2.0
"""Make whole frames: ARP, neighbour discovery, ICMP errors, echo replies, resets.

Beside `rewrite`, which changes a frame that came; what is made here, a virtual device
says itself. Answers carry the VLAN tag of what they answer.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from midoryu.errors import DecodeError
from midoryu.packet.address import (
    MAC_BROADCAST,
    is_group_mac,
    is_multicast_ip,
    is_v4,
    multicast_mac,
    solicited_node,
)
from midoryu.packet.checksum import internet_checksum, transport_checksum
from midoryu.packet.fragment import read_fragment
from midoryu.packet.icmp import ICMP_ERRORS, ICMPV6_REDIRECT
from midoryu.packet.packet import Packet
from midoryu.packet.protocol import (
    ARP_REPLY,
    ARP_REQUEST,
    ETH_ARP,
    ETH_IPV4,
    ETH_IPV6,
    ETH_VLAN,
    FRAG_LATER,
    FRAG_NONE,
    ICMP,
    ICMP_ECHO_REPLY,
    ICMP_ECHO_REQUEST,
    ICMPV6,
    ICMPV6_ECHO_REPLY,
    ICMPV6_ECHO_REQUEST,
    ND_ADVERTISEMENT,
    ND_SOLICITATION,
    SCTP,
    TCP,
    TCP_ACK,
    TCP_FIN,
    TCP_RST,
    TCP_SYN,
    UDP,
)

_ARP: Final = Struct("!HHBBH6sI6sI").pack
_IPV4: Final = Struct("!BBHHHBBHII").pack
_IPV6: Final = Struct("!IHBB16s16s").pack
_ICMP: Final = Struct("!BBHI").pack
_TCP: Final = Struct("!HHIIBBHHH").pack
_UDP: Final = Struct("!HHHH").pack
_WORDS: Final = Struct("!II").unpack_from
_LOW_32: Final = 0xFFFF_FFFF

# RFC 1700's recommended default, what a router or host starts with.
DEFAULT_TTL: Final = 64
# RFC 4861: proof that a neighbour discovery packet crossed no router.
ND_HOP_LIMIT: Final = 255
# RFC 1812, section 4.3.2.3: an ICMP error with its quote fits in this.
ICMP_ERROR_BYTES: Final = 576
# RFC 4443, section 2.4(c): the minimum IPv6 MTU.
ICMPV6_ERROR_BYTES: Final = 1280
# RFC 1812, section 4.3.2.5: errors go with precedence "internetwork control".
ICMP_ERROR_TOS: Final = 0xC0
_TOS_BITS: Final = 0x1E
# RFC 791: don't fragment.
_DONT_FRAGMENT: Final = 0x4000
# RFC 4861, section 4.4: router, solicited, override.
_ROUTER: Final = 0x8000_0000
_SOLICITED: Final = 0x4000_0000
_OVERRIDE: Final = 0x2000_0000
_SOURCE_LINK_LAYER: Final = b"\x01\x01"
_TARGET_LINK_LAYER: Final = b"\x02\x01"
# RFC 4291, section 2.7.1.
ALL_NODES: Final = 0xFF02 << 112 | 1


def arp_request(
    *, sender_mac: int, sender_ip: int, target_ip: int, target_mac: int = 0
) -> bytes:
    """Ask who has an IPv4 address: everybody, or with `target_mac` that one again.

    Source: RFC 826; RFC 1122, section 2.3.2.1 (unicast poll).
    """
    body = _arp_body(ARP_REQUEST, (sender_mac, sender_ip), (target_mac, target_ip))
    return _ethernet(target_mac or MAC_BROADCAST, sender_mac, ETH_ARP) + body


def arp_reply(request: Packet, mac: int) -> bytes:
    """Answer an ARP request: its target address is at `mac`. Source: RFC 826."""
    asked, asker = request.headers.ip_dst, request.headers.ip_src
    body = _arp_body(ARP_REPLY, (mac, asked), (request.arp_sha, asker))
    return _ethernet(request.arp_sha, mac, ETH_ARP, request.vlan) + body


def gratuitous_arp(mac: int, ip: int) -> bytes:
    """Tell everybody that an IPv4 address is at `mac`. Source: RFC 5227, section 3."""
    return arp_request(sender_mac=mac, sender_ip=ip, target_ip=ip)


def neighbor_solicitation(*, sender_mac: int, sender_ip: int, target_ip: int) -> bytes:
    """Ask who has an IPv6 address; `sender_ip` 0 looks for a duplicate.

    Source: RFC 4861, section 4.3; RFC 4862, section 5.4.2.
    """
    ip_dst = solicited_node(target_ip)
    option = _SOURCE_LINK_LAYER + sender_mac.to_bytes(6, "big") if sender_ip else b""
    message = _ICMP(ND_SOLICITATION, 0, 0, 0) + target_ip.to_bytes(16, "big") + option
    ethernet = _ethernet(multicast_mac(ip_dst), sender_mac, ETH_IPV6)
    return ethernet + _icmpv6(sender_ip, ip_dst, message, ttl=ND_HOP_LIMIT)


def neighbor_advertisement(
    *,
    source_mac: int,
    source_ip: int,
    target_ip: int,
    destination_mac: int,
    destination_ip: int,
    router: bool,
    solicited: bool,
) -> bytes:
    """Say that an IPv6 address is at `source_mac`, overriding what was believed.

    Source: RFC 4861, section 4.4.
    """
    flags = _OVERRIDE | (_ROUTER if router else 0) | (_SOLICITED if solicited else 0)
    option = _TARGET_LINK_LAYER + source_mac.to_bytes(6, "big")
    message = _ICMP(ND_ADVERTISEMENT, 0, 0, flags) + target_ip.to_bytes(16, "big")
    packet = _icmpv6(source_ip, destination_ip, message + option, ttl=ND_HOP_LIMIT)
    return _ethernet(destination_mac, source_mac, ETH_IPV6) + packet


def unsolicited_advertisement(mac: int, ip: int) -> bytes:
    """Tell all nodes that a router's IPv6 address is at `mac`.

    Source: RFC 4861, section 7.2.6.
    """
    return neighbor_advertisement(
        source_mac=mac,
        source_ip=ip,
        target_ip=ip,
        destination_mac=multicast_mac(ALL_NODES),
        destination_ip=ALL_NODES,
        router=True,
        solicited=False,
    )


def may_send_error(packet: Packet) -> bool:
    """Tell whether an ICMP error may be sent about a packet.

    Never about an ICMP error, a packet sent to many, a later fragment of IPv4 or a
    source that is no single host; nor about a later fragment of IPv6 that may be one of
    an ICMPv6 error. Two things are left to the caller: a subnet's own broadcast
    address, and that "packet too big" may answer an IPv6 multicast packet.

    Source: RFC 1812, section 4.3.2.7; RFC 4443, section 2.4(e).
    """
    headers = packet.headers
    if packet.eth_type not in (ETH_IPV4, ETH_IPV6):
        return False
    if packet.ip_frag == FRAG_LATER and not _is_plain_later(packet):
        return False
    if is_group_mac(headers.eth_dst) or is_multicast_ip(headers.ip_dst):
        return False
    return not _is_error(packet) and _is_one_host(headers.ip_src)


def _is_plain_later(packet: Packet) -> bool:
    """Tell whether a later fragment is one of IPv6, and of no ICMPv6 message."""
    if packet.eth_type == ETH_IPV4:
        return False
    try:
        return read_fragment(packet).ip_proto in (TCP, UDP, SCTP)
    except DecodeError:
        return False


def _is_error(packet: Packet) -> bool:
    if packet.eth_type == ETH_IPV4:
        return packet.ip_proto == ICMP and packet.headers.l4_src in ICMP_ERRORS
    kind = packet.headers.l4_src
    return packet.ip_proto == ICMPV6 and (kind < 128 or kind == ICMPV6_REDIRECT)


def _is_one_host(ip: int) -> bool:
    """Tell whether a source address defines a single host (RFC 1812, 4.3.2.7)."""
    if not is_v4(ip):
        return ip > 1 and not is_multicast_ip(ip)
    # "This network", loopback, multicast and class E do not.
    return (ip >> 24) & 0xFF not in (0, 127) and ip & _LOW_32 < 0xE000_0000


def icmp_error(
    packet: Packet,
    *,
    mac_src: int,
    mac_dst: int,
    ip_src: int,
    icmp_type: int,
    code: int,
    mtu: int = 0,
) -> bytes:
    """Report an error about a packet to its source, quoting it just as it came.

    `mtu` (bytes) belongs to "fragmentation needed" and "packet too big".

    Source: RFC 792; RFC 1191, section 4; RFC 1812, section 4.3.2; RFC 4443, section 3.
    """
    ip_dst = packet.headers.ip_src
    whole = packet.frame[packet.l3 : packet.l3 + packet.l3_length]
    ethernet = _ethernet(mac_dst, mac_src, packet.eth_type, packet.vlan)
    if packet.eth_type == ETH_IPV6:
        message = _ICMP(icmp_type, code, 0, mtu) + whole[: ICMPV6_ERROR_BYTES - 48]
        return ethernet + _icmpv6(ip_src, ip_dst, message)
    quote = whole[: ICMP_ERROR_BYTES - 28]
    message = _summed(_ICMP(icmp_type, code, 0, min(mtu, 0xFFFF)) + quote)
    # RFC 1812, section 4.3.2.5: network control, with the sender's type of service.
    tos = ICMP_ERROR_TOS | packet.headers.ip_tos & _TOS_BITS
    return ethernet + _ipv4(ip_src, ip_dst, ICMP, message, tos=tos)


def echo_reply(packet: Packet, *, mac_src: int, mac_dst: int) -> bytes:
    """Answer an echo request, from the address it was sent to.

    Raises:
        ValueError: not a whole echo request.

    Source: RFC 792; RFC 1122, section 3.2.2.6; RFC 4443, section 4.2.
    """
    headers, family = packet.headers, packet.eth_type
    kind = (family, packet.ip_proto, headers.l4_src)
    if packet.ip_frag != FRAG_NONE or kind not in (
        (ETH_IPV4, ICMP, ICMP_ECHO_REQUEST),
        (ETH_IPV6, ICMPV6, ICMPV6_ECHO_REQUEST),
    ):
        raise ValueError("the packet is not a whole echo request")
    rest = packet.frame[packet.l4 + 4 : packet.l3 + packet.l3_length]
    ethernet = _ethernet(mac_dst, mac_src, family, packet.vlan)
    if family == ETH_IPV4:
        message = _summed(bytes((ICMP_ECHO_REPLY, 0, 0, 0)) + rest)
        tos = headers.ip_tos
        return ethernet + _ipv4(headers.ip_dst, headers.ip_src, ICMP, message, tos=tos)
    message = bytes((ICMPV6_ECHO_REPLY, 0, 0, 0)) + rest
    return ethernet + _icmpv6(headers.ip_dst, headers.ip_src, message)


def tcp_reset(packet: Packet, *, mac_src: int, mac_dst: int) -> bytes:
    """Refuse a TCP segment as a closed port would.

    Raises:
        ValueError: the segment is itself a reset, or the packet holds no TCP header.

    Source: RFC 9293, section 3.10.7.1.
    """
    if packet.ip_proto != TCP or not packet.l4:
        raise ValueError("the packet holds no TCP header")
    if packet.tcp_flags & TCP_RST:
        raise ValueError("a reset is never answered")
    headers = packet.headers
    sequence, acknowledgment = _WORDS(packet.frame, packet.l4 + 4)
    if packet.tcp_flags & TCP_ACK:
        numbers, flags = (acknowledgment, 0), TCP_RST
    else:
        end = (sequence + _segment_length(packet)) & _LOW_32
        numbers, flags = (0, end), TCP_RST | TCP_ACK
    ports = headers.l4_dst, headers.l4_src
    segment = _TCP(*ports, *numbers, 5 << 4, flags, 0, 0, 0)
    addresses = headers.ip_dst, headers.ip_src
    segment = _with_checksum(segment, 16, transport_checksum(*addresses, TCP, segment))
    ethernet = _ethernet(mac_dst, mac_src, packet.eth_type, packet.vlan)
    if packet.eth_type == ETH_IPV4:
        return ethernet + _ipv4(*addresses, TCP, segment)
    return ethernet + _ipv6(*addresses, TCP, segment)


def _segment_length(packet: Packet) -> int:
    """Return SEG.LEN: payload, plus one for SYN and one for FIN (RFC 9293, 3.3.1)."""
    data = packet.l4 + (packet.frame[packet.l4 + 12] >> 4 << 2)
    payload = max(0, packet.l3 + packet.l3_length - data)
    flags = packet.tcp_flags
    return payload + bool(flags & TCP_SYN) + bool(flags & TCP_FIN)


def udp_frame(
    *,
    mac_src: int,
    mac_dst: int,
    ip_src: int,
    ip_dst: int,
    port_src: int,
    port_dst: int,
    payload: bytes,
    ttl: int = DEFAULT_TTL,
    checksum: bool = True,
) -> bytes:
    """Make a UDP frame; without `checksum` the field says "none" (RFC 768).

    The latter is for IPv4 only (RFC 8200, section 8.1).
    """
    datagram = _UDP(port_src, port_dst, 8 + len(payload), 0) + payload
    if checksum:
        value = transport_checksum(ip_src, ip_dst, UDP, datagram)
        datagram = _with_checksum(datagram, 6, value)
    if is_v4(ip_dst):
        packet = _ipv4(ip_src, ip_dst, UDP, datagram, ttl=ttl)
        return _ethernet(mac_dst, mac_src, ETH_IPV4) + packet
    packet = _ipv6(ip_src, ip_dst, UDP, datagram, ttl=ttl)
    return _ethernet(mac_dst, mac_src, ETH_IPV6) + packet


def icmpv6_frame(
    *, mac_src: int, mac_dst: int, ip_src: int, ip_dst: int, message: bytes, ttl: int
) -> bytes:
    """Make a frame of an ICMPv6 message whose checksum field is zero."""
    packet = _icmpv6(ip_src, ip_dst, message, ttl=ttl)
    return _ethernet(mac_dst, mac_src, ETH_IPV6) + packet


def _ethernet(dst: int, src: int, eth_type: int, vlan: int = 0) -> bytes:
    """Return an Ethernet header, tagged if `vlan` (0x1000 | VID) says so."""
    tag = ETH_VLAN << 16 | vlan & 0xFFF
    middle = tag.to_bytes(4, "big") if vlan else b""
    addresses = dst.to_bytes(6, "big") + src.to_bytes(6, "big")
    return addresses + middle + eth_type.to_bytes(2, "big")


def _arp_body(
    operation: int, sender: tuple[int, int], target: tuple[int, int]
) -> bytes:
    (sender_mac, sender_ip), (target_mac, target_ip) = sender, target
    return _ARP(
        1,
        ETH_IPV4,
        6,
        4,
        operation,
        sender_mac.to_bytes(6, "big"),
        sender_ip & _LOW_32,
        target_mac.to_bytes(6, "big"),
        target_ip & _LOW_32,
    )


def _ipv4(
    src: int, dst: int, proto: int, body: bytes, *, ttl: int = DEFAULT_TTL, tos: int = 0
) -> bytes:
    """Return an unfragmentable IPv4 packet, so its id can be 0 (RFC 6864)."""
    fields = (0x45, tos, 20 + len(body), 0, _DONT_FRAGMENT, ttl, proto)
    addresses = src & _LOW_32, dst & _LOW_32
    checksum = internet_checksum(_IPV4(*fields, 0, *addresses))
    return _IPV4(*fields, checksum, *addresses) + body


def _ipv6(
    src: int, dst: int, proto: int, body: bytes, *, ttl: int = DEFAULT_TTL
) -> bytes:
    addresses = src.to_bytes(16, "big"), dst.to_bytes(16, "big")
    return _IPV6(6 << 28, len(body), proto, ttl, *addresses) + body


def _icmpv6(src: int, dst: int, message: bytes, *, ttl: int = DEFAULT_TTL) -> bytes:
    """Return an IPv6 packet with an ICMPv6 message, its checksum filled in."""
    checksum = transport_checksum(src, dst, ICMPV6, message)
    return _ipv6(src, dst, ICMPV6, _with_checksum(message, 2, checksum), ttl=ttl)


def _summed(message: bytes) -> bytes:
    """Return an ICMP message with its checksum filled in."""
    return _with_checksum(message, 2, internet_checksum(message))


def _with_checksum(data: bytes, at: int, checksum: int) -> bytes:
    return data[:at] + checksum.to_bytes(2, "big") + data[at + 2 :]
