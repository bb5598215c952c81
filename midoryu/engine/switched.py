# SPDX-License-Identifier: Apache-2.0
"""The express lane of networks: a frame from one vport to another, by MAC addresses.

A network without filters and services decides by MAC addresses alone, so each pair of
them has a flow, and a packet-in. What a simulation said about one pair holds for others
from the same vport, where the destination's vport differs from the first one's only in
its names and in where it is. `express` hands over what it has no plan for; where rows
changed, all is learned anew.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Optional

from midoryu.engine.core import Core
from midoryu.engine.effect import Effects
from midoryu.engine.event import PacketIn
from midoryu.engine.express_book import Pairs, Way
from midoryu.engine.flow_index import PairEntry
from midoryu.openflow.flow import Flow, InstallFlow, ReadyOut
from midoryu.openflow.wire_action import encode_actions, encode_instructions
from midoryu.packet import field
from midoryu.simulation.outcome import Forward, Simulation
from midoryu.topology.model import Vport
from midoryu.topology.tag import device_tag, mac_tag, vport_tag
from midoryu.translation.flows import outputs

# All that a plain network reads.
_READ: Final = (
    field.IN_PORT | field.ETH_DST | field.ETH_SRC | field.ETH_TYPE | field.VLAN
)
# A flood of made-up addresses must not fill memory; these are all of known vports.
_MAX_WAYS: Final = 65_536


def learn(core: Core, event: PacketIn, simulation: Simulation, installed: Flow) -> None:
    """Keep what a simulation said, for frames from the same vport to others."""
    book, outcome = core.express, simulation.outcome
    if simulation.fields != _READ or not isinstance(outcome, Forward):
        return
    if not book.is_on or not _is_plain(core, simulation, installed):
        return
    target = core.topology.vport(outcome.vport)
    source = core.topology.vport(simulation.vports[0])
    if source is None or target is None or target.device != source.device:
        return
    headers, network = simulation.packet.headers, source.device
    tags = frozenset(
        (
            vport_tag(source.key),
            device_tag(network),
            mac_tag(network, headers.eth_src),
        )
    )
    own = {vport_tag(target.key), mac_tag(network, headers.eth_dst)}
    if simulation.tags != own | tags:
        return
    _refresh(core)
    key = (event.in_port, event.frame[6:14])
    if key not in book.pairs:
        kind = _kind(core, target)
        book.pairs[key] = Pairs(source.key, network, kind, installed, tags)


def _is_plain(core: Core, simulation: Simulation, installed: Flow) -> bool:
    """Tell whether nothing happened but that a frame went on as it was."""
    packet = simulation.packet
    return (
        simulation.template is None
        and simulation.found is None
        and simulation.connection is None
        and simulation.lookup is None
        and simulation.quoted is None
        and not simulation.needs_first
        and not (simulation.hops or simulation.limit or simulation.mss)
        and not (simulation.emissions or simulation.learned or simulation.logs)
        and simulation.headers == packet.headers
        and installed.match.fields == _READ
        and not (installed.note or installed.fin_timeout_s)
        and not core.places.vport_by_tag
        and not core.storms
        and core.config.hold_first_packet_s <= 0
    )


def _kind(core: Core, vport: Vport) -> Vport:
    """Return a vport without its names and its place; one object for all alike."""
    bare = replace(
        vport, key=0, name="", mac=0, addresses=(), host=0, iface_id="", hostname=""
    )
    return core.express.kinds.setdefault(bare, bare)


def _refresh(core: Core) -> None:
    """Forget all where any row has changed since it was learned."""
    book = core.express
    if book.pairs_at != core.replays.generation:
        book.pairs_at = core.replays.generation
        book.pairs.clear()
        book.ways.clear()
        book.kinds.clear()


def take(core: Core, event: PacketIn, effects: Effects, now: float) -> bool:
    """Carry out a well-formed packet of a known pair of vports.

    Returns:
        False where nothing was done: it is for `packet_lane`.
    """
    book, frame = core.express, event.frame
    if book.pairs_at != core.replays.generation:
        return False
    pairs = book.pairs.get((event.in_port, frame[6:14]))
    if pairs is None:
        return False
    flows, vport = core.flows, pairs.vport
    if (
        not core.has_memory(now)
        or core.topology.location(vport) not in (0, core.host)
        or core.storms
        or core.places.vport_by_tag
        or vport in core.moved_at
        or vport in core.shares.limited
        or len(flows) >= core.config.max_flows
    ):
        return False
    way = book.ways.get((pairs.network, frame[:6]))
    if way is None:
        way = _way(core, pairs, frame[:6])
        if way is None:
            return False
    if way.kind is not pairs.kind or way.vport == vport:
        return False
    code = pairs.code(way.mac)
    if flows.is_taken(code):
        return False
    core.packet_ins[vport] += 1
    book.taken += 1
    cookie = core.new_cookie()
    entry = PairEntry(pairs, way, cookie, code)
    flows.add_pair(entry)
    message = pairs.message(way, cookie)
    effects.flow_mods.append(InstallFlow(entry, message))
    effects.packet_outs.append(ReadyOut(frame, way.encoded, event.in_port, entry))
    return True


def _way(core: Core, pairs: Pairs, mac: bytes) -> Optional[Way]:
    """Find the way to a MAC address of a network, None where that has to be asked."""
    topology, book = core.topology, core.express
    network = topology.network(pairs.network)
    if network is None or network.segments or network.balancing is not None:
        return None
    number = int.from_bytes(mac, "big")
    target = topology.vport(network.vport_by_mac.get(number, 0))
    if target is None or target.device != pairs.network:
        return None
    out = outputs((target.key,), core.places, pairs.in_port)
    if not out.actions or target.key in core.places.tag_by_vport:
        return None
    if len(book.ways) >= _MAX_WAYS:
        book.ways.clear()
    tags = (vport_tag(target.key), mac_tag(pairs.network, number), *out.tags)
    way = book.ways[(pairs.network, mac)] = Way(
        target.key,
        number,
        _kind(core, target),
        out.actions,
        encode_actions(out.actions),
        encode_instructions(out.actions, 0),
        frozenset(tags),
    )
    return way
