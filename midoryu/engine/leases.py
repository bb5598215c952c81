# SPDX-License-Identifier: Apache-2.0
"""Port blocks of NAT addresses: leased before they are needed, given back when idle.

The NSDB keeps who holds which block; `state.nat` gives out the ports. `change_lane`
brings the rows, `packet_lane` the packets that wait for a block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Union

from midoryu.engine.core import Core
from midoryu.engine.effect import Effects, LeaseBlock, ReleaseBlock
from midoryu.simulation.outcome import LeaseWanted
from midoryu.topology.model import Change, Gone, Lease, Put, Router

# Blocks that one address is asked for at once.
_MAX_AT_ONCE: Final = 8
Leases = Mapping[Union[int, str], Union[Lease, None]]


def standing(core: Core, changes: Iterable[Change]) -> Leases:
    """Return the leases that are about to go, by key, before the change is applied."""
    return {
        change.key: core.topology.row(Lease, change.key)
        for change in changes
        if isinstance(change, Gone) and change.kind is Lease
    }


def set_aside(core: Core) -> None:
    """Keep the leases of an earlier agent out of use until its records are back.

    Connections use ports of these blocks, and this agent does not know which yet.
    """
    for lease in core.topology.rows(Lease):
        if lease.host == core.host:
            core.old_leases[lease.key] = lease


def take_up(core: Core, now: float) -> None:
    """Use the leases of an earlier agent again, once its records can be known."""
    if core.old_leases and core.has_memory(now):
        for lease in core.old_leases.values():
            core.nat.add_lease(lease.router, lease.address, lease.block)
        core.old_leases.clear()


def changed(
    core: Core, changes: Iterable[Change], gone: Leases
) -> tuple[LeaseWanted, ...]:
    """Take over changed leases.

    Returns:
        What packets were waiting for and is there now.
    """
    known: list[LeaseWanted] = []
    for change in changes:
        if isinstance(change, Put) and isinstance(change.row, Lease):
            lease = change.row
            core.lease_at[(lease.address, lease.block)] = lease
            core.lost_leases.pop(lease.key, None)
            if lease.host == core.host and lease.key not in core.old_leases:
                core.nat.add_lease(lease.router, lease.address, lease.block)
                known.append(LeaseWanted(lease.router, lease.address))
        elif isinstance(change, Put) and isinstance(change.row, Router):
            # Refused only because a lost database did not have the router yet.
            core.nat.lease_possible(change.row.key)
        elif isinstance(change, Gone) and change.kind is Lease:
            _withdraw(core, gone.get(change.key))
    return tuple(known)


def claim_lost(core: Core, effects: Effects) -> None:
    """Lease again what the NSDB lost: connections of this host use these ports.

    Else another host could be given the block, and use a port twice. It waits until the
    router is there: a lost database is filled again step by step.
    """
    for lease in list(core.lost_leases.values()):
        if core.topology.router(lease.router) is not None:
            del core.lost_leases[lease.key]
            write = LeaseBlock(lease.router, lease.address, lease.block)
            effects.nsdb_writes.append(write)
            core.counters["NAT blocks claimed again"] += 1


def _withdraw(core: Core, lease: Union[Lease, None]) -> None:
    if lease is None:
        return
    core.lease_at.pop((lease.address, lease.block), None)
    core.old_leases.pop(lease.key, None)
    if lease.host == core.host:
        if core.nat.holds(lease.router, lease.address, lease.block):
            core.lost_leases[lease.key] = lease
        core.nat.remove_lease(lease.router, lease.address, lease.block)


def ask(core: Core, wanted: LeaseWanted, effects: Effects) -> None:
    """Lease more blocks, unless that is under way.

    One for every four that the address has: who needs many asks rarely, for the NSDB's
    sake and its own.
    """
    router, address = wanted
    if core.nat.is_pending(router, address):
        return
    core.nat.lease_pending(router, address)
    count = min(1 + core.nat.count_leases(router, address) // 4, _MAX_AT_ONCE)
    effects.nsdb_writes.extend([LeaseBlock(router, address)] * count)
    core.counters["NAT blocks asked for"] += count


def prefetch(core: Core, effects: Effects, now: float) -> None:
    """Lease the next block of every address that runs low."""
    for router, address in core.nat.wanted_leases(now):
        ask(core, LeaseWanted(router, address), effects)


def prefetch_for(core: Core, vport: int, effects: Effects) -> None:
    """Lease a first block of each NAT address that a new vport's router may need."""
    row = core.topology.vport(vport)
    network = core.topology.network(row.device) if row is not None else None
    for other in network.interior if network is not None else ():
        peer = core.topology.vport(other.peer)
        router = core.topology.router(peer.device) if peer is not None else None
        for rule in router.nat.masquerades if router is not None else ():
            for address in rule.addresses[:1]:
                if not core.nat.has_lease(rule.router, address):
                    ask(core, LeaseWanted(rule.router, address), effects)


def release_idle(core: Core, effects: Effects, now: float) -> None:
    """Give back blocks that no connection has used for minutes."""
    for router, address, block in core.nat.idle_leases(now):
        core.nat.remove_lease(router, address, block)
        effects.nsdb_writes.append(ReleaseBlock(router, address, block))
        core.counters["NAT blocks released"] += 1
