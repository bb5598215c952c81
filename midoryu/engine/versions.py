# SPDX-License-Identifier: Apache-2.0
"""Old states of records are found out and mended, whoever pushed the new one.

An agent that changes a record may die when only some of its peers have heard of it, and
never return to repair that. So those who heard tell each other that there is something
new (a touch with its version), and whoever is behind asks; every later touch shows the
same. `state_lane` calls this for what comes in.
"""

from __future__ import annotations

from collections.abc import Iterable

from midoryu.engine.core import Core
from midoryu.replication.session import Datagram, Received
from midoryu.state.connection import Connection, mark_of


def tell(core: Core, connection: Connection, peers: Iterable[int], now: float) -> None:
    """Let peers know soon that a record has changed, which another host changed."""
    if core.replicator is not None:
        core.replicator.touch((connection,), peers, now)


def compare(core: Core, received: Received, now: float) -> list[Datagram]:
    """Compare touched records with what is known here.

    Returns:
        Questions for the sender's state where this host may be behind, and records
        where the sender is.
    """
    if core.replicator is None:
        return []
    wanted: list[int] = []
    newer: list[Connection] = []
    for touch in received.touches:
        known = core.connections.get(touch.id)
        told = received.versions.get(touch.id)
        version = told.version if told is not None else 0
        if known is None or known.version < version:
            wanted.append(touch.id)
        elif known.version > version:
            newer.append(known)
        elif told is not None and told.mark != mark_of(known):
            # Two hosts changed it at once; what comes is decided as always.
            wanted.append(touch.id)
    datagrams: list[Datagram] = []
    if wanted:
        core.counters["records fetched"] += len(wanted)
        datagrams += core.replicator.want(wanted, received.sender, now)
    if newer:
        core.counters["old records corrected"] += len(newer)
        datagrams += core.replicator.push(newer, (received.sender,), now)
    return datagrams


def give(core: Core, received: Received, now: float) -> list[Datagram]:
    """Answer a peer that is behind with the records that it asks for."""
    found = [core.connections.get(id_) for id_ in received.wanted]
    records = [one for one in found if one is not None]
    if core.replicator is None or not records:
        return []
    return core.replicator.push(records, (received.sender,), now)
