# SPDX-License-Identifier: Apache-2.0
"""Protocol numbers that several rooms share, each with its source."""

from __future__ import annotations

from typing import Final

# IEEE 802 numbers, as listed by IANA.
ETH_IPV4: Final = 0x0800
ETH_ARP: Final = 0x0806
# RFC 903.
ETH_RARP: Final = 0x8035
ETH_VLAN: Final = 0x8100
ETH_IPV6: Final = 0x86DD

# IANA protocol numbers.
ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
ICMPV6: Final = 58
SCTP: Final = 132

# RFC 826.
ARP_REQUEST: Final = 1
ARP_REPLY: Final = 2

# RFC 792.
ICMP_ECHO_REPLY: Final = 0
ICMP_UNREACHABLE: Final = 3
ICMP_ECHO_REQUEST: Final = 8
ICMP_TIME_EXCEEDED: Final = 11
ICMP_PARAMETER_PROBLEM: Final = 12
# RFC 792 and RFC 1812, section 5.2.7.1: codes of destination unreachable.
NET_UNREACHABLE: Final = 0
HOST_UNREACHABLE: Final = 1
PORT_UNREACHABLE: Final = 3
FRAG_NEEDED: Final = 4
ADMIN_PROHIBITED: Final = 13

# RFC 4443.
ICMPV6_UNREACHABLE: Final = 1
ICMPV6_PACKET_TOO_BIG: Final = 2
ICMPV6_TIME_EXCEEDED: Final = 3
ICMPV6_PARAMETER_PROBLEM: Final = 4
ICMPV6_ECHO_REQUEST: Final = 128
ICMPV6_ECHO_REPLY: Final = 129
V6_NO_ROUTE: Final = 0
V6_ADMIN_PROHIBITED: Final = 1
V6_ADDRESS_UNREACHABLE: Final = 3
V6_PORT_UNREACHABLE: Final = 4
# RFC 4861, section 4.
ND_ROUTER_SOLICITATION: Final = 133
ND_ROUTER_ADVERTISEMENT: Final = 134
ND_SOLICITATION: Final = 135
ND_ADVERTISEMENT: Final = 136

# RFC 8200, section 4; RFC 4302 (authentication header).
IPV6_FRAGMENT: Final = 44
IPV6_AUTHENTICATION: Final = 51
EXTENSIONS: Final = frozenset((0, 43, IPV6_FRAGMENT, IPV6_AUTHENTICATION, 60))
# More than any honest packet has (RFC 8200, section 4.1 recommends each once).
MAX_EXTENSIONS: Final = 8

# RFC 9293, section 3.1.
TCP_FIN: Final = 0x01
TCP_SYN: Final = 0x02
TCP_RST: Final = 0x04
TCP_PSH: Final = 0x08
TCP_ACK: Final = 0x10

# Fragment classes, as OVS's nw_frag tells them apart (ovs-fields(7)).
FRAG_NONE: Final = 0
FRAG_FIRST: Final = 1
FRAG_LATER: Final = 2
