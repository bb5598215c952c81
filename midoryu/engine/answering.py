# SPDX-License-Identifier: Apache-2.0
"""The express lane of answers: packets back, of connections of a known kind.

A packet that goes the return way of a record needs a flow of its own, though its way is
that of other answers to the same machine by the same address: they differ in the peer,
and in the ports by which records are found. `express` hands over what it has no plan
for; where rows changed, all is learned anew.

An answer stands for others where the full simulation decided nothing by the port that
it goes to. Then all that counts of its record is in the key of a plan (who began the
connection, where it comes in and leaves, what translates it), and the peer's address
lies between two that nobody tells apart.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Optional

from midoryu.engine import carrying, memory
from midoryu.engine.core import Core
from midoryu.engine.effect import Effects
from midoryu.engine.event import PacketIn
from midoryu.engine.express_book import Key
from midoryu.engine.flow_index import PlannedEntry, ends_code
from midoryu.engine.flow_shape import (
    DESTINATION,
    PORT,
    SOURCE_PORT,
    FlowShape,
    NotedEntry,
    Numbers,
)
from midoryu.engine.headers import Read, read_headers
from midoryu.openflow import flow, wire
from midoryu.openflow.flow import Flow, InstallFlow, ReadyOut
from midoryu.packet import field, protocol
from midoryu.simulation import replay
from midoryu.simulation.bounds import Bounds
from midoryu.simulation.outcome import Simulation
from midoryu.simulation.walk import Walk
from midoryu.state.connection import Connection, Direction, StateKey, TranslationKind
from midoryu.topology.tag import Tag, is_state_tag
from midoryu.translation import flows as translation

_IPV4: Final = b"\x08\x00"
# A flood of made-up addresses must not fill memory; these are all of known records.
_MAX_PLANS: Final = 4096
_LOW_32: Final = (1 << 32) - 1
_LOW_64: Final = (1 << 64) - 1
_NEEDED: Final = field.IP_SRC | field.IP_DST | field.L4_SRC | field.L4_DST


class Homeward(NamedTuple):
    """What answers of one kind share."""

    vport: int
    """Where they come in."""
    peers: Bounds
    """From whom."""
    shape: FlowShape
    is_v4: bool
    note_at: int
    """Where a flow's message has its note, 0 for no note."""


def learn(core: Core, event: PacketIn, simulation: Simulation, installed: Flow) -> None:
    """Keep what a simulation said about an answer, for its siblings."""
    book, found = core.express, simulation.found
    read = read_headers(event)
    if read is None or found is None or found.direction is not Direction.RETURN:
        return
    walk = simulation.walk
    if not book.is_on or walk is None:
        return
    _refresh(core)
    key = _key(walk)
    ahead, kind = _ahead(read), _kind(found.connection, key)
    kinds = book.answered.get(ahead)
    if kinds is None or kind not in kinds:
        # The first of its kind may be the only one.
        if book.homeward >= _MAX_PLANS:
            book.answered.clear()
            book.homeward = 0
        book.answered.setdefault(ahead, {})[kind] = None
        book.homeward += 1
    elif kinds[kind] is None:
        kinds[kind] = _plan(core, event, simulation, installed, key)


def _plan(
    core: Core,
    event: PacketIn,
    simulation: Simulation,
    installed: Flow,
    key: StateKey,
) -> Optional[Homeward]:
    """Make a plan of an answer, None where others may go another way."""
    found, walk = simulation.found, simulation.walk
    assert found is not None
    assert walk is not None
    if (
        core.config.hold_first_packet_s > 0
        or core.storms
        or core.places.vport_by_tag
        or installed.match.fields & _NEEDED != _NEEDED
        or not replay.does_known(simulation, field.L4_DST)
        or not _is_undone(simulation, walk, found.connection)
    ):
        return None
    tags = frozenset(one for one in simulation.tags if not is_state_tag(one))
    if simulation.tags - tags != {key} or walk.missed_keys():
        return None
    peers = core.replays.alike(core.topology, tags, key[2])
    if peers is None:
        return None
    vports = translation.vports_of(simulation.outcome)
    outputs = translation.outputs(vports, core.places, event.in_port)
    is_v4 = simulation.packet.eth_type == protocol.ETH_IPV4
    try:
        shape = _shape(
            installed,
            key,
            tags.union(outputs.tags),
            is_translated=bool(found.connection.translations),
            is_v4=is_v4,
        )
    except ValueError:
        # A message that numbers cannot be filled into.
        return None
    note, note_at = installed.note, 0
    if note:
        note_at = wire.encode_flow_mod(InstallFlow(installed), 0).index(note)
    return Homeward(simulation.vports[0], peers, shape, is_v4, note_at)


def _shape(
    installed: Flow,
    key: StateKey,
    shared: frozenset[Tag],
    *,
    is_translated: bool,
    is_v4: bool,
) -> FlowShape:
    """Make the shape of a plan's flows from one of them.

    Raises:
        ValueError: numbers cannot be filled into their messages.
    """
    device, proto, _, address, to_port, _ = key
    number = PORT if is_translated else SOURCE_PORT

    def tags_of(numbers: Numbers) -> frozenset[Tag]:
        peer, port = numbers[DESTINATION], numbers[number]
        return frozenset(((device, proto, peer, address, to_port, port),))

    return FlowShape(
        installed,
        match={field.IP_SRC: DESTINATION, field.L4_DST: number},
        actions={flow.SET_L4_DST: SOURCE_PORT} if is_translated else {},
        tags_of=tags_of,
        shared=shared,
        is_v4=is_v4,
        returns=True,
    )


def _ahead(read: Read) -> Key:
    """Return what is known of an answer before its record is."""
    key, _, destination, source_port, _ = read
    return (*key[:3], source_port, destination, *key[4:])


def _key(walk: Walk) -> StateKey:
    """Return where an answer's record is looked for first."""
    packet = walk.packet
    headers = packet.headers
    ends = (headers.ip_src, headers.ip_dst, headers.l4_src, headers.l4_dst)
    return (walk.ingress.device, packet.ip_proto, *ends)


def _kind(connection: Connection, key: StateKey) -> tuple[object, ...]:
    """Return all by which a record may decide where its answers go, and how."""
    made = connection.translations
    return (
        connection.original[0],
        connection.original[2] == key[5],
        connection.ingress_device,
        connection.ingress_vport,
        connection.egress_device,
        connection.egress_vport,
        made[0][0] if made else 0,
    )


def _is_kept(connection: Connection) -> bool:
    """Tell whether a record translates the source at most, and its note is usual."""
    made = connection.translations
    return (
        not connection.version
        and connection.owner != 0
        and len(made) <= 1
        and (not made or made[0].kind is TranslationKind.SOURCE)
    )


def _is_undone(simulation: Simulation, walk: Walk, connection: Connection) -> bool:
    """Tell whether nothing but the record's translation of the source was undone."""
    before, after = simulation.packet.headers, simulation.headers
    source, _, port, _ = connection.original
    return (
        simulation.connection is None
        and not walk.translations
        and walk.masquerade is None
        and _is_kept(connection)
        and (after.ip_src, after.l4_src) == (before.ip_src, before.l4_src)
        and (after.ip_dst, after.l4_dst, after.icmp_id) == (source, port, 0)
    )


def _refresh(core: Core) -> None:
    """Forget all where any row has changed since it was learned."""
    book = core.express
    if book.answered_at != core.replays.generation:
        book.answered_at = core.replays.generation
        book.answered.clear()
        book.homeward = 0


def take(core: Core, event: PacketIn, read: Read, effects: Effects, now: float) -> bool:
    """Carry out an answer of a known kind.

    Args:
        core: what is known; nothing is under way that makes packets a special case.
        event: the packet.
        read: its headers.
        effects: gets what is to be done.
        now: monotonic seconds.

    Returns:
        False where nothing was done: it is for `packet_lane`.
    """
    book = core.express
    if book.answered_at != core.replays.generation:
        return False
    kinds = book.answered.get(_ahead(read))
    vport = core.places.vport_by_ofport.get(event.in_port)
    row = core.topology.vport(vport) if vport is not None else None
    if kinds is None or row is None:
        return False
    head, peer, address, to_port, _ = read
    proto, port = _protocol(event.frame), head[3]
    assert isinstance(port, int)
    key = (row.device, proto, peer, address, to_port, port)
    hit = core.connections.find(key)
    if hit is None or hit.direction is not Direction.RETURN:
        return False
    connection = hit.connection
    plan = kinds.get(_kind(connection, key)) if _is_kept(connection) else None
    if plan is None or not _is_like(core, plan, row.key, peer):
        return False
    source, _, source_port, _ = connection.original
    made = connection.translations[0] if connection.translations else None
    made_address, made_port = (made.address, made.port) if made else (0, 0)
    shape = plan.shape
    match = shape.code((source, peer, source_port, made_address, made_port))
    if core.flows.is_taken(match):
        return False
    # Nothing was changed up to here.
    core.packet_ins[row.key] += 1
    core.shares.answers[row.key] += 1
    book.taken += 1
    _note_use(core, event.frame, connection, effects, now)
    cookie = core.new_cookie()
    ends = _ends(plan, source, peer, source_port, made_address)
    message = shape.fill(cookie, *ends, made_port)
    ids = (shape, cookie, match, connection.id, connection.original, made)
    entry = PlannedEntry(*ids)
    if plan.note_at:
        note = memory.note(core, connection.id, now)
        entry = NotedEntry(*ids, note)
        at = plan.note_at
        message = message[:at] + note + message[at + len(note) :]
    core.flows.add_planned(entry, (ends_code(key),))
    core.connections.hold(connection.id)
    effects.flow_mods.append(InstallFlow(entry, message))
    actions = message[-shape.actions_bytes :]
    effects.packet_outs.append(ReadyOut(event.frame, actions, event.in_port, entry))
    return True


def _is_like(core: Core, plan: Homeward, vport: int, peer: int) -> bool:
    """Tell whether an answer is one that a plan stands for, and nothing is unusual."""
    first, last = plan.peers
    return (
        plan.vport == vport
        and first <= peer <= last
        and peer not in core.connections.targets
        and core.topology.location(vport) in (0, core.host)
        and vport not in core.moved_at
        and vport not in core.shares.limited
        and len(core.flows) < core.config.max_flows
    )


def _protocol(frame: bytes) -> int:
    """Return the protocol of a packet that `headers` has read."""
    return frame[23] if frame[12:14] == _IPV4 else frame[20]


def _note_use(
    core: Core, frame: bytes, connection: Connection, effects: Effects, now: float
) -> None:
    """Change or refresh the record of an answer."""
    flags, has_data = 0, False
    if connection.ip_proto == protocol.TCP:
        l3, is_v4 = 14, frame[12:14] == _IPV4
        l4 = l3 + (20 if is_v4 else 40)
        size = int.from_bytes(frame[16:18] if is_v4 else frame[18:20], "big")
        end = (l3 if is_v4 else l4) + size
        flags = frame[l4 + 13]
        has_data = end > l4 + (frame[l4 + 12] >> 4 << 2)
    carrying.use(core, connection, Direction.RETURN, flags, has_data, effects, now)


def _ends(
    plan: Homeward, source: int, peer: int, port: int, address: int
) -> tuple[int, ...]:
    """Return the ends of a connection as numbers of a message."""
    if plan.is_v4:
        return source & _LOW_32, peer & _LOW_32, port, address & _LOW_32
    pairs = ((one >> 64, one & _LOW_64) for one in (source, peer, address))
    (a, b), (c, d), (e, f) = pairs
    return a, b, c, d, port, e, f
