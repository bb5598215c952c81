# SPDX-License-Identifier: Apache-2.0
"""Connections that are exceptions to their block: their vport has left the holder.

That host may be switched off without anybody's notice, so the gateway takes what is for
them itself (`port_blocks` hands on the rest). Records are looked at as they come, and
all of them, bit by bit, after a vport has moved.
"""

from __future__ import annotations

from typing import Final, Union

from midoryu.engine.core import Core
from midoryu.engine.effect import Effects
from midoryu.openflow.block_flows import exception_flow
from midoryu.openflow.flow import InstallFlow, RemoveFlow
from midoryu.state.connection import Connection, TranslationKind
from midoryu.state.portpool import BLOCK_PORTS

# Records looked at in one tick.
_SCAN_BATCH: Final = 2_000


def known(core: Core, connection: Connection, effects: Effects) -> None:
    """Look whether a record that came is an exception to its block."""
    blocks = core.blocks
    if not blocks.standing or connection.id in blocks.exceptions:
        return
    for device, kind, address, port in connection.translations:
        if kind is not TranslationKind.SOURCE:
            continue
        plan = blocks.plans.get((device, address))
        lease = core.lease_at.get((address, port // BLOCK_PORTS))
        if plan is None or lease is None or not plan.ways or lease.router != device:
            continue
        location = core.topology.location(connection.ingress_vport)
        if location in (0, lease.host):
            continue
        made = tuple(
            exception_flow(way, connection.ip_proto, port) for way, _ in plan.ways
        )
        blocks.exceptions[connection.id] = made
        blocks.exception_counts.update(one.match for one in made)
        effects.flow_mods.extend(map(InstallFlow, made))
        core.counters["connections kept from their block's holder"] += 1


def forget(core: Core, connection_id: int, effects: Effects) -> None:
    """Forget a record that has ended."""
    blocks = core.blocks
    for made in blocks.exceptions.pop(connection_id, ()):
        blocks.exception_counts[made.match] -= 1
        if not blocks.exception_counts[made.match]:
            del blocks.exception_counts[made.match]
            effects.flow_mods.append(RemoveFlow(made))


def scan(core: Core) -> None:
    """Have all records looked at."""
    blocks = core.blocks
    if any(made for _, made in blocks.standing.values()):
        blocks.scan = iter([one.id for one in core.connections])
        blocks.scanning = True


def step(core: Core, effects: Effects) -> None:
    """Go on with the look at all records after a vport moved."""
    blocks = core.blocks
    for _ in range(_SCAN_BATCH if blocks.scanning else 0):
        connection_id = next(blocks.scan, None)
        if connection_id is None:
            blocks.scanning = False
            return
        connection = core.connections.get(connection_id)
        if connection is not None:
            known(core, connection, effects)


def deadline(core: Core, now: float) -> Union[float, None]:
    """Return when the look at all records goes on, None for no look under way."""
    return now if core.blocks.scanning else None
