# SPDX-License-Identifier: Apache-2.0
"""What the agent was told of the database, and what it must be told now.

`client` says which rows may have changed; the replica converts just these, and the rows
whose value holds theirs, and answers with the true differences.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

from midoryu.nsdb.rows import (
    BadRowError,
    RowName,
    convert,
    natural_key,
    row_name,
    used_rows,
)
from midoryu.nsdb.thin_row import Table
from midoryu.topology.model import Change, Gone, Put, Row

LOG = logging.getLogger(__name__)

RowId = tuple[str, str]
"""Table and UUID."""
# Others get their turn after so many rows.
_PAUSE_ROWS: Final = 256


class Replica:
    """The values made of the rows, by row."""

    def __init__(
        self,
        store: Mapping[str, Table],
        problems: Mapping[RowId, str],
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        """Start empty.

        Args:
            store: the rows, which others keep.
            problems: rows that could not be read at all.
            pause: is called now and then while very many rows are converted.
        """
        self.bad_rows = 0
        """Rows that made no valid value, since the start."""
        self._store = store
        self._problems = problems
        self._pause = pause
        self._values: dict[str, dict[str, Row]] = {name: {} for name in store}
        self._ids: dict[object, dict[object, RowId]] = defaultdict(dict)
        self._users: dict[str, set[RowId]] = defaultdict(set)
        self._uses: dict[RowId, frozenset[str]] = {}
        self._bad: dict[RowId, str] = {}

    def find(self, *natural: object) -> Row | None:
        """Return the value with a natural key (`rows.natural_key`), None for none."""
        row_id = self._id(natural)
        return None if row_id is None else self._values[row_id[0]][row_id[1]]

    def uuid(self, *natural: object) -> str | None:
        """Return the UUID of the row with a natural key, None for none."""
        row_id = self._id(natural)
        return None if row_id is None else row_id[1]

    def _id(self, natural: tuple[object, ...]) -> RowId | None:
        kind, *key = natural
        return self._ids[kind].get(key[0] if len(key) == 1 else tuple(key))

    def update(self, dirty: Collection[RowId]) -> tuple[Change, ...]:
        """Convert rows again and return the differences."""
        ids = self._with_users(dirty)
        before: dict[RowName, Row] = {}
        after: dict[RowName, Row] = {}
        for table, uuid in ids:
            old = self._values[table].pop(uuid, None)
            if old is not None:
                before[row_name(old)] = old
                kind, key = _split(natural_key(old))
                self._ids[kind].pop(key, None)
        for count, row_id in enumerate(ids, 1):
            new = self._convert(row_id)
            if new is not None:
                self._values[row_id[0]][row_id[1]] = new
                kind, key = _split(natural_key(new))
                self._ids[kind][key] = row_id
                after[row_name(new)] = new
            if not count % _PAUSE_ROWS:
                self._pause()
        return tuple(_differences(before, after))

    def _with_users(self, dirty: Collection[RowId]) -> set[RowId]:
        ids = set(dirty)
        if self._users:
            for _, uuid in tuple(ids):
                ids |= self._users.get(uuid, set())
        return ids

    def _convert(self, row_id: RowId) -> Row | None:
        table, uuid = row_id
        row = self._store[table].view(uuid)
        self._note_uses(row_id, row)
        if row is None:
            if row_id in self._problems:
                self._report(row_id, self._problems[row_id])
            elif self._bad:
                self._bad.pop(row_id, None)
            return None
        try:
            value = convert(table, row)
        except BadRowError as problem:
            self._report(row_id, str(problem))
            return None
        if self._bad:
            self._bad.pop(row_id, None)
        return value

    def _note_uses(self, row_id: RowId, row: Any) -> None:
        used = used_rows(row_id[0], row) if row is not None else ()
        if not used and row_id not in self._uses:
            return
        now = frozenset(other.uuid for other in used)
        before = self._uses.pop(row_id, frozenset())
        if now:
            self._uses[row_id] = now
        for uuid in before - now:
            self._users[uuid].discard(row_id)
            if not self._users[uuid]:
                del self._users[uuid]
        for uuid in now - before:
            self._users[uuid].add(row_id)

    def _report(self, row_id: RowId, problem: str) -> None:
        if self._bad.get(row_id) == problem:
            return
        self._bad[row_id] = problem
        self.bad_rows += 1
        LOG.warning("skipped a bad row: %s", problem)


def _split(natural: tuple[Any, ...]) -> tuple[object, object]:
    """Split a natural key into kind and the rest, which is bare where it is one."""
    return natural[0], natural[1] if len(natural) == 2 else natural[1:]


def _differences(
    before: Mapping[RowName, Row], after: Mapping[RowName, Row]
) -> Iterable[Change]:
    for name in before:
        if name not in after:
            yield Gone(*name)
    for name, value in after.items():
        if before.get(name) != value:
            yield Put(value)
