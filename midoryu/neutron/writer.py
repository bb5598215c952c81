# SPDX-License-Identifier: Apache-2.0
"""Make the rows of some units equal their items, within one transaction.

The same `Change` values and row writer that topology files use (`nsdb.apply`,
`nsdb.row_writer`), but looking at the rows of the units only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from midoryu.neutron.label import UNIT_KEY, labels_of
from midoryu.neutron.store import Index
from midoryu.neutron.unit import Unit, owner_of
from midoryu.nsdb.apply import Change
from midoryu.nsdb.item import COLUMNS, REFERENCES, Item, ItemId, item_of
from midoryu.nsdb.row_writer import ItemWriter

# Columns that the schema holds immutable: a change makes a new row.
_FIXED: Final = ("network", "router")
_SHARED: Final = ("Host",)
"""Tables whose rows no unit owns: made when missing, never changed or deleted."""

Wanted = Mapping[Unit, Iterable[Item]]


def difference(index: Index, wanted: Wanted) -> list[Change]:
    """Compare the rows of units with what they shall be."""
    items = {item.id: (item, unit) for unit in wanted for item in wanted[unit]}
    changes = []
    for item_id, (item, unit) in items.items():
        row = index.get(item_id)
        if row is None:
            changes.append(Change(None, item))
        elif item.table not in _SHARED:
            before = item_of(item.table, row)
            signed = row.external_ids == _external_ids(item, unit)
            if before.columns != item.columns or not signed:
                changes.append(Change(before, item))
    doomed = {item_id for unit in wanted for item_id in index.owned_by(unit)}
    for item_id in doomed - items.keys():
        changes.append(Change(item_of(item_id[0], index[item_id]), None))
    order = list(COLUMNS)
    changes.sort(key=lambda change: (order.index(change.item.table), change.item.name))
    return changes


def missing(index: Index, changes: Iterable[Change]) -> set[Unit]:
    """Name the units whose rows are referred to and are not there."""
    changes = list(changes)
    made = {change.item.id for change in changes if change.after is not None}
    found = set()
    for change in changes:
        if change.after is None:
            continue
        for item_id in references(change.after):
            if item_id not in made and item_id not in index:
                unit = owner_of(*item_id)
                if unit is not None:
                    found.add(unit)
    return found


def references(item: Item) -> Iterator[ItemId]:
    """List the rows that an item refers to."""
    for column, value in item.columns.items():
        if column == "rules" and isinstance(value, tuple):
            for rule in value:
                for name, atom in dict(rule).items():  # type: ignore[arg-type]
                    if name in REFERENCES and isinstance(atom, str):
                        yield REFERENCES[name], atom
        elif column in REFERENCES and isinstance(value, str):
            yield REFERENCES[column], value


def write(
    transaction: Any,
    tables: Mapping[str, Any],
    index: Index,
    *,
    changes: list[Change],
    wanted: Wanted,
) -> None:
    """Put changes into a transaction.

    Raises:
        NsdbError: a value does not fit the schema.
        KeyError: a row refers to one that is not there.
    """
    units = {item.id: unit for unit in wanted for item in wanted[unit]}
    writer = _UnitWriter(transaction, tables, index, units)
    writer.count_revision()
    moved = [change for change in changes if _is_moved(change)]
    for change in moved:
        writer.delete(change.item)
    for change in changes:
        if change.before is None or _is_moved(change):
            writer.insert(change.item)
    for change in changes:
        if change.after is not None:
            is_new = change.before is None or _is_moved(change)
            columns = list(change.after.columns) if is_new else change.columns
            writer.set_columns(change.after, columns, is_new=is_new)
            writer.own(change.after)
    for change in reversed(changes):
        if change.after is None:
            writer.delete(change.item)


def _external_ids(item: Item, unit: Unit) -> dict[str, str]:
    return {UNIT_KEY: unit, **labels_of(item)}


def _is_moved(change: Change) -> bool:
    return (
        change.before is not None
        and change.after is not None
        and any(column in _FIXED for column in change.columns)
    )


class _UnitWriter(ItemWriter):
    """A row writer that says in each row whose it is."""

    def __init__(
        self,
        transaction: Any,
        tables: Mapping[str, Any],
        rows: Mapping[ItemId, Any],
        units: Mapping[ItemId, Unit],
    ) -> None:
        super().__init__(transaction, tables, rows)
        self._units = units

    def own(self, item: Item) -> None:
        """Write the unit of an item into its row."""
        if item.table in _SHARED:
            return
        row = self._rows[item.id]
        mine = _external_ids(item, self._units[item.id])
        if getattr(row, "external_ids", {}) != mine:
            row.external_ids = mine
