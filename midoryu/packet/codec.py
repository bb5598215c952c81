# SPDX-License-Identifier: Apache-2.0
"""Decode a frame: any bytes become a `Packet` or a `DecodeError`, nothing else.

The first step of the packet path, so it reads with `struct` at known offsets; what only
ICMP carries is read by `icmp`. It agrees with OVS about what the fields of a frame are
(ovs-fields(7)), for else a flow would not match the packet that it was made from.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from midoryu.errors import DecodeError
from midoryu.packet import icmp
from midoryu.packet.address import V4_MAPPED, format_ip, is_v4
from midoryu.packet.packet import Headers, Packet
from midoryu.packet.protocol import (
    ETH_ARP,
    ETH_IPV4,
    ETH_IPV6,
    ETH_VLAN,
    EXTENSIONS,
    FRAG_FIRST,
    FRAG_LATER,
    ICMP,
    ICMPV6,
    IPV6_AUTHENTICATION,
    IPV6_FRAGMENT,
    MAX_EXTENSIONS,
    SCTP,
    TCP,
    UDP,
)

# IEEE 802.1Q: the service tag, which OVS counts as a VLAN tag as well.
ETH_SERVICE_VLAN: Final = 0x88A8
# IEEE 802.3: smaller values are a length, not a type.
ETH_TYPE_MINIMUM: Final = 0x600
# OpenFlow 1.3, section A.2.3.7: eth_type of a frame without one.
ETH_NO_TYPE: Final = 0x05FF
# RFC 1042: LLC and SNAP header that has an ethertype behind it.
_SNAP: Final = b"\xaa\xaa\x03\x00\x00\x00"
# ovs-fields(7), vlan_tci: this bit says that there is a tag.
VLAN_PRESENT: Final = 0x1000

_ETHERNET: Final = Struct("!HIHIH").unpack_from
_ETHERNET_LENGTH: Final = 14
_TAG: Final = Struct("!HH").unpack_from
_ARP: Final = Struct("!HHBBHHIIHII").unpack_from
_ARP_LENGTH: Final = 28
_IPV4: Final = Struct("!BBHHHBBHII").unpack_from
_IPV4_LENGTH: Final = 20
_IPV6: Final = Struct("!IHBBQQQQ").unpack_from
_IPV6_LENGTH: Final = 40
_PORTS: Final = Struct("!HH").unpack_from
_TCP: Final = Struct("!HH9xB").unpack_from

_NAMES: Final = {TCP: "TCP", UDP: "UDP", SCTP: "SCTP", ICMP: "ICMP", ICMPV6: "ICMPv6"}
# Least header lengths: RFC 9293, RFC 768, RFC 9260, RFC 792, RFC 4443.
_LEAST: Final = {TCP: 20, UDP: 8, SCTP: 12, ICMP: 8, ICMPV6: 8}


def decode(frame: bytes) -> Packet:
    """Decode a frame as far as a decision can need.

    Raises:
        DecodeError: a header is cut, contradicts itself or must not be on the wire.
    """
    if len(frame) < _ETHERNET_LENGTH:
        raise DecodeError(f"Ethernet header at byte 0: only {len(frame)} bytes")
    dst_high, dst_low, src_high, src_low, eth_type = _ETHERNET(frame)
    headers = Headers(dst_high << 32 | dst_low, src_high << 32 | src_low)
    packet = Packet(frame, headers, eth_type)
    if eth_type == ETH_IPV4:
        _ipv4(packet, headers, _ETHERNET_LENGTH)
    elif eth_type == ETH_IPV6:
        _ipv6(packet, headers, _ETHERNET_LENGTH)
    elif eth_type == ETH_ARP:
        _arp(packet, headers, _ETHERNET_LENGTH)
    else:
        _uncommon(packet, headers)
    return packet


def _uncommon(packet: Packet, headers: Headers) -> None:
    """Decode behind a VLAN tag or an LLC header, or leave an unknown type alone."""
    frame, eth_type, offset = packet.frame, packet.eth_type, _ETHERNET_LENGTH
    if eth_type in (ETH_VLAN, ETH_SERVICE_VLAN):
        if len(frame) < offset + 4:
            raise DecodeError(f"VLAN tag at byte {offset}: the frame ends")
        control, eth_type = _TAG(frame, offset)
        packet.vlan = VLAN_PRESENT | control & 0xFFF
        offset += 4
    if eth_type < ETH_TYPE_MINIMUM:
        eth_type = ETH_NO_TYPE
        if frame[offset : offset + 6] == _SNAP and len(frame) >= offset + 8:
            snap_type = _TAG(frame, offset + 4)[1]
            offset += 8
            eth_type = snap_type if snap_type >= ETH_TYPE_MINIMUM else ETH_NO_TYPE
    packet.eth_type = eth_type
    if eth_type == ETH_IPV4:
        _ipv4(packet, headers, offset)
    elif eth_type == ETH_IPV6:
        _ipv6(packet, headers, offset)
    elif eth_type == ETH_ARP:
        _arp(packet, headers, offset)


def _arp(packet: Packet, headers: Headers, l3: int) -> None:
    """Decode ARP for IPv4 over Ethernet (RFC 826)."""
    frame = packet.frame
    if len(frame) < l3 + _ARP_LENGTH:
        raise DecodeError(f"ARP header at byte {l3}: only {len(frame) - l3} bytes")
    hardware, protocol, hardware_length, protocol_length, operation, *rest = _ARP(
        frame, l3
    )
    if (hardware, protocol, hardware_length, protocol_length) != (1, ETH_IPV4, 6, 4):
        raise DecodeError(f"ARP header at byte {l3}: not for IPv4 over Ethernet")
    # sha is 16 + 32 bits, spa 32, tha 16 + 32, tpa 32, all packed without gaps.
    sha_high, sha_low, spa, tha_high, tha_low, tpa = rest
    packet.arp_sha = sha_high << 32 | sha_low
    packet.arp_tha = tha_high << 32 | tha_low
    headers.ip_src = V4_MAPPED | spa
    headers.ip_dst = V4_MAPPED | tpa
    # ovs-fields(7), arp_op: only the values up to 255 can be matched.
    packet.ip_proto = operation if operation < 256 else 0
    packet.l3 = l3
    packet.l3_length = _ARP_LENGTH


def _ipv4(packet: Packet, headers: Headers, l3: int) -> None:
    """Decode an IPv4 header (RFC 791) and what follows."""
    frame = packet.frame
    available = len(frame) - l3
    if available < _IPV4_LENGTH:
        raise DecodeError(f"IPv4 header at byte {l3}: only {available} bytes")
    first, tos, length, _, fragment, ttl, proto, _, src, dst = _IPV4(frame, l3)
    l4 = l3 + ((first & 0xF) << 2)
    if first != 0x45 or length > available or length < _IPV4_LENGTH:
        _check_ipv4_lengths(first, length, l3, available)
    if int.from_bytes(frame[l3:l4], "big") % 0xFFFF:
        raise DecodeError(f"IPv4 header at byte {l3}: wrong checksum")
    # RFC 1812, section 5.3.7: a multicast or broadcast source is martian.
    if src >= 0xE000_0000 and (src < 0xF000_0000 or src == 0xFFFF_FFFF):
        raise DecodeError(
            f"IPv4 header at byte {l3}: martian source {format_ip(V4_MAPPED | src)}"
        )
    headers.ip_src = V4_MAPPED | src
    headers.ip_dst = V4_MAPPED | dst
    headers.ip_ttl = ttl
    headers.ip_tos = tos
    packet.ip_proto = proto
    packet.l3 = l3
    packet.l3_length = length
    if fragment & 0x3FFF:
        if fragment & 0x1FFF:
            packet.ip_frag = FRAG_LATER
            _check_later_fragment(fragment & 0x1FFF, proto, l3)
            return
        packet.ip_frag = FRAG_FIRST
    _l4(packet, headers, l4, l3 + length)


def _check_ipv4_lengths(first: int, length: int, l3: int, available: int) -> None:
    """Refuse an IPv4 header whose lengths contradict each other or the frame."""
    where = f"IPv4 header at byte {l3}"
    header_length = (first & 0xF) << 2
    if first >> 4 != 4:
        raise DecodeError(f"{where}: version {first >> 4}")
    if header_length < _IPV4_LENGTH:
        raise DecodeError(f"{where}: header length {header_length} is below 20")
    if length > available:
        raise DecodeError(
            f"{where}: total length {length} exceeds the frame's {available} bytes"
        )
    if length < header_length:
        raise DecodeError(
            f"{where}: total length {length} is below the header's {header_length}"
        )


def _check_later_fragment(offset: int, proto: int, l3: int) -> None:
    """Refuse a fragment that would overwrite TCP flags that a filter has passed."""
    # RFC 3128, section 4 (offset in units of 8 bytes).
    if offset == 1 and proto == TCP:
        raise DecodeError(f"IPv4 header at byte {l3}: TCP fragment at offset 8")


def _ipv6(packet: Packet, headers: Headers, l3: int) -> None:
    """Decode an IPv6 header (RFC 8200) and what follows."""
    frame = packet.frame
    available = len(frame) - l3
    if available < _IPV6_LENGTH:
        raise DecodeError(f"IPv6 header at byte {l3}: only {available} bytes")
    first, payload, proto, ttl, src_high, src_low, dst_high, dst_low = _IPV6(frame, l3)
    length = payload + _IPV6_LENGTH
    src, dst = src_high << 64 | src_low, dst_high << 64 | dst_low
    _check_ipv6(first >> 28, length, l3, available)
    _check_ipv6_addresses(src, dst, l3)
    headers.ip_src = src
    headers.ip_dst = dst
    headers.ip_ttl = ttl
    headers.ip_tos = first >> 20 & 0xFF
    packet.ip_proto = proto
    packet.l3 = l3
    packet.l3_length = length
    l4, end = l3 + _IPV6_LENGTH, l3 + length
    if proto in EXTENSIONS:
        l4 = _extensions(packet, l4, end)
    if l4:
        _l4(packet, headers, l4, end)


def _check_ipv6(version: int, length: int, l3: int, available: int) -> None:
    where = f"IPv6 header at byte {l3}"
    if version != 6:
        raise DecodeError(f"{where}: version {version}")
    if length > available:
        raise DecodeError(
            f"{where}: packet of {length} bytes exceeds the frame's {available} bytes"
        )


def _check_ipv6_addresses(src: int, dst: int, l3: int) -> None:
    where = f"IPv6 header at byte {l3}"
    # An IPv4-mapped address on the wire would pass here for an IPv4 one.
    if is_v4(src) or is_v4(dst):
        raise DecodeError(f"{where}: IPv4-mapped address")
    # RFC 4291, section 2.7: multicast addresses must not be sources.
    if src >> 120 == 0xFF:
        raise DecodeError(f"{where}: martian source {format_ip(src)}")


def _extensions(packet: Packet, offset: int, end: int) -> int:
    """Walk IPv6 extension headers; return the layer 4 offset, 0 in later fragments."""
    frame, proto = packet.frame, packet.ip_proto
    for _ in range(MAX_EXTENSIONS):
        if proto not in EXTENSIONS:
            packet.ip_proto = proto
            return offset
        if offset + 8 > end:
            raise DecodeError(f"IPv6 extension header at byte {offset}: cut")
        following, length = frame[offset], 8
        if proto == IPV6_FRAGMENT:
            position = _TAG(frame, offset)[1]
            if position & 0xFFF8:
                # As OVS does: the protocol of a later fragment is "fragment".
                packet.ip_proto, packet.ip_frag = IPV6_FRAGMENT, FRAG_LATER
                return 0
            if position & 1:
                packet.ip_frag = FRAG_FIRST
        elif proto == IPV6_AUTHENTICATION:
            length = (frame[offset + 1] + 2) << 2
        else:
            length = (frame[offset + 1] + 1) << 3
        proto, offset = following, offset + length
        if offset > end:
            raise DecodeError(f"IPv6 extension header ends at byte {offset}: cut")
    if proto in EXTENSIONS:
        raise DecodeError(f"IPv6 extension headers: more than {MAX_EXTENSIONS}")
    packet.ip_proto = proto
    return offset


def _l4(packet: Packet, headers: Headers, l4: int, end: int) -> None:
    """Decode ports, flags, types and identifiers; other protocols stay as they are."""
    proto = packet.ip_proto
    least = _LEAST.get(proto)
    if least is None:
        packet.l4 = l4
        return
    if end - l4 < least:
        raise DecodeError(f"{_NAMES[proto]} header at byte {l4}: only {end - l4} bytes")
    packet.l4 = l4
    if proto == TCP:
        headers.l4_src, headers.l4_dst, packet.tcp_flags = _TCP(packet.frame, l4)
    elif proto in (UDP, SCTP):
        headers.l4_src, headers.l4_dst = _PORTS(packet.frame, l4)
    elif proto == ICMP:
        if packet.eth_type == ETH_IPV4:
            icmp.decode_icmp(packet)
    elif packet.eth_type == ETH_IPV6:
        icmp.decode_icmpv6(packet)
