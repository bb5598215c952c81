# SPDX-License-Identifier: Apache-2.0
"""Records follow the interested set: new members and moved vports get theirs.

`change_lane` asks `before` a change is applied and calls `follow` after it. A vport's
records are sent by the host that had it; where that host is dead, by whoever has them.
The host that has it now pulls them too, and asks others until they are there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from midoryu.engine import state_lane
from midoryu.engine.core import Core
from midoryu.engine.effect import Effects
from midoryu.state.connection import Connection
from midoryu.topology.model import Change, Gone, IngressSet, Put, Vport, VportStatus


class Places(NamedTuple):
    """What a change is about to touch."""

    joined: frozenset[int]
    """Vports of ingress sets that change, before and after, and such that migrate."""
    was_at: dict[int, int]
    """Vport -> host that has it before the change."""


def before(core: Core, changes: Iterable[Change]) -> Places:
    """Note the members and places that changes are about to touch."""
    joined: set[int] = set()
    was_at: dict[int, int] = {}
    for change in changes:
        kind = type(change.row) if isinstance(change, Put) else change.kind
        key = change.row.key if isinstance(change, Put) else change.key
        if kind is IngressSet:
            old = core.topology.row(IngressSet, key)
            joined |= old.vports if old is not None else frozenset()
            if isinstance(change, Put) and isinstance(change.row, IngressSet):
                joined |= change.row.vports
        elif isinstance(change, Put) and isinstance(change.row, Vport):
            was = core.topology.row(Vport, key)
            old_to = was.migrating_to if was is not None else 0
            if change.row.migrating_to not in (0, old_to):
                joined.add(int(key))
        elif kind is VportStatus and not isinstance(change, Gone):
            was_at[int(key)] = core.topology.location(int(key))
    return Places(frozenset(joined), was_at)


def follow(core: Core, places: Places, effects: Effects, now: float) -> None:
    """Send records to who has become interested in them."""
    moved = _moved(core, places, now)
    wanted = places.joined | moved
    if not wanted or core.replicator is None:
        return
    batches: dict[frozenset[int], list[Connection]] = defaultdict(list)
    for connection in core.connections:
        ends = {connection.ingress_vport, connection.egress_vport}
        # The owner may have let it go since: who has an end of it knows it best.
        is_mine = core.host in map(core.topology.location, ends)
        if ends & moved or (is_mine and ends & places.joined):
            peers = state_lane.interested_peers(core, connection)
            batches[peers].append(connection)
    for peers, connections in batches.items():
        datagrams = core.replicator.push(connections, peers, now)
        state_lane.send(core, datagrams, effects)
        core.counters["connections sent again"] += len(connections)


def _moved(core: Core, places: Places, now: float) -> frozenset[int]:
    """Return the vports that moved and whose records this host has to send."""
    mine: set[int] = set()
    for vport, old in places.was_at.items():
        new = core.topology.location(vport)
        if old in (0, new) or not new:
            continue
        if new == core.host:
            core.moved_from[vport], core.moved_at[vport] = old, now
            if core.replicator is not None:
                core.replicator.pull(old, now)
        elif old == core.host or old in core.topology.dead_hosts:
            mine.add(vport)
    return frozenset(mine)
