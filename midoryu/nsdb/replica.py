# SPDX-License-Identifier: Apache-2.0
"""What the agent was told of the database, and what it must be told now.

`client` says which rows may have changed; the replica converts just these, and the rows
whose value holds theirs, and answers with the true differences.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from midoryu.nsdb.rows import (
    BadRowError,
    RowName,
    convert,
    natural_key,
    row_name,
    used_rows,
)
from midoryu.topology.model import Change, Gone, Put, Row

LOG = logging.getLogger(__name__)

RowId = tuple[str, Any]
"""Table and UUID."""


class Replica:
    """The values made of the rows, by row."""

    def __init__(self) -> None:
        self.bad_rows = 0
        """Rows that made no valid value, since the start."""
        self._values: dict[RowId, Row] = {}
        self._ids: dict[tuple[object, ...], RowId] = {}
        self._users: dict[Any, set[RowId]] = defaultdict(set)
        self._uses: dict[RowId, frozenset[Any]] = {}
        self._bad: dict[RowId, str] = {}

    def find(self, *natural: object) -> Row | None:
        """Return the value with a natural key (`rows.natural_key`), None for none."""
        row_id = self._ids.get(natural)
        return None if row_id is None else self._values[row_id]

    def uuid(self, *natural: object) -> Any:
        """Return the UUID of the row with a natural key, None for none."""
        row_id = self._ids.get(natural)
        return None if row_id is None else row_id[1]

    def update(
        self, tables: Mapping[str, Any], dirty: Iterable[RowId], *, everything: bool
    ) -> tuple[Change, ...]:
        """Convert rows again and return the differences.

        `tables` are the IDL's; `everything` says that rows may have gone untold.
        """
        ids = self._with_users(dirty)
        if everything:
            ids.update((name, uuid) for name in tables for uuid in tables[name].rows)
            ids.update(self._values)
        before: dict[RowName, Row] = {}
        after: dict[RowName, Row] = {}
        for row_id in ids:
            old = self._values.pop(row_id, None)
            if old is not None:
                before[row_name(old)] = old
                self._ids.pop(natural_key(old), None)
        for row_id in ids:
            new = self._convert(row_id, tables[row_id[0]].rows.get(row_id[1]))
            if new is not None:
                self._values[row_id] = new
                self._ids[natural_key(new)] = row_id
                after[row_name(new)] = new
        return tuple(_differences(before, after))

    def _with_users(self, dirty: Iterable[RowId]) -> set[RowId]:
        ids = set(dirty)
        for _, uuid in tuple(ids):
            ids |= self._users.get(uuid, set())
        return ids

    def _convert(self, row_id: RowId, row: Any) -> Row | None:
        self._note_uses(row_id, row)
        if row is None:
            self._bad.pop(row_id, None)
            return None
        try:
            value = convert(row_id[0], row)
        except BadRowError as problem:
            self._report(row_id, str(problem))
            return None
        self._bad.pop(row_id, None)
        return value

    def _note_uses(self, row_id: RowId, row: Any) -> None:
        used = used_rows(row_id[0], row) if row is not None else []
        now = frozenset(other.uuid for other in used if other is not None)
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


def _differences(
    before: Mapping[RowName, Row], after: Mapping[RowName, Row]
) -> Iterable[Change]:
    for name in before:
        if name not in after:
            yield Gone(*name)
    for name, value in after.items():
        if before.get(name) != value:
            yield Put(value)
