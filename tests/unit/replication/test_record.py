# SPDX-License-Identifier: Apache-2.0
"""Records on the wire: every field comes back; any bytes are a record or refused."""

from __future__ import annotations

import dataclasses
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midoryu.errors import DecodeError
from midoryu.packet.address import V4_MAPPED
from midoryu.replication.entry import Kind
from midoryu.replication.record import (
    AGE_MAX,
    ENTRY_HEADER,
    KIND,
    checked_id,
    decode_age,
    decode_phase,
    decode_record,
    encode_age,
    encode_record,
    read_all,
)
from midoryu.state.connection import Connection, Phase, Translation, TranslationKind

WORD = st.integers(0, 0xFFFF_FFFF)
PORT = st.integers(0, 0xFFFF)
V4 = WORD.map(lambda word: V4_MAPPED | word)
V6 = st.integers(0, (1 << 128) - 1)
ADDRESS = V4 | V6
TRANSLATIONS = st.lists(
    st.builds(Translation, WORD, st.sampled_from(TranslationKind), ADDRESS, PORT),
    max_size=5,
).map(tuple)
CONNECTIONS = st.builds(
    Connection,
    id=st.integers(1, (1 << 64) - 1),
    ip_proto=st.integers(0, 255),
    original=st.tuples(V4, V4, PORT, PORT) | st.tuples(ADDRESS, ADDRESS, PORT, PORT),
    ingress_device=WORD,
    ingress_vport=WORD,
    egress_device=WORD,
    egress_vport=WORD,
    translations=TRANSLATIONS,
    owner=WORD,
    phase=st.sampled_from(Phase),
    last_used=st.just(50.0),
)
EXAMPLE = Connection(
    id=1,
    ip_proto=6,
    original=(V4_MAPPED | 1, V4_MAPPED | 2, 3, 4),
    ingress_device=5,
    ingress_vport=6,
    egress_device=7,
    egress_vport=8,
    translations=(Translation(9, TranslationKind.SOURCE, V4_MAPPED | 10, 11),),
    owner=12,
    phase=Phase.UDP,
)


def body_of(entry: bytes) -> memoryview:
    kind, length = ENTRY_HEADER.unpack_from(entry)
    assert (kind, length) == (KIND, len(entry) - ENTRY_HEADER.size)
    return memoryview(entry)[ENTRY_HEADER.size :]


def test_the_kind_is_the_one_that_other_entries_leave_to_it() -> None:
    assert Kind.RECORD == KIND


@given(CONNECTIONS, st.booleans())
def test_every_record_comes_back(connection: Connection, is_own: bool) -> None:
    sender = connection.owner if is_own else connection.owner ^ 1
    body = body_of(encode_record(connection, sender, 50.0))
    again = decode_record(body, sender, 50.0)
    for field in dataclasses.fields(Connection):
        if field.name != "bucket":
            assert getattr(again, field.name) == getattr(connection, field.name)


@given(st.binary(max_size=120))
def test_any_bytes_are_a_record_or_refused(body: bytes) -> None:
    try:
        record = decode_record(memoryview(body), 1, 0.0)
    except DecodeError:
        return
    assert record.id


@pytest.mark.parametrize("length", range(len(encode_record(EXAMPLE, 1, 0.0)) - 3))
def test_a_record_that_is_cut_short_is_refused(length: int) -> None:
    body = body_of(encode_record(EXAMPLE, 1, 0.0))
    with pytest.raises(DecodeError):
        decode_record(body[:length], 1, 0.0)


def test_a_record_with_bytes_too_many_is_refused() -> None:
    body = bytes(body_of(encode_record(EXAMPLE, 1, 0.0)))
    with pytest.raises(DecodeError, match="1 bytes too many"):
        decode_record(memoryview(body + b"\0"), 1, 0.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": 1 << 64},
        {"ip_proto": 256},
        {"original": (V4_MAPPED, V4_MAPPED, 1 << 16, 0)},
        {"egress_vport": -1},
    ],
)
def test_a_number_too_big_for_its_field_is_named(changes: dict[str, object]) -> None:
    connection = dataclasses.replace(EXAMPLE, **changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="connection 0x"):
        encode_record(connection, 1, 0.0)


@pytest.mark.parametrize(
    ("last_used", "now", "tenths"),
    [
        (10.0, 10.0, 0),
        (10.0, 10.04, 0),
        (10.0, 10.06, 1),
        (10.0, 5.0, 0),
        (0.0, 1e9, AGE_MAX),
    ],
)
def test_ages_are_tenths_of_a_second_within_24_bits(
    last_used: float, now: float, tenths: int
) -> None:
    assert encode_age(last_used, now) == tenths
    assert decode_age(tenths, 100.0) == pytest.approx(100.0 - tenths / 10)


def test_ids_and_phases_that_nobody_may_write_are_refused() -> None:
    assert checked_id(1) == 1
    with pytest.raises(DecodeError, match="id 0"):
        checked_id(0)
    assert [decode_phase(int(one)) for one in Phase] == list(Phase)
    with pytest.raises(DecodeError, match="phase 7"):
        decode_phase(7)


def test_a_list_that_is_cut_short_is_refused() -> None:
    layout = struct.Struct("!H")
    assert list(read_all(layout, memoryview(b"\0\1\0\2"))) == [(1,), (2,)]
    with pytest.raises(DecodeError, match="list of 3 bytes"):
        read_all(layout, memoryview(b"\0\1\0"))
