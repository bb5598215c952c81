# SPDX-License-Identifier: Apache-2.0
"""What became of a packet, carried out: the flow for its kind, and the packet itself.

`packet_lane` has decided and committed; `translation` knows what is where.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Union

from midoryu.engine import memory, shares, state_lane, subport
from midoryu.engine.core import Core
from midoryu.engine.effect import Effects
from midoryu.engine.event import PacketIn
from midoryu.engine.flow_index import Entry
from midoryu.engine.returning import prepare
from midoryu.openflow import pipeline
from midoryu.openflow.flow import Action, Flow, InstallFlow, PacketOut
from midoryu.packet import protocol
from midoryu.packet.packet import has_tcp_data
from midoryu.simulation.outcome import Consumed, Drop, Flood, Reason, Simulation
from midoryu.state.connection import Connection, Direction
from midoryu.state.lifetime import next_phase
from midoryu.topology.tag import Tag
from midoryu.translation import flows as translation


def carry_out(
    core: Core,
    event: PacketIn,
    simulation: Simulation,
    connection: int,
    *,
    effects: Effects,
    now: float,
) -> Union[Flow, None]:
    """Install the flow, where one can stand for the packet, and send the packet.

    Returns:
        The flow, None where there is none of its own.
    """
    if isinstance(simulation.outcome, Consumed):
        return None
    made = None
    vports = translation.vports_of(simulation.outcome)
    outputs = _outputs(core, simulation, vports, event.in_port)
    if vports and not outputs.actions:
        core.counters["egress vport is nowhere"] += 1
    installable = translation.is_installable(simulation)
    actions = outputs.actions
    if installable and actions:
        actions = _rewrites(simulation) + actions
    if core.shares.limited and shares.is_without_flow(core, simulation):
        core.counters["packets of limited ports without a flow"] += 1
    elif installable and len(core.flows) < core.config.max_flows:
        entry = _entry(
            core, event, simulation, connection, actions, tags=outputs.tags, now=now
        )
        made = install(core, entry, effects)
    elif connection and simulation.packet.embedded is None:
        core.unheld.add(connection)
    if not outputs.actions:
        return None
    core.counters["packets out"] += 1
    if installable:
        frame = simulation.packet.frame
        effects.packet_outs.append(PacketOut(frame, actions, event.in_port))
        return made
    for frame in translation.frames_of(simulation):
        effects.packet_outs.append(PacketOut(frame, outputs.actions, event.in_port))
    return None


def _entry(
    core: Core,
    event: PacketIn,
    simulation: Simulation,
    connection: int,
    actions: tuple[Action, ...],
    *,
    tags: tuple[Tag, ...],
    now: float,
) -> Entry:
    """Make the flow that stands for a packet's kind, with why it could become wrong."""
    flow = _flow(core, event, simulation, actions, connection, now)
    if not actions and simulation.hops:
        # A packet whose time runs out before the drop is told so.
        flow = replace(flow, actions=translation.hop_actions(simulation))
    elif core.storms or core.places.vport_by_tag:
        ingress, outcome = simulation.vports[0], simulation.outcome
        own = subport.installed(core, ingress, outcome, flow.actions)
        flow = replace(flow, actions=own)
    shared = simulation.template.tags if simulation.template else frozenset()
    all_tags = frozenset(simulation.tags).union(tags)
    return Entry(flow, all_tags, connection, returns(simulation), shared)


def _outputs(
    core: Core, simulation: Simulation, vports: tuple[int, ...], in_port: int
) -> translation.Outputs:
    """Say where a packet goes physically; siblings of one template go the same way."""
    template = simulation.template
    if template is None:
        return translation.outputs(vports, core.places, in_port)
    if template.outputs is None:
        template.outputs = translation.outputs(vports, core.places, in_port)
    assert isinstance(template.outputs, translation.Outputs)
    return template.outputs


def _rewrites(simulation: Simulation) -> tuple[Action, ...]:
    """List the actions that change a packet; siblings differ in their sources only."""
    template = simulation.template
    if template is None:
        return translation.rewrites(simulation)
    if template.rewrites is None:
        template.rewrites = translation.around_source(simulation)
    before, after = template.rewrites
    return before + translation.new_source(simulation) + after


def returns(simulation: Simulation) -> bool:
    """Tell whether a packet goes the return way of a known connection."""
    found = simulation.found
    return found is not None and found.direction is Direction.RETURN


def _flow(
    core: Core,
    event: PacketIn,
    simulation: Simulation,
    actions: tuple[tuple[int, ...], ...],
    connection: int,
    now: float,
) -> Flow:
    config = core.config
    vlan = core.places.tag_by_vport.get(simulation.vports[0], 0)
    is_tcp = connection != 0 and simulation.packet.ip_proto == protocol.TCP
    match = translation.match_of(
        simulation, event.in_port, vlan, tunnel_key=event.tunnel_key
    )
    if is_tcp and not event.tunnel_key:
        match = translation.without_syn(match)
    return Flow(
        table=pipeline.VPORT,
        priority=pipeline.PRIORITY_REACTIVE,
        match=match,
        actions=actions,
        cookie=core.new_cookie(),
        idle_timeout_s=config.flow_idle_timeout_s if actions else 0,
        hard_timeout_s=0 if actions else _drop_timeout_s(core, simulation, now),
        fin_timeout_s=config.fin_timeout_s if is_tcp and actions else 0,
        notify_removed=True,
        note=memory.note(core, connection, now) if connection and actions else b"",
    )


def _drop_timeout_s(core: Core, simulation: Simulation, now: float) -> int:
    """Return how long a drop stands.

    A packet that lacks its record is asked for again soon: an agent that has just
    started may learn it from a peer that did not answer in time.
    """
    if simulation.outcome == Drop(Reason.NO_BINDING) or not core.has_memory(now):
        return min(1, core.config.drop_flow_timeout_s)
    return core.config.drop_flow_timeout_s


def install(core: Core, entry: Entry, effects: Effects) -> Union[Flow, None]:
    """Install a flow, unless the same one stands; return it where it is new."""
    standing = core.flows.find(entry.flow.match)
    if standing is not None and standing.flow.actions == entry.flow.actions:
        # Packets of one burst: the first one's flow is on its way to the switch.
        return None
    replaced = core.flows.add(entry)
    if entry.connection:
        core.connections.hold(entry.connection)
    if replaced is not None and replaced.connection:
        core.connections.release(replaced.connection, 0.0)
    effects.flow_mods.append(InstallFlow(entry.flow))
    core.counters["flows installed"] += 1
    return entry.flow


def commit(core: Core, simulation: Simulation, effects: Effects, now: float) -> int:
    """Make, change or refresh the packet's record; return its id, 0 for none."""
    if simulation.connection is not None:
        outcome = simulation.outcome
        flooded = outcome.vports if isinstance(outcome, Flood) else ()
        made = state_lane.commit(core, simulation.connection, flooded, effects, now)
        return made.id
    if simulation.found is None:
        return 0
    connection, direction = simulation.found
    packet = simulation.packet
    if packet.embedded is not None:
        # RFC 5508, REQ-6; RFC 4787, REQ-12: an ICMP error neither keeps a connection
        # alive nor ends it.
        return connection.id
    has_data = has_tcp_data(packet)
    use(core, connection, direction, packet.tcp_flags, has_data, effects, now)
    return connection.id


def use(  # noqa: PLR0913
    core: Core,
    connection: Connection,
    direction: Direction,
    tcp_flags: int,
    has_data: bool,  # noqa: FBT001
    effects: Effects,
    now: float,
) -> None:
    """Change or refresh a record that a packet belongs to."""
    phase = next_phase(
        connection.phase, connection.ip_proto, tcp_flags, direction, has_data=has_data
    )
    changed = phase is not connection.phase
    core.connections.touch(connection.id, now, phase)
    if changed:
        memory.remember(core, connection, effects, now)
    if changed and core.replicator is not None:
        peers = state_lane.interested_peers(core, connection)
        core.replicator.touch((connection,), peers, now)


def must_wait(core: Core, simulation: Simulation, connection: int) -> bool:
    """Tell whether a packet waits for the confirmation of its record.

    One that is sent again while the first one waits, waits with it.
    """
    if core.config.hold_first_packet_s <= 0 or core.replicator is None:
        return False
    if simulation.connection is None:
        return connection in core.held
    return core.replicator.is_awaited(connection)


def expect_answers(
    core: Core, simulation: Simulation, connection: int, effects: Effects, now: float
) -> Union[Flow, None]:
    """Install the flow for the answers to a new connection, where they come here."""
    if simulation.connection is None:
        return None
    entry = prepare(core, simulation, connection, now)
    return install(core, entry, effects) if entry is not None else None
