# SPDX-License-Identifier: Apache-2.0
"""Connections to one server, by an address of a router and straight, kept apart.

A client that calls a server by a VIP or a DNAT rule, and the same server straight from
the same port, would give it two connections with one tuple. The later one gets another
source port here, as the kernel's conntrack gives it. `nat` asks where nothing else has
changed the source; `balancer` does the same on networks, for what passes no router.
"""

from __future__ import annotations

from typing import Final

from midoryu.simulation.binding import bind
from midoryu.simulation.walk import PORT_PROTOCOLS, Walk
from midoryu.simulation.world import READ_IP_DST, READ_L4_DST
from midoryu.state.connection import (
    Connection,
    StateKey,
    Translation,
    TranslationKind,
    translate,
)
from midoryu.topology.nat import NatRules
from midoryu.topology.rendezvous import digest

# Where other source ports come from, and how many are looked at.
_FIRST_PORT: Final = 1024
_PORTS: Final = 0x1_0000 - _FIRST_PORT
_TRIES: Final = 64


def calls_service(walk: Walk, nat: NatRules) -> bool:
    """Tell whether a packet goes to a port that a rule of the router leads to."""
    headers, proto = walk.headers, walk.packet.ip_proto
    if headers.ip_dst not in nat.dnat_targets or walk.is_error or walk.generated:
        return False
    walk.fields |= READ_IP_DST
    walk.read_protocol()
    if proto not in PORT_PROTOCOLS or walk.is_later_fragment:
        return False
    walk.fields |= READ_L4_DST
    return nat.is_service(headers.ip_dst, proto, headers.l4_dst)


def keep_apart(walk: Walk, nat: NatRules, device: int, seen_as: int) -> None:
    """Move the source port of a connection whose answers would look like another's.

    Args:
        walk: a new connection, its source not translated by the device.
        nat: the device's rules.
        device: the router.
        seen_as: the source as the server sees it: a floating address, perhaps.
    """
    if walk.hit is not None or not walk.tracked or not walk.is_beginning:
        return
    if not calls_service(walk, nat):
        return
    source, destination, port, _ = walk.tuple4()
    if not _is_taken(walk, device, seen_as, port):
        return
    seed = digest((port, source, destination))
    for one in range(_TRIES):
        candidate = _FIRST_PORT + (seed + one * 7919) % _PORTS
        if not _is_taken(walk, device, seen_as, candidate):
            kind = TranslationKind.SOURCE
            bind(walk, Translation(device, kind, source, candidate))
            return


def _is_taken(walk: Walk, device: int, seen_as: int, port: int) -> bool:
    """Tell whether the server knows a connection from a port.

    One that the device translates is known by its answers, another one, of the same
    client, by its first packet.
    """
    source, destination, _, to_port = walk.tuple4()
    proto = walk.ip_proto
    keys: tuple[StateKey, ...] = (
        (device, proto, destination, seen_as, to_port, port),
        (walk.ingress.device, proto, source, destination, port, to_port),
    )
    walk.tags.update(keys)
    for key in keys:
        hit = walk.world.connections.find(key)
        if hit is not None and hit.connection is not walk.unfinished:
            return True
    return False


def moves_address(connection: Connection, device: int) -> bool:
    """Tell whether a device changes an address of a connection, not a port alone."""
    tuple4 = connection.original
    for translation in connection.translations:
        before, tuple4 = tuple4, translate(tuple4, translation)
        if translation.device == device and before[:2] != tuple4[:2]:
            return True
    return False


def floats(connection: Connection, device: int) -> bool:
    """Tell whether a device gives a connection's source a port and an address."""
    kinds = {one.kind for one in connection.translations if one.device == device}
    return {TranslationKind.SOURCE, TranslationKind.FLOATING_SOURCE} <= kinds
