# SPDX-License-Identifier: Apache-2.0
"""Who is in which group: address groups, and port groups by their vports' addresses.

`snapshot` tells it of every changed row; `simulation.filter` asks it. One index serves
all groups: an address leads to the groups that it is in, so that a packet costs the
same however many members a group has, and a member that comes or goes costs itself
alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Union

from midoryu.packet.address import V4_MASK, Prefix, is_v4
from midoryu.topology import model
from midoryu.topology.tag import Tag, chain_tag, member_tag

_HOST_BITS: Final = 128
_NONE: Final[tuple[str, ...]] = ()
_KINDS: Final = (model.AddressGroup, model.PortGroup, model.IngressSet)
Rows = Mapping[type, Mapping[Union[int, str], Any]]


class Groups:
    """Every group's members.

    Args:
        rows: the topology's rows by kind, read only.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        # Address -> the groups that it is in, each as often as it has a reason to be.
        # Few different tuples serve many addresses.
        self._by_address: dict[int, tuple[str, ...]] = {}
        self._tuples: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._wide: dict[str, dict[Prefix, int]] = {}
        self._by_vport: dict[int, set[str]] = {}
        self.changed: set[str] = set()
        """Groups whose members changed after they were first known."""

    def holds(self, group: str, address: int) -> bool:
        """Tell whether an address is in a group; a missing group is empty."""
        if group in self._by_address.get(address, _NONE):
            return True
        wide = self._wide.get(group)
        return wide is not None and any(_contains(one, address) for one in wide)

    def of(self, address: int, among: Iterable[str]) -> set[str]:
        """Return the groups that an address is in: all narrow ones, wide ones of some.

        Args:
            address: 128-bit.
            among: groups whose prefixes of many addresses are looked at.
        """
        found = set(self._by_address.get(address, _NONE))
        if self._wide:
            found.update(
                group
                for group in self._wide.keys() & among
                if any(_contains(one, address) for one in self._wide[group])
            )
        return found

    def update(self, kind: type, old: Any, new: Any) -> set[Tag]:
        """Take over a changed row; return the tags of what may have become wrong."""
        if kind is model.Vport:
            key = (new if old is None else old).key
            if key not in self._by_vport:
                return set()
            before, after = _prefixes(old), _prefixes(new)
            if before == after:
                return set()
            tags: set[Tag] = set()
            for group in self._by_vport[key]:
                tags |= self._change(group, before - after, after - before)
            if old is not None:
                self.changed |= self._by_vport[key]
            return tags
        if kind not in _KINDS:
            return set()
        group = str((new if old is None else old).key)
        if kind is model.AddressGroup:
            was = old.members if old is not None else frozenset()
            now = new.members if new is not None else frozenset()
            tags = self._change(group, was - now, now - was)
        else:
            was = old.vports if old is not None else frozenset()
            now = new.vports if new is not None else frozenset()
            tags = self._change_vports(group, was - now, now - was)
        if old is not None:
            self.changed.add(group)
        return tags

    def _change_vports(
        self, group: str, gone: frozenset[int], came: frozenset[int]
    ) -> set[Tag]:
        tags: set[Tag] = set()
        for key in gone:
            groups = self._by_vport[key]
            groups.discard(group)
            if not groups:
                del self._by_vport[key]
            tags |= self._change(group, self._prefixes_of(key), ())
        for key in came:
            self._by_vport.setdefault(key, set()).add(group)
            tags |= self._change(group, (), self._prefixes_of(key))
        return tags

    def _prefixes_of(self, key: int) -> frozenset[Prefix]:
        return _prefixes(self._rows[model.Vport].get(key))

    def _change(
        self, group: str, gone: Iterable[Prefix], came: Iterable[Prefix]
    ) -> set[Tag]:
        tags: set[Tag] = set()
        wide = False
        for prefixes, edit in ((gone, self._remove), (came, self._add)):
            for prefix in prefixes:
                edit(group, prefix)
                if prefix.length == _HOST_BITS:
                    tags.add(member_tag(prefix.value))
                else:
                    wide = True
        if wide:
            # Any address may be concerned: so is whoever asks for the group.
            tags.update(map(chain_tag, self._chains_that_name(group)))
        return tags

    def _add(self, group: str, prefix: Prefix) -> None:
        if prefix.length != _HOST_BITS:
            wide = self._wide.setdefault(group, {})
            wide[prefix] = wide.get(prefix, 0) + 1
            return
        groups = tuple(sorted((*self._by_address.get(prefix.value, _NONE), group)))
        self._by_address[prefix.value] = self._tuples.setdefault(groups, groups)

    def _remove(self, group: str, prefix: Prefix) -> None:
        if prefix.length != _HOST_BITS:
            wide = self._wide[group]
            wide[prefix] -= 1
            if not wide[prefix]:
                del wide[prefix]
            if not wide:
                del self._wide[group]
            return
        groups = list(self._by_address[prefix.value])
        groups.remove(group)
        if groups:
            left = tuple(groups)
            self._by_address[prefix.value] = self._tuples.setdefault(left, left)
        else:
            del self._by_address[prefix.value]

    def _chains_that_name(self, group: str) -> list[str]:
        return [
            str(key)
            for key, chain in self._rows[model.Chain].items()
            if any(group in groups_of(rule) for rule in chain.rules)
        ]


def groups_of(rule: model.Rule) -> tuple[str, ...]:
    """List the groups that a rule names."""
    return tuple(filter(None, (rule.source_group, rule.destination_group)))


def _prefixes(vport: Union[model.Vport, None]) -> frozenset[Prefix]:
    """List the addresses that a vport may use: its own and the allowed ones."""
    if vport is None:
        return frozenset()
    own = (Prefix(address.value, _HOST_BITS) for address in vport.addresses)
    return frozenset((*own, *(prefix for _, prefix in vport.allowed)))


def _contains(prefix: Prefix, address: int) -> bool:
    # A short IPv6 prefix (::/0) would hold the IPv4-mapped addresses too.
    if is_v4(address) and prefix.mask < V4_MASK:
        return False
    return prefix.contains(address)
