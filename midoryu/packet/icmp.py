# SPDX-License-Identifier: Apache-2.0
"""Decode what only ICMP carries: identifiers, quoted packets, neighbour discovery.

A part of `codec`, which calls it once the IP header is read and the first eight bytes
of the ICMP message are known to be there.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from midoryu.errors import DecodeError
from midoryu.packet.address import V4_MAPPED, is_multicast_ip, is_v4
from midoryu.packet.checksum import ones_sum
from midoryu.packet.packet import Embedded, Packet
from midoryu.packet.protocol import (
    EXTENSIONS,
    FRAG_NONE,
    ICMP,
    ICMPV6,
    ICMPV6_ECHO_REPLY,
    ICMPV6_ECHO_REQUEST,
    IPV6_AUTHENTICATION,
    IPV6_FRAGMENT,
    MAX_EXTENSIONS,
    ND_ADVERTISEMENT,
    ND_ROUTER_SOLICITATION,
    ND_SOLICITATION,
    SCTP,
    TCP,
    UDP,
)

# RFC 792: echo, timestamp and information; RFC 950: address mask.
ICMP_QUERIES: Final = frozenset((0, 8, 13, 14, 15, 16, 17, 18))
# RFC 792: unreachable, source quench, redirect, time exceeded, parameter problem.
ICMP_ERRORS: Final = frozenset((3, 4, 5, 11, 12))
ICMPV6_QUERIES: Final = frozenset((ICMPV6_ECHO_REQUEST, ICMPV6_ECHO_REPLY))
# RFC 4443, section 2.1: types below 128 are errors; these are the defined ones.
ICMPV6_ERRORS: Final = frozenset((1, 2, 3, 4))
# RFC 4861, section 4.5.
ICMPV6_REDIRECT: Final = 137

# RFC 4861, section 4.6.1.
_SOURCE_LINK_LAYER: Final = 1
_TARGET_LINK_LAYER: Final = 2
# RFC 4861, section 4.4: the solicited flag in the first flag octet.
_SOLICITED: Final = 0x40

_QUERY: Final = Struct("!BBHH").unpack_from
_PORTS: Final = Struct("!HH").unpack_from
_IPV6: Final = Struct("!IHBB16s16s").unpack_from
_IPV4: Final = Struct("!B5xHxB2xII").unpack_from


def decode_icmp(packet: Packet) -> None:
    """Read type, code and identifier (RFC 792) and the quote of an error."""
    headers = packet.headers
    kind, code, _, identifier = _QUERY(packet.frame, packet.l4)
    headers.l4_src, headers.l4_dst = kind, code
    if kind in ICMP_QUERIES:
        headers.icmp_id = identifier
    elif kind in ICMP_ERRORS:
        packet.embedded = _quoted_v4(packet)


def decode_icmpv6(packet: Packet) -> None:
    """Read type, code and identifier (RFC 4443), a quote, neighbour discovery.

    Raises:
        DecodeError: a neighbour discovery message that must be discarded.
    """
    headers = packet.headers
    kind, code, _, identifier = _QUERY(packet.frame, packet.l4)
    headers.l4_src, headers.l4_dst = kind, code
    if kind in ICMPV6_QUERIES:
        headers.icmp_id = identifier
    elif kind in ICMPV6_ERRORS:
        packet.embedded = _quoted_v6(packet)
    elif ND_ROUTER_SOLICITATION <= kind <= ICMPV6_REDIRECT:
        _neighbor_discovery(packet, kind, code)


def _quoted_v4(packet: Packet) -> Embedded | None:
    """Read the IPv4 packet that an ICMP error quotes, None if it is cut or odd."""
    l3, end = packet.l4 + 8, packet.l3 + packet.l3_length
    if l3 + 20 > end:
        return None
    first, fragment, proto, src, dst = _IPV4(packet.frame, l3)
    header_length = (first & 0xF) << 2
    if first >> 4 != 4 or header_length < 20 or fragment & 0x1FFF:
        return None
    quoted = Embedded(
        V4_MAPPED | src, V4_MAPPED | dst, proto, 0, 0, 0, l3, l3 + header_length
    )
    return _quoted_l4(packet.frame, quoted, end)


def _quoted_v6(packet: Packet) -> Embedded | None:
    """Read the IPv6 packet that an ICMPv6 error quotes, None if it is cut or odd."""
    l3, end = packet.l4 + 8, packet.l3 + packet.l3_length
    if l3 + 40 > end:
        return None
    first, _, proto, _, src_bytes, dst_bytes = _IPV6(packet.frame, l3)
    src, dst = int.from_bytes(src_bytes, "big"), int.from_bytes(dst_bytes, "big")
    if first >> 28 != 6 or is_v4(src) or is_v4(dst):
        return None
    proto, l4 = _behind_extensions(packet.frame, proto, l3 + 40, end)
    if not l4:
        return None
    quoted = Embedded(src, dst, proto, 0, 0, 0, l3, l4)
    return _quoted_l4(packet.frame, quoted, end)


def _behind_extensions(frame: bytes, proto: int, at: int, end: int) -> tuple[int, int]:
    """Skip extension headers of a quote: (protocol, offset); 0, 0 where it is cut.

    A later fragment has nothing behind them that tells its connection.

    Source: RFC 8200, section 4; RFC 4302, section 2.2 (authentication header).
    """
    for _ in range(MAX_EXTENSIONS):
        if proto not in EXTENSIONS:
            break
        if at + 8 > end:
            return 0, 0
        length = (frame[at + 1] + 1) << 3
        if proto == IPV6_FRAGMENT:
            if _PORTS(frame, at)[1] & 0xFFF8:
                return 0, 0
            length = 8
        elif proto == IPV6_AUTHENTICATION:
            length = (frame[at + 1] + 2) << 2
        proto, at = frame[at], at + length
    return (0, 0) if proto in EXTENSIONS else (proto, at)


def _quoted_l4(frame: bytes, quoted: Embedded, end: int) -> Embedded | None:
    """Add ports or the identifier of a query to a quote."""
    # RFC 792: a quote holds at least eight bytes behind the IP header.
    if quoted.l4 + 8 > end:
        return None
    if quoted.ip_proto in (TCP, UDP, SCTP):
        quoted.l4_src, quoted.l4_dst = _PORTS(frame, quoted.l4)
        return quoted
    queries = {ICMP: ICMP_QUERIES, ICMPV6: ICMPV6_QUERIES}.get(quoted.ip_proto)
    if queries and frame[quoted.l4] in queries:
        quoted.icmp_type, _, _, identifier = _QUERY(frame, quoted.l4)
        quoted.l4_src = quoted.l4_dst = identifier
    return quoted


def _neighbor_discovery(packet: Packet, kind: int, code: int) -> None:
    """Check a neighbour discovery message and read its target and address option.

    Source: RFC 4861, sections 6.1, 7.1 and 8.1; RFC 6980, section 5 (no fragments).
    """
    where = f"neighbour discovery at byte {packet.l4}"
    if packet.headers.ip_ttl != 255:
        raise DecodeError(f"{where}: hop limit {packet.headers.ip_ttl} is not 255")
    if code != 0 or packet.ip_frag != FRAG_NONE:
        raise DecodeError(f"{where}: code is not 0, or a fragment")
    if _wrong_checksum(packet):
        raise DecodeError(f"{where}: wrong checksum")
    if kind not in (ND_SOLICITATION, ND_ADVERTISEMENT):
        return
    target_offset, end = packet.l4 + 8, packet.l3 + packet.l3_length
    if target_offset + 16 > end:
        raise DecodeError(f"{where}: only {end - packet.l4} bytes")
    target = int.from_bytes(packet.frame[target_offset : target_offset + 16], "big")
    if is_multicast_ip(target) or is_v4(target):
        raise DecodeError(f"{where}: target is multicast or IPv4-mapped")
    packet.nd_target = target
    wanted = _SOURCE_LINK_LAYER if kind == ND_SOLICITATION else _TARGET_LINK_LAYER
    packet.nd_mac = _link_layer_option(packet.frame, target_offset + 16, end, wanted)
    _check_roles(packet, kind, where)


def _check_roles(packet: Packet, kind: int, where: str) -> None:
    """Refuse what RFC 4861, section 7.1 forbids in its last conditions."""
    headers = packet.headers
    if kind == ND_SOLICITATION and headers.ip_src == 0 and packet.nd_mac:
        raise DecodeError(f"{where}: address option without a source address")
    solicited = packet.frame[packet.l4 + 4] & _SOLICITED
    if kind == ND_ADVERTISEMENT and solicited and is_multicast_ip(headers.ip_dst):
        raise DecodeError(f"{where}: solicited, but sent to a group")


def _link_layer_option(frame: bytes, offset: int, end: int, wanted: int) -> int:
    """Find a link-layer address option (RFC 4861, section 4.6.1), 0 where absent."""
    found = 0
    while offset + 2 <= end:
        kind, length = frame[offset], frame[offset + 1] << 3
        if not length or offset + length > end:
            raise DecodeError(f"neighbour discovery option at byte {offset}: length")
        if kind == wanted and length == 8:
            found = int.from_bytes(frame[offset + 2 : offset + 8], "big")
        offset += length
    return found


def _wrong_checksum(packet: Packet) -> bool:
    headers, end = packet.headers, packet.l3 + packet.l3_length
    message = packet.frame[packet.l4 : end]
    total = headers.ip_src + headers.ip_dst + ICMPV6 + len(message) + ones_sum(message)
    return total % 0xFFFF != 0
