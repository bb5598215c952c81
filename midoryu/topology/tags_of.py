# SPDX-License-Identifier: Apache-2.0
"""What a row that came, changed or went may have made wrong, as tags.

`snapshot` asks for the row as it was and as it is; `tag` says what tags are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from midoryu.topology import model
from midoryu.topology.rows import DEVICE_ROWS, NETWORK_ROWS, Rows
from midoryu.topology.segment import is_way
from midoryu.topology.tag import (
    Tag,
    chain_tag,
    device_tag,
    flood_tag,
    host_tag,
    interest_tag,
    mac_tag,
    multicast_tag,
    neighbor_tag,
    vport_tag,
)

_TAG_OF_ROW: Final[dict[type, Callable[[Any], Tag]]] = {
    model.VportStatus: lambda row: vport_tag(row.key),
    model.MacEntry: lambda row: mac_tag(row.network, row.mac),
    model.Neighbor: lambda row: neighbor_tag(row.router, row.address),
    model.Network: lambda row: device_tag(row.key),
    model.Router: lambda row: device_tag(row.key),
    model.Chain: lambda row: chain_tag(row.key),
    model.Host: lambda row: host_tag(row.key),
    model.MulticastMember: lambda row: multicast_tag(row.network, row.group),
}


def tags_of(rows: Rows, row: Any) -> Iterable[Tag]:
    """Return the tags of what depends on a row, as the others are now."""
    if isinstance(row, model.Vport):
        return _vport_tags(rows, row)
    if isinstance(row, model.IngressSet):
        return _set_tags(rows, row)
    if type(row) in NETWORK_ROWS:
        return (device_tag(row.network),)
    if type(row) in DEVICE_ROWS:
        return (device_tag(row.router),)
    make_tag = _TAG_OF_ROW.get(type(row))
    return () if make_tag is None else (make_tag(row),)


def _set_tags(rows: Rows, row: model.IngressSet) -> Iterator[Tag]:
    yield from map(interest_tag, row.vports)
    vports = list(filter(None, map(rows.vport, row.vports)))
    if len({one.device for one in vports}) > 1:
        # Records are looked for at all of these devices.
        yield from (vport_tag(one.key) for one in vports)
    yield from map(device_tag, networks_between(rows, row))


def networks_between(rows: Rows, row: model.IngressSet) -> set[int]:
    """Return the networks that a set may have several ways to one segment of."""
    vports = filter(None, map(rows.vport, row.vports))
    ways = {one.device for one in vports if is_way(one)}
    return {device for device in ways if rows.row(model.Network, device) is not None}


def _vport_tags(rows: Rows, row: model.Vport) -> Iterator[Tag]:
    yield vport_tag(row.key)
    yield flood_tag(row.device)
    if (
        row.metadata
        or rows.row(model.Router, row.device) is not None
        or any(True for _ in rows.ingress_sets(row.key))
    ):
        yield device_tag(row.device)
    yield mac_tag(row.device, row.mac)
    peer = rows.vport(row.peer) if row.peer else None
    if peer is not None:
        yield mac_tag(peer.device, row.mac)
        yield mac_tag(row.device, peer.mac)
