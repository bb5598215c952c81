# SPDX-License-Identifier: Apache-2.0
"""The installed reactive flows: by match, by cookie, by tag.

`packet_lane` and `express` add, the lanes remove by tag, and flow-removed messages
clean up. There may be two flows for each of a million connections, so the index keeps
numbers: the hash of a match, and for state keys the hash of the ends in them, whatever
the device. What is found by a hash is compared before it counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, Union

from midoryu.compat import SLOTS
from midoryu.openflow.flow import Flow, Match
from midoryu.state.connection import FourTuple, Translation
from midoryu.topology.tag import Tag, is_state_tag

_NO_TAGS: Final[frozenset[Tag]] = frozenset()
# Bits of a hash that count: longer integers take more room.
_CODE: Final = (1 << 60) - 1
# Flows whose state keys have one hash: addresses like that are easy to make, and
# looking among them is slow. One too many does not hear of new records.
_MAX_ALIKE: Final = 64


# Not frozen, as `openflow.flow.Flow`.
@dataclass(unsafe_hash=True, **SLOTS)
class Entry:
    """One installed flow and why it could become wrong."""

    flow: Flow
    tags: frozenset[Tag]
    connection: int = 0
    """Id of the connection record that it serves, 0 for none."""
    returns: bool = False
    """It serves the connection's return direction."""
    shared: frozenset[Tag] = _NO_TAGS
    """Further tags, one object for all flows that were replayed from one template."""

    @property
    def cookie(self) -> int:
        """The flow's cookie."""
        return self.flow.cookie

    @property
    def code(self) -> int:
        """What its match is found by."""
        return hash(self.flow.match.values) & _CODE

    @property
    def in_port(self) -> int:
        """Where its packets come in, 0 where the flow does not ask."""
        match = self.flow.match
        return match.values[0] if match.fields & 1 else 0


class FlowPlan(Protocol):
    """What flows of one kind have in common (`express`)."""

    shared: frozenset[Tag]
    returns: bool
    in_port: int

    def flow_of(self, entry: PlannedEntry) -> Flow:
        """Make the flow."""

    def tags_of(self, entry: PlannedEntry) -> frozenset[Tag]:
        """List the tags that it does not share."""


class PlannedEntry:
    """One installed flow of many alike: what differs, and the plan for the rest.

    It can be asked all that an `Entry` can; the answers are made when asked for.
    """

    __slots__ = ("code", "connection", "cookie", "ends", "plan", "translation")

    def __init__(
        self,
        plan: FlowPlan,
        cookie: int,
        code: int,
        connection: int,
        ends: FourTuple,
        translation: Union[Translation, None],
    ) -> None:
        self.plan = plan
        self.cookie = cookie
        self.code = code
        """What its match is found by."""
        self.connection = connection
        """Id of the connection record that it serves, 0 for none."""
        self.ends = ends
        """Of forward packets, as they come in."""
        self.translation = translation
        """What is made of their source, None for nothing."""

    @property
    def flow(self) -> Flow:
        """The flow as it stands in the switch."""
        return self.plan.flow_of(self)

    @property
    def tags(self) -> frozenset[Tag]:
        """Tags of its own."""
        return self.plan.tags_of(self)

    @property
    def returns(self) -> bool:
        """It serves the connection's return direction."""
        return self.plan.returns

    @property
    def shared(self) -> frozenset[Tag]:
        """Tags that all of the plan's flows have."""
        return self.plan.shared

    @property
    def in_port(self) -> int:
        """Where its packets come in."""
        return self.plan.in_port


class HasWays(Protocol):
    """What flows from one MAC address have in common (`switched`)."""

    tags: frozenset[Tag]
    in_port: int

    def flow_of(self, way: Any, cookie: int) -> Flow:
        """Make the flow for one destination."""


class HasTags(Protocol):
    """What flows to one MAC address have in common (`switched`)."""

    @property
    def tags(self) -> frozenset[Tag]:
        """Why they could become wrong."""


class PairEntry:
    """One installed flow between two MAC addresses; asked as an `Entry` is."""

    __slots__ = ("code", "cookie", "pairs", "way")

    def __init__(self, pairs: HasWays, way: HasTags, cookie: int, code: int) -> None:
        self.pairs = pairs
        self.way = way
        self.cookie = cookie
        self.code = code
        """What its match is found by."""

    @property
    def flow(self) -> Flow:
        """The flow as it stands in the switch."""
        return self.pairs.flow_of(self.way, self.cookie)

    @property
    def tags(self) -> frozenset[Tag]:
        """Tags of its destination."""
        return self.way.tags

    @property
    def shared(self) -> frozenset[Tag]:
        """Tags of its source."""
        return self.pairs.tags

    @property
    def connection(self) -> int:
        """It serves no record."""
        return 0

    @property
    def returns(self) -> bool:
        """It serves no record's return direction."""
        return False

    @property
    def in_port(self) -> int:
        """Where its packets come in."""
        return self.pairs.in_port


AnyEntry = Union[Entry, PlannedEntry, PairEntry]


def ends_code(key: Tag) -> int:
    """Return what flows are found by that have a state key as a tag."""
    return hash(key[1:]) & _CODE


def match_code(values: tuple[int, ...]) -> int:
    """Return what a flow is found by that matches these values."""
    return hash(values) & _CODE


class FlowIndex:
    """Every reactive flow that stands in the switch."""

    def __init__(self) -> None:
        self._by_cookie: dict[int, AnyEntry] = {}
        self._by_match: dict[int, AnyEntry] = {}
        self._by_tag: dict[Tag, set[int]] = {}
        # Code of a state key's ends -> the flow with such tags, or several.
        self._by_ends: dict[int, Union[AnyEntry, tuple[AnyEntry, ...]]] = {}
        # Flows that share tags stand there once, as a family.
        self._family: dict[frozenset[Tag], set[int]] = {}
        self._families_by_tag: dict[Tag, set[frozenset[Tag]]] = {}

    def __len__(self) -> int:
        return len(self._by_cookie)

    def __iter__(self) -> Iterator[AnyEntry]:
        return iter(self._by_cookie.values())

    def find(self, match: Match) -> Union[AnyEntry, None]:
        """Return the flow with just this match, None for none."""
        entry = self._by_match.get(match_code(match.values))
        return entry if entry is not None and entry.flow.match == match else None

    def get(self, cookie: int) -> Union[AnyEntry, None]:
        """Return the flow with this cookie, None for none."""
        return self._by_cookie.get(cookie)

    def is_tagged(self, tag: Tag) -> bool:
        """Tell whether any flow has a tag."""
        return tag in self._by_tag or tag in self._families_by_tag

    def add(self, entry: AnyEntry) -> Union[AnyEntry, None]:
        """Take in a flow.

        Returns:
            The flow that it replaces in the switch (same match), None for none.
        """
        cookie, code = entry.cookie, entry.code
        replaced = self._by_match.get(code)
        if replaced is not None:
            if replaced.flow.match == entry.flow.match:
                self.remove(replaced.cookie)
            else:
                replaced = None
        self._by_cookie[cookie] = entry
        self._by_match[code] = entry
        for tag in entry.tags:
            if is_state_tag(tag):
                self._enter(ends_code(tag), entry)
            else:
                self._by_tag.setdefault(tag, set()).add(cookie)
        if entry.shared:
            self._join(entry.shared, cookie)
        return replaced

    def add_planned(self, entry: PlannedEntry, codes: Iterable[int]) -> None:
        """Take in a planned flow whose match no other flow has.

        Args:
            entry: the flow.
            codes: `ends_code` of its own tags.
        """
        cookie = entry.cookie
        self._by_cookie[cookie] = entry
        self._by_match[entry.code] = entry
        by_ends = self._by_ends
        for code in codes:
            if code in by_ends:
                self._enter(code, entry)
            else:
                by_ends[code] = entry
        self._join(entry.plan.shared, cookie)

    def add_pair(self, entry: PairEntry) -> None:
        """Take in a flow between two MAC addresses whose match no other flow has."""
        cookie = entry.cookie
        self._by_cookie[cookie] = entry
        self._by_match[entry.code] = entry
        for tag in entry.way.tags:
            self._by_tag.setdefault(tag, set()).add(cookie)
        self._join(entry.pairs.tags, cookie)

    def is_taken(self, code: int) -> bool:
        """Tell whether any flow may have a match with this code."""
        return code in self._by_match

    def may_end_at(self, code: int) -> bool:
        """Tell whether any flow may have a state key with this code as a tag."""
        return code in self._by_ends

    def _enter(self, code: int, entry: AnyEntry) -> None:
        there = self._by_ends.get(code)
        if there is None:
            self._by_ends[code] = entry
        elif isinstance(there, tuple):
            if len(there) < _MAX_ALIKE and not any(one is entry for one in there):
                self._by_ends[code] = (*there, entry)
        elif there is not entry:
            self._by_ends[code] = (there, entry)

    def _exit(self, code: int, entry: AnyEntry) -> None:
        there = self._by_ends.get(code)
        if isinstance(there, tuple):
            left = tuple([one for one in there if one is not entry])
            self._by_ends[code] = left if len(left) > 1 else left[0]
        elif there is entry:
            del self._by_ends[code]

    def _join(self, shared: frozenset[Tag], cookie: int) -> None:
        family = self._family.get(shared)
        if family is None:
            family = self._family[shared] = set()
            for tag in shared:
                self._families_by_tag.setdefault(tag, set()).add(shared)
        family.add(cookie)

    def _leave(self, shared: frozenset[Tag], cookie: int) -> None:
        family = self._family[shared]
        family.discard(cookie)
        if family:
            return
        del self._family[shared]
        for tag in shared:
            families = self._families_by_tag[tag]
            families.discard(shared)
            if not families:
                del self._families_by_tag[tag]

    def remove(self, cookie: int) -> Union[AnyEntry, None]:
        """Forget a flow; return what it was, None when it was not here."""
        entry = self._by_cookie.pop(cookie, None)
        if entry is None:
            return None
        code = entry.code
        if self._by_match.get(code) is entry:
            del self._by_match[code]
        for tag in entry.tags:
            if is_state_tag(tag):
                self._exit(ends_code(tag), entry)
                continue
            cookies = self._by_tag[tag]
            cookies.discard(cookie)
            if not cookies:
                del self._by_tag[tag]
        if entry.shared:
            self._leave(entry.shared, cookie)
        return entry

    def tagged(self, tags: Iterable[Tag]) -> list[AnyEntry]:
        """List every flow that has any of these tags."""
        cookies: set[int] = set()
        by_tag, families_by_tag = self._by_tag, self._families_by_tag
        for tag in tags:
            if is_state_tag(tag):
                there = self._by_ends.get(ends_code(tag))
                if there is not None:
                    found = there if isinstance(there, tuple) else (there,)
                    cookies.update([one.cookie for one in found if tag in one.tags])
                continue
            if tag in by_tag:
                cookies |= by_tag[tag]
            for shared in families_by_tag.get(tag, ()):
                cookies |= self._family[shared]
        if not cookies:
            return []
        return [self._by_cookie[cookie] for cookie in sorted(cookies)]

    def remove_tagged(self, tags: Iterable[Tag]) -> list[AnyEntry]:
        """Forget every flow that has any of these tags; return them."""
        found = self.tagged(tags)
        for entry in found:
            self.remove(entry.cookie)
        return found

    def clear(self) -> list[AnyEntry]:
        """Forget all flows; return them."""
        entries = list(self._by_cookie.values())
        self._by_cookie.clear()
        self._by_match.clear()
        self._by_tag.clear()
        self._by_ends.clear()
        self._family.clear()
        self._families_by_tag.clear()
        return entries
