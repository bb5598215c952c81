# SPDX-License-Identifier: Apache-2.0
"""What load balancers ask of an engine: affinity is kept, and connections end in time.

`state_lane` tells of each record, `change_lane` of changed rows; the simulation reads
the affinity table and never changes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from midoryu.engine import memory
from midoryu.engine.core import Core
from midoryu.engine.effect import Effects
from midoryu.simulation.chosen import balancing_of, choice_of
from midoryu.state.connection import Connection, TranslationKind
from midoryu.topology.balancer import (
    BALANCER_ROWS,
    Balancer,
    HealthMonitor,
    MemberStatus,
    Vip,
)
from midoryu.topology.model import Change, Put

_INFO: Final = 20


def note(core: Core, connection: Connection) -> None:
    """Let a record's client come back to its member, where its pool says so."""
    if not connection.translations or not core.topology.balancers:
        return
    choice = choice_of(core.topology, connection)
    pool = core.topology.balancers.pool(choice.vip.pool) if choice else None
    if choice is None or pool is None or not pool.row.affinity_s:
        return
    member = pool.member(*choice.member)
    if member is not None:
        core.affinity.note(
            (choice.vip.pool, choice.source),
            (member.address, member.port),
            connection=connection.id,
            used=connection.last_used,
            timeout_s=pool.row.affinity_s,
        )


def is_over(core: Core, connection: Connection) -> bool:
    """Tell whether a record's member is gone, and the pool ends its connections."""
    if not connection.translations or not core.topology.balancers:
        return False
    choice = choice_of(core.topology, connection)
    pool = core.topology.balancers.pool(choice.vip.pool) if choice else None
    if choice is None or pool is None:
        return False
    member = pool.member(*choice.member)
    if member is None:
        return pool.row.ends_removed
    return pool.row.ends_down and member.key in pool.down


def before(core: Core, changes: Iterable[Change]) -> frozenset[int]:
    """Return the records that call a VIP now, where changes may take VIPs away."""
    if not core.topology.balancers or not _kinds(changes) & {Balancer, Vip}:
        return frozenset()
    return frozenset(
        connection.id
        for connection in core.connections
        if connection.translations and choice_of(core.topology, connection) is not None
    )


def changed(
    core: Core,
    changes: Iterable[Change],
    balanced: frozenset[int],
    effects: Effects,
    now: float,
) -> None:
    """End what a change of rows ends; learn the clients of pools that are new.

    Args:
        core: the topology has the changes already.
        changes: all rows that changed.
        balanced: what `before` returned.
        effects: takes what follows.
        now: monotonic seconds.
    """
    kinds = _kinds(changes) & set(BALANCER_ROWS) - {HealthMonitor}
    if not kinds or (kinds == {MemberStatus} and not _any_ends_down(core)):
        return
    over = []
    for connection in core.connections:
        if not connection.translations:
            continue
        lost = connection.id in balanced and _lost_vip(core, connection)
        if lost or is_over(core, connection):
            over.append(connection)
        else:
            note(core, connection)
    for connection in over:
        end(core, connection, effects, now)


def _lost_vip(core: Core, connection: Connection) -> bool:
    """Tell whether a record's VIP is gone from a device that is there.

    Where the device is gone too, the database was lost: it will be filled again.
    """
    return choice_of(core.topology, connection) is None and any(
        balancing_of(core.topology, one.device) is not None
        or core.topology.network(one.device) is not None
        for one in connection.translations
        if one.kind is TranslationKind.DESTINATION
    )


def end(core: Core, connection: Connection, effects: Effects, now: float) -> None:
    """Forget a record; every other host comes to the same by itself."""
    core.nat.release(connection)
    core.invalidate(core.connections.remove(connection.id), effects, now)
    memory.forget(core, connection.id, effects)
    core.counters["load-balanced connections ended"] += 1


def _any_ends_down(core: Core) -> bool:
    return any(pool.row.ends_down for pool in core.topology.balancers.pools())


def _kinds(changes: Iterable[Change]) -> set[type]:
    return {type(one.row) if isinstance(one, Put) else one.kind for one in changes}
