# SPDX-License-Identifier: Apache-2.0
"""Look-ups for layer 2 services: sub-ports, group members, policies, mirrors, counts.

`snapshot` owns one and tells it every row that changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from midoryu.topology import model
from midoryu.topology.l2 import Mirror, MulticastMember, Qos

_NO_POLICY = Qos("", "")


class L2Index:
    """What belongs together, kept in step with the rows."""

    def __init__(self, rows: Mapping[type, Mapping[Any, Any]]) -> None:
        self._rows = rows
        self._subports: dict[int, set[int]] = {}
        self._members: dict[tuple[int, int], dict[str, int]] = {}
        self._mirrors_from: dict[int, set[int]] = {}
        self._mirrors_to: dict[int, set[int]] = {}
        self.macs_of_network: Counter[int] = Counter()
        """Network -> MAC addresses that are learned on it."""
        self.macs_of_vport: Counter[int] = Counter()
        """Vport -> MAC addresses that are learned behind it."""
        self.neighbors_of_router: Counter[int] = Counter()
        """Router -> neighbours that it knows."""

    def store(self, kind: type, old: Any, new: Any) -> None:
        """Take over that a row came (`old` None), changed, or went (`new` None)."""
        if kind is model.Vport:
            _move(self._subports, old, new, _parents)
        elif kind is MulticastMember:
            if old is not None:
                group = self._members.get((old.network, old.group), {})
                group.pop(old.key, None)
            if new is not None:
                group = self._members.setdefault((new.network, new.group), {})
                group[new.key] = new.vport
        elif kind is model.Neighbor:
            for row, one in ((old, -1), (new, 1)):
                if row is not None:
                    self.neighbors_of_router[row.router] += one
        elif kind is Mirror:
            _move(self._mirrors_from, old, new, lambda row: row.vports)
            _move(self._mirrors_to, old, new, lambda row: (row.target,))

    def count_macs(self, old: Any, new: Any) -> None:
        """Take over where a MAC address was known to be, and where it is now."""
        for row, one in ((old, -1), (new, 1)):
            if row is not None:
                self.macs_of_network[row.network] += one
                self.macs_of_vport[row.vport] += one

    def subports(self, parent: int) -> Iterable[int]:
        """Return the sub-ports of a vport."""
        return self._subports.get(parent, ())

    def members(self, network: int, group: int) -> frozenset[int]:
        """Return the vports that want a group (`l2.ROUTERS`: that want all)."""
        return frozenset(self._members.get((network, group), {}).values())

    def policy(self, vport: model.Vport) -> Qos:
        """Return the QoS policy of a vport: its own, its network's, or none."""
        key = vport.qos
        if not key:
            network = self._rows[model.Network].get(vport.device)
            key = network.qos if network is not None else ""
        found: Qos | None = self._rows[Qos].get(key) if key else None
        return found or _NO_POLICY

    def mirrors_of(self, vport: int) -> tuple[Mirror, ...]:
        """Return the mirrors that copy what passes a vport, in order of their keys."""
        rows = self._rows[Mirror]
        return tuple(rows[key] for key in sorted(self._mirrors_from.get(vport, ())))

    def mirrors_to(self, vport: int) -> tuple[Mirror, ...]:
        """Return the mirrors whose copies go to a vport, in order of their keys."""
        rows = self._rows[Mirror]
        return tuple(rows[key] for key in sorted(self._mirrors_to.get(vport, ())))


def _parents(row: model.Vport) -> tuple[int, ...]:
    return (row.parent,) if row.parent else ()


def _move(index: dict[int, set[int]], old: Any, new: Any, places: Any) -> None:
    for place in places(old) if old is not None else ():
        index.get(place, set()).discard(old.key)
    for place in places(new) if new is not None else ():
        index.setdefault(place, set()).add(new.key)
