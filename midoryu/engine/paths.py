# SPDX-License-Identifier: Apache-2.0
"""The ways to gateways, seen by those who use them.

Fellows of a gateway notice its death (`gateways`). They cannot see that its way to one
host is cut, or is open in one direction only. So a host asks the gateways that its own
flows lead to whether packets come and go (`replication.echo`). Their switches answer,
not their agents: however many hosts ask, it costs a gateway's agent nothing. A lost way
counts for this host alone, and nobody is told.

`gateways.step` calls `step`, and reads `Core.paths`.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Final

from midoryu.engine import state_lane
from midoryu.engine.core import Core
from midoryu.engine.effect import Effects
from midoryu.topology.model import IngressSet, VportStatus
from midoryu.topology.tag import vport_tag

_LOOK_S: Final = 0.25
_WARNING: Final = 30


def find(core: Core) -> None:
    """Find the vports of ingress sets that other hosts have."""
    vports = {v for one in core.topology.rows(IngressSet) for v in one.vports}
    statuses = [core.topology.row(VportStatus, vport) for vport in sorted(vports)]
    core.far_uplinks = tuple(
        (vport_tag(status.key), status.host)
        for status in statuses
        if status is not None and status.up and status.host not in (0, core.host)
    )


def deadline(core: Core) -> float:
    """Return when `step` has something to do."""
    look_at = core.paths_at if core.far_uplinks else math.inf
    return min(core.paths.deadline() or math.inf, look_at)


def step(core: Core, effects: Effects, now: float) -> bool:
    """Ask and judge; tell whether the lost ways are others than before."""
    if core.replicator is None or not core.switch_connected:
        return False
    before = core.paths.dead
    if now >= core.paths_at:
        core.paths_at = now + _LOOK_S
        core.paths.watch(_wanted(core), now)
    changes = core.paths.tick(now)
    asked = core.paths.watched if changes.beat else frozenset(changes.suspects)
    ask(core, asked, effects, now)
    for host in changes.died:
        effects.log.append((_WARNING, f"the way to host {_name(core, host)} is lost"))
        core.counters["ways to gateways lost"] += 1
    for host in changes.revived:
        effects.log.append((_WARNING, f"the way to host {_name(core, host)} is back"))
    return core.paths.dead != before or bool(changes.revived)


def ask(core: Core, hosts: Collection[int], effects: Effects, now: float) -> None:
    """Ask the switches of hosts for an echo."""
    if hosts and core.replicator is not None:
        state_lane.send(core, core.replicator.echoes.ask(hosts, now), effects)


def heard(core: Core, host: int, now: float) -> None:
    """Note an echo."""
    core.paths.heard(host, now)
    core.liveness.vouch(host, now)


def _wanted(core: Core) -> set[int]:
    """Choose those that flows lead to, and those whose way is lost until it is back."""
    is_used, lost = core.flows.is_tagged, core.paths.dead
    return {host for tag, host in core.far_uplinks if host in lost or is_used(tag)}


def _name(core: Core, host: int) -> str:
    row = core.topology.host(host)
    return row.name if row is not None else str(host)
