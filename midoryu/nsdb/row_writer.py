# SPDX-License-Identifier: Apache-2.0
"""Items -> row changes in an open transaction.

`apply` decides what changes; commands of `cli` use it for single rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from midoryu.errors import NsdbError
from midoryu.nsdb.item import (
    REFERENCES,
    RULE_COLUMNS,
    Item,
    ItemId,
    RuleColumns,
    rule_of,
)
from midoryu.nsdb.key import KEYED_TABLES, KeyAllocator

# Rows that agents write about others; they go with what they are about.
_SEEN: Final = (
    ("Port_Status", "port"),
    ("Port_Status", "host"),
    ("Port_Ready", "port"),
    ("Port_Ready", "host"),
    ("Mac", "network"),
    ("Mac", "port"),
    ("Multicast_Member", "network"),
    ("Multicast_Member", "port"),
    ("Arp", "router"),
    ("Nat_Lease", "router"),
    ("Nat_Lease", "host"),
    ("Member_Status", "member"),
    ("Member_Status", "host"),
)
_RULE_REFERENCES: Final = tuple(
    column for column in RULE_COLUMNS if column in REFERENCES
)


class ItemWriter:
    """Puts items into rows. Insert first, then set columns, then delete."""

    def __init__(
        self, transaction: Any, tables: Mapping[str, Any], rows: Mapping[ItemId, Any]
    ) -> None:
        self._transaction = transaction
        self._tables = tables
        self._rows = dict(rows)
        self._keys = KeyAllocator(transaction.idl, transaction)
        self._seen_by_parent: dict[Any, list[Any]] | None = None

    def count_revision(self) -> None:
        """Verify and count the revision: of two appliers at once one starts over."""
        cloud = self._keys.cloud()
        cloud.revision = self._keys.revision + 1

    def insert(self, item: Item) -> None:
        """Add an empty row for an item, with a key where the table has keys."""
        row = self._transaction.insert(self._tables[item.table])
        if item.table in KEYED_TABLES:
            row.key = self._keys.allocate(item.table, item.name)
        self._rows[item.id] = row

    def delete(self, item: Item) -> None:
        """Delete an item's row and what agents wrote about it."""
        row = self._rows.pop(item.id)
        if item.table == "Chain":
            self._let_go(row.rules.values())
        for seen in self._seen().pop(row.uuid, ()):
            if seen._changes is not None:
                seen.delete()
        row.delete()

    def set_columns(self, item: Item, columns: Iterable[str], *, is_new: bool) -> None:
        """Write some columns of an item's row; an empty one of a new row is left out.

        Raises:
            NsdbError: a value does not fit the schema.
        """
        row = self._rows[item.id]
        for column in columns:
            value = item.columns[column]
            if is_new and value in (None, ()):
                continue
            if column == "rules":
                self._set_rules(row, value, is_new=is_new)
            else:
                self._set(row, column, value)

    def _set(self, row: Any, column: str, value: object) -> None:
        row_value = self._row_value(column, value)
        setattr(row, column, row_value)
        if column not in row._changes:
            # The IDL only logs what it does not take.
            raise NsdbError(f"{row._table.name}.{column} cannot be {value!r}")

    def _row_value(self, column: str, value: object) -> object:
        table = REFERENCES.get(column)
        if column == "ports" and isinstance(value, tuple):
            table = "Port"
        if value is None:
            return []
        if isinstance(value, tuple):
            return [self._referred(table, atom) for atom in value]
        return self._referred(table, value)

    def _referred(self, table: str | None, atom: object) -> object:
        return self._rows[table, str(atom)] if table else atom

    def _set_rules(self, chain: Any, rules: Any, *, is_new: bool) -> None:
        """Write a chain's rules; a rule that stays in its place keeps its row."""
        old = {} if is_new else dict(chain.rules)
        rows = {}
        for position, columns in enumerate(rules):
            row = old.get(position)
            stays = row is not None and rule_of(row) == columns
            rows[position] = old.pop(position) if stays else self._new_rule(columns)
        self._let_go(old.values())
        self._set(chain, "rules", rows)

    def _new_rule(self, columns: RuleColumns) -> Any:
        row = self._transaction.insert(self._tables["Rule"])
        for column, value in columns:
            if value not in (None, ()):
                self._set(row, column, value)
        return row

    def _let_go(self, rules: Iterable[Any]) -> None:
        """Cut what rules refer to: the server checks references before it sweeps."""
        for rule in rules:
            for column in _RULE_REFERENCES:
                self._set(rule, column, None)

    def _seen(self) -> dict[Any, list[Any]]:
        if self._seen_by_parent is None:
            self._seen_by_parent = {}
            for table, column in _SEEN:
                for row in tuple(self._tables[table].rows.values()):
                    parent = getattr(row, column)
                    self._seen_by_parent.setdefault(parent.uuid, []).append(row)
        return self._seen_by_parent
