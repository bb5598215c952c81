# SPDX-License-Identifier: Apache-2.0
"""All rows as they are, and indexes of them: what belongs to a device, who is where.

`snapshot.Topology` is a `Rows` with views made of these. Here nothing is compiled.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from midoryu.topology import model
from midoryu.topology.l2_index import L2Index

DEVICE_ROWS = (model.Route, model.Masquerade, model.Dnat, model.FloatingIp)
# Rows that belong to a network.
NETWORK_ROWS = (model.Subnet,)


class Rows:
    """Every known row. Rows come in any order, also before those that they name."""

    def __init__(self) -> None:
        self.dead_hosts: frozenset[int] = frozenset()
        """Keys of hosts that a failure detector holds for dead."""
        self._rows: dict[type, dict[int | str, Any]] = defaultdict(dict)
        self._by_device: dict[tuple[type, int], dict[int | str, Any]] = {}
        self._macs: dict[tuple[int, int], model.MacEntry] = {}
        self._neighbors: dict[tuple[int, int], model.Neighbor] = {}
        self.l2 = L2Index(self._rows)
        """Sub-ports, multicast groups, policies, mirrors."""
        self.leased: Counter[tuple[int, int]] = Counter()
        """(router, NAT address) -> its leased port blocks."""
        self._sets_by_vport: dict[int, set[str]] = defaultdict(set)
        self._vport_by_iface: dict[str, int] = {}
        self._host_by_name: dict[str, int] = {}

    def rows(self, kind: type) -> Iterable[Any]:
        """Return all rows of one kind."""
        return self._rows[kind].values()

    def row(self, kind: type, key: int | str) -> Any | None:
        """Return one row, None when there is none."""
        return self._rows[kind].get(key)

    def rows_of(self, kind: type, device: int) -> Iterable[Any]:
        """Return the rows of one kind that belong to one device."""
        return self._by_device.get((kind, device), {}).values()

    def rows_about(self, device: int) -> Iterator[Any]:
        """Yield all rows that belong to one device."""
        for kind in (model.Vport, *DEVICE_ROWS, *NETWORK_ROWS):
            yield from self.rows_of(kind, device)

    def vports_of(self, device: int) -> Iterable[model.Vport]:
        """Return the vports of a device."""
        return self.rows_of(model.Vport, device)

    def vport(self, key: int) -> model.Vport | None:
        """Return a vport, None when there is none."""
        return self._rows[model.Vport].get(key)

    def vport_by_iface_id(self, iface_id: str) -> model.Vport | None:
        """Return the vport that an interface's `external_ids:iface-id` names."""
        return self.vport(self._vport_by_iface.get(iface_id, 0))

    def host(self, key: int) -> model.Host | None:
        """Return a host, None when there is none."""
        return self._rows[model.Host].get(key)

    def host_named(self, name: str) -> model.Host | None:
        """Return the host of a name, None when there is none."""
        return self.host(self._host_by_name.get(name, 0))

    def device_name(self, key: int) -> str:
        """Return the name of a network or router, for people."""
        row = self._rows[model.Network].get(key) or self._rows[model.Router].get(key)
        return row.name if row is not None else f"device {key}"

    def vport_name(self, key: int) -> str:
        """Return `device/vport`, for people."""
        vport = self.vport(key)
        if vport is None:
            return f"vport {key}"
        return f"{self.device_name(vport.device)}/{vport.name}"

    def knows_neighbor(self, router: int, address: int) -> bool:
        """Tell whether a router has learned of a neighbour."""
        return (router, address) in self._neighbors

    def location(self, vport: int) -> int:
        """Return the host that has a vport (or should have it), 0 for none."""
        status = self._rows[model.VportStatus].get(vport)
        if status is not None and status.up:
            return int(status.host)
        row = self.vport(vport)
        return row.host if row is not None else 0

    def is_up(self, vport: model.Vport) -> bool:
        """Tell whether a packet can leave by a vport now."""
        if not self.seems_up(vport):
            return False
        status = self._rows[model.VportStatus].get(vport.key)
        return status is None or status.host not in self.dead_hosts

    def seems_up(self, vport: model.Vport) -> bool:
        """Tell whether a packet could leave by a vport if its host lives."""
        if not vport.up:
            return False
        if vport.peer:
            peer = self.vport(vport.peer)
            return peer is not None and peer.up
        status = self._rows[model.VportStatus].get(vport.key)
        return status is not None and status.up

    def ingress_sets(self, vport: int) -> Iterator[model.IngressSet]:
        """Yield the ingress sets that a vport is in."""
        for key in self._sets_by_vport.get(vport, ()):
            yield self._rows[model.IngressSet][key]

    # Changes.

    def _is_eclipsed(self, row: Any) -> bool:
        """Tell whether another row stands for what a learned row says."""
        if isinstance(row, model.MacEntry):
            return self._macs.get(natural(row)) is not self._rows[type(row)][row.key]
        if isinstance(row, model.Neighbor):
            known = self._neighbors.get(natural(row))
            return known is not self._rows[type(row)][row.key]
        return False

    def _store(  # noqa: C901
        self, kind: type, key: int | str, old: Any, new: Any
    ) -> None:
        if new is None:
            self._rows[kind].pop(key, None)
        else:
            self._rows[kind][key] = new
        if kind is model.Vport or kind in DEVICE_ROWS or kind in NETWORK_ROWS:
            self._index_by_device(kind, key, old, new)
        self.l2.store(kind, old, new)
        if kind is model.Vport:
            _reindex(self._vport_by_iface, old, new, "iface_id")
        elif kind is model.Host:
            _reindex(self._host_by_name, old, new, "name")
        elif kind is model.MacEntry:
            place = natural(new if new is not None else old)
            before = self._macs.get(place)
            self._index_natural(self._macs, old, new)
            self.l2.count_macs(before, self._macs.get(place))
        elif kind is model.Neighbor:
            self._index_natural(self._neighbors, old, new)
        elif kind is model.Lease:
            self._count_lease(old, new)
        elif kind is model.IngressSet:
            for vport in old.vports if old else ():
                self._sets_by_vport[vport].discard(key)
            for vport in new.vports if new else ():
                self._sets_by_vport[vport].add(str(key))

    def _count_lease(self, old: Any, new: Any) -> None:
        for row, change in ((old, -1), (new, 1)):
            if row is not None:
                pair = row.router, row.address
                self.leased[pair] += change
                if not self.leased[pair]:
                    del self.leased[pair]

    def _index_by_device(self, kind: type, key: int | str, old: Any, new: Any) -> None:
        if old is not None:
            self._by_device[(kind, device_of(old))].pop(key, None)
        if new is not None:
            self._by_device.setdefault((kind, device_of(new)), {})[key] = new

    @staticmethod
    def _index_natural(index: dict[tuple[int, int], Any], old: Any, new: Any) -> None:
        # A row of the NSDB replaces what this host had learned by itself; the natural
        # key tells which entry an old row stood for.
        if old is not None and index.get(natural(old)) is old:
            del index[natural(old)]
        if new is not None:
            index[natural(new)] = new


def device_of(row: Any) -> int:
    """Return the network or router that a row belongs to."""
    if type(row) in NETWORK_ROWS:
        return int(row.network)
    return int(row.device if isinstance(row, model.Vport) else row.router)


def natural(row: Any) -> tuple[int, int]:
    """Return what a learned row is about; of two for one thing the later one counts."""
    if isinstance(row, model.MacEntry):
        return (row.network, row.mac)
    return (row.router, row.address)


def _reindex(index: dict[str, int], old: Any, new: Any, column: str) -> None:
    if old is not None and index.get(getattr(old, column)) == old.key:
        del index[getattr(old, column)]
    if new is not None and getattr(new, column):
        index[getattr(new, column)] = new.key
