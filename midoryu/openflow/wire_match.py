# SPDX-License-Identifier: Apache-2.0
"""Matches as OpenFlow 1.3 bytes (OXM and NXM fields) and back.

`wire` and `wire_decode` use this; `wire_action` uses the field headers. Every set of
fields has one layout, an integer with all headers in place; encoding shifts the values
into it, which costs a fraction of a microsecond for each field.

Source: OpenFlow 1.3.5, section 7.2.3 (flow match structures); ovs-fields(7).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from midoryu.errors import DecodeError
from midoryu.openflow.flow import Match
from midoryu.packet import field, protocol
from midoryu.packet.address import V4_MAPPED

# OXM header: class (16 bits), field (7), has-mask (1), length in bytes (8).
HAS_MASK: Final = 0x100
EXPERIMENTER_CLASS: Final = 0xFFFF


def _oxm(number: int, length_bytes: int) -> int:
    return 0x8000_0000 | number << 9 | length_bytes


def _nxm(number: int, length_bytes: int) -> int:
    return 0x0001_0000 | number << 9 | length_bytes


# OpenFlow 1.3.5, section 7.2.3.7.
IN_PORT: Final[int] = _oxm(0, 4)
ETH_DST: Final[int] = _oxm(3, 6)
ETH_SRC: Final[int] = _oxm(4, 6)
ETH_TYPE: Final[int] = _oxm(5, 2)
VLAN_VID: Final[int] = _oxm(6, 2)
IP_DSCP: Final[int] = _oxm(8, 1)
IP_ECN: Final[int] = _oxm(9, 1)
IP_PROTO: Final[int] = _oxm(10, 1)
IPV4_SRC: Final[int] = _oxm(11, 4)
IPV4_DST: Final[int] = _oxm(12, 4)
ICMPV4_TYPE: Final[int] = _oxm(19, 1)
ICMPV4_CODE: Final[int] = _oxm(20, 1)
ARP_OP: Final[int] = _oxm(21, 2)
ARP_SPA: Final[int] = _oxm(22, 4)
ARP_TPA: Final[int] = _oxm(23, 4)
IPV6_SRC: Final[int] = _oxm(26, 16)
IPV6_DST: Final[int] = _oxm(27, 16)
ICMPV6_TYPE: Final[int] = _oxm(29, 1)
ICMPV6_CODE: Final[int] = _oxm(30, 1)
ND_TARGET: Final[int] = _oxm(31, 16)
TUNNEL_ID: Final[int] = _oxm(38, 8)
L4_SRC: Final[dict[int, int]] = {
    protocol.TCP: _oxm(13, 2),
    protocol.UDP: _oxm(15, 2),
    protocol.SCTP: _oxm(17, 2),
}
L4_DST: Final[dict[int, int]] = {
    protocol.TCP: _oxm(14, 2),
    protocol.UDP: _oxm(16, 2),
    protocol.SCTP: _oxm(18, 2),
}
# ovs-fields(7): Nicira's own fields, and the ONF's experimenter field for TCP flags
# that OVS answers with.
REG0: Final[int] = _nxm(0, 4)
REG1: Final[int] = _nxm(1, 4)
IP_FRAG: Final[int] = _nxm(26, 1)
IP_TTL: Final[int] = _nxm(29, 1)
TUN_IPV4_SRC: Final[int] = _nxm(31, 4)
TUN_IPV4_DST: Final[int] = _nxm(32, 4)
TCP_FLAGS: Final[int] = _nxm(34, 2)
TUN_IPV6_SRC: Final[int] = _nxm(109, 16)
TUN_IPV6_DST: Final[int] = _nxm(110, 16)
ONF_TCP_FLAGS: Final = 0xFFFF_0000 | 42 << 9 | 6
ONF_EXPERIMENTER: Final = 0x4F4E_4600


# A block of ports is matched as a port with a mask, which comes behind the value; one
# flag as all flags with a mask, and so on.
_BLOCK_MASK: Final = 0x3FF << field.PORT_BLOCK_SHIFT
_SYN_MASK: Final = 1 << field.TCP_SYN_SHIFT
_GROUP_MASK: Final = 1 << field.ETH_GROUP_SHIFT
# OXM header of a source address -> where its first octet begins.
_OCTET_SHIFT: Final = {IPV4_SRC: 24, IPV6_SRC: 120}

# Room below the last field, so that a right shift within it is a left shift here.
_GUARD_BITS: Final = 8


class _Part(NamedTuple):
    """One OXM field that stands for (some bits of) one of our fields."""

    header: int
    """OXM header, with a mask for a block of ports and for one TCP flag alone."""
    places: tuple[tuple[int, int], ...]
    """(mask of our value, left shift within the OXM value; negative is right)."""
    mask: int = 0
    """What stands behind the value, where the header says that there is a mask."""


class _Layout(NamedTuple):
    """How matches of one set of fields look on the wire."""

    size: int
    """Bytes, padding included."""
    template: int
    """All headers, every value zero."""
    places: tuple[tuple[int, int, int], ...]
    """(index of the value, mask, left shift within the whole match)."""


def _whole(header: int) -> tuple[_Part, ...]:
    bits = (header & 0xFF) * 8
    return (_Part(header, (((1 << bits) - 1, 0),)),)


_TOS: Final = (_Part(IP_DSCP, ((0xFC, -2),)), _Part(IP_ECN, ((0x03, 0),)))
# nw_frag: bit 0 says fragment, bit 1 not the first. Ours: 0 none, 1 first, 2 later.
_FRAG: Final = (_Part(IP_FRAG, ((1, 0), (2, 0), (2, -1))),)

_SYN: Final = (
    _Part(
        TCP_FLAGS & ~0xFF | HAS_MASK | 4, ((1, 16 + field.TCP_SYN_SHIFT),), _SYN_MASK
    ),
)
_GROUP: Final = (
    _Part(
        ETH_DST & ~0xFF | HAS_MASK | 12,
        ((1, 48 + field.ETH_GROUP_SHIFT),),
        _GROUP_MASK,
    ),
)


def _octet(header: int) -> tuple[_Part, ...]:
    """Match the first octet of an address."""
    size, shift = header & 0xFF, _OCTET_SHIFT[header]
    masked = header & ~0xFF | HAS_MASK | 2 * size
    return (_Part(masked, ((0xFF, size * 8 + shift),), 0xFF << shift),)


_OCTET: Final = {
    protocol.ETH_IPV4: _octet(IPV4_SRC),
    protocol.ETH_IPV6: _octet(IPV6_SRC),
}
_SIMPLE: Final[dict[int, tuple[_Part, ...]]] = {
    field.IN_PORT: _whole(IN_PORT),
    field.ETH_DST: _whole(ETH_DST),
    field.ETH_SRC: _whole(ETH_SRC),
    field.ETH_TYPE: _whole(ETH_TYPE),
    field.VLAN: _whole(VLAN_VID),
    field.IP_TOS: _TOS,
    field.IP_FRAG: _FRAG,
    field.TCP_FLAGS: _whole(TCP_FLAGS),
    field.IP_TTL: _whole(IP_TTL),
    field.ND_TARGET: _whole(ND_TARGET),
    field.TUNNEL_KEY: _whole(TUNNEL_ID),
    field.TOO_LARGE: _whole(REG1),
}
_BY_ETH_TYPE: Final[dict[tuple[int, int], int]] = {
    (field.IP_PROTO, protocol.ETH_IPV4): IP_PROTO,
    (field.IP_PROTO, protocol.ETH_IPV6): IP_PROTO,
    (field.IP_PROTO, protocol.ETH_ARP): ARP_OP,
    (field.IP_SRC, protocol.ETH_IPV4): IPV4_SRC,
    (field.IP_SRC, protocol.ETH_IPV6): IPV6_SRC,
    (field.IP_SRC, protocol.ETH_ARP): ARP_SPA,
    (field.IP_DST, protocol.ETH_IPV4): IPV4_DST,
    (field.IP_DST, protocol.ETH_IPV6): IPV6_DST,
    (field.IP_DST, protocol.ETH_ARP): ARP_TPA,
}
_BY_IP_PROTO: Final[dict[tuple[int, int], int]] = {
    **{(field.L4_SRC, proto): header for proto, header in L4_SRC.items()},
    **{(field.L4_DST, proto): header for proto, header in L4_DST.items()},
    (field.L4_SRC, protocol.ICMP): ICMPV4_TYPE,
    (field.L4_DST, protocol.ICMP): ICMPV4_CODE,
    (field.L4_SRC, protocol.ICMPV6): ICMPV6_TYPE,
    (field.L4_DST, protocol.ICMPV6): ICMPV6_CODE,
}


def encode_match(match: Match) -> bytes:
    """Encode a match with its padding.

    Raises:
        ValueError: a field cannot be matched, or its prerequisite is missing.
    """
    fields, values = match
    eth_type = ip_proto = -1
    if fields & field.ETH_TYPE:
        eth_type = values[_rank(fields, 3)]
        if fields & field.IP_PROTO:
            ip_proto = values[_rank(fields, 6)]
            if not fields & (field.L4 | field.PORT_BLOCK):
                ip_proto = -1
    size, number, places = _layout(fields, eth_type, ip_proto)
    for index, mask, shift in places:
        number |= (values[index] & mask) << shift
    return (number >> _GUARD_BITS).to_bytes(size, "big")


# How many bits are set in the 6 lowest ones: 64 entries beat bin().count().
_COUNT: Final = tuple(bin(number).count("1") for number in range(64))


def _rank(fields: int, bit_number: int) -> int:
    """Return the index of a field's value, for one of the first seven fields."""
    return _COUNT[fields & ((1 << bit_number) - 1)]


@lru_cache(maxsize=4096)
def _layout(fields: int, eth_type: int, ip_proto: int) -> _Layout:
    """Lay out a set of fields; the two types decide which header stands for a field."""
    bits = [bit for bit, _ in field.NAMES if fields & bit]
    parts = [
        (index, part)
        for index, bit in enumerate(bits)
        for part in _parts(bit, eth_type, ip_proto)
    ]
    length = 4 + sum(4 + (part.header & 0xFF) for _, part in parts)
    size = (length + 7) // 8 * 8
    template = 1 << 16 | length  # OFPMT_OXM
    left = size * 8 - 32 + _GUARD_BITS
    template <<= left
    places: list[tuple[int, int, int]] = []
    for index, part in parts:
        left -= 32
        template |= part.header << left
        left -= (part.header & 0xFF) * 8
        template |= part.mask << left
        places += [(index, mask, left + shift) for mask, shift in part.places]
    return _Layout(size, template, tuple(places))


def _parts(bit: int, eth_type: int, ip_proto: int) -> tuple[_Part, ...]:
    simple = _SIMPLE.get(bit)
    if simple is not None:
        return simple
    if bit == field.TCP_SYN:
        return _SYN
    if bit == field.ETH_GROUP:
        return _GROUP
    if bit == field.SOURCE_OCTET and eth_type in _OCTET:
        return _OCTET[eth_type]
    if bit == field.PORT_BLOCK and ip_proto in L4_DST:
        masked = L4_DST[ip_proto] & ~0xFF | HAS_MASK | 4
        places = ((0x3FF, 16 + field.PORT_BLOCK_SHIFT),)
        return (_Part(masked, places, _BLOCK_MASK),)
    header = _BY_ETH_TYPE.get((bit, eth_type)) or _BY_IP_PROTO.get((bit, ip_proto))
    if header is None:
        (name,) = field.names(bit)
        raise ValueError(
            f"cannot match {name} with eth_type {eth_type:#x}, ip_proto {ip_proto}"
        )
    return _whole(header)


class _Meaning(NamedTuple):
    """What an OXM field on the wire means to us."""

    bit: int
    """Our field."""
    full_mask: int
    """Bits that a mask must have so that the match is exact."""
    offset: int
    """Added to the value: V4_MAPPED for IPv4 addresses."""


def _meanings() -> dict[int, _Meaning]:
    result: dict[int, _Meaning] = {}
    headers = [(bit, parts[0].header) for bit, parts in _SIMPLE.items()]
    headers += [(bit, header) for (bit, _), header in _BY_ETH_TYPE.items()]
    headers += [(bit, header) for (bit, _), header in _BY_IP_PROTO.items()]
    for bit, header in headers:
        is_ip = bit in (field.IP_SRC, field.IP_DST)
        offset = V4_MAPPED if is_ip and header & 0xFF == 4 else 0
        full = (1 << (header & 0xFF) * 8) - 1
        result[header] = _Meaning(bit, full, offset)
    result[VLAN_VID] = _Meaning(field.VLAN, 0x1FFF, 0)
    result[IP_FRAG] = _Meaning(field.IP_FRAG, 0x03, 0)
    result[TCP_FLAGS] = _Meaning(field.TCP_FLAGS, 0x0FFF, 0)
    return result


_MEANING: Final = _meanings()
_FRAG_OF_WIRE: Final = {0: 0, 1: 1, 3: 2}


def oxm_fields(data: bytes, start: int, end: int) -> list[tuple[int, int, int | None]]:
    """Split a run of OXM fields.

    Returns:
        (header without has-mask and with the value's length, value, mask or None).

    Raises:
        DecodeError: the run is cut short, or a length is impossible.
    """
    result: list[tuple[int, int, int | None]] = []
    while start < end:
        if end - start < 4:
            raise DecodeError(f"{end - start} bytes left over after the match fields")
        header = int.from_bytes(data[start : start + 4], "big")
        body = data[start + 4 : start + 4 + (header & 0xFF)]
        start += 4 + len(body)
        if len(body) != header & 0xFF or start > end:
            raise DecodeError(f"match field {header:#010x} is cut short")
        result.append(_oxm_field(header, body))
    return result


def _oxm_field(header: int, body: bytes) -> tuple[int, int, int | None]:
    if header >> 16 == EXPERIMENTER_CLASS:
        if int.from_bytes(body[:4], "big") == ONF_EXPERIMENTER and header | (
            HAS_MASK | 0xFF
        ) == ONF_TCP_FLAGS | (HAS_MASK | 0xFF):
            body = body[4:]
            header = TCP_FLAGS | header & HAS_MASK
        else:
            return header & ~HAS_MASK, int.from_bytes(body, "big"), None
    if not header & HAS_MASK:
        return header, int.from_bytes(body, "big"), None
    half = len(body) // 2
    return (
        header & ~(HAS_MASK | 0xFF) | half,
        int.from_bytes(body[:half], "big"),
        int.from_bytes(body[half:], "big"),
    )


def match_end(data: bytes, start: int) -> tuple[int, int]:
    """Return where the fields of a match end, and where its padding ends.

    Raises:
        DecodeError: no OXM match stands there, or it is cut short.
    """
    if len(data) < start + 4:
        raise DecodeError("no room for a match")
    kind = int.from_bytes(data[start : start + 2], "big")
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    end = start + length
    padded = start + (length + 7) // 8 * 8
    if kind != 1 or length < 4 or padded > len(data):
        raise DecodeError(f"match of type {kind} with a length of {length} bytes")
    return end, padded


def decode_match(data: bytes, start: int) -> tuple[Match, int]:
    """Decode a match that this module could have encoded.

    Returns:
        The match, and the offset behind its padding.

    Raises:
        DecodeError: malformed, or a field or mask that we never send.
    """
    end, padded = match_end(data, start)
    values: dict[int, int] = {}
    ecn: int | None = None
    for header, value, mask in oxm_fields(data, start + 4, end):
        if header == IP_ECN and mask is None:
            ecn = value
            continue
        _take(values, header, value, mask)
    if (ecn is None) != (field.IP_TOS not in values):
        raise DecodeError("DSCP and ECN do not come together")
    if ecn is not None:
        values[field.IP_TOS] = values[field.IP_TOS] << 2 | ecn & 3
    if field.IP_FRAG in values:
        values[field.IP_FRAG] = _FRAG_OF_WIRE[values[field.IP_FRAG] & 3]
    bits = sorted(values)
    return Match(sum(bits), tuple(values[bit] for bit in bits)), padded


def _take(values: dict[int, int], header: int, value: int, mask: int | None) -> None:
    meaning = _MEANING.get(header)
    if meaning is None:
        raise DecodeError(f"unknown match field {header:#010x}")
    masked = _masked(meaning.bit, header, mask) if mask is not None else None
    if masked is not None:
        bit, shift = masked
        meaning = _Meaning(bit, 0, 0)
        value = (value & (mask or 0)) >> shift
    if mask is not None and mask & meaning.full_mask != meaning.full_mask:
        raise DecodeError(f"match field {header:#010x} with mask {mask:#x}")
    if meaning.bit in values:
        raise DecodeError(f"match field {header:#010x} twice")
    if meaning.bit == field.IP_FRAG and value & 3 not in _FRAG_OF_WIRE:
        raise DecodeError(f"fragment class {value}")
    values[meaning.bit] = value | meaning.offset


def _masked(bit: int, header: int, mask: int) -> tuple[int, int] | None:
    """Return (field, right shift) of a part of a field, None for none of ours."""
    if bit == field.L4_DST and mask == _BLOCK_MASK:
        return field.PORT_BLOCK, field.PORT_BLOCK_SHIFT
    if bit == field.TCP_FLAGS and mask == _SYN_MASK:
        return field.TCP_SYN, field.TCP_SYN_SHIFT
    if bit == field.ETH_DST and mask == _GROUP_MASK:
        return field.ETH_GROUP, field.ETH_GROUP_SHIFT
    shift = _OCTET_SHIFT.get(header)
    if shift is not None and mask == 0xFF << shift:
        return field.SOURCE_OCTET, shift
    return None
