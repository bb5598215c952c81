# SPDX-License-Identifier: Apache-2.0
"""Frames of a virtual device's own conversations: TCP segments and echo requests.

Beside `build`, whose frames answer others; health probes begin one themselves.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from midoryu.packet import build, protocol
from midoryu.packet.address import is_v4
from midoryu.packet.checksum import internet_checksum, transport_checksum
from midoryu.packet.packet import Packet

_TCP: Final = Struct("!HHIIBBHHH").pack
_ECHO: Final = Struct("!BBHHH").pack
_WORDS: Final = Struct("!II").unpack_from
_WINDOW: Final = 0xFFFF
# RFC 9293, section 3.7.1: an MSS that every path carries.
_MSS: Final = b"\x02\x04\x02\x18"


class Ends(NamedTuple):
    """The two ends of a conversation."""

    mac_src: int
    mac_dst: int
    ip_src: int
    ip_dst: int
    port_src: int
    port_dst: int


class Segment(NamedTuple):
    """What a TCP segment says."""

    flags: int
    sequence: int
    acknowledgment: int
    payload: bytes = b""


def tcp_frame(ends: Ends, segment: Segment) -> bytes:
    """Make a TCP segment; a SYN carries an MSS.

    Source: RFC 9293, section 3.1.
    """
    options = _MSS if segment.flags & protocol.TCP_SYN else b""
    numbers = segment.sequence & 0xFFFF_FFFF, segment.acknowledgment & 0xFFFF_FFFF
    words = (5 + len(options) // 4) << 4
    ports = ends.port_src, ends.port_dst
    head = _TCP(*ports, *numbers, words, segment.flags, _WINDOW, 0, 0)
    whole = head + options + segment.payload
    checksum = transport_checksum(ends.ip_src, ends.ip_dst, protocol.TCP, whole)
    whole = whole[:16] + checksum.to_bytes(2, "big") + whole[18:]
    return _frame(ends, protocol.TCP, whole)


def echo_request(ends: Ends, identifier: int, sequence: int) -> bytes:
    """Make an echo request of the family of the addresses.

    Source: RFC 792; RFC 4443, section 4.1.
    """
    v4 = is_v4(ends.ip_dst)
    kind = protocol.ICMP_ECHO_REQUEST if v4 else protocol.ICMPV6_ECHO_REQUEST
    message = _ECHO(kind, 0, 0, identifier, sequence)
    if v4:
        checksum = internet_checksum(message)
    else:
        ip = ends.ip_src, ends.ip_dst
        checksum = transport_checksum(*ip, protocol.ICMPV6, message)
    message = message[:2] + checksum.to_bytes(2, "big") + message[4:]
    return _frame(ends, protocol.ICMP if v4 else protocol.ICMPV6, message)


def read_segment(packet: Packet) -> Segment:
    """Read a decoded TCP packet that is no later fragment."""
    sequence, acknowledgment = _WORDS(packet.frame, packet.l4 + 4)
    start = packet.l4 + (packet.frame[packet.l4 + 12] >> 4 << 2)
    payload = packet.frame[start : packet.l3 + packet.l3_length]
    return Segment(packet.tcp_flags, sequence, acknowledgment, bytes(payload))


def _frame(ends: Ends, proto: int, body: bytes) -> bytes:
    if is_v4(ends.ip_dst):
        packet = build._ipv4(ends.ip_src, ends.ip_dst, proto, body)
        ether_type = protocol.ETH_IPV4
    else:
        packet = build._ipv6(ends.ip_src, ends.ip_dst, proto, body)
        ether_type = protocol.ETH_IPV6
    return build._ethernet(ends.mac_dst, ends.mac_src, ether_type) + packet
