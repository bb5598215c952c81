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
from midoryu.simulation.condition import conditions, holds, names_neighbor_talk, read
from midoryu.simulation.outcome import RuleLog
from midoryu.simulation.walk import (
    PORT_PROTOCOLS,
    Walk,
)
from midoryu.state.connection import Direction, opposite_type
from midoryu.topology.chains import INDEX_MIN_RULES, CompiledChain
from midoryu.topology.model import (
    CT_ESTABLISHED,
    CT_NEW,
    Rule,
    RuleAction,
)
from midoryu.topology.tag import chain_tag

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
        if talk and not names_neighbor_talk(rule):
            continue
        if not holds(walk, compiled):
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
    holding = kind & conditions(walk, index)
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
        if bit & hard and not holds(walk, compiled):
            continue
        returns = compiled.rule.action is RuleAction.RETURN
        if returns:
            _log(walk, chain, compiled.rule)
        else:
            decided = _verdict(walk, chain, compiled.rule, depth)
        if returns or decided is not None:
            reached = (bit << 1) - 1
            break
    read(walk, index, kind, reached & ~hard, state)
    return decided
