# SPDX-License-Identifier: Apache-2.0
"""Addresses as plain integers: fast to compare, hash and mask.

An IP address of either family is one 128-bit integer; IPv4 stands as its IPv4-mapped
IPv6 form (`::ffff:a.b.c.d`), so that one table of prefixes serves both families. A MAC
address is one 48-bit integer. Text and bytes appear only at the rims.

Source: RFC 4291, section 2.5.5.2 (IPv4-mapped IPv6 address).
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

# RFC 4291, section 2.5.5.2.
V4_MAPPED: Final = 0xFFFF_0000_0000
V4_MAPPED_PREFIX_LEN: Final = 96
V4_BROADCAST: Final = V4_MAPPED | 0xFFFF_FFFF
MAC_BROADCAST: Final = 0xFFFF_FFFF_FFFF
# IEEE 802: the group bit is the lowest bit of the first octet.
MAC_GROUP_BIT: Final = 1 << 40
_ALL_ONES: Final = (1 << 128) - 1
_MAC: Final = re.compile("(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")


class Prefix(NamedTuple):
    """A set of addresses that share their leading bits, in the 128-bit space."""

    value: int
    """Lowest address of the prefix, host bits zero."""
    length: int
    """Leading bits that count, 0..128 (an IPv4 /24 is 120 here)."""

    @property
    def mask(self) -> int:
        """Netmask in the 128-bit space."""
        return prefix_mask(self.length)

    def contains(self, address: int) -> bool:
        """Tell whether an address lies in the prefix."""
        return (address ^ self.value) >> (128 - self.length) == 0

    def __str__(self) -> str:
        """Show the prefix in its own family's notation."""
        if is_v4(self.value) and self.length >= V4_MAPPED_PREFIX_LEN:
            return f"{format_ip(self.value)}/{self.length - V4_MAPPED_PREFIX_LEN}"
        return f"{format_ip(self.value)}/{self.length}"


def prefix_mask(length: int) -> int:
    """Return the netmask with `length` leading ones of 128 bits."""
    return _ALL_ONES ^ (_ALL_ONES >> length)


# The netmask of all IPv4-mapped addresses; a smaller mask is of an IPv6 prefix.
V4_MASK: Final = prefix_mask(V4_MAPPED_PREFIX_LEN)


def is_v4(address: int) -> bool:
    """Tell whether an address is IPv4 (IPv4-mapped)."""
    return address >> 32 == 0xFFFF


def parse_ip(text: str) -> int:
    """Read an IPv4 or IPv6 address.

    Raises:
        ValueError: the text is no address, or is an IPv4-mapped IPv6 address.
    """
    parsed = ipaddress.ip_address(text)
    if parsed.version == 4:
        return V4_MAPPED | int(parsed)
    if is_v4(int(parsed)):
        raise ValueError(f"{text!r} is an IPv4-mapped address, write it as IPv4")
    return int(parsed)


def parse_prefix(text: str, *, strict: bool = True) -> Prefix:
    """Read `address/length`; a bare address is a prefix of one address.

    Raises:
        ValueError: not a prefix, or host bits are set while `strict`.
    """
    network = ipaddress.ip_network(text, strict=strict)
    if network.version == 4:
        return Prefix(
            V4_MAPPED | int(network.network_address),
            V4_MAPPED_PREFIX_LEN + network.prefixlen,
        )
    return Prefix(int(network.network_address), network.prefixlen)


def format_ip(address: int) -> str:
    """Show an address in its own family's notation."""
    if is_v4(address):
        return str(ipaddress.IPv4Address(address & 0xFFFF_FFFF))
    return str(ipaddress.IPv6Address(address))


def parse_mac(text: str) -> int:
    """Read a MAC address written as six colon-separated octets.

    Raises:
        ValueError: the text is no MAC address.
    """
    if not _MAC.fullmatch(text):
        raise ValueError(f"{text!r} is not a MAC address")
    return int(text.replace(":", ""), 16)


def format_mac(mac: int) -> str:
    """Show a MAC address as six colon-separated octets."""
    return mac.to_bytes(6, "big").hex(":")


def is_group_mac(mac: int) -> bool:
    """Tell whether a MAC address is multicast or broadcast."""
    return bool(mac & MAC_GROUP_BIT)


def is_multicast_ip(address: int) -> bool:
    """Tell whether an address is multicast or the limited broadcast.

    Source: RFC 5771, section 1; RFC 4291, section 2.7.
    """
    if is_v4(address):
        return address & 0xF000_0000 == 0xE000_0000 or address == V4_BROADCAST
    return address >> 120 == 0xFF


def link_local_of(mac: int) -> int:
    """Return the IPv6 link-local address made from a MAC address.

    Source: RFC 4291, appendix A (modified EUI-64).
    """
    high, low = mac >> 24, mac & 0xFF_FFFF
    return (0xFE80 << 112) | ((high ^ 0x02_0000) << 40) | (0xFFFE << 24) | low


def is_martian(ip: int) -> bool:
    """Tell whether an address can be on no link: loopback, "this" host, broadcast.

    Source: RFC 1122, section 3.2.1.3; RFC 4291, sections 2.5.2 and 2.5.3.
    """
    if is_v4(ip):
        return (ip >> 24) & 0xFF in (0, 127) or ip == V4_BROADCAST
    return ip in (0, 1)


def is_forged(ip: int, *, to_group: bool) -> bool:
    """Tell whether no machine can have sent a packet with a source.

    Loopback, multicast, class E; "this" host and `::` only where the frame goes to a
    group: from there machines ask for an address, or whether it is free.

    Source: RFC 1122, section 3.2.1.3; RFC 1812, section 5.3.7; RFC 4291, sections
    2.5.2, 2.5.3 and 2.7; RFC 6890.
    """
    if is_v4(ip):
        octet = ip >> 24 & 0xFF
        return octet >= 224 or octet == 127 or (not octet and not to_group)
    return ip == 1 or ip >> 120 == 0xFF or (not ip and not to_group)


def is_link_local(address: int) -> bool:
    """Tell whether an address is IPv6 link-local (RFC 4291, section 2.5.6)."""
    return address >> 118 == 0xFE80 >> 6


def solicited_node(address: int) -> int:
    """Return the solicited-node multicast address.

    Source: RFC 4291, section 2.7.1.
    """
    return (0xFF02 << 112) | (1 << 32) | 0xFF00_0000 | (address & 0xFF_FFFF)


def multicast_mac(address: int) -> int:
    """Return the group MAC address of a multicast address of either family.

    Source: RFC 1112, section 6.4; RFC 2464, section 7.
    """
    if is_v4(address):
        return 0x0100_5E00_0000 | (address & 0x7F_FFFF)
    return 0x3333_0000_0000 | (address & 0xFFFF_FFFF)
