# SPDX-License-Identifier: Apache-2.0
"""Chains of rules: what they say about a packet, and which fields they read for it.

Devices and vports name a chain; `topology.chains` compiled it. A rule's conditions are
read one by one and reading stops at the first that does not hold, so that a flow is as
wide as the answer allows.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Union

from midoryu.packet import field, protocol
from midoryu.packet.packet import Headers
from midoryu.simulation.outcome import RuleLog
from midoryu.simulation.walk import (
    PORT_PROTOCOLS,
    READ_IP_DST,
    READ_IP_SRC,
    READ_L4_DST,
    READ_L4_SRC,
    Walk,
)
from midoryu.state.connection import Direction, opposite_type
from midoryu.topology.chains import INDEX_MIN_RULES, CompiledChain, CompiledRule
from midoryu.topology.model import (
    CT_ESTABLISHED,
    CT_NEW,
    PortRange,
    Rule,
    RuleAction,
)
from midoryu.topology.rule_index import GroupIndex, PrefixIndex, RuleIndex
from midoryu.topology.tag import chain_tag, member_tag

# Jumps inside jumps; deeper ones are passed over (a chain may jump to itself).
MAX_DEPTH: Final = 25


class Verdict(Enum):
    """What a chain says."""

    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"


_VERDICTS: Final = {
    RuleAction.ACCEPT: Verdict.ACCEPT,
    RuleAction.DROP: Verdict.DROP,
    RuleAction.REJECT: Verdict.REJECT,
}


def evaluate(walk: Walk, key: str) -> Verdict:
    """Ask a chain about a packet; no chain ("") accepts.

    A connection is tracked when the chain is stateful, whichever rule decides, unless
    that one is stateless. When rules changed since a connection was let in, its forward
    packets are judged anew, as its first one was.
    """
    if not key or walk.generated:
        return Verdict.ACCEPT
    walk.tags.add(chain_tag(key))
    chain = walk.world.topology.chain(key)
    if chain is None:
        return Verdict.ACCEPT
    talk = walk.is_neighbor_talk
    if chain.stateful and walk.is_ip and not talk:
        decided = _ask_stateful(walk, chain)
    else:
        decided = _decide(walk, chain, 0)
    if decided is None:
        decided = Verdict.ACCEPT if chain.accept or talk else Verdict.DROP
    if walk.steps is not None:
        walk.note(f"chain {chain.name}", decided.value)
    return decided


def _ask_stateful(walk: Walk, chain: CompiledChain) -> Union[Verdict, None]:
    if chain.bypass:
        walk.look_up()
        walk.bypassed = False
    else:
        walk.track()
    again = _is_judged_again(walk, chain, Direction.FORWARD)
    if again:
        walk.assumed = CT_NEW
    decided = _decide(walk, chain, 0)
    if again:
        walk.assumed = 0
    if chain.bypass and not (walk.bypassed and decided is Verdict.ACCEPT):
        walk.bypassed = False
        walk.track()
    return decided


def _is_judged_again(walk: Walk, chain: CompiledChain, direction: Direction) -> bool:
    """Tell whether a packet of a known connection is asked as if that were new."""
    return (
        walk.hit is not None
        and walk.hit.direction is direction
        and not walk.is_error
        and walk.world.topology.has_changed(chain)
    )


def expect_return(walk: Walk, key: str, own: str) -> Verdict:
    """Track a packet whose returns a stateful chain will judge, which it passes by.

    A vport has a chain for each way; what is let through one must come back by the
    other. A return packet is refused where the rules for its connection changed so that
    the first packet would not be let in by the other chain any more.

    Args:
        walk: the packet.
        key: the chain of the other way; "" for none.
        own: the chain that has just let the packet through.
    """
    if not key or walk.generated:
        return Verdict.ACCEPT
    walk.tags.add(chain_tag(key))
    chain = walk.world.topology.chain(key)
    stateful = chain is not None and chain.stateful
    if chain is None or not stateful or not walk.is_ip or walk.is_neighbor_talk:
        return Verdict.ACCEPT
    if own and walk.bypassed:
        return Verdict.ACCEPT
    if chain.bypass:
        answer = _ask_about_return(walk, chain, CT_ESTABLISHED)
        if answer is Verdict.ACCEPT and walk.bypassed:
            return Verdict.ACCEPT
    walk.track()
    if not _is_judged_again(walk, chain, Direction.RETURN):
        return Verdict.ACCEPT
    return _ask_about_return(walk, chain, CT_NEW)


def _ask_about_return(walk: Walk, chain: CompiledChain, ct_state: int) -> Verdict:
    """Ask a chain about the packet that goes the other way."""
    headers, fields, logs = walk.headers, walk.fields, walk.logs
    walk.headers, walk.fields, walk.logs = _turned(walk), 0, []
    walk.assumed, walk.bypassed = ct_state, False
    decided = _decide(walk, chain, 0)
    walk.assumed = 0
    walk.fields = fields | _turned_fields(walk.fields, walk.packet.ip_proto)
    walk.headers, walk.logs = headers, logs
    if decided is None:
        decided = Verdict.ACCEPT if chain.accept else Verdict.DROP
    return decided


def _turned(walk: Walk) -> Headers:
    proto, headers = walk.packet.ip_proto, walk.headers.copy()
    headers.ip_src, headers.ip_dst = headers.ip_dst, headers.ip_src
    if proto in PORT_PROTOCOLS:
        headers.l4_src, headers.l4_dst = headers.l4_dst, headers.l4_src
    elif proto in (protocol.ICMP, protocol.ICMPV6):
        headers.l4_src = opposite_type(proto, headers.l4_src)
    return headers


def _turned_fields(fields: int, ip_proto: int) -> int:
    pairs = [(field.IP_SRC, field.IP_DST)]
    if ip_proto in PORT_PROTOCOLS:
        pairs.append((field.L4_SRC, field.L4_DST))
    for one, other in pairs:
        if bool(fields & one) is not bool(fields & other):
            fields ^= one | other
    return fields


def _decide(walk: Walk, chain: CompiledChain, depth: int) -> Union[Verdict, None]:
    # None: no rule decided, or one said "return".
    talk = walk.is_neighbor_talk
    if len(chain.rules) >= INDEX_MIN_RULES and walk.is_ip and not talk:
        return _decide_by_index(walk, chain, depth)
    for compiled in chain.rules:
        rule = compiled.rule
        if talk and not _names_neighbor_talk(rule):
            continue
        if not _holds(walk, compiled):
            continue
        if rule.action is RuleAction.RETURN:
            _log(walk, chain, rule)
            return None
        decided = _verdict(walk, chain, rule, depth)
        if decided is not None:
            return decided
    return None


def _log(walk: Walk, chain: CompiledChain, rule: Rule) -> None:
    if not rule.log:
        return
    # A flow that stands for several packets may log the first one alone.
    headers = walk.headers
    addresses = (headers.ip_src, headers.ip_dst) if walk.is_ip else (0, 0)
    proto = walk.packet.ip_proto if walk.is_ip else 0
    ports = (headers.l4_src, headers.l4_dst) if walk.is_ip else (0, 0)
    walk.logs.append(
        RuleLog(rule.log, chain.name, rule.action.value, proto, *addresses, *ports)
    )


def _verdict(
    walk: Walk, chain: CompiledChain, rule: Rule, depth: int
) -> Union[Verdict, None]:
    """Return what a rule that holds, and does not return, says."""
    if rule.log:
        _log(walk, chain, rule)
    walk.bypassed = rule.stateless
    if rule.action is not RuleAction.JUMP:
        return _VERDICTS[rule.action]
    walk.tags.add(chain_tag(rule.jump))
    target = walk.world.topology.chain(rule.jump)
    if target is None or depth >= MAX_DEPTH:
        return None
    return _decide(walk, target, depth + 1)


def _decide_by_index(
    walk: Walk, chain: CompiledChain, depth: int
) -> Union[Verdict, None]:
    """Do for an IP packet what `_decide` does, without asking every rule."""
    index = chain.index()
    kind = index.eth_type.holds(walk.packet.eth_type)
    kind &= index.ip_proto.holds(walk.packet.ip_proto)
    holding = kind & _conditions(walk, index)
    # Whether these hold is not known before the connection state is read, and it is
    # read only when the first of them is reached.
    asking = kind & index.asks_ct & ~index.hard
    # A hard rule need not be asked when one of its other conditions fails.
    hard = index.hard & (holding | index.always)
    state = 0
    left = holding & ~index.asks_ct & ~index.hard | hard | asking
    reached = index.every
    decided = None
    while left:
        bit = left & -left
        if bit & asking and not state:
            state = walk.ct_state()
            left = left & ~asking | holding & asking & index.by_ct_state[state]
            continue
        left ^= bit
        compiled = chain.rules[bit.bit_length() - 1]
        if bit & hard and not _holds(walk, compiled):
            continue
        returns = compiled.rule.action is RuleAction.RETURN
        if returns:
            _log(walk, chain, compiled.rule)
        else:
            decided = _verdict(walk, chain, compiled.rule, depth)
        if returns or decided is not None:
            reached = (bit << 1) - 1
            break
    _read(walk, index, kind, reached & ~hard, state)
    return decided


def _conditions(walk: Walk, index: RuleIndex) -> int:
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


def _in_groups(walk: Walk, index: GroupIndex, address: int) -> int:
    groups = walk.world.topology.groups
    return index.holds(groups.of(address, index.names))


def _read(walk: Walk, index: RuleIndex, kind: int, reached: int, state: int) -> None:
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


def _names_neighbor_talk(rule: Rule) -> bool:
    return rule.eth_type == protocol.ETH_ARP or (
        rule.ip_proto == protocol.ICMPV6
        and protocol.ND_ROUTER_SOLICITATION
        <= rule.icmp_type
        <= protocol.ND_ADVERTISEMENT
    )


def _holds(walk: Walk, compiled: CompiledRule) -> bool:
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
