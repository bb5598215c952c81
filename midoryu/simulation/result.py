# SPDX-License-Identifier: Apache-2.0
"""A walk at its end -> the `Simulation` that the rest of midoryu works with.

`simulator` decides the outcome; here is added what no flow may stand for.
"""

from __future__ import annotations

from typing import Final, Union

from midoryu.packet import field, protocol
from midoryu.simulation.outcome import (
    Blocked,
    Flood,
    Forward,
    Outcome,
    Simulation,
)
from midoryu.simulation.walk import Walk
from midoryu.state.connection import Connection

# What only the first fragment of a datagram has.
_FIRST_ONLY: Final = field.L4 | field.TCP_FLAGS | field.ICMP_ID


def result(
    walk: Walk,
    outcome: Outcome,
    connection: Union[Connection, None],
    vports: tuple[int, ...],
) -> Simulation:
    """Put together what a walk has come to.

    Args:
        walk: the packet, at its end.
        outcome: how it ended.
        connection: the record that it makes or changes, None for neither.
        vports: where it came in.
    """
    if walk.steps is not None:
        walk.note("packet", type(outcome).__name__.lower(), _describe(walk, outcome))
    if walk.is_ip and _is_translated(walk):
        # OVS's userspace datapath "corrects" a checksum in later IPv4 fragments too,
        # where there is none: they are not for flows that change addresses.
        walk.fields |= field.IP_FRAG
    return Simulation(
        outcome=outcome,
        packet=walk.packet,
        headers=walk.headers,
        quoted=walk.quoted,
        hops=walk.hops,
        fields=walk.fields | walk.looked,
        tags=walk.tags,
        vports=vports,
        found=walk.hit,
        connection=connection,
        emissions=walk.emissions,
        lookup=walk.lookup,
        learned=walk.learned,
        logs=tuple(walk.logs),
        limit=walk.limit,
        mss=walk.mss,
        needs_first=walk.needs_first or _reads_first(walk),
        trace=tuple(walk.steps or ()),
        walk=walk,
    )


def _is_translated(walk: Walk) -> bool:
    old, new = walk.packet.headers, walk.headers
    return old.ip_src != new.ip_src or old.ip_dst != new.ip_dst


def _reads_first(walk: Walk) -> bool:
    """Tell whether a fragment's layer 4 was read (its ICMPv6 type always is)."""
    packet = walk.packet
    if not packet.ip_frag:
        return False
    if _is_translated(walk):
        return True
    if packet.ip_proto == protocol.ICMPV6:
        return bool((walk.fields | walk.looked) & (_FIRST_ONLY & ~field.L4_SRC))
    return bool((walk.fields | walk.looked) & _FIRST_ONLY)


def _describe(walk: Walk, outcome: Outcome) -> str:
    topology = walk.world.topology
    if isinstance(outcome, Forward):
        return topology.vport_name(outcome.vport)
    if isinstance(outcome, Flood):
        return ", ".join(topology.vport_name(vport) for vport in outcome.vports)
    if isinstance(outcome, Blocked):
        return f"waits for {type(outcome.wanted).__name__}"
    return outcome.reason.value
