# SPDX-License-Identifier: Apache-2.0
"""The flow for the answers to a masqueraded connection, made with the connection.

Gateways hand answers on to the host that leased the port (`port_blocks`): this one. It
knows where they will come in and what happens to them then, so the flow is there before
the first answer, and one packet-in makes the whole connection. `packet_lane` asks
`prepare` for it.

No packet-in tells that an answer came. The flow's packets do, when it goes idle or has
stood for longer than it could without any: then the record is that of an answered
connection (`state.lifetime.next_phase`).
"""

from __future__ import annotations

from typing import Final, Union

from midoryu.engine import state_lane
from midoryu.engine.core import Core
from midoryu.engine.event import FlowRemoved
from midoryu.engine.flow_index import Entry
from midoryu.openflow import pipeline
from midoryu.openflow.flow import Flow
from midoryu.packet import protocol
from midoryu.packet.packet import Headers, Packet
from midoryu.simulation.outcome import Forward, Simulation
from midoryu.simulation.simulator import simulate
from midoryu.simulation.walk import PORT_PROTOCOLS
from midoryu.state.connection import Connection, Direction, Phase, TranslationKind
from midoryu.state.lifetime import next_phase
from midoryu.translation import flows as translation

_TTL: Final = 64
_L3: Final = 14
_ANSWERED: Final = protocol.TCP_SYN | protocol.TCP_ACK


def prepare(
    core: Core, simulation: Simulation, connection_id: int, now: float
) -> Union[Entry, None]:
    """Make the flow for the answers to a new connection.

    Returns:
        None where the answers do not come here, or a flow cannot stand for them.
    """
    connection, outcome = simulation.connection, simulation.outcome
    if connection is None or type(outcome) is not Forward:
        return None
    key = _key_of_answers(core, connection, outcome.vport)
    vport = core.topology.vport(outcome.vport)
    if not key or vport is None or len(core.flows) >= core.config.max_flows:
        return None
    in_port = core.places.gre_ofport
    answer = simulate(_answer(simulation), vport, core.world, now=now)
    found = answer.found
    if (
        found is None
        or found.connection.id != connection_id
        or found.direction is not Direction.RETURN
        or not isinstance(answer.outcome, Forward)
        or not translation.is_installable(answer)
    ):
        return None
    outputs = translation.outputs((answer.outcome.vport,), core.places, in_port)
    if not outputs.actions:
        return None
    config = core.config
    is_tcp = answer.packet.ip_proto == protocol.TCP
    flow = Flow(
        table=pipeline.VPORT,
        priority=pipeline.PRIORITY_REACTIVE,
        match=translation.match_of(answer, in_port, tunnel_key=key),
        actions=translation.rewrites(answer) + outputs.actions,
        cookie=core.new_cookie(),
        idle_timeout_s=config.flow_idle_timeout_s,
        fin_timeout_s=config.fin_timeout_s if is_tcp else 0,
        notify_removed=True,
    )
    core.blocks.unproven[flow.cookie] = connection_id, now
    core.counters["return flows made ahead"] += 1
    tags = frozenset(answer.tags).union(outputs.tags)
    return Entry(flow, tags, connection_id, returns=True)


def _key_of_answers(core: Core, connection: Connection, uplink: int) -> int:
    """Return the tunnel key that a connection's answers come with, 0 for none."""
    if connection.ip_proto not in PORT_PROTOCOLS or not connection.translations:
        return 0
    device, kind, address, _ = connection.translations[-1]
    if kind is not TranslationKind.SOURCE:
        return 0
    return core.blocks.ways.get((uplink, device, address), 0)


def _answer(simulation: Simulation) -> Packet:
    """Make the first answer that is to be expected, without its bytes."""
    packet, sent = simulation.packet, simulation.headers
    is_v4 = packet.eth_type == protocol.ETH_IPV4
    l4 = _L3 + (20 if is_v4 else 40)
    return Packet(
        frame=b"",
        headers=Headers(
            eth_dst=sent.eth_src,
            eth_src=sent.eth_dst,
            ip_src=sent.ip_dst,
            ip_dst=sent.ip_src,
            l4_src=sent.l4_dst,
            l4_dst=sent.l4_src,
            ip_ttl=_TTL,
        ),
        eth_type=packet.eth_type,
        ip_proto=packet.ip_proto,
        tcp_flags=_ANSWERED if packet.ip_proto == protocol.TCP else 0,
        l3=_L3,
        l4=l4,
        l3_length=l4 - _L3 + 20,
    )


# Whether answers came.


def removed(core: Core, event: FlowRemoved, now: float) -> None:
    """Note what a flow that is gone tells about its connection."""
    connection_id, _ = core.blocks.unproven.pop(event.cookie, (0, 0.0))
    if not connection_id or not event.packets:
        return
    idle = event.reason == pipeline.REMOVED_IDLE
    _answered(core, connection_id, now - (event.idle_timeout_s if idle else 0), now)


def sweep(core: Core, now: float) -> None:
    """Note which connections were answered: their flows would be gone without."""
    blocks = core.blocks
    gone: set[int] = set()
    for cookie, (connection_id, made_at) in list(blocks.unproven.items()):
        entry = core.flows.get(cookie)
        if entry is None:
            # The switch's word on it may be on its way.
            gone.add(cookie)
            if cookie in blocks.unproven_before:
                del blocks.unproven[cookie]
            continue
        if now - made_at > entry.flow.idle_timeout_s + 1:
            del blocks.unproven[cookie]
            _answered(core, connection_id, now, now)
    blocks.unproven_before = frozenset(gone)


def _answered(core: Core, connection_id: int, last_used: float, now: float) -> None:
    connection = core.connections.get(connection_id)
    if connection is None:
        return
    phase = next_phase(
        connection.phase,
        connection.ip_proto,
        protocol.TCP_ACK if connection.phase is Phase.TCP_TRANSITORY else 0,
        Direction.RETURN,
    )
    if phase is connection.phase:
        return
    core.connections.touch(connection_id, last_used, phase)
    if core.replicator is not None:
        peers = state_lane.interested_peers(core, connection)
        core.replicator.touch((connection,), peers, now)
