# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from midoryu.nsdb.json_parser import StreamParser

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab"\\{}[] é'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='k"}{\\'), inner),
    max_leaves=20,
)


def read(stream: str, size: int) -> list[Any]:
    """Feed a stream in pieces, as `ovs.jsonrpc` does."""
    found, parser = [], StreamParser()
    for start in range(0, len(stream), size):
        piece = stream[start : start + size]
        while piece:
            piece = piece[parser.feed(piece) :]
            if parser.is_done():
                found.append(parser.finish())
                parser = StreamParser()
    return found


@given(
    st.lists(st.dictionaries(st.text(), VALUES) | st.lists(VALUES), max_size=4),
    st.integers(1, 50),
)
def test_messages_come_out_as_they_went_in(messages: list[Any], size: int) -> None:
    stream = "".join(map(json.dumps, messages))

    assert read(stream, size) == messages


def test_garbage_reads_as_a_sentence() -> None:
    assert all(isinstance(value, str) for value in read("garbage", 3))
    assert isinstance(read("{]", 5)[0], str)


def test_deep_nesting_reads_as_a_sentence() -> None:
    depth = 200_000

    (value,) = read("[" * depth + "]" * depth, 4096)

    assert isinstance(value, str)


def test_others_get_their_turn_while_a_large_message_comes() -> None:
    turns: list[None] = []
    parser = StreamParser(pause=lambda: turns.append(None))

    for _ in range(200):
        parser.feed("[[[")

    assert 1 < len(turns) < 10
