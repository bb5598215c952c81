# SPDX-License-Identifier: Apache-2.0
"""Rows as tuples of plain values: what `ovs.db.idl` keeps, in a tenth of the memory.

A `Layout` says how one table's rows are laid out. It reads what the server sends into
tuples, and makes views of them, through which `rows` converts. `thin_idl` keeps the
tuples; whoever *writes* uses rows of package `ovs`, made of them when asked for.

    column        in a tuple                            through a view
    scalar        value; UUID as text                   value; view, None for none
    set           tuple of values                       tuple of values, or of views
    map           dict                                  dict

Source: RFC 7047, section 5.1; ovsdb-server(7), "Update2 Notification".
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

ZERO_UUID: Final = "00000000-0000-0000-0000-000000000000"
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "integer": (int,),
    "real": (float, int),
    "boolean": (bool,),
    "string": (str,),
}
_DEFAULTS: Final = {
    "integer": 0,
    "real": 0.0,
    "boolean": False,
    "string": "",
    "uuid": ZERO_UUID,
}
_NOTHING: Final[dict[Any, Any]] = {}
Values = tuple[Any, ...]
"""One row: the values of the columns in the layout's order."""
_Read = Callable[[Any], Any]


class View:
    """A row: attributes are its columns; referenced rows are views, too."""

    __slots__ = ("_store", "_values", "uuid")

    def __init__(self, store: Mapping[str, Table], uuid: str, values: Values) -> None:
        self._store = store
        self._values = values
        self.uuid = uuid


class Table:
    """The rows of one table, and how they are laid out."""

    __slots__ = ("layout", "rows", "store")

    def __init__(self, layout: Layout, store: Mapping[str, Table]) -> None:
        self.layout = layout
        self.store = store
        self.rows: dict[str, Values] = {}
        """UUID -> row."""

    def view(self, uuid: str) -> Any:
        """Return a view of a row, None where there is none."""
        values = self.rows.get(uuid)
        return None if values is None else self.layout.view(self.store, uuid, values)

    def views(self) -> Iterator[Any]:
        """Go through views of all rows."""
        return (
            self.layout.view(self.store, uuid, values)
            for uuid, values in self.rows.items()
        )


class Column(NamedTuple):
    """What there is to know of one column."""

    name: str
    read: _Read
    write: Callable[[Any], Any]
    default: Any
    is_set: bool
    """A set of more than one value: a change of it is told as what differs."""
    is_map: bool


class Layout:
    """How rows of one table are laid out."""

    def __init__(self, table: str, columns: Iterable[Any]) -> None:
        """Take the columns as `ovs.db.schema` has them."""
        self.table = table
        found = list(columns)
        self._columns = {c.name: (n, _column(c)) for n, c in enumerate(found)}
        self._defaults = tuple(column.default for _, column in self._columns.values())
        getters = {c.name: property(_getter(n, c.type)) for n, c in enumerate(found)}
        self.view: Callable[[Mapping[str, Table], str, Values], View] = type(
            f"{table}View", (View,), {"__slots__": (), **getters}
        )

    def make(self, row: Mapping[str, Any]) -> Values:
        """Read a whole row; columns that are not told have their default.

        Raises:
            ValueError: a column does not hold what the schema says.
        """
        values = list(self._defaults)
        columns = self._columns
        for name, datum in row.items():
            found = columns.get(name)
            if found is not None:
                values[found[0]] = _read(found[1], datum)
        return tuple(values)

    def change(self, before: Values, difference: Mapping[str, Any]) -> Values:
        """Read what differs, and return the row as it is now.

        Raises:
            ValueError: a column does not hold what the schema says.
        """
        values = list(before)
        for name, datum in difference.items():
            found = self._columns.get(name)
            if found is not None:
                at, column = found
                values[at] = _changed(column, values[at], _read(column, datum))
        return tuple(values)

    def get(self, values: Values, name: str) -> Any:
        """Return the plain value of one column."""
        return values[self._columns[name][0]]

    def json(self, values: Values, name: str) -> Any:
        """Return one column as the protocol writes it.

        Source: RFC 7047, section 5.1 (value).
        """
        at, column = self._columns[name]
        return column.write(values[at])


def _read(column: Column, datum: Any) -> Any:
    try:
        return column.read(datum)
    except (IndexError, KeyError, TypeError, ValueError) as problem:
        text = f"column {column.name} cannot hold {str(datum)[:80]}"
        raise ValueError(text) from problem


def _changed(column: Column, before: Any, difference: Any) -> Any:
    if column.is_set:
        told = set(difference)
        kept = tuple(one for one in before if one not in told)
        return kept + tuple(one for one in difference if one not in before)
    if column.is_map:
        after = {k: v for k, v in before.items() if difference.get(k) != v}
        new = {k: v for k, v in difference.items() if before.get(k) != v}
        return {**after, **new}
    return difference


# What a column holds, as the protocol writes it.


def _column(column: Any) -> Column:
    kind = column.type
    read, write = _atom_reader(kind.key), _atom_writer(kind.key)
    is_map = kind.value is not None
    is_scalar = kind.n_min == 1 and kind.n_max == 1 and not is_map
    if is_map:
        read_value, write_value = _atom_reader(kind.value), _atom_writer(kind.value)
        return Column(
            column.name,
            lambda datum: _read_map(read, read_value, datum),
            lambda value: [
                "map", [[write(k), write_value(v)] for k, v in value.items()]
            ],
            _NOTHING,
            is_set=False,
            is_map=True,
        )  # fmt: skip
    if is_scalar:
        default = _DEFAULTS[kind.key.type.name]
        return Column(column.name, read, write, default, is_set=False, is_map=False)
    return Column(
        column.name,
        lambda datum: _read_set(read, datum),
        lambda value: ["set", [write(one) for one in value]],
        (),
        is_set=kind.n_max > 1,
        is_map=False,
    )


def _read_set(read: _Read, datum: Any) -> tuple[Any, ...]:
    if type(datum) is list and datum[0] == "set":
        return tuple(map(read, datum[1]))
    return (read(datum),)


def _read_map(read_key: _Read, read_value: _Read, datum: Any) -> dict[Any, Any]:
    word, pairs = datum
    if word != "map":
        raise ValueError
    return {read_key(k): read_value(v) for k, v in pairs} if pairs else _NOTHING


def _atom_reader(base: Any) -> _Read:
    name = base.type.name
    if name == "uuid":
        return _read_uuid
    good = _TYPES[name]

    def read(atom: Any) -> Any:
        if type(atom) not in good:
            raise TypeError
        return atom

    return read


def _read_uuid(atom: Any) -> str:
    word, text = atom
    if word != "uuid":
        raise ValueError
    # Very many rows refer to few.
    return sys.intern(text)


def _atom_writer(base: Any) -> Callable[[Any], Any]:
    if base.type.name == "uuid":
        return lambda text: ["uuid", text]
    return lambda value: value


# How a view reads it.


def _getter(at: int, kind: Any) -> Callable[[Any], Any]:
    referred = kind.key.ref_table
    if kind.value is not None:
        return _map_getter(at, kind)
    if referred is None:
        return lambda view: view._values[at]  # noqa: SLF001
    name = referred.name
    if kind.n_min == 1 and kind.n_max == 1:
        return lambda view: view._store[name].view(view._values[at])  # noqa: SLF001

    def rows(view: Any) -> tuple[Any, ...]:
        uuids = view._values[at]  # noqa: SLF001
        if not uuids:
            return ()
        table = view._store[name]  # noqa: SLF001
        found = map(table.view, uuids)
        return tuple(row for row in found if row is not None)

    return rows


def _map_getter(at: int, kind: Any) -> Callable[[Any], Any]:
    referred = kind.value.ref_table
    if referred is None:
        return lambda view: view._values[at]  # noqa: SLF001

    def rows(view: Any) -> dict[Any, Any]:
        table = view._store[referred.name]  # noqa: SLF001
        pairs = view._values[at].items()  # noqa: SLF001
        found = ((key, table.view(uuid)) for key, uuid in pairs)
        return {key: row for key, row in found if row is not None}

    return rows
