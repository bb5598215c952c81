# SPDX-License-Identifier: Apache-2.0
"""An IDL that keeps rows as tuples: the agent's replica of a large database.

Package `ovs` goes on doing what it does well: remotes, sessions, cluster members,
monitors, transactions. Only what it makes of rows is ours: `thin_row` instead of three
objects for every column. Rows of `ovs` are made when a transaction asks for them, and
forgotten with it.

Commands, which write much and live shortly, use `remote.TrackingIdl` itself.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Union

import ovs.db.data
import ovs.db.error
import ovs.db.idl

from midoryu.nsdb.json_parser import use_fast_parser
from midoryu.nsdb.remote import TrackingIdl
from midoryu.nsdb.schema import schema_helper
from midoryu.nsdb.thin_row import Layout, Table, Values

LOG = logging.getLogger(__name__)

# Others get their turn after so many rows.
PAUSE_ROWS: Final = 256
# Of use to operators and Neutron only; each write of theirs changes the revision.
_NOT_READ: Final = frozenset({"external_ids", "revision"})


class ThinIdl(TrackingIdl):
    """The rows of the NSDB, as the agent reads and writes them."""

    def __init__(
        self, connection: str, pause: Callable[[], None] = lambda: None
    ) -> None:
        """Prepare to connect.

        `pause` is called now and then while very many rows are read: it may let other
        green threads run, but none that uses this object.

        Raises:
            ConfigError: a remote is malformed.
        """
        super().__init__(connection, schema_helper(without=_NOT_READ))
        use_fast_parser(pause)
        self._pause = pause
        self.problems: dict[tuple[str, str], str] = {}
        """What is wrong with rows that do not fit the schema, by table and UUID."""
        self.store: dict[str, Table] = {}
        for name, table in self.tables.items():
            layout = Layout(name, table.columns.values())
            self.store[name] = Table(layout, self.store)
            table.rows = _RowsInUse(self, table, self.store[name])
        self._before: dict[str, dict[str, Values]] = {}

    def run(self) -> bool:
        """Do what is due; see `ovs.db.idl.Idl.run`."""
        for table in self.tables.values():
            table.rows.forget()
        return bool(super().run())

    def used_keys(self, table: str) -> Iterator[int]:
        """Go through the keys that a table's rows have."""
        return (view.key for view in self.store[table].views())

    def _Idl__clear(self) -> None:  # noqa: N802
        """Forget all rows (called by the IDL, before it reads all of them again)."""
        if any(table.rows for table in self.store.values()):
            self.change_seqno += 1
        for name, table in self.store.items():
            self._before.setdefault(name, {}).update(table.rows)
            table.rows.clear()
        self.cond_seqno = 0

    def _Idl__parse_update(  # noqa: N802
        self, update: Any, version: str, tables: Any = None
    ) -> None:
        """Take over what the server says (called by the IDL).

        Raises:
            ovs.db.error.Error: a whole database came as what is not JSON.
        """
        if tables:
            super()._Idl__parse_update(update, version, tables)
            return
        count = len(self.dirty)
        for name, rows in update.items():
            table = self.store.get(name)
            if table is None or not isinstance(rows, dict):
                LOG.error("the NSDB told of table %s, which nobody knows", name)
                continue
            for number, (row, told) in enumerate(rows.items(), 1):
                self._take(name, table, row, told)
                if not number % PAUSE_ROWS:
                    self._pause()
        for name, gone in self._before.items():
            self.dirty.update((name, row) for row in gone)
        self._before.clear()
        self.change_seqno += len(self.dirty) > count

    def _take(self, name: str, table: Table, row: str, told: Mapping[str, Any]) -> None:
        before = self._before[name].pop(row, None) if self._before else None
        try:
            after = _after(table, row, told)
        except (AttributeError, TypeError, ValueError) as problem:
            self.problems[name, row] = f"{name} {row}: {problem}"
            table.rows.pop(row, None)
            self.dirty.add((name, row))
            return
        if self.problems:
            self.problems.pop((name, row), None)
        if after is None:
            table.rows.pop(row, None)
        else:
            table.rows[row] = after
        if before is None or before != after:
            self.dirty.add((name, row))


def _after(table: Table, row: str, told: Mapping[str, Any]) -> Union[Values, None]:
    """Read what a row is now, None where it is gone.

    Raises:
        ValueError: a column does not hold what the schema says, or there is no row.

    Source: RFC 7047, section 4.1.6 (update); ovsdb-server(7) (update2, update3).
    """
    made = told.get("initial") or told.get("insert")
    if made is not None:
        return table.layout.make(made)
    if "modify" in told:
        values = table.rows.get(row)
        if values is None:
            raise ValueError("changed, but nobody told of it before")
        return table.layout.change(values, told["modify"])
    if "new" in told:
        return table.layout.make(told["new"])
    if "initial" in told or "insert" in told:
        return table.layout.make({})
    return None


class _RowsInUse(dict):  # type: ignore[type-arg]
    """Rows of package `ovs` of one table, for the transaction under way."""

    def __init__(self, idl: ThinIdl, table: Any, thin: Table) -> None:
        super().__init__()
        self.indexes: dict[str, Any] = {}
        self._idl = idl
        self._table = table
        self._thin = thin
        self._gone: set[uuid.UUID] = set()

    def forget(self) -> None:
        """Let go of all of them: nobody uses them any more."""
        self.clear()
        self._gone.clear()

    def get(self, key: Any, default: Any = None) -> Any:
        """Return a row by UUID (text or not)."""
        number = key if isinstance(key, uuid.UUID) else uuid.UUID(key)
        row = super().get(number)
        if row is None and number not in self._gone:
            values = self._thin.rows.get(str(number))
            if values is not None:
                data = _Data(self._table, self._thin.layout, values)
                row = ovs.db.idl.Row(self._idl, self._table, number, data)
                self[number] = row
        return default if row is None else row

    def values(self) -> Any:
        """Return all rows of the table."""
        for key in self._thin.rows:
            self.get(key)
        return super().values()

    def __delitem__(self, key: Any) -> None:
        self._gone.add(key)
        super().__delitem__(key)


class _Data(ovs.db.idl.ColumnDefaultDict):  # type: ignore[misc]
    """The columns of a row, as `ovs` has them, made when asked for."""

    __slots__ = ("_layout", "_values")

    def __init__(self, table: Any, layout: Layout, values: Values) -> None:
        super().__init__(table)
        self._layout = layout
        self._values = values

    def __missing__(self, name: str) -> Any:
        column = self._table.columns[name]
        json = self._layout.json(self._values, name)
        try:
            datum = ovs.db.data.Datum.from_json(column.type, json)
        except ovs.db.error.Error:  # what was never set may be less than allowed
            datum = ovs.db.data.Datum.default(column.type)
        self[name] = datum
        return datum
