# SPDX-License-Identifier: Apache-2.0
"""Fragments: read one, split a packet into them, put them together again.

`codec` says that a packet is a fragment; here is where in its datagram it belongs. What
only the first fragment carries, `lend` gives to the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from struct import Struct
from typing import Final, NamedTuple

from midoryu.errors import DecodeError
from midoryu.packet.checksum import internet_checksum
from midoryu.packet.packet import Packet
from midoryu.packet.protocol import ETH_IPV4, FRAG_NONE

# RFC 791, section 3.1; RFC 8200, section 4.5: what follows the header has 16 bits.
MAX_DATAGRAM_BYTES: Final = 0xFFFF
_DONT_FRAGMENT: Final = 0x4000
_MORE: Final = 0x2000
_OFFSET_V4: Final = 0x1FFF
_IPV6_LENGTH: Final = 40
# RFC 8200, section 4.5.
_FRAGMENT: Final = 44
_FRAGMENT_LENGTH: Final = 8
_AUTHENTICATION: Final = 51

_U16: Final = Struct("!H")
_V4_FRAGMENT: Final = Struct("!HH").unpack_from
_V6_FRAGMENT: Final = Struct("!BBHI")


class Fragment(NamedTuple):
    """Where a fragment belongs."""

    identification: int
    """16 bits in IPv4, 32 in IPv6."""
    ip_proto: int
    """Protocol of the datagram; in IPv6 the next header of its first fragment."""
    start: int
    """Offset of its first byte in the datagram, bytes."""
    end: int
    """Offset behind its last byte, bytes."""
    more: bool
    """It is not the last one."""
    payload: int
    """Offset of its first byte in the frame."""


def read_fragment(packet: Packet) -> Fragment:
    """Read where a fragment belongs.

    Raises:
        ValueError: the packet is not a fragment.
        DecodeError: it can be part of no datagram.

    Source: RFC 791, section 3.2; RFC 8200, section 4.5.
    """
    if packet.ip_frag == FRAG_NONE:
        raise ValueError("the packet is whole")
    fragment = _read_v4(packet) if packet.eth_type == ETH_IPV4 else _read_v6(packet)
    where = f"fragment at byte {packet.l3}"
    length = fragment.end - fragment.start
    if length <= 0:
        raise DecodeError(f"{where}: carries nothing")
    if fragment.more and length % 8:
        raise DecodeError(f"{where}: {length} bytes, not a multiple of 8")
    if fragment.end + fragment.payload - packet.l3 > MAX_DATAGRAM_BYTES:
        raise DecodeError(f"{where}: reaches beyond the largest datagram")
    return fragment


def _read_v4(packet: Packet) -> Fragment:
    frame, l3 = packet.frame, packet.l3
    identification, word = _V4_FRAGMENT(frame, l3 + 4)
    payload = l3 + ((frame[l3] & 0xF) << 2)
    start = (word & _OFFSET_V4) << 3
    end = start + l3 + packet.l3_length - payload
    more = bool(word & _MORE)
    return Fragment(identification, frame[l3 + 9], start, end, more, payload)


def _read_v6(packet: Packet) -> Fragment:
    at = _fragment_header(packet)
    proto, _, word, identification = _V6_FRAGMENT.unpack_from(packet.frame, at)
    payload, start = at + _FRAGMENT_LENGTH, word & 0xFFF8
    end = start + packet.l3 + packet.l3_length - payload
    return Fragment(identification, proto, start, end, bool(word & 1), payload)


def _fragment_header(packet: Packet) -> int:
    """Return where the fragment header of an IPv6 fragment is."""
    frame, offset = packet.frame, packet.l3 + _IPV6_LENGTH
    proto, limit = frame[packet.l3 + 6], packet.l3 + packet.l3_length
    while proto != _FRAGMENT and offset + 8 <= limit:
        is_ah = proto == _AUTHENTICATION
        size = (frame[offset + 1] + 2) << 2 if is_ah else (frame[offset + 1] + 1) << 3
        proto, offset = frame[offset], offset + size
    return offset


def lend(later: Packet, first: Packet) -> Packet:
    """Return a later fragment that answers questions as its first fragment does.

    Its layer 4 offset stays 0, so that nothing is written where there is no header.
    """
    headers = later.headers.copy()
    headers.l4_src, headers.l4_dst = first.headers.l4_src, first.headers.l4_dst
    headers.icmp_id = first.headers.icmp_id
    return replace(
        later,
        headers=headers,
        ip_proto=first.ip_proto,
        tcp_flags=first.tcp_flags,
        borrowed=True,
    )


def join(packets: Sequence[Packet]) -> bytes:
    """Put all fragments of a datagram together, given in order of their offsets.

    Returns:
        A frame with the headers of the first fragment.

    Raises:
        ValueError: there is no fragment, a gap, or one too many.

    Source: RFC 791, section 3.2; RFC 8200, section 4.5.
    """
    pieces = [(read_fragment(packet), packet) for packet in packets]
    reached = 0
    for place, _ in pieces:
        if place.start != reached:
            raise ValueError(f"a gap or an overlap at byte {reached}")
        reached = place.end
    if not pieces or pieces[-1][0].more:
        raise ValueError("the last fragment is missing")
    body = b"".join(
        one.frame[place.payload : one.l3 + one.l3_length] for place, one in pieces
    )
    first = packets[0]
    is_v4 = first.eth_type == ETH_IPV4
    return (_join_v4 if is_v4 else _join_v6)(first, pieces[0][0], body)


def _join_v4(first: Packet, place: Fragment, body: bytes) -> bytes:
    header = bytearray(first.frame[first.l3 : place.payload])
    _U16.pack_into(header, 2, len(header) + len(body))
    _U16.pack_into(header, 6, 0)
    return first.frame[: first.l3] + _summed(header) + body


def _join_v6(first: Packet, place: Fragment, body: bytes) -> bytes:
    at = place.payload - _FRAGMENT_LENGTH
    header = bytearray(first.frame[first.l3 : at])
    # The header before the fragment header now announces what that announced.
    offset, proto_at = _IPV6_LENGTH, 6
    while offset < len(header):
        proto, proto_at = header[proto_at], offset
        is_ah = proto == _AUTHENTICATION
        size = header[offset + 1]
        offset += (size + 2) << 2 if is_ah else (size + 1) << 3
    header[proto_at] = place.ip_proto
    _U16.pack_into(header, 4, len(header) - _IPV6_LENGTH + len(body))
    return first.frame[: first.l3] + bytes(header) + body


def may_fragment(packet: Packet) -> bool:
    """Tell whether a router may fragment a packet: IPv4 without "don't fragment"."""
    return packet.eth_type == ETH_IPV4 and not (
        packet.frame[packet.l3 + 6] << 8 & _DONT_FRAGMENT
    )


def split(packet: Packet, mtu: int, identification: int = -1) -> list[bytes]:
    """Split a packet into frames whose IP packets have at most `mtu` bytes.

    A fragment of an IPv4 packet can be split again. Options stay in every fragment.

    Args:
        packet: what is too large; one that fits is returned as it is.
        mtu: bytes, at least 68 in IPv4 and 1280 in IPv6.
        identification: of the datagram; -1 keeps that of an IPv4 packet. An IPv6 packet
            needs one: only who made it may split it.

    Source: RFC 791, section 3.2; RFC 8200, section 4.5.
    """
    if packet.l3_length <= mtu:
        return [packet.frame]
    if packet.eth_type == ETH_IPV4:
        return _split_v4(packet, mtu, identification)
    return _split_v6(packet, mtu, identification)


def _split_v4(packet: Packet, mtu: int, identification: int) -> list[bytes]:
    frame, l3 = packet.frame, packet.l3
    head = l3 + ((frame[l3] & 0xF) << 2)
    word = _U16.unpack_from(frame, l3 + 6)[0] & ~_DONT_FRAGMENT
    body = frame[head : l3 + packet.l3_length]
    frames: list[bytes] = []
    for start, piece, more in _pieces(body, mtu - (head - l3)):
        header = bytearray(frame[l3:head])
        _U16.pack_into(header, 2, len(header) + len(piece))
        if identification >= 0:
            _U16.pack_into(header, 4, identification & 0xFFFF)
        _U16.pack_into(header, 6, (word | (_MORE if more else 0)) + (start >> 3))
        frames.append(frame[:l3] + _summed(header) + piece)
    return frames


def _split_v6(packet: Packet, mtu: int, identification: int) -> list[bytes]:
    frame, l3 = packet.frame, packet.l3
    head = l3 + _IPV6_LENGTH
    body = frame[head : l3 + packet.l3_length]
    frames: list[bytes] = []
    for start, piece, more in _pieces(body, mtu - _IPV6_LENGTH - _FRAGMENT_LENGTH):
        header = bytearray(frame[l3:head])
        extension = _V6_FRAGMENT.pack(
            header[6], 0, start | int(more), identification & 0xFFFF_FFFF
        )
        header[6] = _FRAGMENT
        _U16.pack_into(header, 4, _FRAGMENT_LENGTH + len(piece))
        frames.append(frame[:l3] + bytes(header) + extension + piece)
    return frames


def _pieces(body: bytes, room: int) -> list[tuple[int, bytes, bool]]:
    """Cut into (offset, piece, more follow); offsets are multiples of 8."""
    step = room & ~7
    return [
        (start, body[start : start + step], start + step < len(body))
        for start in range(0, len(body), step)
    ]


def _summed(header: bytearray) -> bytes:
    """Return an IPv4 header with its checksum filled in."""
    _U16.pack_into(header, 10, 0)
    _U16.pack_into(header, 10, internet_checksum(bytes(header)))
    return bytes(header)
