# SPDX-License-Identifier: Apache-2.0
"""What a record says of the server that was chosen, and whether that still stands.

`balancer` makes the choice; `walk` asks here when a connection begins anew, the engine
when pools change.
"""

from __future__ import annotations

from typing import NamedTuple, Union

from midoryu.state.connection import (
    Connection,
    FourTuple,
    Translation,
    TranslationKind,
    translate,
)
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
    """Tell whether a new connection to the same address would get another server.

    That is where the chosen member would get none any more, and where the DNAT rule
    has gone or leads elsewhere.
    """
    tuple4 = connection.original
    for translation in connection.translations:
        if translation.kind is TranslationKind.DESTINATION:
            return _leads_elsewhere(topology, connection, tuple4, translation)
        tuple4 = translate(tuple4, translation)
    return False


def _leads_elsewhere(
    topology: Topology,
    connection: Connection,
    tuple4: FourTuple,
    translation: Translation,
) -> bool:
    choice = choice_of(topology, connection)
    if choice is not None:
        pool = topology.balancers.pool(choice.vip.pool)
        member = pool.member(*choice.member) if pool is not None else None
        if pool is None or member is None or not member.weight:
            return True
        return pool.usable(member.address, member.port) is None
    router = topology.router(translation.device)
    if router is None or tuple4[1] in router.nat.open:
        return False
    rule = router.nat.dnat_for(tuple4[1], connection.ip_proto, tuple4[3])
    return rule is None or rule.to_address != translation.address
