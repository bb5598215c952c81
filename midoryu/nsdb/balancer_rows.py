# SPDX-License-Identifier: Apache-2.0
"""Rows of load balancers -> values of `topology.balancer`; `rows` calls it."""

from __future__ import annotations

from typing import Any

from midoryu.nsdb.schema import ports_from_text
from midoryu.packet.address import parse_ip
from midoryu.topology import balancer as model


def _uuid(row: Any) -> str:
    if row is None:
        raise ValueError("refers to a row that does not exist")
    return str(row.uuid)


def balancer(row: Any) -> model.Balancer:
    """Make the value of a Load_Balancer."""
    devices = row.network + row.router
    if len(devices) != 1:
        raise ValueError("stands on no device or on two")
    return model.Balancer(str(row.uuid), row.name, int(devices[0].key), row.up)


def vip(row: Any) -> model.Vip:
    """Make the value of a Vip."""
    return model.Vip(
        key=str(row.uuid),
        balancer=_uuid(row.balancer),
        address=parse_ip(row.address),
        pool=_uuid(row.pool),
        ip_proto=row.ip_proto[0] if row.ip_proto else 0,
        port=row.l4_port[0] if row.l4_port else 0,
    )


def pool(row: Any) -> model.Pool:
    """Make the value of a Pool."""
    return model.Pool(
        key=str(row.uuid),
        name=row.name,
        affinity_s=float(row.affinity),
        ends_removed=row.on_remove == "end",
        ends_down=row.on_down == "end",
        rejects=row.no_member != "drop",
    )


def member(row: Any) -> model.PoolMember:
    """Make the value of a Pool_Member."""
    return model.PoolMember(
        key=str(row.uuid),
        pool=_uuid(row.pool),
        address=parse_ip(row.address),
        port=row.l4_port[0] if row.l4_port else 0,
        weight=row.weight,
        up=row.up,
    )


def monitor(row: Any) -> model.HealthMonitor:
    """Make the value of a Health_Monitor."""
    return model.HealthMonitor(
        key=str(row.uuid),
        pool=_uuid(row.pool),
        kind=model.Probe(row.type),
        port=row.l4_port[0] if row.l4_port else 0,
        path=row.path,
        codes=tuple(sorted(map(ports_from_text, row.codes))),
        interval_s=row.interval / 1000,
        timeout_s=row.timeout / 1000,
        rise=row.rise,
        fall=row.fall,
    )


def member_status(row: Any) -> model.MemberStatus:
    """Make the value of a Member_Status."""
    if row.host is None:
        raise ValueError("refers to a row that does not exist")
    return model.MemberStatus(_uuid(row.member), int(row.host.key), row.up)
