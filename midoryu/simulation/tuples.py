# SPDX-License-Identifier: Apache-2.0
"""How a packet presents its connection: addresses and ports, or what stands for them.

`walk` looks records up by these; `state.connection` says what a tuple is.
"""

from __future__ import annotations

from typing import Final

from midoryu.packet import protocol
from midoryu.packet.packet import Embedded, Headers, Packet
from midoryu.state.connection import FourTuple, query_ports

PORT_PROTOCOLS: Final = frozenset((protocol.TCP, protocol.UDP, protocol.SCTP))


def tuple_of(proto: int, headers: Headers, *, with_id: bool) -> FourTuple:
    """Return the tuple that headers present; ICMP queries have no ports but a type.

    With `with_id` the identifier of a query is part of it.
    """
    source_port, destination_port = headers.l4_src, headers.l4_dst
    if proto not in PORT_PROTOCOLS:
        icmp_id = headers.icmp_id if with_id else 0
        ports = query_ports(proto, headers.l4_src, icmp_id)
        source_port, destination_port = ports if ports is not None else (0, 0)
    return headers.ip_src, headers.ip_dst, source_port, destination_port


def quoted_tuple(quoted: Embedded, *, with_id: bool) -> FourTuple:
    """Return the tuple of the packet that an ICMP error quotes."""
    if quoted.ip_proto in PORT_PROTOCOLS:
        return quoted.ip_src, quoted.ip_dst, quoted.l4_src, quoted.l4_dst
    icmp_id = quoted.l4_src if with_id else 0
    ports = query_ports(quoted.ip_proto, quoted.icmp_type, icmp_id)
    source_port, destination_port = ports if ports is not None else (0, 0)
    return quoted.ip_src, quoted.ip_dst, source_port, destination_port


def quotes_query(quoted: Embedded) -> bool:
    """Tell whether an ICMP error quotes a query, not an answer to one."""
    ports = query_ports(quoted.ip_proto, quoted.icmp_type, 0)
    return ports is not None and ports[1] != 0


def is_lone_reply(packet: Packet) -> bool:
    """Tell whether a packet answers an echo request; it begins no connection."""
    proto, kind = packet.ip_proto, packet.headers.l4_src
    if proto == protocol.ICMP:
        return kind == protocol.ICMP_ECHO_REPLY
    return proto == protocol.ICMPV6 and kind == protocol.ICMPV6_ECHO_REPLY
