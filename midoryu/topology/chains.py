# SPDX-License-Identifier: Apache-2.0
"""Chains and address groups, compiled for evaluation.

A rule becomes a `Compiled` value whose conditions are plain sets and tuples in the
order in which they are cheapest to refuse. `simulation.filter` walks them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final, Union

from midoryu.packet.address import V4_MASK, Prefix, is_v4, prefix_mask
from midoryu.topology.groups import groups_of
from midoryu.topology.model import Chain, Rule
from midoryu.topology.rule_index import RuleIndex

# Fewer rules are faster asked one by one.
INDEX_MIN_RULES: Final = 8


class PrefixSet:
    """A set of prefixes, of any size, asked in time that depends on lengths only."""

    __slots__ = ("_levels", "_v4_levels")

    def __init__(self, prefixes: Iterable[Prefix]) -> None:
        levels: dict[int, set[int]] = {}
        for prefix in prefixes:
            levels.setdefault(prefix.length, set()).add(prefix.value & prefix.mask)
        self._levels = tuple(
            (prefix_mask(length), frozenset(values))
            for length, values in sorted(levels.items(), reverse=True)
        )
        # A short IPv6 prefix (::/0) would hold the IPv4-mapped addresses too.
        self._v4_levels = tuple(
            (mask, values) for mask, values in self._levels if mask >= V4_MASK
        )

    def __contains__(self, address: int) -> bool:
        levels = self._v4_levels if is_v4(address) else self._levels
        return any(address & mask in values for mask, values in levels)


class CompiledRule:
    """A rule whose prefix lists have become sets."""

    __slots__ = ("destination", "rule", "source")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.source = PrefixSet(rule.source) if rule.source else None
        self.destination = PrefixSet(rule.destination) if rule.destination else None


class CompiledChain:
    """A chain ready to be walked."""

    __slots__ = (
        "_index",
        "accept",
        "bypass",
        "changed",
        "groups",
        "key",
        "name",
        "rules",
        "stateful",
    )

    def __init__(
        self,
        chain: Chain,
        *,
        stateful: bool,
        bypass: bool = False,
        changed: bool = False,
        groups: frozenset[str] = frozenset(),
    ) -> None:
        self.key = chain.key
        self.name = chain.name
        self.accept = chain.accept
        self.rules = tuple(CompiledRule(rule) for rule in chain.rules)
        self.stateful = stateful
        """It, or a chain that it can jump to, asks for connection state."""
        self.bypass = bypass
        """It, or a chain that it can jump to, has a stateless rule."""
        self.changed = changed
        """Its rules, or those of a chain that it can jump to, are not those of the
        beginning: a live connection may have been let in by others."""
        self.groups = groups
        """Groups that it, or a chain that it can jump to, asks for."""
        self._index: Union[RuleIndex, None] = None

    def index(self) -> RuleIndex:
        """Return the rules by what they ask; made when the first packet comes."""
        if self._index is None:
            self._index = RuleIndex([compiled.rule for compiled in self.rules])
        return self._index


def compile_chain(
    chain: Chain, chains: Mapping[str, Chain], changed: Collection[str]
) -> CompiledChain:
    """Compile a chain, with what it has from the chains that it can jump to.

    Args:
        chain: the chain.
        chains: all chains by key.
        changed: keys of chains that are not what they were when first known.
    """
    reached = _reached(chain.key, chains)
    rules = [rule for key in reached for rule in chains[key].rules]
    return CompiledChain(
        chain,
        stateful=any(rule.ct_states for rule in rules),
        bypass=any(rule.stateless for rule in rules),
        changed=not chain.keep_live and any(key in changed for key in reached),
        groups=frozenset()
        if chain.keep_live
        else frozenset(group for rule in rules for group in groups_of(rule)),
    )


def _reached(start: str, chains: Mapping[str, Chain]) -> set[str]:
    """List a chain and all that it can reach by jumps."""
    seen: set[str] = set()
    todo = [start]
    while todo:
        key = todo.pop()
        if key not in seen and key in chains:
            seen.add(key)
            todo.extend(rule.jump for rule in chains[key].rules if rule.jump)
    return seen
