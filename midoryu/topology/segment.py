# SPDX-License-Identifier: Apache-2.0
"""Several ways to one outside segment: uplinks of one network in one ingress set.

Without own MAC addresses they are equal ways, so a frame that goes out of two of them
is there twice, and comes in by one what has left by another. `view` keeps which they
are; `simulation.segment` and `engine.segments` ask who stands for all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from midoryu.topology import model

if TYPE_CHECKING:
    from midoryu.topology.snapshot import Topology


def is_way(vport: model.Vport) -> bool:
    """Tell whether anybody may be behind a vport of a network."""
    return not (vport.mac or vport.peer or vport.metadata)


def segments_of(
    topology: Topology, vports: Iterable[model.Vport]
) -> dict[int, tuple[int, ...]]:
    """Find the ways to one segment among the vports of a network.

    Returns:
        For each vport that has fellows: all ways to its segment, itself among them, in
        the order of their names. Sets that share a member are one.
    """
    names = {vport.key: (vport.name, vport.key) for vport in vports if is_way(vport)}
    ways = names.keys()
    found: dict[int, tuple[int, ...]] = {}
    for start in sorted(ways):
        if start in found:
            continue
        members = {start}
        todo = [start]
        for key in todo:
            for one in topology.ingress_sets(key):
                new = (one.vports & ways) - members
                members |= new
                todo += new
        if len(members) > 1:
            together = tuple(sorted(members, key=names.__getitem__))
            found.update(dict.fromkeys(together, together))
    return found


def living(topology: Topology, ways: tuple[int, ...]) -> list[int]:
    """Return those of some ways by which a packet can leave now, in their order.

    Where that holds for none: those that nobody has switched off.
    """
    rows = [row for row in map(topology.vport, ways) if row is not None and row.up]
    up = [row.key for row in rows if topology.is_up(row)]
    return up or [row.key for row in rows]


def designated(topology: Topology, ways: tuple[int, ...]) -> int:
    """Return the way that stands for all: the first one that lives, 0 for none.

    Every host that knows the same rows finds the same one.
    """
    return next(iter(living(topology, ways)), 0)


def stands_back(topology: Topology, vport: model.Vport) -> bool:
    """Tell whether another way to its segment speaks in a vport's place."""
    network = topology.network(vport.device) if is_way(vport) else None
    ways = network.segments.get(vport.key, ()) if network is not None else ()
    return bool(ways) and designated(topology, ways) != vport.key
