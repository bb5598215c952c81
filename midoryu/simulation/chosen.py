# SPDX-License-Identifier: Apache-2.0
"""What a record says of a load balancer's choice, and whether that still stands.

`balancer` makes the choice; `walk` asks here when a connection begins anew, the engine
when pools change.
"""

from __future__ import annotations

from typing import NamedTuple, Union

from midoryu.state.connection import Connection, TranslationKind, translate
from midoryu.topology.balancer import Balancing, Vip
from midoryu.topology.snapshot import Topology


class Choice(NamedTuple):
    """What a record says of a load balancer's choice."""

    vip: Vip
    source: int
    """The client's address as the device saw it."""
    member: tuple[int, int]
    """Address and port that were chosen."""


def choice_of(topology: Topology, connection: Connection) -> Union[Choice, None]:
    """Read the choice of a VIP from a record; None where it calls no VIP."""
    tuple4 = connection.original
    for translation in connection.translations:
        if translation.kind is TranslationKind.DESTINATION:
            balancing = balancing_of(topology, translation.device)
            proto, port = connection.ip_proto, tuple4[3]
            vip = balancing.find(tuple4[1], proto, port) if balancing else None
            if vip is not None:
                member = (translation.address, translation.port)
                return Choice(vip, tuple4[0], member)
        tuple4 = translate(tuple4, translation)
    return None


def balancing_of(topology: Topology, device: int) -> Union[Balancing, None]:
    """Return the VIPs of a router or network, None where it has none."""
    router = topology.router(device)
    if router is not None:
        return router.nat.balancing
    network = topology.network(device)
    return network.balancing if network is not None else None


def is_outdated(topology: Topology, connection: Connection) -> bool:
    """Tell whether the chosen member would get no new connection any more."""
    if not (topology.balancers and connection.translations):
        return False
    choice = choice_of(topology, connection)
    pool = topology.balancers.pool(choice.vip.pool) if choice else None
    if choice is None or pool is None:
        return False
    member = pool.member(*choice.member)
    if member is None or not member.weight:
        return True
    return pool.usable(member.address, member.port) is None
