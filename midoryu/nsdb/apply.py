# SPDX-License-Identifier: Apache-2.0
"""Make the database say what a topology file says, in one transaction.

`topology_file` made the wanted items, `item` reads those that are there; what differs
is created, changed or deleted. What agents learned stays where its parents stay; what
others made (Neutron, or a command) is not touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from midoryu.compat import SLOTS
from midoryu.errors import TopologyError
from midoryu.nsdb.item import (
    COLUMNS,
    Item,
    ItemId,
    Value,
    is_by_command,
    is_foreign,
    items_of,
)
from midoryu.nsdb.row_writer import ItemWriter
from midoryu.nsdb.session import Session

# Columns that the schema holds immutable: a change makes a new row.
_FIXED: Final = ("network", "router")
# Members of a list that are shown.
_LONG: Final = 10


@dataclass(frozen=True, **SLOTS)
class Change:
    """What happens to one row; at least one of the two is there."""

    before: Item | None
    after: Item | None

    @property
    def item(self) -> Item:
        """Name and table, from whichever side there is."""
        item = self.after or self.before
        assert item is not None
        return item

    @property
    def columns(self) -> list[str]:
        """Columns that differ; all of a new row."""
        if self.after is None:
            return []
        if self.before is None:
            return list(self.after.columns)
        before = self.before.columns
        return [
            key for key, value in self.after.columns.items() if before[key] != value
        ]


def apply(
    session: Session, wanted: Mapping[ItemId, Item], *, dry_run: bool
) -> list[Change]:
    """Change the database to match and return what differed.

    Raises:
        TopologyError: the file names rows that others own.
        NsdbError: the server refused or cannot be reached.
    """
    if dry_run:
        return difference(items_of(session.tables), wanted)
    changes: list[Change] = []

    def fill(transaction: Any) -> bool:
        there = items_of(session.tables)
        changes[:] = difference(there, wanted)
        if changes:
            rows = {item_id: row for item_id, (_, row) in there.items()}
            write(ItemWriter(transaction, session.tables, rows), changes)
        return bool(changes)

    session.transact(fill)
    return changes


def difference(
    there: Mapping[ItemId, tuple[Item, Any]], wanted: Mapping[ItemId, Item]
) -> list[Change]:
    """Compare the database's items with the wanted ones.

    Raises:
        TopologyError: the file names rows that others own.
    """
    _check_owners(there, wanted)
    changes = list(_wanted_changes(there, wanted))
    changes += _deletions(there, wanted)
    order = list(COLUMNS)
    changes.sort(key=lambda change: (order.index(change.item.table), change.item.name))
    return changes


def write(writer: ItemWriter, changes: list[Change]) -> None:
    """Put changes into a transaction, so that appliers at once follow one another."""
    writer.count_revision()
    moved = [change for change in changes if _is_moved(change)]
    for change in moved:
        writer.delete(change.item)
    created = [*moved, *(change for change in changes if change.before is None)]
    for change in created:
        writer.insert(change.item)
    for change in changes:
        if change.after is not None:
            is_new = change.before is None or _is_moved(change)
            columns = list(change.after.columns) if is_new else change.columns
            writer.set_columns(change.after, columns, is_new=is_new)
    # Last: while a doomed row is there, the IDL still shows who refers to it.
    for change in reversed(changes):
        if change.after is None:
            writer.delete(change.item)


def describe(changes: Iterable[Change]) -> Iterator[str]:
    """Say changes in lines: `+` created, `-` deleted, `~` changed."""
    for change in changes:
        name = f"{change.item.table.lower()} {change.item.name}"
        if change.before is None:
            yield f"+ {name}"
        elif change.after is None:
            yield f"- {name}"
        else:
            yield f"~ {name}"
            for column in change.columns:
                before, after = change.before.columns[column], change.after.columns
                yield f"    {column}: {_step(before, after[column])}"


def _step(before: Value, after: Value) -> str:
    """Show how a column changed; of long lists only what came and went."""
    if not (isinstance(before, tuple) and isinstance(after, tuple)):
        return f"{show(before)} -> {show(after)}"
    if max(len(before), len(after)) <= _LONG or isinstance((before or after)[0], tuple):
        return f"{show(before)} -> {show(after)}"
    steps = [f"+{one}" for one in sorted(set(map(str, after)) - set(map(str, before)))]
    steps += [f"-{one}" for one in sorted(set(map(str, before)) - set(map(str, after)))]
    more = f" and {len(steps) - _LONG} more" if len(steps) > _LONG else ""
    return f"{len(before)} -> {len(after)}: {','.join(steps[:_LONG])}{more}"


def show(value: Value) -> str:
    """Show a column's value in a line."""
    if value is None or value == ():
        return "none"
    if not isinstance(value, tuple):
        return str(value)
    if isinstance(value[0], str):
        return ",".join(map(str, value))
    return f"{len(value)} rules"


def _is_moved(change: Change) -> bool:
    if change.before is None or change.item.table == "Load_Balancer":
        return False
    return any(column in _FIXED for column in change.columns)


def _check_owners(
    there: Mapping[ItemId, tuple[Item, Any]], wanted: Mapping[ItemId, Item]
) -> None:
    problems = [
        f"{item_id[0].lower()} {item_id[1]} belongs to {_owner(there[item_id][1])}"
        for item_id in wanted
        if item_id in there and is_foreign(there[item_id][1])
    ]
    if problems:
        raise TopologyError("\n".join(problems))


def _owner(row: Any) -> str:
    return ", ".join(sorted(key.partition(":")[0] for key in row.external_ids))


def _wanted_changes(
    there: Mapping[ItemId, tuple[Item, Any]], wanted: Mapping[ItemId, Item]
) -> Iterator[Change]:
    for item_id, item in wanted.items():
        before = there[item_id][0] if item_id in there else None
        if before is not None and item.table == "Host" and before.columns["underlay"]:
            continue  # the agent of the host knows its own address best
        if before is None or before.columns != item.columns:
            yield Change(before, item)


def _deletions(
    there: Mapping[ItemId, tuple[Item, Any]], wanted: Mapping[ItemId, Item]
) -> Iterator[Change]:
    used_hosts = {
        item.columns[place]
        for item, row in there.values()
        for place in ("host", "migrating_to")
        if item.table == "Port" and is_foreign(row)
    }
    for item_id, (item, row) in there.items():
        if item_id in wanted or is_foreign(row) or is_by_command(row):
            continue
        if item.table == "Host" and (
            item.columns["underlay"] or item.name in used_hosts
        ):
            continue  # an agent registered it, or others bound a port there
        yield Change(item, None)
