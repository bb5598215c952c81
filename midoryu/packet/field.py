# SPDX-License-Identifier: Apache-2.0
"""The header fields that a decision can read, as bits of one plain integer.

A simulation collects the bits of what it read; the flow then matches just these. They
are plain integers because an `enum.IntFlag` costs a microsecond for each `|`. Fields of
one meaning in two protocols share a bit, as in OVS: ARP sender and target addresses are
`IP_SRC` and `IP_DST`, the ARP operation is `IP_PROTO`, an ICMP type is `L4_SRC` and an
ICMP code is `L4_DST`.
"""

from __future__ import annotations

from typing import Final

IN_PORT: Final = 1 << 0
ETH_DST: Final = 1 << 1
ETH_SRC: Final = 1 << 2
ETH_TYPE: Final = 1 << 3
VLAN: Final = 1 << 4
IP_TOS: Final = 1 << 5
IP_PROTO: Final = 1 << 6
IP_SRC: Final = 1 << 7
IP_DST: Final = 1 << 8
IP_FRAG: Final = 1 << 9
L4_SRC: Final = 1 << 10
L4_DST: Final = 1 << 11
TCP_FLAGS: Final = 1 << 12
IP_TTL: Final = 1 << 13
ND_TARGET: Final = 1 << 14
TUNNEL_KEY: Final = 1 << 15
# Read, but beyond what OpenFlow can match: such a packet installs no flow.
ICMP_ID: Final = 1 << 16
PAYLOAD: Final = 1 << 17
# A register of the switch: the packet is larger than its way allows.
TOO_LARGE: Final = 1 << 18
# The upper ten bits of L4_DST: which block of 64 ports the destination is in.
PORT_BLOCK: Final = 1 << 19
PORT_BLOCK_SHIFT: Final = 6
# The SYN bit of TCP_FLAGS alone.
TCP_SYN: Final = 1 << 20
TCP_SYN_SHIFT: Final = 1
# The first octet of IP_SRC, IPv4 or IPv6.
SOURCE_OCTET: Final = 1 << 21
# The bit of ETH_DST that says "to a group".
ETH_GROUP: Final = 1 << 22
ETH_GROUP_SHIFT: Final = 40

UNMATCHABLE: Final = ICMP_ID | PAYLOAD
L4: Final = L4_SRC | L4_DST
FIVE_TUPLE: Final = ETH_TYPE | IP_PROTO | IP_SRC | IP_DST | IP_FRAG | L4

NAMES: Final[tuple[tuple[int, str], ...]] = (
    (IN_PORT, "in_port"),
    (ETH_DST, "eth_dst"),
    (ETH_SRC, "eth_src"),
    (ETH_TYPE, "eth_type"),
    (VLAN, "vlan"),
    (IP_TOS, "ip_tos"),
    (IP_PROTO, "ip_proto"),
    (IP_SRC, "ip_src"),
    (IP_DST, "ip_dst"),
    (IP_FRAG, "ip_frag"),
    (L4_SRC, "l4_src"),
    (L4_DST, "l4_dst"),
    (TCP_FLAGS, "tcp_flags"),
    (IP_TTL, "ip_ttl"),
    (ND_TARGET, "nd_target"),
    (TUNNEL_KEY, "tunnel_key"),
    (ICMP_ID, "icmp_id"),
    (PAYLOAD, "payload"),
    (TOO_LARGE, "too_large"),
    (PORT_BLOCK, "port_block"),
    (TCP_SYN, "tcp_syn"),
    (SOURCE_OCTET, "source_octet"),
    (ETH_GROUP, "eth_group"),
)


def names(fields: int) -> tuple[str, ...]:
    """Name the fields in a bit set, in bit order."""
    return tuple(name for bit, name in NAMES if fields & bit)
