# SPDX-License-Identifier: Apache-2.0
"""A flood of refused packets is dropped by the switch, many with one flow.

An ordinary drop flow matches the whole tuple where a stateful filter looked a record
up: random ports and addresses then cost a packet-in each. Once a vport is refused more
than a few packets in a second, `packet_lane` asks `widen` for a wide flow instead.

It drops what is refused for the same reason, and nothing else:

1. It matches what the decision went by (`Walk.fields`), without what was read only to
   look the record up. So it stands for every packet that no record knows.
2. Records of the vport that its match could meet are guarded: a flow above it leads
   their packets to the agent. A new record removes the wide flows (`watch_key`).
3. Where a chain of the network's own refused, destination ports are matched by blocks
   of 64 that no rule divides; where port security did, all sources but the allowed
   ones are refused at once, these being guarded.
4. It stands for two seconds. Like every flow it goes when a row behind its tags does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final, Union

from midoryu.engine import questions
from midoryu.engine.core import Core
from midoryu.engine.event import PacketIn
from midoryu.engine.flow_index import Entry
from midoryu.openflow import flow, pipeline, service_flows
from midoryu.openflow.flow import Action, Flow, Match
from midoryu.packet import field, protocol
from midoryu.packet.address import is_v4
from midoryu.simulation.outcome import Consumed, Drop, Outcome, Reason, Simulation
from midoryu.simulation.port import CLIENT_PORTS, allowed_sources
from midoryu.simulation.walk import PORT_PROTOCOLS, Walk
from midoryu.state.lifetime import TcpVerdict, tcp_verdict
from midoryu.state.watched import Way, watch_key
from midoryu.topology.chains import CompiledChain
from midoryu.topology.model import Vport
from midoryu.topology.tag import Tag, is_state_tag, keys_of, vport_tag
from midoryu.translation import flows as translation

# Refusals that are the sender's own fault, and whose answer (if any) may be left out
# for a while (RFC 1812, section 4.3.2.8; RFC 4443, section 2.4(f)).
_REFUSED: Final = frozenset(
    (Reason.FILTERED, Reason.REJECTED, Reason.PORT_SECURITY, Reason.BLACKHOLE)
)
_FLOW_S: Final = 2
_MAX_GUARDS: Final = 16
# Directions of records that are looked at for one flow: some 5 ms.
_MAX_LOOKED: Final = 2_000
# Looking through more records would keep everybody waiting for some 20 ms.
_MAX_RECORDS: Final = 200_000
# Ports that networks themselves ask for: DNS, DHCP, HTTP (metadata), DHCPv6.
_OWN_PORTS: Final = (53, 67, 68, 80, 546, 547)
_BLOCK_PORTS: Final = 1 << field.PORT_BLOCK_SHIFT
_IP: Final = (protocol.ETH_IPV4, protocol.ETH_IPV6)
_PORTS: Final = field.L4_DST | field.PORT_BLOCK
_ICMP: Final = (protocol.ICMP, protocol.ICMPV6)


def is_flood(core: Core, vport: int, outcome: Outcome, now: float) -> bool:
    """Count what was refused; tell whether a vport is refused more than it should."""
    return (
        isinstance(outcome, (Drop, Consumed))
        and outcome.reason in _REFUSED
        and core.refusals.note(vport, now)
    )


def widen(
    core: Core, event: PacketIn, vport: Vport, simulation: Simulation, now: float
) -> list[Entry]:
    """Return the flow that drops what is refused like this packet, and its guards.

    Returns:
        Nothing where no flow may do that; the guards come first.
    """
    walk = simulation.walk
    if (
        walk is None
        or walk.hit is not None
        or event.tunnel_key
        or walk.seems_answer
        or not translation.is_installable(simulation)
        or questions.is_learning(core, vport.key, now)
        or _is_midstream(walk)
    ):
        return []
    guards: list[Match] = []
    if _refused_source(simulation, vport):
        fields = field.IN_PORT | field.VLAN | field.ETH_TYPE
        guards = _source_guards(vport, event.in_port, walk.packet.eth_type)
    else:
        fields = _wide_fields(walk)
        if _is_local(core, simulation):
            fields, guards = _narrowed_by_chains(core, walk, vport, event, fields)
    match = _match(core, event, simulation, fields)
    if match == _match(core, event, simulation, simulation.fields):
        return []
    tags = {tag for tag in simulation.tags if not is_state_tag(tag)}
    if simulation.outcome != Drop(Reason.PORT_SECURITY):
        siblings = _watch(core, vport.key, now)
        if siblings is None:
            return []
        tags.update(map(watch_key, siblings))
        of_records = _record_guards(core, siblings, event.in_port, match)
        ported = walk.packet.ip_proto in PORT_PROTOCOLS and walk.looked
        if of_records is None and ported and not fields & _PORTS:
            # Fewer records have a port of one block.
            fields |= field.PORT_BLOCK | field.IP_FRAG
            match = _match(core, event, simulation, fields)
            of_records = _record_guards(core, siblings, event.in_port, match)
        if of_records is None:
            core.counters["refused floods that records are too close to"] += 1
            return []
        guards += of_records
    if len(guards) > _MAX_GUARDS:
        core.counters["refused floods that records are too close to"] += 1
        return []
    tags.add(vport_tag(vport.key))
    core.refusals.tallies[vport.key].flows += 1
    core.counters["refused floods dropped by a wide flow"] += 1
    return list(
        _entries(core, event, vport, simulation, match, guards, frozenset(tags))
    )


def tidy(core: Core, now: float) -> None:
    """Watch no more the records of vports that no wide flow stands for."""
    watched = core.refusals.watched
    for vport in [one for one, until in watched.items() if until <= now]:
        del watched[vport]
        core.connections.unwatch(vport)


# What the flow matches.


def _is_midstream(walk: Walk) -> bool:
    """Tell whether another host may know the packet's connection."""
    if not walk.tracked or walk.packet.ip_proto != protocol.TCP:
        return False
    return tcp_verdict(walk.packet.tcp_flags) is TcpVerdict.MIDSTREAM


def _wide_fields(walk: Walk) -> int:
    """Return what decided, without what only the look-up of a record read."""
    fields = walk.fields
    looked = walk.looked
    proto = walk.packet.ip_proto
    fields |= looked & (field.ETH_TYPE | field.IP_PROTO)
    if proto in _ICMP:
        # Errors and echoes are told apart by type.
        fields |= looked & field.L4
    if (walk.fields | looked) & field.L4:
        # Later fragments show no ports.
        fields |= field.IP_FRAG
    if proto == protocol.TCP and looked:
        fields |= field.TCP_FLAGS | field.ETH_TYPE | field.IP_PROTO
    return fields


def _is_local(core: Core, simulation: Simulation) -> bool:
    """Tell whether a chain refused the packet before it left its first network."""
    walk, outcome = simulation.walk, simulation.outcome
    assert walk is not None
    return (
        walk.devices == 1
        and core.topology.network(walk.ingress.device) is not None
        and isinstance(outcome, (Drop, Consumed))
        and outcome.reason in (Reason.FILTERED, Reason.REJECTED)
    )


def _narrowed_by_chains(
    core: Core, walk: Walk, vport: Vport, event: PacketIn, fields: int
) -> tuple[int, list[Match]]:
    """Leave out ports, or their lower bits, that no rule on the way tells apart."""
    proto, headers = walk.packet.ip_proto, walk.packet.headers
    if proto not in PORT_PROTOCOLS:
        return fields, []
    _, names, _ = keys_of(tag for tag in walk.tags if not is_state_tag(tag))
    chains = [chain for chain in map(core.topology.chain, names) if chain is not None]
    guards: list[Match] = []
    is_free = headers.l4_src not in CLIENT_PORTS and not any(
        _asks_for_source_ports(chain) for chain in chains
    )
    if fields & field.L4_SRC and is_free:
        fields &= ~field.L4_SRC
        if proto == protocol.UDP and vport.port_security:
            # Port security looks whether a machine poses as a DHCP server.
            guards = [
                _from_port(event.in_port, walk.packet.eth_type, port)
                for port in CLIENT_PORTS
            ]
    if fields & field.L4_DST:
        first = headers.l4_dst & -_BLOCK_PORTS
        if not any(_divides(edge, first) for edge in _edges(chains)):
            fields = fields & ~field.L4_DST | field.PORT_BLOCK
    return fields, guards


def _asks_for_source_ports(chain: CompiledChain) -> bool:
    return any(one.rule.source_ports for one in chain.rules)


def _edges(chains: Iterable[CompiledChain]) -> Iterator[int]:
    """Yield each destination port where something begins or has just ended."""
    for port in _OWN_PORTS:
        yield from (port, port + 1)
    for chain in chains:
        for one in chain.rules:
            for first, last in one.rule.destination_ports:
                yield from (first, last + 1)


def _divides(edge: int, first: int) -> bool:
    return first < edge < first + _BLOCK_PORTS


def _match(core: Core, event: PacketIn, simulation: Simulation, fields: int) -> Match:
    assert simulation.vports
    vlan = core.places.tag_by_vport.get(simulation.vports[0], 0)
    block = fields & field.PORT_BLOCK
    one = translation.match_of(
        replace(simulation, fields=fields & ~block), event.in_port, vlan
    )
    if not block:
        return one
    port = simulation.packet.headers.l4_dst
    return Match(one.fields | block, (*one.values, port >> field.PORT_BLOCK_SHIFT))


# Who is guarded.


def _refused_source(simulation: Simulation, vport: Vport) -> bool:
    """Tell whether the sender's addresses alone were refused, whatever else it says."""
    packet = simulation.packet
    if simulation.outcome != Drop(Reason.PORT_SECURITY) or packet.eth_type not in _IP:
        return False
    sources = allowed_sources(vport)
    source = (packet.headers.eth_src, packet.headers.ip_src)
    return sources is not None and source not in sources


def _source_guards(vport: Vport, in_port: int, eth_type: int) -> list[Match]:
    sources = allowed_sources(vport) or ()
    fields = field.IN_PORT | field.ETH_SRC | field.ETH_TYPE | field.IP_SRC
    return [
        Match(fields, (in_port, mac, eth_type, address))
        for mac, address in sources
        if is_v4(address) is (eth_type == protocol.ETH_IPV4)
    ]


def _from_port(in_port: int, eth_type: int, port: int) -> Match:
    fields = field.IN_PORT | field.ETH_TYPE | field.IP_PROTO | field.L4_SRC
    return Match(fields, (in_port, eth_type, protocol.UDP, port))


def _watch(core: Core, vport: int, now: float) -> Union[list[int], None]:
    """Watch the records whose packets may come in by a vport.

    Returns:
        The vport and those that share an ingress set with it; None where there are too
        many records to look through.
    """
    siblings = {vport}
    for ingress_set in core.topology.ingress_sets(vport):
        siblings |= ingress_set.vports
    watched = core.refusals.watched
    for one in siblings:
        if one not in watched:
            if len(core.connections) > _MAX_RECORDS:
                return None
            core.connections.watch(one)
        watched[one] = now + 2 * _FLOW_S + 10.0
    return sorted(siblings)


def _record_guards(
    core: Core, vports: Iterable[int], in_port: int, match: Match
) -> Union[list[Match], None]:
    """Match the packets of records that a wide match could meet.

    Returns:
        None where there are too many, or too many to look through.
    """
    values = dict(zip(_bits(match.fields), match.values))
    proto, block = values.get(field.IP_PROTO), values.get(field.PORT_BLOCK)
    if proto in PORT_PROTOCOLS and field.L4_DST in values:
        block = values[field.L4_DST] >> field.PORT_BLOCK_SHIFT
    found: dict[Way, None] = {}
    looked = 0
    for vport in vports:
        for way in core.connections.watched(vport, proto, block):
            looked += 1
            if _meets(way, values):
                found[way] = None
            if looked > _MAX_LOOKED or len(found) > _MAX_GUARDS:
                return None
    return [_guard(in_port, way) for way in found]


def _bits(fields: int) -> list[int]:
    return [1 << bit for bit in range(fields.bit_length()) if fields >> bit & 1]


def _meets(way: Way, values: dict[int, int]) -> bool:
    source, destination, source_port, destination_port = way.tuple4
    eth_type = protocol.ETH_IPV4 if is_v4(source) else protocol.ETH_IPV6
    ends = {
        field.ETH_TYPE: eth_type,
        field.IP_PROTO: way.ip_proto,
        field.IP_SRC: source,
        field.IP_DST: destination,
    }
    if way.ip_proto in PORT_PROTOCOLS:
        ends[field.L4_SRC] = source_port
        ends[field.L4_DST] = destination_port
        ends[field.PORT_BLOCK] = destination_port >> field.PORT_BLOCK_SHIFT
    return all(values.get(bit, value) == value for bit, value in ends.items())


def _guard(in_port: int, way: Way) -> Match:
    source, destination, source_port, destination_port = way.tuple4
    fields = field.IN_PORT | field.ETH_TYPE | field.IP_PROTO
    fields |= field.IP_SRC | field.IP_DST
    eth_type = protocol.ETH_IPV4 if is_v4(source) else protocol.ETH_IPV6
    values: tuple[int, ...] = (in_port, eth_type, way.ip_proto, source, destination)
    if way.ip_proto in PORT_PROTOCOLS:
        fields |= field.L4
        values += (source_port, destination_port)
    return Match(fields, values)


# The flows.


def _entries(
    core: Core,
    event: PacketIn,
    vport: Vport,
    simulation: Simulation,
    match: Match,
    guards: Iterable[Match],
    tags: frozenset[Tag],
) -> Iterator[Entry]:
    vlan = core.places.tag_by_vport.get(vport.key, 0)
    meter = service_flows.METER_SUBPORT | vport.key if vlan else event.in_port
    to_agent: tuple[Action, ...] = ((flow.METER, meter), (flow.CONTROLLER,))
    for guard in guards:
        yield Entry(_flow(core, guard, to_agent, pipeline.PRIORITY_GUARD), tags)
    # A packet whose time runs out before it is refused is told so.
    actions = translation.hop_actions(simulation)
    yield Entry(_flow(core, match, actions, pipeline.PRIORITY_REFUSED), tags)


def _flow(core: Core, match: Match, actions: tuple[Action, ...], priority: int) -> Flow:
    return Flow(
        table=pipeline.VPORT,
        priority=priority,
        match=match,
        actions=actions,
        cookie=core.new_cookie(),
        # Guards outlive what they guard from.
        hard_timeout_s=_FLOW_S + (priority == pipeline.PRIORITY_GUARD),
        notify_removed=True,
    )
