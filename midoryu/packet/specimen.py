# SPDX-License-Identifier: Apache-2.0
"""A frame with given header fields: a specimen of the packets that a flow stands for.

The reverse of `codec` as far as headers go: whatever is not given has a harmless value,
and there is no payload. `engine.adoption` simulates specimens of flows that it found.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from midoryu.packet import field, protocol
from midoryu.packet.address import is_v4
from midoryu.packet.checksum import internet_checksum

_DEFAULT_MAC: Final = 0x02_00_00_00_00_FE
_DEFAULT_TTL: Final = 64
_V4_ANY: Final = 0xFFFF_0A00_0001
_V6_ANY: Final = 0xFD00 << 112 | 1


def specimen(values: Mapping[int, int]) -> bytes:
    """Make a frame with these fields (`packet.field` bit -> value).

    TCP gets the flags ACK unless they are given; layer 4 checksums are left zero.

    Raises:
        ValueError: the values do not make a frame (an ethertype without addresses that
            fit it, a fragment, an ARP field).
    """
    eth_type = values.get(field.ETH_TYPE, 0)
    head = values.get(field.ETH_DST, _DEFAULT_MAC).to_bytes(6, "big")
    head += values.get(field.ETH_SRC, _DEFAULT_MAC).to_bytes(6, "big")
    vlan = values.get(field.VLAN, 0)
    if vlan:
        head += struct.pack(">HH", protocol.ETH_VLAN, vlan & 0xFFF)
    head += eth_type.to_bytes(2, "big")
    if eth_type == protocol.ETH_IPV4:
        return head + _ipv4(values)
    if eth_type == protocol.ETH_IPV6:
        return head + _ipv6(values)
    if eth_type == protocol.ETH_ARP or values.get(field.IP_FRAG):
        raise ValueError("no specimen of ARP or of fragments")
    return head + bytes(46)


def _ipv4(values: Mapping[int, int]) -> bytes:
    source = values.get(field.IP_SRC, _V4_ANY)
    destination = values.get(field.IP_DST, _V4_ANY)
    if not (is_v4(source) and is_v4(destination)) or values.get(field.IP_FRAG):
        raise ValueError("IPv4 with other addresses, or a fragment")
    body = _layer4(values)
    header = struct.pack(
        ">BBHHHBBHII",
        0x45,
        values.get(field.IP_TOS, 0),
        20 + len(body),
        0,
        0,
        values.get(field.IP_TTL, _DEFAULT_TTL),
        values.get(field.IP_PROTO, protocol.UDP),
        0,
        source & 0xFFFF_FFFF,
        destination & 0xFFFF_FFFF,
    )
    checksum = internet_checksum(header).to_bytes(2, "big")
    return header[:10] + checksum + header[12:] + body


def _ipv6(values: Mapping[int, int]) -> bytes:
    source = values.get(field.IP_SRC, _V6_ANY)
    destination = values.get(field.IP_DST, _V6_ANY)
    if is_v4(source) or is_v4(destination) or values.get(field.IP_FRAG):
        raise ValueError("IPv6 with other addresses, or a fragment")
    body = _layer4(values)
    header = struct.pack(
        ">IHBB",
        6 << 28 | values.get(field.IP_TOS, 0) << 20,
        len(body),
        values.get(field.IP_PROTO, protocol.UDP),
        values.get(field.IP_TTL, _DEFAULT_TTL),
    )
    addresses = source.to_bytes(16, "big") + destination.to_bytes(16, "big")
    return header + addresses + body


def _layer4(values: Mapping[int, int]) -> bytes:
    proto = values.get(field.IP_PROTO, protocol.UDP)
    source, destination = values.get(field.L4_SRC, 0), values.get(field.L4_DST, 0)
    if proto == protocol.TCP:
        flags = values.get(field.TCP_FLAGS, protocol.TCP_ACK)
        return struct.pack(
            ">HHIIBBHHH", source, destination, 0, 0, 5 << 4, flags, 0xFFFF, 0, 0
        )
    if proto == protocol.UDP:
        return struct.pack(">HHHH", source, destination, 8, 0)
    if proto == protocol.SCTP:
        return struct.pack(">HHII", source, destination, 0, 0)
    if proto in (protocol.ICMP, protocol.ICMPV6):
        return struct.pack(">BBHI", source & 0xFF, destination & 0xFF, 0, 0) + bytes(16)
    return bytes(16)
