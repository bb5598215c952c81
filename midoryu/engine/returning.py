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

from collections.abc import Set
from typing import Final, NamedTuple, Union, cast

from midoryu.engine import memory, state_lane
from midoryu.engine.core import Core
from midoryu.engine.effect import Effects
from midoryu.engine.event import FlowRemoved
from midoryu.engine.flow_index import Entry
from midoryu.openflow import flow, pipeline
from midoryu.openflow.flow import Action, Flow, Match
from midoryu.packet import field, protocol
from midoryu.packet.packet import Headers, Packet
from midoryu.simulation.outcome import Forward, Simulation
from midoryu.simulation.simulator import simulate
from midoryu.simulation.walk import PORT_PROTOCOLS
from midoryu.state.connection import (
    Connection,
    Direction,
    Phase,
    StateKey,
    TranslationKind,
)
from midoryu.state.lifetime import next_phase
from midoryu.topology.tag import Tag, is_state_tag
from midoryu.translation import flows as translation

# A flood of made-up addresses must not fill memory.
_MAX_MODELS: Final = 4096
_TTL: Final = 64
_L3: Final = 14
_ANSWERED: Final = protocol.TCP_SYN | protocol.TCP_ACK


class Model(NamedTuple):
    """The answer to one connection, for those of its siblings with the same ends.

    They differ in the source port and the NAT port, by which nothing was decided.
    """

    fields: int
    values: tuple[int, ...]
    peer_at: int
    """Where the peer's address is among the values."""
    peers: tuple[int, int]
    """Peers for which the same happens, first and last address."""
    port_at: int
    """Where the NAT port is among the values."""
    before: tuple[Action, ...]
    """What is done before the destination port is set ..."""
    after: tuple[Action, ...]
    """... and after it."""
    key: StateKey
    """Where the record was looked for; the NAT port is its last number."""
    tags: frozenset[Tag]


def prepare(
    core: Core, simulation: Simulation, connection_id: int, now: float
) -> Union[Entry, None]:
    """Make the flow for the answers to a new connection.

    Returns:
        None where the answers do not come here, or a flow cannot stand for them.
    """
    ends = _ends(core, simulation)
    if ends is None or is_crowded(core, ends[2]):
        return None
    model = core.replays.answers.get(ends)
    if (
        isinstance(model, Model)
        and simulation.connection is not None
        and len(simulation.connection.translations) == 1
        and model.peers[0] <= simulation.connection.original[1] <= model.peers[1]
    ):
        return _sibling(core, model, simulation, connection_id, now)
    return _simulated(core, simulation, connection_id, now, ends=ends)


def _ends(core: Core, simulation: Simulation) -> Union[tuple[int, ...], None]:
    """Say what the answers of siblings have in common; None where none come here."""
    connection, outcome = simulation.connection, simulation.outcome
    if connection is None or type(outcome) is not Forward:
        return None
    tunnel_key = _key_of_answers(core, connection, outcome.vport)
    if not tunnel_key:
        return None
    source, _, _, port = connection.original
    return (
        tunnel_key,
        outcome.vport,
        connection.ingress_vport,
        connection.ip_proto,
        source,
        port,
        simulation.headers.eth_dst,
        connection.translations[-1].address,
    )


def model_of(core: Core, simulation: Simulation) -> Union[tuple[int, Model], None]:
    """Return the tunnel key and the model of the answers to a new connection."""
    ends = _ends(core, simulation)
    model = core.replays.answers.get(ends) if ends is not None else None
    return (ends[0], model) if ends is not None and isinstance(model, Model) else None


def is_crowded(core: Core, vport: int, more: int = 0) -> bool:
    """Tell whether it has to be known soon which connections are answered.

    Where unreplied ones may have to go, an answered one must not be taken for one of
    them: its first answer is a packet-in here.

    Args:
        core: what is known.
        vport: where the connections come in.
        more: how many flows and records are about to be added.
    """
    config, connections = core.config, core.connections
    share = config.max_unreplied_per_vport or config.max_connections // 4
    return (
        len(core.flows) + more >= config.max_flows
        or 2 * (len(connections) + more) > config.max_connections
        or 2 * (connections.unreplied_of(vport) + more) > share
    )


def _simulated(
    core: Core,
    simulation: Simulation,
    connection_id: int,
    now: float,
    *,
    ends: tuple[int, ...],
) -> Union[Entry, None]:
    outcome = simulation.outcome
    assert isinstance(outcome, Forward)
    vport = core.topology.vport(outcome.vport)
    if vport is None:
        return None
    in_port, tunnel_key = core.places.gre_ofport, ends[0]
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
    match = translation.match_of(answer, in_port, tunnel_key=tunnel_key)
    actions = translation.rewrites(answer) + outputs.actions
    tags = frozenset(answer.tags).union(outputs.tags)
    model = _model(core, answer, match, actions, tags)
    if model is not None and len(found.connection.translations) == 1:
        if len(core.replays.answers) >= _MAX_MODELS:
            core.replays.answers.clear()
        core.replays.answers[ends] = model
    flow = _flow(core, match, actions, answer.packet.ip_proto)
    return _entry(core, flow, tags, connection_id, now)


def _model(
    core: Core,
    answer: Simulation,
    match: Match,
    actions: tuple[Action, ...],
    tags: frozenset[Tag],
) -> Union[Model, None]:
    """Make a model of an answer, None where a port may have decided something."""
    walk, headers = answer.walk, answer.packet.headers
    keys = [tag for tag in tags if is_state_tag(tag)]
    parts = _around_port(actions)
    if walk is None or walk.fields & field.L4_DST or len(keys) != 1 or parts is None:
        return None
    if keys[0][2:] != (
        headers.ip_src,
        headers.ip_dst,
        headers.l4_src,
        headers.l4_dst,
    ):
        return None
    if not match.fields & field.IP_SRC:
        return None
    rows = tags - {keys[0]}
    peers = core.replays.alike(core.topology, rows, headers.ip_src)
    if peers is None:
        peers = headers.ip_src, headers.ip_src
    peer_at = bin(match.fields & (field.IP_SRC - 1)).count("1")
    port_at = bin(match.fields & (field.L4_DST - 1)).count("1")
    return Model(
        match.fields,
        match.values,
        peer_at,
        peers,
        port_at,
        *parts,
        cast(StateKey, keys[0]),
        rows,
    )


def _around_port(
    actions: tuple[Action, ...],
) -> Union[tuple[tuple[Action, ...], tuple[Action, ...]], None]:
    """Part actions where the destination port is set, or would be (it may be kept)."""
    kinds = [action[0] for action in actions]
    if flow.SET_L4_DST in kinds:
        at = kinds.index(flow.SET_L4_DST)
        return actions[:at], actions[at + 1 :]
    if flow.SET_IP_DST not in kinds:
        return None
    at = kinds.index(flow.SET_IP_DST) + 1
    return actions[:at], actions[at:]


def _sibling(
    core: Core,
    model: Model,
    simulation: Simulation,
    connection_id: int,
    now: float,
) -> Union[Entry, None]:
    port, at = simulation.headers.l4_src, model.port_at
    peer = simulation.headers.ip_dst
    key = (*model.key[:2], peer, *model.key[3:-1], port)
    hit = core.connections.find(key)
    if hit is None or hit.connection.id != connection_id:
        return None
    own = simulation.packet.headers.l4_src
    proto = simulation.packet.ip_proto
    actions = model.before
    if own != port:
        actions += ((flow.SET_L4_DST, own, proto),)
    values = (
        *model.values[: model.peer_at],
        peer,
        *model.values[model.peer_at + 1 : at],
        port,
        *model.values[at + 1 :],
    )
    made = _flow(core, Match(model.fields, values), actions + model.after, proto)
    return _entry(core, made, frozenset((key,)), connection_id, now, model.tags)


def _flow(core: Core, match: Match, actions: tuple[Action, ...], ip_proto: int) -> Flow:
    config = core.config
    return Flow(
        table=pipeline.VPORT,
        priority=pipeline.PRIORITY_REACTIVE,
        match=match,
        actions=actions,
        cookie=core.new_cookie(),
        idle_timeout_s=config.flow_idle_timeout_s,
        fin_timeout_s=config.fin_timeout_s if ip_proto == protocol.TCP else 0,
        notify_removed=True,
    )


def _entry(
    core: Core,
    made: Flow,
    tags: frozenset[Tag],
    connection_id: int,
    now: float,
    shared: frozenset[Tag] = frozenset(),
) -> Entry:
    core.blocks.unproven[made.cookie] = connection_id, now
    core.counters["return flows made ahead"] += 1
    return Entry(made, tags, connection_id, returns=True, shared=shared)


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


def removed(core: Core, event: FlowRemoved, effects: Effects, now: float) -> None:
    """Note what a flow that is gone tells about its connection."""
    connection_id, _ = core.blocks.unproven.pop(event.cookie, (0, 0.0))
    if not connection_id or not event.packets:
        return
    idle = event.reason == pipeline.REMOVED_IDLE
    last_used = now - (event.idle_timeout_s if idle else 0)
    _answered(core, connection_id, last_used, effects, now)


def lost(core: Core, found: Set[int], effects: Effects, now: float) -> None:
    """Take connections for answered whose flows a switch lost without a word.

    Nobody can tell any more. Held too long a record costs its memory; held too short
    a connection that has only paused is lost.
    """
    blocks = core.blocks
    for cookie in [one for one in blocks.unproven if one not in found]:
        connection_id, made_at = blocks.unproven.pop(cookie)
        _answered(core, connection_id, made_at, effects, now)


def sweep(core: Core, effects: Effects, now: float) -> None:
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
            _answered(core, connection_id, now, effects, now)
    blocks.unproven_before = frozenset(gone)


def _answered(
    core: Core, connection_id: int, last_used: float, effects: Effects, now: float
) -> None:
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
    memory.remember(core, connection, effects, now)
    if core.replicator is not None:
        peers = state_lane.interested_peers(core, connection)
        core.replicator.touch((connection,), peers, now)
