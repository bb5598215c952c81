# SPDX-License-Identifier: Apache-2.0
"""The MSS option of a TCP SYN: read it, lower it.

Beside `rewrite`, which never looks behind fixed headers.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from midoryu.packet.checksum import adjust
from midoryu.packet.packet import Packet
from midoryu.packet.protocol import FRAG_NONE, TCP, TCP_SYN

# RFC 9293, section 3.2.
_END: Final = 0
_NO_OPERATION: Final = 1
_MSS: Final = 2
_MSS_LENGTH: Final = 4
_TCP_LENGTH: Final = 20
_CHECKSUM_AT: Final = 16
_U16: Final = Struct("!H")


def is_syn(packet: Packet) -> bool:
    """Tell whether a packet is a whole TCP SYN, with or without ACK."""
    whole = packet.ip_proto == TCP and packet.l4 and packet.ip_frag == FRAG_NONE
    return bool(whole and packet.tcp_flags & TCP_SYN)


def clamp_mss(packet: Packet, limit: int) -> bytes:
    """Return a SYN's frame with an MSS option of at most `limit` bytes.

    A SYN without the option is left alone: its sender expects 536 (IPv4) or 1220 (IPv6)
    bytes, which fit nearly everywhere.

    Source: RFC 9293, section 3.7.1; RFC 1624 (the checksum).
    """
    at = _mss_at(packet)
    if not at or limit <= 0:
        return packet.frame
    (old,) = _U16.unpack_from(packet.frame, at)
    if old <= limit:
        return packet.frame
    frame = bytearray(packet.frame)
    _U16.pack_into(frame, at, limit)
    before, after = old, limit
    if (at - packet.l4) % 2:
        # It lies across two words of the sum: its bytes count the other way round.
        before, after = _swapped(old), _swapped(limit)
    checksum_at = packet.l4 + _CHECKSUM_AT
    (checksum,) = _U16.unpack_from(frame, checksum_at)
    _U16.pack_into(frame, checksum_at, adjust(checksum, before, after))
    return bytes(frame)


def _swapped(value: int) -> int:
    return value >> 8 | value << 8 & 0xFF00


def _mss_at(packet: Packet) -> int:
    """Return where the value of the MSS option is, 0 where there is none."""
    if not is_syn(packet):
        return 0
    frame = packet.frame
    end = packet.l4 + (frame[packet.l4 + 12] >> 4 << 2)
    end = min(end, packet.l3 + packet.l3_length)
    offset = packet.l4 + _TCP_LENGTH
    while offset < end and frame[offset] != _END:
        if frame[offset] == _NO_OPERATION:
            offset += 1
            continue
        length = frame[offset + 1] if offset + 1 < end else 0
        if length < 2 or offset + length > end:
            return 0
        if frame[offset] == _MSS:
            return offset + 2 if length == _MSS_LENGTH else 0
        offset += length
    return 0
