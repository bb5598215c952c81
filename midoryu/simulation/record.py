# SPDX-License-Identifier: Apache-2.0
"""The connection record that a packet makes, or changes, when it has ended its way.

`simulator` asks `record_of`; `state` keeps records, and who commits one gives it its id
and owner.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Union

from midoryu.simulation.outcome import Consumed, Flood, Forward, Outcome
from midoryu.simulation.walk import Walk
from midoryu.state.connection import Connection, Direction
from midoryu.state.lifetime import first_phase
from midoryu.topology.model import CT_NEW, Vport
from midoryu.topology.tag import interest_tag, vport_tag


def record_of(
    walk: Walk, outcome: Outcome, egress_device: int
) -> Union[Connection, None]:
    """Return the record that the outcome makes or changes, None for neither.

    Args:
        walk: the packet, at its end.
        outcome: how it ended.
        egress_device: key of the last device.
    """
    if walk.hit is not None:
        return _moved(walk, outcome, egress_device)
    # A router that complains behind a NAT quotes the translated packet: the error
    # finds its way back by the record.
    goes_on = isinstance(outcome, (Forward, Flood))
    answered = isinstance(outcome, Consumed) and bool(walk.translations)
    if not walk.tracked or walk.generated or walk.is_error:
        return None
    if not (goes_on or answered) or walk.is_later_fragment:
        return None
    # A filter may let a packet pass that begins nothing (see `Walk.ct_state`).
    if not walk.translations and walk.ct_state() != CT_NEW:
        return None
    made = _new(walk, outcome, egress_device)
    return _finished(walk.unfinished, made) if walk.unfinished is not None else made


def _finished(old: Connection, new: Connection) -> Union[Connection, None]:
    """Return a new record in an unfinished one's place, None where nothing differs."""
    if (old.original, old.translations, old.egress_vport) == (
        new.original,
        new.translations,
        new.egress_vport,
    ):
        return None
    new.id, new.owner, new.version = old.id, old.owner, old.version
    return new


def _new(walk: Walk, outcome: Outcome, egress_device: int) -> Connection:
    proto = walk.ip_proto
    return Connection(
        id=0,
        ip_proto=proto,
        original=walk.original_tuple4(),
        ingress_device=walk.ingress.device,
        ingress_vport=walk.ingress.key,
        egress_device=egress_device,
        egress_vport=outcome.vport if isinstance(outcome, Forward) else 0,
        translations=tuple(walk.translations),
        owner=0,
        phase=first_phase(proto),
    )


def _moved(walk: Walk, outcome: Outcome, egress_device: int) -> Union[Connection, None]:
    """Return a changed copy when forward packets now come or leave by other vports."""
    assert walk.hit is not None
    connection, direction = walk.hit
    if direction is not Direction.FORWARD or walk.is_error:
        return None
    if not isinstance(outcome, Forward):
        return None
    ingress = _ingress_of(walk, connection)
    now_at = (ingress.key, egress_device, outcome.vport)
    was_at = (
        connection.ingress_vport,
        connection.egress_device,
        connection.egress_vport,
    )
    if now_at == was_at:
        return None
    return replace(
        connection,
        ingress_device=ingress.device,
        ingress_vport=ingress.key,
        egress_device=egress_device,
        egress_vport=outcome.vport,
    )


def _ingress_of(walk: Walk, connection: Connection) -> Vport:
    """Return the vport where a record shall say that its forward packets come in.

    Members of one ingress set are equal ways in, and a sender may use them by turns:
    the record stays with the member that it names, while that is up.
    """
    was, now = connection.ingress_vport, walk.ingress
    topology = walk.world.topology
    vport = topology.vport(was) if was != now.key else None
    if vport is None or not topology.is_up(vport):
        return now
    if not any(now.key in one.vports for one in topology.ingress_sets(was)):
        return now
    # When either ceases to be so, the packet's flow has to be thought over.
    walk.tags.update((vport_tag(was), interest_tag(was)))
    return vport
