# SPDX-License-Identifier: Apache-2.0
"""The conditions of a rule: whether they hold for a packet, and what that reads.

`filter` asks one rule (`holds`), or all of a long chain at once (`conditions`, and
`read` for what asking them one by one would have read).
"""

from __future__ import annotations

from midoryu.packet import field, protocol
from midoryu.simulation.walk import PORT_PROTOCOLS, Walk
from midoryu.simulation.world import (
    READ_IP_DST,
    READ_IP_SRC,
    READ_L4_DST,
    READ_L4_SRC,
)
from midoryu.topology.chains import CompiledRule
from midoryu.topology.model import PortRange, Rule
from midoryu.topology.rule_index import GroupIndex, PrefixIndex, RuleIndex
from midoryu.topology.tag import member_tag


def holds(walk: Walk, compiled: CompiledRule) -> bool:
    """Ask one rule; its conditions are read up to the first that does not hold."""
    rule = compiled.rule
    if rule.eth_type and rule.eth_type != walk.packet.eth_type:
        return False
    if rule.ip_proto:
        if not walk.is_ip:
            return False
        walk.read_protocol()
        if rule.ip_proto != walk.packet.ip_proto:
            return False
    if rule.ct_states and not (walk.is_ip and rule.ct_states & walk.ct_state()):
        return False
    return (
        _addresses_hold(walk, compiled)
        and _ports_hold(walk, rule)
        and _icmp_holds(walk, rule)
    )


def names_neighbor_talk(rule: Rule) -> bool:
    """Tell whether a rule is about ARP or neighbour discovery by name."""
    return rule.eth_type == protocol.ETH_ARP or (
        rule.ip_proto == protocol.ICMPV6
        and protocol.ND_ROUTER_SOLICITATION
        <= rule.icmp_type
        <= protocol.ND_ADVERTISEMENT
    )


def conditions(walk: Walk, index: RuleIndex) -> int:
    """Return the rules whose addresses and ports hold."""
    headers = walk.headers
    holding = index.source.holds(headers.ip_src)
    holding &= index.destination.holds(headers.ip_dst)
    if index.source_groups.asks & holding:
        holding &= _in_groups(walk, index.source_groups, headers.ip_src)
    if index.destination_groups.asks & holding:
        holding &= _in_groups(walk, index.destination_groups, headers.ip_dst)
    by_port = index.source_ports.asks | index.destination_ports.asks
    if not by_port & holding:
        return holding
    packet = walk.packet
    is_orphan = packet.ip_frag == protocol.FRAG_LATER and not packet.borrowed
    if packet.ip_proto not in PORT_PROTOCOLS or is_orphan:
        return holding & ~by_port
    holding &= index.source_ports.holds(headers.l4_src)
    return holding & index.destination_ports.holds(headers.l4_dst)


def read(walk: Walk, index: RuleIndex, kind: int, reached: int, state: int) -> None:
    """Note what was read: each rule up to its first condition that does not hold."""
    headers = walk.headers
    left = reached & index.eth_type.holds(walk.packet.eth_type)
    if left & index.ip_proto.asks:
        walk.read_protocol()
    left &= kind
    if left & index.asks_ct:
        left &= ~index.asks_ct | index.by_ct_state[state]
    left = _read_address(
        walk, left, READ_IP_SRC, headers.ip_src, index.source, index.source_groups
    )
    left = _read_address(
        walk,
        left,
        READ_IP_DST,
        headers.ip_dst,
        index.destination,
        index.destination_groups,
    )
    if not left & (index.source_ports.asks | index.destination_ports.asks):
        return
    walk.read_protocol()
    if walk.packet.ip_proto not in PORT_PROTOCOLS or walk.is_later_fragment:
        return
    if left & index.source_ports.asks:
        walk.fields |= READ_L4_SRC
        left &= index.source_ports.holds(headers.l4_src)
    if left & index.destination_ports.asks:
        walk.fields |= READ_L4_DST


def _addresses_hold(walk: Walk, compiled: CompiledRule) -> bool:
    rule, headers = compiled.rule, walk.headers
    if compiled.source is not None or rule.source_group:
        if not walk.is_ip:
            return False
        walk.fields |= READ_IP_SRC
        if not _in(walk, headers.ip_src, rule.source_group, compiled.source):
            if not rule.not_source:
                return False
        elif rule.not_source:
            return False
    if compiled.destination is not None or rule.destination_group:
        if not walk.is_ip:
            return False
        walk.fields |= READ_IP_DST
        inside = _in(walk, headers.ip_dst, rule.destination_group, compiled.destination)
        return inside is not rule.not_destination
    return True


def _in(walk: Walk, address: int, group: str, prefixes: object) -> bool:
    if prefixes is not None and address not in prefixes:  # type: ignore[operator]
        return False
    if not group:
        return True
    walk.tags.add(member_tag(address))
    return walk.world.topology.groups.holds(group, address)


def _ports_hold(walk: Walk, rule: Rule) -> bool:
    if not rule.source_ports and not rule.destination_ports:
        return True
    if not walk.is_ip:
        return False
    walk.read_protocol()
    if walk.packet.ip_proto not in PORT_PROTOCOLS:
        return False
    if walk.is_later_fragment:
        return False
    if rule.source_ports:
        walk.fields |= READ_L4_SRC
        inside = _in_ranges(walk.headers.l4_src, rule.source_ports)
        if inside is rule.not_source_ports:
            return False
    if rule.destination_ports:
        walk.fields |= READ_L4_DST
        inside = _in_ranges(walk.headers.l4_dst, rule.destination_ports)
        return inside is not rule.not_destination_ports
    return True


def _in_ranges(port: int, ranges: tuple[PortRange, ...]) -> bool:
    return any(first <= port <= last for first, last in ranges)


def _icmp_holds(walk: Walk, rule: Rule) -> bool:
    if rule.icmp_type < 0:
        return True
    if not walk.is_ip:
        return False
    walk.read_protocol()
    if walk.packet.ip_proto not in (protocol.ICMP, protocol.ICMPV6):
        return False
    if walk.is_later_fragment:
        return False
    walk.fields |= field.L4_SRC
    if walk.headers.l4_src != rule.icmp_type:
        return False
    if rule.icmp_code < 0:
        return True
    walk.fields |= field.L4_DST
    return walk.packet.headers.l4_dst == rule.icmp_code


def _in_groups(walk: Walk, index: GroupIndex, address: int) -> int:
    groups = walk.world.topology.groups
    return index.holds(groups.of(address, index.names))


def _read_address(
    walk: Walk,
    left: int,
    bits: int,
    address: int,
    prefixes: PrefixIndex,
    groups: GroupIndex,
) -> int:
    if not left & (prefixes.asks | groups.asks):
        return left
    walk.fields |= bits
    left &= prefixes.holds(address)
    if left & groups.asks:
        walk.tags.add(member_tag(address))
        left &= _in_groups(walk, groups, address)
    return left
