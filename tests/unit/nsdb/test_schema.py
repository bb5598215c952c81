# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json

import pytest

from midoryu.nsdb import item, rows
from midoryu.nsdb.schema import (
    SCHEMA_FILE,
    SERVER_TABLES,
    allowed_from_text,
    format_interface,
    interface_from_text,
    ports_from_text,
)

TABLES = json.loads(SCHEMA_FILE.read_text())["tables"]


@pytest.mark.parametrize("table", item.COLUMNS)
def test_items_know_every_wanted_column(table: str) -> None:
    assert set(item.COLUMNS[table]) == set(TABLES[table]["columns"]) - {
        "key",
        "external_ids",
    }


def test_items_know_every_column_of_a_rule() -> None:
    assert set(item.RULE_COLUMNS) == set(TABLES["Rule"]["columns"]) - {"external_ids"}


def test_every_table_reaches_the_agent() -> None:
    left_out = {"Cloud", "Rule", *SERVER_TABLES}

    assert set(rows.CONVERTERS) == set(TABLES) - left_out


@pytest.mark.parametrize("text", ["10.0.0.1/24", "10.0.0.1", "2001:db8::1/64"])
def test_interface_text_comes_back(text: str) -> None:
    assert format_interface(interface_from_text(text)) == text


@pytest.mark.parametrize("text", ["", "-", "1-", "9-1", "65536", "a", "1-2-3"])
def test_bad_ports_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="port"):
        ports_from_text(text)


def test_allowed_source_may_lack_mac_or_prefix() -> None:
    assert allowed_from_text("10.0.0.0/8")[0] == 0
    assert allowed_from_text("02:00:00:00:00:01")[1].length == 0
    assert allowed_from_text("02:00:00:00:00:01 10.0.0.1/32")[0] == 0x0200_0000_0001
