# SPDX-License-Identifier: Apache-2.0
"""Rows of a large reply come out as they went in, one by one."""

from __future__ import annotations

import json
from typing import Any

import ovs.db.error
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midoryu.nsdb.json_parser import StreamParser
from midoryu.nsdb.json_rows import LARGE, decode_large

NOBODY = "00000000-0000-0000-0000-000000000000"
ROWS = st.dictionaries(
    st.text(), st.dictionaries(st.text(), st.text() | st.integers()), max_size=4
)


def reply(tables: Any) -> str:
    message = {"id": 5, "result": [False, NOBODY, tables], "error": None}
    return json.dumps(message, separators=(",", ":"))


def read(message: Any) -> dict[str, dict[str, Any]]:
    return {name: dict(rows.items()) for name, rows in message["result"][2].items()}


@given(st.dictionaries(st.text(), ROWS, max_size=4))
def test_tables_come_out_as_they_went_in(tables: dict[str, dict[str, Any]]) -> None:
    message = decode_large(reply(tables))

    assert (message["id"], message["error"]) == (5, None)
    assert message["result"][:2] == [False, NOBODY]
    assert read(message) == tables


def test_a_table_that_nobody_reads_is_passed_over() -> None:
    message = decode_large(reply({"A": {"1": {"x": "}],"}}, "B": {}, "C": {"2": {}}}))

    assert [name for name, _ in message["result"][2].items()] == ["A", "B", "C"]


@pytest.mark.parametrize(
    "text",
    [
        '{"id":1,"result":[{}],"error":null}',
        '{"id":1,"result":{"A":{}},"error":null}',
        '{"id":null,"method":"update3","params":["a","b",{}]}',
        f'{{"id":1,"result":[true,"{NOBODY}",[]],"error":null}}',
    ],
)
def test_other_messages_are_left_alone(text: str) -> None:
    assert decode_large(text) is None


@pytest.mark.parametrize("rows", ['{"A":{"1":{]}}', '{"A":{"1"}}', '{"A" {}}', "{A}"])
def test_what_is_not_json_is_an_error_of_the_database(rows: str) -> None:
    text = f'{{"id":1,"result":[true,"{NOBODY}",{rows}],"error":null}}'

    with pytest.raises(ovs.db.error.Error, match="not JSON"):
        read(decode_large(text))


def test_the_parser_of_streams_leaves_large_replies_for_later() -> None:
    text = reply({"A": {"1": {"name": "x" * LARGE}}})
    parser = StreamParser()

    while text:
        text = text[parser.feed(text[:4096]) :]

    assert len(read(parser.finish())["A"]["1"]["name"]) == LARGE
