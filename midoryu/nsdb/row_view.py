# SPDX-License-Identifier: Apache-2.0
"""A faster way to read a row of the IDL.

`Row.__getattr__` of package `ovs` builds a datum for each read, 9 microseconds; a view
reads the atoms where they are, 1 microsecond. `rows` converts through views; whoever
*writes* uses the IDL's rows.
"""

from __future__ import annotations

from typing import Any


class RowView:
    """A row: a scalar column reads as a value, a set as a list, a map as a dict.

    Referenced rows are views too; one that does not exist is left out of a set, and is
    None as a scalar.
    """

    __slots__ = ("_row", "uuid")

    def __init__(self, row: Any) -> None:
        self._row = row
        self.uuid = row.uuid

    def __getattr__(self, name: str) -> Any:
        column = self._row._table.columns.get(name)
        if column is None:
            raise AttributeError(name)
        kind = column.type
        datum = dict.get(self._row._data, name)
        if kind.n_max == 1 and kind.n_min == 1:
            return self._scalar(kind, datum)
        if kind.value is not None:
            return self._map(kind, datum)
        if datum is None:
            return []
        if kind.key.ref_table is None:
            return [atom.value for atom in datum.values]
        rows = self._rows(kind.key)
        found = (rows.get(atom.value) for atom in datum.values)
        return [RowView(row) for row in found if row is not None]

    def _scalar(self, kind: Any, datum: Any) -> Any:
        if datum is None:
            is_row = kind.key.ref_table is not None
            return None if is_row else kind.key.default().value
        atom = next(iter(datum.values)).value
        return atom if kind.key.ref_table is None else self._referred(kind.key, atom)

    def _map(self, kind: Any, datum: Any) -> dict[Any, Any]:
        if datum is None:
            return {}
        pairs = {key.value: value.value for key, value in datum.values.items()}
        if kind.value.ref_table is None:
            return pairs
        views = {key: self._referred(kind.value, uuid) for key, uuid in pairs.items()}
        return {key: view for key, view in views.items() if view is not None}

    def _referred(self, base: Any, uuid: Any) -> RowView | None:
        row = self._rows(base).get(uuid)
        return None if row is None else RowView(row)

    def _rows(self, base: Any) -> Any:
        return self._row._idl.tables[base.ref_table.name].rows
