# SPDX-License-Identifier: Apache-2.0
"""Rows of layer 2 services -> values: QoS policies, mirrors, multicast members.

`rows` has the converters of all other tables, and calls these.
"""

from __future__ import annotations

from typing import Any, Union

from midoryu.packet.address import is_multicast_ip, parse_ip
from midoryu.topology.l2 import ROUTERS, Mirror, MirrorDirection, MulticastMember, Qos


def number(column: list[int], default: int = 0) -> int:
    """Read an optional number."""
    return column[0] if column else default


def network_options(row: Any) -> dict[str, Any]:
    """Read what `model.Network` has for layer 2 services."""
    return {
        "multicast_snooping": row.multicast_snooping,
        "flood_unregistered": row.flood_unregistered,
        "vlan_transparent": row.vlan_transparent,
        "forward_bpdu": row.forward_bpdu,
        "mac_limit": number(row.mac_limit),
        "qos": str(row.qos[0].uuid) if row.qos else "",
    }


def vport_options(row: Any) -> dict[str, Any]:
    """Read what `model.Vport` has for layer 2 services.

    Raises:
        ValueError: a sub-port without a tag, or a tag without a parent.
    """
    if bool(row.parent) != bool(row.vlan):
        raise ValueError("a sub-port has a parent and a VLAN tag, others have neither")
    if row.parent and row.peer:
        raise ValueError("is linked, and a sub-port of another port")
    return {
        "parent": row.parent[0].key if row.parent else 0,
        "vlan": number(row.vlan),
        "qos": str(row.qos[0].uuid) if row.qos else "",
        "storm_pps": number(row.storm_pps),
        "mac_limit": number(row.mac_limit),
    }


def qos(row: Any) -> Qos:
    """Make the value of a `Qos` row."""
    return Qos(
        key=str(row.uuid),
        name=row.name,
        ingress_kbps=number(row.ingress_kbps),
        ingress_burst_kb=number(row.ingress_burst_kb),
        egress_kbps=number(row.egress_kbps),
        egress_burst_kb=number(row.egress_burst_kb),
        dscp=number(row.dscp, -1),
    )


def mirror(row: Any) -> Mirror:
    """Make the value of a `Mirror` row."""
    return Mirror(
        key=row.key,
        name=row.name,
        vports=frozenset(port.key for port in row.ports),
        target=row.port.key,
        direction=MirrorDirection(row.direction),
    )


def multicast_member(row: Any) -> MulticastMember:
    """Make the value of a `Multicast_Member` row.

    Raises:
        ValueError: the address is none of a multicast group.
    """
    group: Union[int, None] = parse_ip(row.address[0]) if row.address else None
    if group is not None and not is_multicast_ip(group):
        raise ValueError(f"{row.address[0]} is no multicast address")
    return MulticastMember(
        key=str(row.uuid),
        network=row.network.key,
        group=ROUTERS if group is None else group,
        vport=row.port.key,
    )
