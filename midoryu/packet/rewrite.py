# SPDX-License-Identifier: Apache-2.0
"""Make the frame that changed header fields stand for, with its checksums.

The counterpart of `codec`: what that reads, this writes back. Only fields that differ
from the packet are touched and checksums are updated incrementally (RFC 1624), so that
payloads are never read and fragments can be rewritten too.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

from midoryu.compat import SLOTS
from midoryu.packet.checksum import adjust, crc32c, ones_sum
from midoryu.packet.codec import decode
from midoryu.packet.packet import Embedded, Headers, Packet
from midoryu.packet.protocol import (
    ETH_ARP,
    ETH_IPV4,
    ETH_IPV6,
    ICMP,
    ICMPV6,
    SCTP,
    TCP,
    UDP,
)

_U16: Final = Struct("!H")
_U32: Final = Struct("!I")
_PORTS: Final = Struct("!HH")
_LITTLE_U32: Final = Struct("<I")
_LOW_32: Final = 0xFFFF_FFFF
# Offset of the checksum in the layer 4 header.
_CHECKSUM_AT: Final = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}


@dataclass(frozen=True, **SLOTS)
class EmbeddedRewrite:
    """What the packet quoted in an ICMP error shall say."""

    ip_src: int
    """128-bit address."""
    ip_dst: int
    """128-bit address."""
    l4_src: int
    """Port; for an ICMP query its identifier."""
    l4_dst: int
    """Port; for an ICMP query not used."""

    @classmethod
    def of(cls, quoted: Embedded) -> EmbeddedRewrite:
        """Make it of what a quote shall be."""
        return cls(quoted.ip_src, quoted.ip_dst, quoted.l4_src, quoted.l4_dst)


def rewrite(
    packet: Packet, headers: Headers, embedded: EmbeddedRewrite | None = None
) -> bytes:
    """Return the packet's frame with new headers and, in an ICMP error, a new quote.

    The address family and the protocol stay as they are. New ports in the first
    fragment of an SCTP packet make a wrong checksum: a right one needs the whole packet
    (`simulation` lets none of these pass).

    Raises:
        ValueError: a new quote for a packet that quotes nothing.

    Source: RFC 1624; RFC 768 (no checksum); RFC 5508, section 4.2.
    """
    frame, old = bytearray(packet.frame), packet.headers
    if headers.eth_dst != old.eth_dst:
        frame[0:6] = headers.eth_dst.to_bytes(6, "big")
    if headers.eth_src != old.eth_src:
        frame[6:12] = headers.eth_src.to_bytes(6, "big")
    if packet.l3:
        _REWRITE_L3[packet.eth_type](frame, packet, headers)
        if packet.l4:
            _l4(frame, packet, headers)
    if embedded is not None:
        if packet.embedded is None:
            raise ValueError("the packet quotes no other packet to rewrite")
        _quote(frame, packet, packet.embedded, embedded)
    return bytes(frame)


def set_ttl(frame: bytes, ttl: int) -> bytes:
    """Return a frame with another IPv4 TTL or IPv6 hop limit; others as they are.

    Raises:
        DecodeError: the frame is malformed.
    """
    packet = decode(frame)
    headers = packet.headers.copy()
    headers.ip_ttl = ttl
    return rewrite(packet, headers)


def _arp(frame: bytearray, packet: Packet, headers: Headers) -> None:
    """Write sender and target protocol address (RFC 826)."""
    _U32.pack_into(frame, packet.l3 + 14, headers.ip_src & _LOW_32)
    _U32.pack_into(frame, packet.l3 + 24, headers.ip_dst & _LOW_32)


def _ipv4(frame: bytearray, packet: Packet, headers: Headers) -> None:
    """Write an IPv4 header's fields and its checksum (RFC 791)."""
    old, l3 = packet.headers, packet.l3
    # TTL is the high octet of its word; the others are low octets or whole words.
    before = old.ip_src + old.ip_dst + old.ip_tos + (old.ip_ttl << 8)
    after = headers.ip_src + headers.ip_dst + headers.ip_tos + (headers.ip_ttl << 8)
    if _ip_fields(old) == _ip_fields(headers):
        return
    frame[l3 + 1] = headers.ip_tos
    frame[l3 + 8] = headers.ip_ttl
    _U32.pack_into(frame, l3 + 12, headers.ip_src & _LOW_32)
    _U32.pack_into(frame, l3 + 16, headers.ip_dst & _LOW_32)
    _adjust_at(frame, l3 + 10, before, after)


def _ipv6(frame: bytearray, packet: Packet, headers: Headers) -> None:
    """Write an IPv6 header's fields (RFC 8200, section 3)."""
    old, l3 = packet.headers, packet.l3
    if headers.ip_tos != old.ip_tos:
        frame[l3] = frame[l3] & 0xF0 | headers.ip_tos >> 4
        frame[l3 + 1] = frame[l3 + 1] & 0x0F | headers.ip_tos << 4 & 0xF0
    frame[l3 + 7] = headers.ip_ttl
    if headers.ip_src != old.ip_src:
        frame[l3 + 8 : l3 + 24] = headers.ip_src.to_bytes(16, "big")
    if headers.ip_dst != old.ip_dst:
        frame[l3 + 24 : l3 + 40] = headers.ip_dst.to_bytes(16, "big")


_REWRITE_L3: Final = {ETH_ARP: _arp, ETH_IPV4: _ipv4, ETH_IPV6: _ipv6}


def _ip_fields(headers: Headers) -> tuple[int, int, int, int]:
    return headers.ip_src, headers.ip_dst, headers.ip_tos, headers.ip_ttl


def _l4(frame: bytearray, packet: Packet, headers: Headers) -> None:
    """Write ports or ICMP fields and the checksum that covers them."""
    old, l4, proto = packet.headers, packet.l4, packet.ip_proto
    if proto in (TCP, UDP):
        _PORTS.pack_into(frame, l4, headers.l4_src, headers.l4_dst)
        before, after = old.l4_src + old.l4_dst, headers.l4_src + headers.l4_dst
    elif proto == SCTP:
        _sctp(frame, packet, headers)
        return
    elif _is_icmp(packet):
        before, after = _icmp(frame, packet, headers)
    else:
        return
    if proto != ICMP:  # ICMP alone has no pseudo-header (RFC 792).
        before += old.ip_src + old.ip_dst
        after += headers.ip_src + headers.ip_dst
    _adjust_l4(frame, l4 + _CHECKSUM_AT[proto], proto, before, after)


def _is_icmp(packet: Packet) -> bool:
    """Tell ICMP of the packet's own family from a number that only looks like it."""
    family = {ICMP: ETH_IPV4, ICMPV6: ETH_IPV6}
    return family.get(packet.ip_proto) == packet.eth_type


def _icmp(frame: bytearray, packet: Packet, headers: Headers) -> tuple[int, int]:
    """Write type, code and identifier; return the sums of old and new words."""
    old, l4 = packet.headers, packet.l4
    frame[l4], frame[l4 + 1] = headers.l4_src, headers.l4_dst
    if headers.icmp_id != old.icmp_id:
        _U16.pack_into(frame, l4 + 4, headers.icmp_id)
    return (
        (old.l4_src << 8) + old.l4_dst + old.icmp_id,
        (headers.l4_src << 8) + headers.l4_dst + headers.icmp_id,
    )


def _sctp(frame: bytearray, packet: Packet, headers: Headers) -> None:
    """Write ports and CRC32c, which covers no address (RFC 9260, section 6.8)."""
    old, l4, end = packet.headers, packet.l4, packet.l3 + packet.l3_length
    if (headers.l4_src, headers.l4_dst) == (old.l4_src, old.l4_dst):
        return
    before = crc32c(_without_checksum(frame, l4, end))
    _PORTS.pack_into(frame, l4, headers.l4_src, headers.l4_dst)
    # A wrong checksum stays wrong by the same bits, as in an incremental update.
    error: int = _LITTLE_U32.unpack_from(frame, l4 + 8)[0] ^ before
    after = crc32c(_without_checksum(frame, l4, end)) ^ error
    _LITTLE_U32.pack_into(frame, l4 + 8, after)


def _without_checksum(frame: bytearray, l4: int, end: int) -> bytes:
    return bytes(frame[l4 : l4 + 8]) + bytes(4) + bytes(frame[l4 + 12 : end])


def _quote(
    frame: bytearray, packet: Packet, quoted: Embedded, new: EmbeddedRewrite
) -> None:
    """Write the quoted headers, and the checksum of the ICMP error around them."""
    start, end = packet.l4 + 8, packet.l3 + packet.l3_length
    before = ones_sum(bytes(frame[start:end]))
    if packet.eth_type == ETH_IPV4:
        _U32.pack_into(frame, quoted.l3 + 12, new.ip_src & _LOW_32)
        _U32.pack_into(frame, quoted.l3 + 16, new.ip_dst & _LOW_32)
        addresses = quoted.ip_src + quoted.ip_dst, new.ip_src + new.ip_dst
        _adjust_at(frame, quoted.l3 + 10, *addresses)
    else:
        frame[quoted.l3 + 8 : quoted.l3 + 24] = new.ip_src.to_bytes(16, "big")
        frame[quoted.l3 + 24 : quoted.l3 + 40] = new.ip_dst.to_bytes(16, "big")
    _quoted_l4(frame, quoted, new, end)
    _adjust_at(frame, packet.l4 + 2, before, ones_sum(bytes(frame[start:end])))


def _quoted_l4(
    frame: bytearray, quoted: Embedded, new: EmbeddedRewrite, end: int
) -> None:
    """Write quoted ports or identifier, and their checksum if the quote holds it."""
    proto, l4 = quoted.ip_proto, quoted.l4
    before, after = quoted.ip_src + quoted.ip_dst, new.ip_src + new.ip_dst
    if proto in (TCP, UDP, SCTP):
        _PORTS.pack_into(frame, l4, new.l4_src, new.l4_dst)
        before += quoted.l4_src + quoted.l4_dst
        after += new.l4_src + new.l4_dst
    elif proto in (ICMP, ICMPV6):
        if proto == ICMP:
            before = after = 0
        if quoted.l4_src != new.l4_src:
            _U16.pack_into(frame, l4 + 4, new.l4_src)
            before, after = before + quoted.l4_src, after + new.l4_src
    checksum_at = l4 + _CHECKSUM_AT.get(proto, end)
    if checksum_at + 2 <= end:
        _adjust_l4(frame, checksum_at, proto, before, after)


def _adjust_l4(frame: bytearray, at: int, proto: int, before: int, after: int) -> None:
    """Update a checksum; that of UDP may be absent and never becomes 0 (RFC 768)."""
    if proto == UDP and not (frame[at] or frame[at + 1]):
        return
    _adjust_at(frame, at, before, after)
    if proto == UDP and not (frame[at] or frame[at + 1]):
        frame[at] = frame[at + 1] = 0xFF


def _adjust_at(frame: bytearray, at: int, before: int, after: int) -> None:
    """Update the checksum at an offset; equal sums leave every bit alone."""
    if before != after:
        checksum = frame[at] << 8 | frame[at + 1]
        _U16.pack_into(frame, at, adjust(checksum, before, after))
