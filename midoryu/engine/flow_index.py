# SPDX-License-Identifier: Apache-2.0
"""The installed reactive flows: by match, by cookie, by tag.

`packet_lane` adds, the lanes remove by tag, and flow-removed messages clean up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Union

from midoryu.compat import SLOTS
from midoryu.openflow.flow import Flow, Match
from midoryu.topology.tag import Tag

_NO_TAGS: Final[frozenset[Tag]] = frozenset()


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


class FlowIndex:
    """Every reactive flow that stands in the switch."""

    def __init__(self) -> None:
        self._by_cookie: dict[int, Entry] = {}
        self._by_match: dict[Match, int] = {}
        self._by_tag: dict[Tag, set[int]] = {}
        # Flows that share tags stand there once, as a family.
        self._family: dict[frozenset[Tag], set[int]] = {}
        self._families_by_tag: dict[Tag, set[frozenset[Tag]]] = {}

    def __len__(self) -> int:
        return len(self._by_cookie)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._by_cookie.values())

    def find(self, match: Match) -> Union[Entry, None]:
        """Return the flow with just this match, None for none."""
        cookie = self._by_match.get(match)
        return None if cookie is None else self._by_cookie[cookie]

    def get(self, cookie: int) -> Union[Entry, None]:
        """Return the flow with this cookie, None for none."""
        return self._by_cookie.get(cookie)

    def is_tagged(self, tag: Tag) -> bool:
        """Tell whether any flow has a tag."""
        return tag in self._by_tag or tag in self._families_by_tag

    def add(self, entry: Entry) -> Union[Entry, None]:
        """Take in a flow.

        Returns:
            The flow that it replaces in the switch (same match), None for none.
        """
        replaced = self.find(entry.flow.match)
        if replaced is not None:
            self.remove(replaced.flow.cookie)
        cookie = entry.flow.cookie
        self._by_cookie[cookie] = entry
        self._by_match[entry.flow.match] = cookie
        for tag in entry.tags:
            self._by_tag.setdefault(tag, set()).add(cookie)
        if entry.shared:
            self._join(entry.shared, cookie)
        return replaced

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

    def remove(self, cookie: int) -> Union[Entry, None]:
        """Forget a flow; return what it was, None when it was not here."""
        entry = self._by_cookie.pop(cookie, None)
        if entry is None:
            return None
        if self._by_match.get(entry.flow.match) == cookie:
            del self._by_match[entry.flow.match]
        for tag in entry.tags:
            cookies = self._by_tag[tag]
            cookies.discard(cookie)
            if not cookies:
                del self._by_tag[tag]
        if entry.shared:
            self._leave(entry.shared, cookie)
        return entry

    def tagged(self, tags: Iterable[Tag]) -> list[Entry]:
        """List every flow that has any of these tags."""
        cookies: set[int] = set()
        by_tag, families_by_tag = self._by_tag, self._families_by_tag
        for tag in tags:
            found = by_tag.get(tag)
            if found is not None:
                cookies |= found
            for shared in families_by_tag.get(tag, ()):
                cookies |= self._family[shared]
        if not cookies:
            return []
        return [self._by_cookie[cookie] for cookie in sorted(cookies)]

    def remove_tagged(self, tags: Iterable[Tag]) -> list[Entry]:
        """Forget every flow that has any of these tags; return them."""
        found = self.tagged(tags)
        for entry in found:
            self.remove(entry.flow.cookie)
        return found

    def clear(self) -> list[Entry]:
        """Forget all flows; return them."""
        entries = list(self._by_cookie.values())
        self._by_cookie.clear()
        self._by_match.clear()
        self._by_tag.clear()
        self._family.clear()
        self._families_by_tag.clear()
        return entries
