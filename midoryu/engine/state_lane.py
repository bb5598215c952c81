# SPDX-License-Identifier: Apache-2.0
"""The state lane: commit new records, push them, import those of peers.

`packet_lane` commits through it; state packets from peers come straight here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import filterfalse
from typing import Final, Union

from midoryu.engine import balancing, block_exceptions, memory, versions
from midoryu.engine.core import SYNC_LIMIT_S, Core
from midoryu.engine.effect import Effects
from midoryu.openflow import flow, pipeline
from midoryu.openflow.flow import PacketOut
from midoryu.replication.entry import Touch
from midoryu.replication.session import Datagram, Received
from midoryu.simulation.outcome import StateWanted
from midoryu.state.connection import (
    VERSION_MAX,
    Connection,
    Phase,
    StateKey,
    TranslationKind,
    state_keys,
    supersedes,
)
from midoryu.state.lifetime import told_phase
from midoryu.state.portpool import BLOCK_PORTS

INFO = 20
# Records in use are touched in steps with this pause, so many at least.
TOUCH_PAUSE_S: Final = 0.01
_TOUCH_AT_LEAST: Final = 64


def commit(
    core: Core,
    connection: Connection,
    flooded: tuple[int, ...],
    effects: Effects,
    now: float,
) -> Connection:
    """Take a new or changed record into force, and push it to the interested set.

    Returns:
        The record as it is kept.
    """
    old = core.connections.get(connection.id) if connection.id else None
    if not connection.id:
        connection.id, connection.owner = core.new_connection_id(), core.host
        core.counters["connections made"] += 1
    else:
        core.counters["connections changed"] += 1
        connection.version = min(connection.version + 1, VERSION_MAX)
        _forget_ports(core, connection.id)
    connection.last_used = now
    keys = core.connections.insert(connection, now)
    if not keys:
        core.counters["connections refused"] += 1
        return connection
    core.nat.commit(connection, now)
    _invalidate(core, old, connection, keys, effects=effects, now=now)
    memory.remember(core, connection, effects, now)
    balancing.note(core, connection)
    if core.replicator is not None:
        peers = interested_peers(core, connection, flooded)
        if peers:
            core.made.setdefault(peers, []).append(connection)
        if core.config.hold_first_packet_s > 0:
            # Whether its packet has to wait is asked next.
            push_made(core, effects, now)
    return connection


def _invalidate(
    core: Core,
    old: Union[Connection, None],
    new: Connection,
    keys: Iterable[StateKey],
    *,
    effects: Effects,
    now: float,
) -> None:
    """Remove the flows that a new or changed record makes wrong, and no others.

    A connection that only leaves (or comes in) elsewhere changes nothing for its flows
    of the other direction. They stay: this agent may not live to make them again.
    """
    standing = core.flows.tagged(keys)
    if old is not None and _same_translations(old, new):
        same = (
            old.egress_vport == new.egress_vport,
            old.ingress_vport == new.ingress_vport,
        )
        standing = [
            entry
            for entry in standing
            if entry.connection != new.id or not same[entry.returns]
        ]
    core.remove_flows(standing, effects, now)


def _same_translations(one: Connection, other: Connection) -> bool:
    return (
        one.translations == other.translations
        and one.ingress_device == other.ingress_device
        and one.egress_device == other.egress_device
    )


def push_made(core: Core, effects: Effects, now: float) -> None:
    """Push the records that were made since the last call, to each peer together."""
    if not core.made or core.replicator is None:
        return
    made, core.made = core.made, {}
    for peers, connections in made.items():
        send(core, core.replicator.push(connections, peers, now), effects)


def interested_peers(
    core: Core, connection: Connection, flooded: Iterable[int] = ()
) -> frozenset[int]:
    """Return the hosts, other than this one, that shall know a record.

    Who leases a NAT port of it does, wherever its VM went: or would give it out again.
    """
    if core.topology.interest_version != core.peers_version:
        core.peers.clear()
        core.peers_version = core.topology.interest_version
    ends = (connection.ingress_vport, connection.egress_vport, *flooded)
    peers = core.peers.get(ends)
    if peers is None:
        peers = core.topology.interested_hosts(ends) - {core.host}
        core.peers[ends] = peers
    for _, kind, address, port in connection.translations:
        if kind is TranslationKind.SOURCE:
            lease = core.lease_at.get((address, port // BLOCK_PORTS))
            if lease is not None and lease.host != core.host:
                peers = peers | {lease.host}
    return peers


def _forget_ports(core: Core, connection_id: int) -> None:
    old = core.connections.get(connection_id)
    if old is not None:
        core.nat.release(old)


def send(core: Core, datagrams: Iterable[Datagram], effects: Effects) -> None:
    """Put state packets among the effects; a peer without an address is counted."""
    state_ofport = core.places.state_ofport
    for datagram in datagrams:
        underlay = core.places.underlay(datagram.peer)
        if not underlay or not state_ofport:
            core.counters["state packets without a way"] += 1
            continue
        effects.state_pushes.append(
            PacketOut(
                datagram.frame,
                (
                    (flow.SET_TUNNEL, pipeline.FLOW_STATE_KEY, underlay),
                    (flow.OUTPUT, state_ofport),
                ),
            )
        )
        core.counters["state packets sent"] += 1


def receive(
    core: Core, frame: bytes, effects: Effects, now: float
) -> tuple[Received, set[StateWanted]]:
    """Import what a peer sent, and answer it.

    A refused packet is counted by the replicator, by cause; it changes nothing.

    Returns:
        What came, and the records that packets were waiting for.
    """
    if core.replicator is None:
        core.counters["state packets before the host key"] += 1
        return Received(), set()
    core.counters["state packets received"] += 1
    received = core.replicator.receive(frame, now)
    known = _import(core, received, effects, now)
    for touch in received.touches:
        _touched(core, touch)
    if received.touches:
        send(core, versions.compare(core, received, now), effects)
    if received.wanted:
        send(core, versions.give(core, received, now), effects)
    for connection_id in received.removed:
        _forget_ports(core, connection_id)
        core.invalidate(core.connections.remove(connection_id), effects, now)
        block_exceptions.forget(core, connection_id, effects)
        memory.forget(core, connection_id, effects)
    send(core, received.replies, effects)
    for peer in received.sync_wanted_by:
        sync(core, peer, effects, now)
    return received, known


def _import(
    core: Core, received: Received, effects: Effects, now: float
) -> set[StateWanted]:
    """Take a peer's records; returns those that packets were waiting for."""
    known: set[StateWanted] = set()
    for connection in received.records:
        old = core.connections.get(connection.id)
        if old is not None and not supersedes(connection, old):
            _keep(core, old, connection, received.sender, effects, now)
            continue
        if balancing.is_over(core, connection):
            core.counters["connections refused"] += 1
            continue
        _forget_ports(core, connection.id)
        if old is not None:
            connection.phase = _phase_told(old, connection)
        keys = core.connections.insert(connection, now)
        if not keys:
            core.counters["connections refused"] += 1
            continue
        core.nat.commit(connection, now)
        _invalidate(core, old, connection, keys, effects=effects, now=now)
        memory.remember(core, connection, effects, now)
        core.counters["connections imported"] += 1
        balancing.note(core, connection)
        block_exceptions.known(core, connection, effects)
        if old is not None:
            _send_after(core, connection, received.sender, effects, now)
            peers = interested_peers(core, connection) - {received.sender}
            versions.tell(core, connection, peers, now)
        known |= core.waiting.waiting_for_state(keys)
    return known


def _touched(core: Core, touch: Touch) -> None:
    """Take over a peer's word that a connection is in use."""
    known = core.connections.get(touch.id)
    if known is not None:
        phase = _phase_told(known, touch)
        core.connections.touch(touch.id, touch.last_used, phase)


def _phase_told(known: Connection, told: Union[Connection, Touch]) -> Phase:
    later_s = told.last_used - known.last_used
    return told_phase(known.phase, told.phase, later_s=later_s)


def _keep(
    core: Core,
    known: Connection,
    told: Connection,
    sender: int,
    effects: Effects,
    now: float,
) -> None:
    """Take only the use from a record that is not newer; correct who is behind."""
    core.connections.touch(known.id, told.last_used, _phase_told(known, told))
    if supersedes(known, told) and core.replicator is not None:
        core.counters["old records corrected"] += 1
        send(core, core.replicator.push((known,), (sender,), now), effects)


def _send_after(
    core: Core, connection: Connection, sender: int, effects: Effects, now: float
) -> None:
    """Send a changed record on where its sender could not send it.

    A vport went away that the sender looked for here; or the change is this host's own,
    and it died before all had heard of it.
    """
    vports = {connection.ingress_vport, connection.egress_vport}
    hosts = core.topology.interested_hosts(vports)
    is_young = now - core.started < SYNC_LIMIT_S
    if (is_young or core.host not in hosts) and core.replicator is not None:
        peers = hosts - {sender, core.host}
        send(core, core.replicator.push((connection,), peers, now), effects)


def sync(core: Core, peer: int, effects: Effects, now: float) -> None:
    """Send a peer every record that it should have (paced by the replicator)."""
    assert core.replicator is not None
    wanted = [
        connection
        for connection in core.connections
        if peer in interested_peers(core, connection)
    ]
    host = core.topology.host(peer)
    name = host.name if host is not None else f"{peer} (unknown)"
    effects.log.append((INFO, f"host {name} asked for its records: {len(wanted)}"))
    core.replicator.sync(peer, wanted, now)
    send(core, core.replicator.tick(now), effects)


def touch_held(core: Core, effects: Effects, now: float) -> None:
    """Begin to tell peers and the journal which records this host uses.

    Flows serve them, or packets for which no flow can stand (masqueraded pings). A host
    with many flows does it bit by bit (`touch_some`), or packets would wait.
    """
    core.sweep += 1
    core.to_touch = core.connections.held()
    core.to_touch += filterfalse(core.connections.is_held, core.unheld)
    core.unheld.clear()
    steps = core.config.touch_interval_s / 2 / TOUCH_PAUSE_S
    core.touch_step = max(_TOUCH_AT_LEAST, math.ceil(len(core.to_touch) / steps))
    touch_some(core, effects, now)


def touch_some(core: Core, effects: Effects, now: float) -> None:
    """Go on with what `touch_held` began."""
    if not core.to_touch:
        return
    some = core.to_touch[-core.touch_step :]
    del core.to_touch[-core.touch_step :]
    by_peers: dict[frozenset[int], list[Connection]] = {}
    for connection_id in some:
        if core.connections.is_held(connection_id):
            core.connections.touch(connection_id, now)
        connection = core.connections.get(connection_id)
        if connection is None:
            continue
        memory.refresh(core, connection, core.sweep, effects, now)
        by_peers.setdefault(interested_peers(core, connection), []).append(connection)
    if core.replicator is None:
        return
    for peers, connections in by_peers.items():
        core.replicator.touch(connections, peers, now)
    send(core, core.replicator.tick(now), effects)


def expire(core: Core, effects: Effects, now: float) -> None:
    """Forget records at the end of their lifetime, with their NAT ports and flows."""
    for connection in core.connections.expire(now):
        core.nat.release(connection)
        # One that a full table dropped may still serve flows; their NAT port is free.
        core.invalidate((key for key, _ in state_keys(connection)), effects, now)
        block_exceptions.forget(core, connection.id, effects)
        memory.forget(core, connection.id, effects)
        core.counters["connections expired"] += 1
