# SPDX-License-Identifier: Apache-2.0
"""The rules of a chain by what they ask: which of them hold for a packet, as bit sets.

`chains` makes one for a long chain; `simulation.filter` asks it one condition after
the other. Bit n of every set is rule n, so the lowest bit left is the first rule that
holds. ICMP types are not in here, nor groups and prefixes negated together: rules with
them are `hard`.

Source: Lakshman and Stiliadis, "High-speed policy-based packet forwarding using
efficient multi-dimensional range matching", 1998.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from midoryu.packet.address import V4_MASK, Prefix, is_v4, prefix_mask
from midoryu.topology.model import PortRange, Rule

# (rule's number, what it names, whether that is negated)
_Prefixes = Iterable[tuple[int, tuple[Prefix, ...], bool]]
_Ranges = Iterable[tuple[int, tuple[PortRange, ...], bool]]
_Groups = Iterable[tuple[int, str, bool]]


class ValueIndex:
    """Rules that ask for one value; 0 asks nothing."""

    __slots__ = ("_by_value", "_free", "asks")

    def __init__(self, wanted: Sequence[int]) -> None:
        self._by_value: dict[int, int] = {}
        self.asks = 0
        """The rules that ask at all."""
        for number, value in enumerate(wanted):
            if value:
                self.asks |= 1 << number
                self._by_value[value] = self._by_value.get(value, 0) | 1 << number
        self._free = (1 << len(wanted)) - 1 & ~self.asks

    def holds(self, value: int) -> int:
        """Return the rules that this value does not rule out."""
        return self._free | self._by_value.get(value, 0)


class PrefixIndex:
    """Rules that ask for an address in any of some prefixes, or in none of them."""

    __slots__ = ("_free", "_levels", "_negated", "_v4_levels", "asks")

    def __init__(self, size: int, wanted: _Prefixes) -> None:
        levels: dict[int, dict[int, int]] = {}
        self.asks = self._negated = 0
        for number, prefixes, negated in wanted:
            bit = 1 << number
            self.asks |= bit
            self._negated |= bit if negated else 0
            for prefix in prefixes:
                level = levels.setdefault(prefix.length, {})
                value = prefix.value & prefix.mask
                level[value] = level.get(value, 0) | bit
        self._free = (1 << size) - 1 & ~self.asks
        self._levels = tuple(
            (prefix_mask(length), level) for length, level in levels.items()
        )
        # A short IPv6 prefix (::/0) would hold the IPv4-mapped addresses too.
        self._v4_levels = tuple(one for one in self._levels if one[0] >= V4_MASK)

    def holds(self, address: int) -> int:
        """Return the rules that this address does not rule out."""
        inside = 0
        for mask, level in self._v4_levels if is_v4(address) else self._levels:
            inside |= level.get(address & mask, 0)
        return (inside ^ self._negated) | self._free


class GroupIndex:
    """Rules that ask for an address in a group, or not in it."""

    __slots__ = ("_by_group", "_free", "_negated", "asks")

    def __init__(self, size: int, wanted: _Groups) -> None:
        self._by_group: dict[str, int] = {}
        self.asks = self._negated = 0
        for number, group, negated in wanted:
            bit = 1 << number
            self.asks |= bit
            self._negated |= bit if negated else 0
            self._by_group[group] = self._by_group.get(group, 0) | bit
        self._free = (1 << size) - 1 & ~self.asks

    @property
    def names(self) -> Iterable[str]:
        """The groups that are asked for."""
        return self._by_group.keys()

    def holds(self, groups: Iterable[str]) -> int:
        """Return the rules that an address in just these groups does not rule out."""
        inside = 0
        for group in groups:
            inside |= self._by_group.get(group, 0)
        return (inside ^ self._negated) | self._free


class PortIndex:
    """Rules that ask for a port in any of some ranges, or in none of them."""

    __slots__ = ("_bits", "_first", "_free", "_negated", "asks")

    def __init__(self, size: int, wanted: _Ranges) -> None:
        self.asks = self._negated = 0
        # Port -> the rules whose range begins or ends there.
        edges: dict[int, int] = {0: 0}
        for number, ranges, negated in wanted:
            bit = 1 << number
            self.asks |= bit
            self._negated |= bit if negated else 0
            for first, last in _merged(ranges):
                edges[first] = edges.get(first, 0) ^ bit
                edges[last + 1] = edges.get(last + 1, 0) ^ bit
        self._free = (1 << size) - 1 & ~self.asks
        self._first = sorted(edges)
        self._bits: list[int] = []
        inside = 0
        for port in self._first:
            inside ^= edges[port]
            self._bits.append(inside)

    def holds(self, port: int) -> int:
        """Return the rules that this port does not rule out."""
        inside = self._bits[bisect_right(self._first, port) - 1]
        return (inside ^ self._negated) | self._free


class RuleIndex:
    """All conditions of a chain's rules."""

    __slots__ = (
        "always",
        "asks_ct",
        "by_ct_state",
        "destination",
        "destination_groups",
        "destination_ports",
        "eth_type",
        "every",
        "hard",
        "ip_proto",
        "source",
        "source_groups",
        "source_ports",
    )

    def __init__(self, rules: Sequence[Rule]) -> None:
        size = len(rules)
        numbered = list(enumerate(rules))
        self.every = (1 << size) - 1
        """All rules."""
        self.hard = _bits(n for n, rule in numbered if _is_hard(rule))
        """Rules that have to be asked themselves."""
        self.always = _bits(
            n for n, rule in numbered if _is_mixed(rule) or rule.ct_states
        )
        """Of the hard ones, those that have to be asked whatever else fails."""
        self.asks_ct = _bits(n for n, rule in numbered if rule.ct_states)
        """Rules that ask for a connection state."""
        self.by_ct_state = {
            state: _bits(n for n, rule in numbered if rule.ct_states & state)
            for state in (1, 2, 4, 8)
        }
        """CT_* bit -> rules that name it."""
        self.eth_type = ValueIndex([rule.eth_type for rule in rules])
        self.ip_proto = ValueIndex([rule.ip_proto for rule in rules])
        self.source = PrefixIndex(
            size,
            (
                (n, r.source, r.not_source)
                for n, r in numbered
                if r.source and not (r.source_group and r.not_source)
            ),
        )
        self.destination = PrefixIndex(
            size,
            (
                (n, r.destination, r.not_destination)
                for n, r in numbered
                if r.destination and not (r.destination_group and r.not_destination)
            ),
        )
        easy = [(n, rule) for n, rule in numbered if not _is_mixed(rule)]
        self.source_groups = GroupIndex(
            size, ((n, r.source_group, r.not_source) for n, r in easy if r.source_group)
        )
        self.destination_groups = GroupIndex(
            size,
            (
                (n, r.destination_group, r.not_destination)
                for n, r in easy
                if r.destination_group
            ),
        )
        self.source_ports = PortIndex(
            size,
            (
                (n, r.source_ports, r.not_source_ports)
                for n, r in numbered
                if r.source_ports
            ),
        )
        self.destination_ports = PortIndex(
            size,
            (
                (n, r.destination_ports, r.not_destination_ports)
                for n, r in numbered
                if r.destination_ports
            ),
        )


def _is_hard(rule: Rule) -> bool:
    return rule.icmp_type >= 0 or _is_mixed(rule)


def _is_mixed(rule: Rule) -> bool:
    """Tell whether a group and prefixes are negated together."""
    mixed_source = rule.source_group and rule.source and rule.not_source
    mixed_destination = (
        rule.destination_group and rule.destination and rule.not_destination
    )
    return bool(mixed_source or mixed_destination)


def _bits(numbers: Iterable[int]) -> int:
    found = 0
    for number in numbers:
        found |= 1 << number
    return found


def _merged(ranges: Iterable[PortRange]) -> list[PortRange]:
    """Join ranges that overlap or touch; leave out empty ones."""
    merged: list[PortRange] = []
    for first, last in sorted(one for one in ranges if one[0] <= one[1]):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged
