# SPDX-License-Identifier: Apache-2.0
"""Flows that lead elsewhere when a gateway dies or comes back, before a packet asks.

Each packet of them would come up at once, and its port's meter would not let them all.
So a specimen of each flow's packets (`packet.specimen`) is simulated with the records
that are there, and the flow is put in the place of the old one. What that cannot do is
removed: its next packet decides. So are those beyond a bound: of very many flows, most
are not in use now, and those that are must not wait for them. `gateways` calls it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from midoryu.engine import state_lane
from midoryu.engine.adoption import values_of
from midoryu.engine.carrying import carry_out
from midoryu.engine.core import Core
from midoryu.engine.effect import Effects
from midoryu.engine.event import PacketIn
from midoryu.engine.flow_index import AnyEntry
from midoryu.errors import DecodeError
from midoryu.packet import field
from midoryu.packet.codec import decode
from midoryu.packet.specimen import specimen
from midoryu.simulation.outcome import Forward
from midoryu.simulation.simulator import simulate
from midoryu.topology.tag import Tag

_BATCH: Final = 200
_MOST: Final = 1000
_NEXT_S: Final = 0.005


def begin(core: Core, tags: Iterable[Tag], effects: Effects, now: float) -> None:
    """Make every flow anew that depends on any of these tags, some of them now."""
    tags = tuple(tags)
    core.replays.forget(tags)
    entries = core.flows.tagged(tags)
    core.rerouting.extend(entry.cookie for entry in entries[:_MOST])
    core.remove_flows(entries[_MOST:], effects, now)
    step(core, effects, now)


def step(core: Core, effects: Effects, now: float) -> None:
    """Go on with what `begin` began."""
    for _ in range(min(_BATCH, len(core.rerouting))):
        entry = core.flows.get(core.rerouting.popleft())
        if entry is None:
            continue
        if not _reroute(core, entry, effects, now):
            _remove(core, entry, effects, now)


def deadline(core: Core, now: float) -> float | None:
    """Return when `step` has something to do, None for never."""
    return now + _NEXT_S if core.rerouting else None


def _remove(core: Core, entry: AnyEntry, effects: Effects, now: float) -> None:
    if core.flows.get(entry.cookie) is not None:
        core.remove_flows([entry], effects, now)


def _reroute(core: Core, entry: AnyEntry, effects: Effects, now: float) -> bool:
    values = values_of(entry.flow.match)
    in_port = values.get(field.IN_PORT, 0)
    vport = core.topology.vport(core.places.vport_by_ofport.get(in_port, 0))
    if vport is None or values.get(field.TUNNEL_KEY) or core.places.vport_by_tag:
        return False
    try:
        packet = decode(specimen(values))
    except (ValueError, DecodeError):
        return False
    simulation = simulate(packet, vport, core.world, now=now)
    found, changed = simulation.found, simulation.connection
    is_new = changed is not None and found is None
    if is_new or not isinstance(simulation.outcome, Forward):
        return False
    connection = found.connection.id if found is not None else 0
    if changed is not None:
        connection = state_lane.commit(core, changed, (), effects, now).id
    event, aside = PacketIn(in_port, packet.frame), Effects()
    made = carry_out(core, event, simulation, connection, effects=aside, now=now)
    # The specimen itself goes nowhere.
    effects.flow_mods += aside.flow_mods
    if made is None:
        # Nothing new, where the old one is right as it stands.
        return any(one.actions == entry.flow.actions for one in aside.packet_outs)
    core.counters["flows led elsewhere"] += 1
    _remove(core, entry, effects, now)
    return True
