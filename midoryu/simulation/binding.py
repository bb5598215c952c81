# SPDX-License-Identifier: Apache-2.0
"""Making a translation, and making again what a record says.

`nat` and `balancer` decide which translation a new connection gets; what follows from
it, for this packet and for later ones, is the same for both.
"""

from __future__ import annotations

from midoryu.packet.address import format_ip
from midoryu.simulation.readdress import set_destination, set_source
from midoryu.simulation.walk import Walk
from midoryu.state.connection import (
    Direction,
    FourTuple,
    Translation,
    TranslationKind,
    translate,
)


def bind(walk: Walk, translation: Translation) -> None:
    """Make one translation and remember it for the record."""
    walk.tracked |= translation.kind <= TranslationKind.DESTINATION
    walk.translations.append(translation)
    is_source = translation.kind in (
        TranslationKind.SOURCE,
        TranslationKind.FLOATING_SOURCE,
    )
    change = set_source if is_source else set_destination
    change(walk, translation.address, translation.port)
    if walk.steps is not None:
        topology = walk.world.topology
        walk.note(
            topology.device_name(translation.device),
            "nat",
            f"{translation.kind.name.lower()} -> {_show(translation)}",
        )


def _show(translation: Translation) -> str:
    return f"{format_ip(translation.address)} port {translation.port}"


def repeat(walk: Walk, device: int, *, after_routing: bool) -> None:
    """Do what the record says that this device does at this point.

    Before routing a device rewrites destinations (its DESTINATION translations
    forward, its SOURCE translations undone for return packets), afterwards sources. A
    packet may meet a device twice: what it has done looks like that, and nothing else.
    """
    assert walk.hit is not None
    connection, direction = walk.hit
    forward = direction is Direction.FORWARD
    is_source = forward is after_routing
    wanted = TranslationKind.SOURCE if is_source else TranslationKind.DESTINATION
    tuple4: FourTuple = connection.original
    for translation in connection.translations:
        before, tuple4 = tuple4, translate(tuple4, translation)
        if translation.device != device or translation.kind is not wanted:
            continue
        source, destination, _, _ = walk.tuple4()
        if forward:
            if (source == before[0]) if is_source else (destination == before[1]):
                _once(walk, translation)
        elif is_source and destination == tuple4[0]:
            set_destination(walk, before[0], before[2])
        elif not is_source and source == tuple4[1]:
            set_source(walk, before[1], before[3])


def _once(walk: Walk, translation: Translation) -> None:
    if translation not in walk.translations:
        bind(walk, translation)
