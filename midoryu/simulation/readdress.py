# SPDX-License-Identifier: Apache-2.0
"""Translations of a packet under way: its source or destination, and what it quotes.

`binding` and `balancer` call it; `walk` has the headers.

Source: RFC 5508, section 4.2 (ICMP errors).
"""

from __future__ import annotations

from midoryu.simulation.tuples import PORT_PROTOCOLS, quotes_query
from midoryu.simulation.walk import Walk
from midoryu.state.connection import query_ports


def set_source(walk: Walk, address: int, port: int) -> None:
    """Translate the source (of an ICMP error: also the quoted destination)."""
    headers, quoted = walk.headers, walk.quoted
    if quoted is None:
        headers.ip_src = address
        if walk.packet.ip_proto in PORT_PROTOCOLS:
            headers.l4_src = port
        elif walk.id_counts and _is_query(walk):
            headers.icmp_id = port
        return
    if quoted.ip_dst != address:
        # Whoever inside says it: RFC 5508, section 4.2, REQ-5(c).
        headers.ip_src = address
    quoted.ip_dst = address
    if quoted.ip_proto in PORT_PROTOCOLS:
        quoted.l4_dst = port
    elif walk.id_counts and not quotes_query(quoted):
        quoted.l4_src = quoted.l4_dst = port


def set_destination(walk: Walk, address: int, port: int) -> None:
    """Translate the destination (of an ICMP error: also the quoted source)."""
    headers, quoted = walk.headers, walk.quoted
    if quoted is None:
        headers.ip_dst = address
        if walk.packet.ip_proto in PORT_PROTOCOLS:
            headers.l4_dst = port
        elif walk.id_counts and not _is_query(walk):
            headers.icmp_id = port
        return
    if headers.ip_dst == quoted.ip_src:
        headers.ip_dst = address
    quoted.ip_src = address
    if quoted.ip_proto in PORT_PROTOCOLS:
        quoted.l4_src = port
    elif walk.id_counts and quotes_query(quoted):
        quoted.l4_src = quoted.l4_dst = port


def _is_query(walk: Walk) -> bool:
    headers = walk.headers
    ports = query_ports(walk.packet.ip_proto, headers.l4_src, 0)
    return ports is not None and ports[1] != 0
