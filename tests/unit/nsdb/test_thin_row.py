# SPDX-License-Identifier: Apache-2.0
"""Rows as tuples: what the server tells, what a view shows, what goes back."""

from __future__ import annotations

from typing import Any

import ovs.db.data
import ovs.db.idl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midoryu.nsdb.schema import schema_helper
from midoryu.nsdb.thin_row import Layout, Table

NETWORK = "11111111-1111-1111-1111-111111111111"
PORT = "22222222-2222-2222-2222-222222222222"
OTHER = "33333333-3333-3333-3333-333333333333"
SCHEMA = schema_helper().get_idl_schema().tables
TEXTS = st.lists(st.sampled_from("abcdef"), unique=True)


def store() -> dict[str, Table]:
    tables: dict[str, Table] = {}
    for name, table in SCHEMA.items():
        tables[name] = Table(Layout(name, table.columns.values()), tables)
    return tables


def put(tables: dict[str, Table], table: str, uuid: str, row: dict[str, Any]) -> Any:
    tables[table].rows[uuid] = tables[table].layout.make(row)
    return tables[table].view(uuid)


def test_a_column_that_nobody_told_of_has_its_default() -> None:
    port = put(store(), "Port", PORT, {})

    assert (port.name, port.key, port.up) == ("", 0, False)
    assert not port.addresses
    assert not port.host
    assert dict(port.external_ids) == {}


def test_a_reference_shows_the_row_and_none_where_there_is_none() -> None:
    tables = store()
    row = {"port": ["uuid", PORT], "host": ["uuid", OTHER]}
    status = put(tables, "Port_Status", NETWORK, row)
    put(tables, "Port", PORT, {"key": 7, "peer": ["uuid", OTHER]})

    assert status.port.key == 7
    assert status.host is None
    assert status.port.peer == ()


def test_a_map_of_references_shows_rows() -> None:
    tables = store()
    put(tables, "Rule", PORT, {"action": "accept"})
    rules = [[1, ["uuid", PORT]], [2, ["uuid", OTHER]]]
    chain = put(tables, "Chain", NETWORK, {"rules": ["map", rules]})

    assert {n: rule.action for n, rule in chain.rules.items()} == {1: "accept"}


@pytest.mark.parametrize(
    "row",
    [
        {"key": "seven"},
        {"up": 1},
        {"addresses": ["set", [5]]},
        {"host": "node1"},
        {"external_ids": ["set", []]},
        {"name": None},
    ],
    ids=str,
)
def test_what_does_not_fit_the_schema_names_the_column(row: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"column {next(iter(row))} cannot hold"):
        store()["Port"].layout.make(row)


@given(TEXTS, TEXTS)
def test_a_changed_set_is_the_symmetric_difference(
    before: list[str], told: list[str]
) -> None:
    layout = store()["Port"].layout
    values = layout.make({"addresses": ["set", before]})

    after = layout.change(values, {"addresses": ["set", told]})

    assert set(layout.get(after, "addresses")) == set(before) ^ set(told)
    assert layout.get(after, "name") == layout.get(values, "name")


@given(
    st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy")),
    st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy")),
)
def test_a_changed_map_is_what_package_ovs_makes_of_it(
    before: dict[str, str], told: dict[str, str]
) -> None:
    layout, kind = store()["Port"].layout, SCHEMA["Port"].columns["external_ids"].type
    old, new = (["map", [[k, v] for k, v in m.items()]] for m in (before, told))

    after = layout.change(layout.make({"external_ids": old}), {"external_ids": new})

    datum = ovs.db.data.Datum.from_json(kind, old)
    expected = datum.diff(ovs.db.data.Datum.from_json(kind, new))
    assert layout.get(after, "external_ids") == expected.to_python(lambda atom, _: atom)


def test_a_changed_scalar_or_option_is_the_new_value() -> None:
    layout = store()["Port"].layout
    before = layout.make({"name": "a", "host": ["uuid", OTHER], "mtu": 1400})

    after = layout.change(before, {"name": "b", "host": ["set", []], "mtu": 1500})

    values = (layout.get(after, column) for column in ("name", "host", "mtu"))
    assert tuple(values) == ("b", (), (1500,))


def test_a_row_goes_back_as_package_ovs_reads_it() -> None:
    layout = store()["Port"].layout
    row = {"host": ["uuid", OTHER], "mtu": 1400, "up": True, "name": "a", "key": 1}
    row["interface_id"] = "x"
    values = layout.make({**row, "external_ids": ["map", [["k", "v"]]]})

    for name, column in SCHEMA["Port"].columns.items():
        datum = ovs.db.data.Datum.from_json(column.type, layout.json(values, name))
        told = row.get(name, datum.to_json())
        assert name == "external_ids" or datum.to_json() == told
