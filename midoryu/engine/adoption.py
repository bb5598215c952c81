# SPDX-License-Identifier: Apache-2.0
"""Flows that an earlier agent left in the switch: kept in force, then made our own.

An agent that starts with no memory finds flows that carry established connections. They
go on forwarding. As soon as the records are back, a specimen of each flow's packets is
simulated; the flow that comes out replaces the old one in place (same match), and from
then on it has tags and a record like any other. `change_lane` collects the flows, the
engine's tick calls `step`.

A record that only this host had stands in its flows (`memory.note`): it is back before
anything else. Where such a flow has no note, the simulation makes the record anew if
it would do just what the flow does. Where all hosts that had a record have lost it, the
flow where its packets come in is enough, too (`rebuilding`): what no simulation can
guess, the translated source, is among its actions.
"""

from __future__ import annotations

from typing import Final, Union

from midoryu.engine import memory, port_blocks, state_lane, subport
from midoryu.engine.core import Core
from midoryu.engine.effect import Effects
from midoryu.engine.flow_index import Entry
from midoryu.engine.rebuilding import rebuild
from midoryu.errors import DecodeError
from midoryu.openflow.flow import Flow, InstallFlow, Match, RemoveFlow
from midoryu.packet import field, protocol
from midoryu.packet.codec import decode
from midoryu.packet.specimen import specimen
from midoryu.simulation.outcome import Blocked, Drop, Flood, Forward, Reason, Simulation
from midoryu.simulation.simulator import simulate
from midoryu.state.connection import Phase, supersedes
from midoryu.topology.tag import Tag
from midoryu.translation import flows as translation

# A flow that could not be adopted yet is tried again at this pace.
RETRY_S: Final = 1.0
# A flow is given up (removed) when its vport is not here after this time.
GIVE_UP_S: Final = 30.0
# A flow that would be a drop now stays this long after the start: its record may come.
LACKING_S: Final = 5.0
_BATCH: Final = 500
ADOPTED: Final[Tag] = ("adopted",)
# Phases that a connection in use does not leave for an earlier one.
_LASTING: Final = frozenset((Phase.TCP_ESTABLISHED, Phase.UDP))


def collect(
    core: Core, standing: tuple[Flow, ...], effects: Effects, now: float
) -> None:
    """Take in reactive flows that stand in the switch and are not in the index."""
    for flow in standing:
        if core.flows.get(flow.cookie) is not None:
            continue
        if not flow.actions:
            # A drop is cheap to decide again, and nobody's connection.
            effects.flow_mods.append(RemoveFlow(flow))
            continue
        _recall(core, flow, effects, now)
        core.flows.add(Entry(flow, frozenset((ADOPTED,))))
        core.orphans[flow.match] = flow
        core.counters["flows found"] += 1


def _recall(core: Core, flow: Flow, effects: Effects, now: float) -> None:
    """Take back the record that a flow keeps; the flow stands, so it is in use."""
    connection = memory.noted(core, flow, now)
    if connection is None:
        return
    old = core.connections.get(connection.id)
    if old is not None and not supersedes(connection, old):
        # The flow of one direction was made in an earlier phase than that of the other.
        phase = connection.phase if connection.phase in _LASTING else None
        core.connections.touch(connection.id, now, phase)
        return
    if old is not None:
        core.nat.release(old)
    keys = core.connections.insert(connection, now)
    if not keys:
        core.counters["connections refused"] += 1
        return
    core.nat.commit(connection, now)
    core.invalidate(keys, effects, now)
    memory.remember(core, connection, effects, now)
    core.recalled.add(connection.id)
    core.counters["connections from flows"] += 1


def _tell(core: Core, effects: Effects, now: float) -> None:
    """Tell peers of records from flows: one end may have moved to them meanwhile."""
    if core.replicator is None or not core.places.ofport_by_vport:
        return
    for connection_id in core.recalled:
        connection = core.connections.get(connection_id)
        if connection is not None:
            peers = state_lane.interested_peers(core, connection)
            datagrams = core.replicator.push((connection,), peers, now)
            state_lane.send(core, datagrams, effects)
    core.recalled.clear()


def step(core: Core, effects: Effects, now: float) -> None:
    """Adopt what can be adopted now."""
    if core.recalled:
        _tell(core, effects, now)
    if not core.orphans or now < core.adopt_at:
        return
    core.adopt_at = now + RETRY_S
    if not (core.has_memory(now) and core.places.ofport_by_vport):
        core.adopt_at = now + 0.1
        return
    for match, flow in list(core.orphans.items())[:_BATCH]:
        if _adopt(core, flow, effects, now):
            del core.orphans[match]
        else:
            # Behind the others, for the next round.
            core.orphans[match] = core.orphans.pop(match)


def _adopt(core: Core, flow: Flow, effects: Effects, now: float) -> bool:
    """Simulate a specimen; return whether the flow needs no more attention."""
    entry = core.flows.get(flow.cookie)
    if entry is None or ADOPTED not in entry.tags:
        # It went idle, or a packet of its kind has come by meanwhile.
        return True
    values = values_of(flow.match)
    in_port = values.get(field.IN_PORT, 0)
    vport = core.topology.vport(core.places.vport_by_ofport.get(in_port, 0))
    trunked = core.places.vport_by_tag.get((in_port, values.get(field.VLAN, 0) & 0xFFF))
    if trunked is not None:
        vport = core.topology.vport(trunked)
        # It saw its packets without their tag.
        values[field.VLAN] = 0
    if vport is None and values.get(field.TUNNEL_KEY):
        vport = port_blocks.adopt(core, values)
    if vport is None:
        if now - core.started < GIVE_UP_S:
            return False
        _remove(core, flow, effects)
        return True
    try:
        packet = decode(specimen(values))
    except (ValueError, DecodeError):
        # Nobody could say when it is wrong; its next packet decides anew.
        _remove(core, flow, effects)
        return True
    simulation = simulate(packet, vport, core.world, now=now)
    if not _is_decided(simulation):
        _remember(core, flow, simulation, effects, now, in_port=in_port)
        rebuild(core, flow, values, vport, effects, now)
        return False
    if _may_lack_record(simulation) and now - core.started < LACKING_S:
        return False
    adopted = _made_own(core, flow, simulation, in_port, now)
    if adopted is None:
        _remove(core, flow, effects)
    else:
        _replace(core, flow, adopted, effects, now)
    return True


def _is_decided(simulation: Simulation) -> bool:
    outcome = simulation.outcome
    if isinstance(outcome, Blocked):
        return False
    if isinstance(outcome, Drop) and outcome.reason is Reason.NO_BINDING:
        return False
    # Where a record would be made, the flow's own has not come back (yet): the old flow
    # knows better than we do.
    return simulation.connection is None or simulation.found is not None


def _may_lack_record(simulation: Simulation) -> bool:
    """Tell whether the flow may have let replies pass, to a record not back yet."""
    outcome = simulation.outcome
    if simulation.found is not None or not isinstance(outcome, Drop):
        return False
    return outcome.reason in (Reason.FILTERED, Reason.REJECTED)


def _remember(
    core: Core,
    flow: Flow,
    simulation: Simulation,
    effects: Effects,
    now: float,
    *,
    in_port: int,
) -> None:
    """Make the record of a connection anew that only this host can have known.

    Its flow does what the simulation says now, so the record would say it too.
    """
    connection = simulation.connection
    if connection is None or state_lane.interested_peers(core, connection):
        return
    vports = translation.vports_of(simulation.outcome)
    outputs = translation.outputs(vports, core.places, in_port)
    actions = translation.rewrites(simulation) + outputs.actions
    ingress, outcome = simulation.vports[0], simulation.outcome
    if flow.actions == subport.installed(core, ingress, outcome, actions):
        state_lane.commit(core, connection, (), effects, now)
        core.counters["connections from flows"] += 1


def _made_own(
    core: Core, flow: Flow, simulation: Simulation, in_port: int, now: float
) -> Union[Entry, None]:
    """Return the flow as this agent would have made it, None where there is none."""
    vports = translation.vports_of(simulation.outcome)
    tunnel_key = values_of(flow.match).get(field.TUNNEL_KEY, 0)
    outputs = translation.outputs(vports, core.places, in_port)
    forwards = isinstance(simulation.outcome, (Forward, Flood)) and outputs.actions
    if not forwards or not translation.is_installable(simulation):
        return None
    found = simulation.found
    connection = found.connection.id if found is not None else 0
    vlan = core.places.tag_by_vport.get(simulation.vports[0], 0)
    match = translation.match_of(simulation, in_port, vlan, tunnel_key=tunnel_key)
    is_tcp = connection != 0 and simulation.packet.ip_proto == protocol.TCP
    if is_tcp and not tunnel_key:
        match = translation.without_syn(match)
    return Entry(
        Flow(
            table=flow.table,
            priority=flow.priority,
            match=match,
            actions=subport.installed(
                core,
                simulation.vports[0],
                simulation.outcome,
                translation.rewrites(simulation) + outputs.actions,
            ),
            cookie=core.new_cookie(),
            idle_timeout_s=core.config.flow_idle_timeout_s,
            fin_timeout_s=flow.fin_timeout_s,
            notify_removed=True,
            note=memory.note(core, connection, now),
        ),
        frozenset(simulation.tags).union(outputs.tags),
        connection,
        found is not None and bool(found.direction),
    )


def _replace(
    core: Core, flow: Flow, adopted: Entry, effects: Effects, now: float
) -> None:
    replaced = core.flows.add(adopted)
    if adopted.connection:
        core.connections.hold(adopted.connection)
        if adopted.flow.match.fields & field.TUNNEL_KEY:
            # Only its packets tell that answers come (`returning`).
            core.blocks.unproven[adopted.flow.cookie] = adopted.connection, now
    if replaced is not None:
        core.release(replaced, 0.0)
    effects.flow_mods.append(InstallFlow(adopted.flow))
    if adopted.flow.match != flow.match:
        _remove(core, flow, effects)
    core.counters["flows adopted"] += 1


def _remove(core: Core, flow: Flow, effects: Effects) -> None:
    core.flows.remove(flow.cookie)
    effects.flow_mods.append(RemoveFlow(flow))


def values_of(match: Match) -> dict[int, int]:
    """Return what a match demands: `packet.field` bit -> value."""
    bits = [1 << bit for bit in range(match.fields.bit_length())]
    return dict(zip([bit for bit in bits if match.fields & bit], match.values))
