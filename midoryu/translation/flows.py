# SPDX-License-Identifier: Apache-2.0
"""Matches and actions for a simulated packet.

`places` says what is where; `openflow.flow` has the values that come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import compress
from typing import Final, NamedTuple

from midoryu.openflow import flow, pipeline
from midoryu.openflow.flow import Action, Match
from midoryu.packet import field, protocol
from midoryu.packet.codec import VLAN_PRESENT, decode
from midoryu.packet.fragment import split
from midoryu.packet.mss import clamp_mss
from midoryu.packet.packet import Packet
from midoryu.packet.rewrite import EmbeddedRewrite, rewrite
from midoryu.simulation.outcome import Flood, Forward, Outcome, Simulation
from midoryu.topology.tag import Tag, host_tag
from midoryu.translation.flood import keys_at
from midoryu.translation.places import Places

_L4_PROTOCOLS: Final = frozenset(
    (protocol.TCP, protocol.UDP, protocol.SCTP, protocol.ICMP, protocol.ICMPV6)
)
_IP_FIELDS: Final = field.IP_TOS | field.IP_FRAG | field.IP_TTL
_ADDRESS_FIELDS: Final = field.IP_PROTO | field.IP_SRC | field.IP_DST
# ovs-fields(7), nw_proto: what later IPv6 fragments have.
_LATER_PROTO: Final = 44
# OVS counts a frame with its Ethernet header and the tag of a sub-port.
_ETHERNET_BYTES: Final = 14
_TAGGED_BYTES: Final = 18
# Ethertypes below are lengths (IEEE 802.3); OVS cannot tell them apart in a match.
_MIN_ETHERTYPE: Final = 0x600


class Outputs(NamedTuple):
    """Where to send a packet, physically."""

    actions: tuple[Action, ...]
    """Output actions; () where no vport can be reached."""
    tags: tuple[Tag, ...]
    """What they depend on."""


_NOWHERE: Final = Outputs((), ())


def vports_of(outcome: Outcome) -> tuple[int, ...]:
    """List the vports by which a packet leaves."""
    if isinstance(outcome, Forward):
        return (outcome.vport,)
    return outcome.vports if isinstance(outcome, Flood) else ()


def is_installable(simulation: Simulation) -> bool:
    """Tell whether a flow can stand for the simulated packet's kind."""
    return (
        not simulation.fields & field.UNMATCHABLE
        and not simulation.needs_first
        and simulation.packet.eth_type >= _MIN_ETHERTYPE
    )


def match_of(
    simulation: Simulation, in_port: int, vlan: int = 0, *, tunnel_key: int = 0
) -> Match:
    """Match exactly the fields that the simulation read.

    Args:
        simulation: what was simulated.
        in_port: the ofport where packets come in.
        vlan: the tag of the sub-port where they come in, 0 for no sub-port; the
            simulation saw them without it.
        tunnel_key: the key that packets have which a gateway hands on, 0 for others;
            it has looked at their destination MAC address, which is the uplink's.
    """
    packet = simulation.packet
    fields = _matchable(packet, simulation.fields)
    if tunnel_key:
        fields = fields & ~field.ETH_DST | field.TUNNEL_KEY
    headers = packet.headers
    proto = packet.ip_proto
    if packet.borrowed and packet.eth_type == protocol.ETH_IPV6:
        proto = _LATER_PROTO
    values = (
        in_port,
        headers.eth_dst,
        headers.eth_src,
        packet.eth_type,
        VLAN_PRESENT | vlan if vlan else packet.vlan,
        headers.ip_tos,
        proto,
        headers.ip_src,
        headers.ip_dst,
        packet.ip_frag,
        headers.l4_src,
        headers.l4_dst,
        packet.tcp_flags,
        headers.ip_ttl,
        packet.nd_target,
        tunnel_key,
    )
    return Match(fields, tuple(compress(values, _selectors(fields))))


def without_syn(match: Match) -> Match:
    """Leave the segments that open a TCP connection out of a match.

    They are for the agent, whatever stands for the rest of the connection. What the
    switch caches of them then is one entry for all of two machines' connections, which
    no new flow makes wrong: staged look-up ends before the ports.
    """
    fields = match.fields
    if fields & field.TCP_FLAGS or not fields & field.L4:
        return match  # one for some flags only, or for later fragments
    return Match(fields | field.TCP_SYN, (*match.values, 0))


@lru_cache(maxsize=1024)
def _selectors(fields: int) -> tuple[int, ...]:
    return tuple(fields >> bit & 1 for bit in range(fields.bit_length()))


def _matchable(packet: Packet, fields: int) -> int:
    """Leave out what a packet of this kind does not have."""
    is_ip = packet.eth_type in (protocol.ETH_IPV4, protocol.ETH_IPV6)
    if not is_ip:
        fields &= ~(_IP_FIELDS | field.L4)
        if packet.eth_type != protocol.ETH_ARP:
            fields &= ~_ADDRESS_FIELDS
    if fields & field.L4:
        # A later fragment has no ports, and looks like port 0 to a match.
        fields |= field.IP_FRAG
    has_l4 = is_ip and packet.ip_proto in _L4_PROTOCOLS
    if not has_l4 or packet.ip_frag == protocol.FRAG_LATER:
        fields &= ~field.L4
    if packet.ip_proto != protocol.TCP or not is_ip:
        fields &= ~field.TCP_FLAGS
    if not packet.nd_target:
        fields &= ~field.ND_TARGET
    return fields


def hop_actions(simulation: Simulation) -> tuple[Action, ...]:
    """List the actions that count the routers on the way.

    A flow that drops behind a router has these alone: a packet whose time runs out
    before is not dropped in silence.
    """
    actions: list[Action] = []
    for hop in range(1, simulation.hops + 1):
        if hop > 1:
            actions.append((flow.LOAD_HOPS, hop))
        actions.append((flow.DEC_TTL,))
    return tuple(actions)


def rewrites(simulation: Simulation) -> tuple[Action, ...]:
    """List the actions that make the outgoing headers from the incoming ones.

    TTL comes first, on the packet as it came in: when it runs out, the switch sends
    that packet, and REG_HOPS tells at which router.
    """
    actions = list(hop_actions(simulation))
    if simulation.limit:
        # Before all others: the controller gets the packet as it came in.
        header_bytes = _TAGGED_BYTES if simulation.packet.vlan else _ETHERNET_BYTES
        actions.insert(0, (flow.CHECK_SIZE, simulation.limit + header_bytes))
    before, after = simulation.packet.headers, simulation.headers
    proto = simulation.packet.ip_proto
    # A router sets the source whatever it was; other packets of the flow may differ.
    is_free = simulation.hops and not simulation.fields & field.ETH_SRC
    if after.eth_src != before.eth_src or is_free:
        actions.append((flow.SET_ETH_SRC, after.eth_src))
    if after.eth_dst != before.eth_dst:
        actions.append((flow.SET_ETH_DST, after.eth_dst))
    actions += new_source(simulation)
    if after.ip_dst != before.ip_dst:
        actions.append((flow.SET_IP_DST, after.ip_dst))
    if after.l4_dst != before.l4_dst:
        actions.append((flow.SET_L4_DST, after.l4_dst, proto))
    if after.ip_tos != before.ip_tos:
        actions.append((flow.SET_TOS, after.ip_tos))
    return tuple(actions)


def new_source(simulation: Simulation) -> tuple[Action, ...]:
    """List the actions that change the source address and port."""
    before, after = simulation.packet.headers, simulation.headers
    port: Action = (flow.SET_L4_SRC, after.l4_src, simulation.packet.ip_proto)
    if after.ip_src == before.ip_src:
        return (port,) if after.l4_src != before.l4_src else ()
    address: Action = (flow.SET_IP_SRC, after.ip_src)
    return (address, port) if after.l4_src != before.l4_src else (address,)


def around_source(
    simulation: Simulation,
) -> tuple[tuple[Action, ...], tuple[Action, ...]]:
    """Return what `rewrites` lists before and behind the change of the source."""
    actions, own = rewrites(simulation), new_source(simulation)
    if not own:
        kinds = (flow.SET_IP_DST, flow.SET_L4_DST, flow.SET_TOS)
        at = next((n for n, one in enumerate(actions) if one[0] in kinds), len(actions))
        return actions[:at], actions[at:]
    at = actions.index(own[0])
    return actions[:at], actions[at + len(own) :]


def outputs(vports: Sequence[int], places: Places, in_port: int) -> Outputs:
    """Send to vports: local ones by ofport, others through the tunnel by their key.

    A vport that is nowhere, or whose host has no known address, is left out. Where
    several are at one host, one copy goes there if it is for all that are up there.
    """
    if len(vports) == 1:
        return _one_output(vports[0], places, in_port)
    actions: list[Action] = []
    tags: list[Tag] = []
    remote: dict[int, list[int]] = {}
    for vport in vports:
        ofport = places.ofport_by_vport.get(vport)
        if ofport is not None:
            actions += to_local(vport, ofport, places, in_port)
            continue
        host = places.topology.location(vport)
        if host not in (0, places.host):
            remote.setdefault(host, []).append(vport)
    # What a gateway handed on may go on through the tunnel where it came from.
    gre = places.gre_ofport
    out = pipeline.PORT_IN_PORT if gre == in_port else gre
    for host, there in remote.items():
        tags.append(host_tag(host))
        underlay = places.underlay(host)
        if not underlay or not places.gre_ofport:
            continue
        keys = there if len(there) == 1 else keys_at(places.topology, host, there)
        for key in keys:
            actions.append((flow.SET_TUNNEL, key, underlay))
            actions.append((flow.OUTPUT, out))
    return Outputs(tuple(actions), tuple(tags))


def _one_output(vport: int, places: Places, in_port: int) -> Outputs:
    """Send to one vport: what nearly all packets ask for, without any loop."""
    ofport = places.ofport_by_vport.get(vport)
    if ofport is not None:
        return Outputs(to_local(vport, ofport, places, in_port), ())
    host = places.topology.location(vport)
    if host in (0, places.host):
        return _NOWHERE
    tags = (host_tag(host),)
    underlay, gre = places.underlay(host), places.gre_ofport
    if not underlay or not gre:
        return Outputs((), tags)
    out = pipeline.PORT_IN_PORT if gre == in_port else gre
    tunnel = (flow.SET_TUNNEL, vport, underlay)
    return Outputs((tunnel, (flow.OUTPUT, out)), tags)


def to_local(
    vport: int, ofport: int, places: Places, in_port: int
) -> tuple[Action, ...]:
    """Send to a local vport: by its own flow where it has limits, else straight."""
    if vport in places.special:
        return ((flow.DELIVER, vport),)
    out = (flow.OUTPUT, pipeline.PORT_IN_PORT if ofport == in_port else ofport)
    vlan = places.tag_by_vport.get(vport)
    return ((flow.PUSH_VLAN, vlan), out, (flow.POP_VLAN,)) if vlan else (out,)


def frames_of(simulation: Simulation) -> list[bytes]:
    """Return what leaves for one packet: its frame, or the fragments that fit."""
    frame = frame_of(simulation)
    if simulation.mss:
        frame = clamp_mss(decode(frame), simulation.mss)
    limit = simulation.limit
    if not limit or simulation.packet.l3_length <= limit:
        return [frame]
    # What virtual devices make has no identification.
    number = -1 if simulation.vports else hash(frame) & 0xFFFF_FFFF
    return split(decode(frame), limit, number)


def frame_of(simulation: Simulation) -> bytes:
    """Return the outgoing frame, rewritten here rather than by the switch."""
    quoted = simulation.quoted
    if quoted is None:
        return rewrite(simulation.packet, simulation.headers)
    embedded = EmbeddedRewrite.of(quoted)
    return rewrite(simulation.packet, simulation.headers, embedded)
