# SPDX-License-Identifier: Apache-2.0
"""Entries other than records: round trips, and bytes that are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midoryu.errors import DecodeError
from midoryu.replication import entry as codec
from midoryu.replication.entry import (
    Context,
    Entry,
    Heartbeat,
    Hello,
    Nack,
    Notice,
    Query,
    Remove,
    SyncDone,
    SyncRequest,
    Touch,
    Unknown,
)
from midoryu.state.connection import Phase

WORD = st.integers(0, 0xFFFF_FFFF)
PORT = st.integers(0, 0xFFFF)
ADDRESS = st.integers(0, (1 << 128) - 1)
ID = st.integers(1, (1 << 64) - 1)
KEY = st.tuples(WORD, st.integers(0, 255), ADDRESS, ADDRESS, PORT, PORT)


def read(data: bytes) -> list[Entry]:
    return list(codec.decode_entries(memoryview(data), Context(1, 100.0)))


@given(WORD, st.lists(KEY, max_size=6).map(tuple))
def test_a_query_comes_back_with_all_its_keys(
    number: int, keys: tuple[tuple[int, int, int, int, int, int], ...]
) -> None:
    query = Query(number, keys)
    assert read(codec.encode_query(query)) == [query]


@given(WORD)
def test_single_numbers_come_back(number: int) -> None:
    assert read(codec.encode_unknown(number)) == [Unknown(number)]
    assert read(codec.encode_sync_request(number)) == [SyncRequest(number)]
    assert read(codec.encode_sync_done(number)) == [SyncDone(number)]


@given(st.lists(st.builds(Notice, WORD, st.booleans()), max_size=20))
def test_notices_come_back_in_order(notices: list[Notice]) -> None:
    assert read(codec.encode_notices(notices)) == notices


@given(st.lists(ID, max_size=20))
def test_removals_come_back_in_order(ids: list[int]) -> None:
    assert read(codec.encode_removes(ids)) == [Remove(one) for one in ids]


@given(st.lists(st.tuples(ID, st.sampled_from(Phase)), max_size=20))
def test_touches_come_back_in_order(touched: list[tuple[int, Phase]]) -> None:
    touches = [Touch(id_, phase, 95.0) for id_, phase in touched]
    assert read(codec.encode_touches(touches, 100.0)) == touches


@given(st.lists(st.builds(Nack, WORD, WORD), max_size=20))
def test_nacks_come_back_in_order(nacks: list[Nack]) -> None:
    assert read(codec.encode_nacks(nacks)) == nacks


def test_numbers_beyond_32_bits_travel_modulo() -> None:
    wide = 1 << 32
    assert read(codec.encode_heartbeat(Heartbeat(wide + 3, wide - 1))) == [
        Heartbeat(3, wide - 1)
    ]
    assert read(codec.encode_nacks([Nack(wide, wide + 1)])) == [Nack(0, 1)]


@pytest.mark.parametrize("wants_answer", [False, True])
def test_a_hello_says_whether_it_wants_an_answer(wants_answer: bool) -> None:
    assert read(codec.encode_hello(Hello(wants_answer))) == [Hello(wants_answer)]


def test_a_beat_is_a_packet_without_entries() -> None:
    assert read(b"") == []


def test_entries_of_kinds_that_are_not_known_are_skipped() -> None:
    strange = bytes((200, 0, 3)) + b"abc"
    assert read(strange + codec.encode_unknown(5) + strange) == [Unknown(5)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x0a", "header cut short at byte 0"),
        (codec.encode_unknown(1) + b"\x0a\x00", "header cut short at byte 7"),
        (codec.encode_unknown(1)[:-1], "longer than the packet"),
        (bytes((10, 0, 3)) + b"abc", "cut short"),
        (bytes((9, 0, 2)) + b"ab", "cut short"),
        (bytes((9, 0, 5)) + b"abcde", "not a multiple of 41"),
        (bytes((11, 0, 4)) + b"abcd", "not a multiple of 5"),
        (bytes((3, 0, 8)) + bytes(8), "connection id 0"),
        (bytes((2, 0, 12)) + bytes(7) + b"\x01\x07\0\0\0", "unknown phase 7"),
    ],
)
def test_what_no_sender_may_write_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        read(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_entries_or_refused(data: bytes) -> None:
    try:
        entries = read(data)
    except DecodeError:
        return
    assert len(entries) <= len(data)


@given(st.sampled_from(codec.Kind), st.binary(max_size=100))
def test_any_body_of_any_kind_is_entries_or_refused(
    kind: codec.Kind, body: bytes
) -> None:
    try:
        entries = read(bytes((kind, 0, len(body))) + body)
    except DecodeError:
        return
    names = {type(one).__name__.upper() for one in entries}
    assert names <= {kind.name.replace("_", "")}
