# SPDX-License-Identifier: Apache-2.0
"""Any bytes on the state port are a message or a counted refusal; none escapes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midoryu.packet.address import V4_MAPPED
from midoryu.replication import entry as codec
from midoryu.replication.entry import Record, Touch
from midoryu.replication.session import Replicator
from midoryu.replication.wire import (
    NUMBERED,
    Header,
    Refusal,
    Signer,
    StatePacketError,
    decode,
    encode,
    entries_bytes,
    pack,
)
from midoryu.state.connection import Connection, Phase, Translation, TranslationKind

SIGNER = Signer([b"secret"])
U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFF_FFFF)
ID = st.integers(1, (1 << 64) - 1)
ADDRESS = st.one_of(
    U32.map(lambda low: V4_MAPPED | low), st.integers(0, (1 << 128) - 1)
)
TRANSLATION = st.builds(
    Translation, U32, st.sampled_from(list(TranslationKind)), ADDRESS, U16
)
CONNECTION = st.builds(
    Connection,
    id=ID,
    ip_proto=st.integers(0, 255),
    original=st.tuples(ADDRESS, ADDRESS, U16, U16),
    ingress_device=U32,
    ingress_vport=U32,
    egress_device=U32,
    egress_vport=U32,
    translations=st.lists(TRANSLATION, max_size=5).map(tuple),
    owner=st.one_of(st.just(1), U32),
    phase=st.sampled_from(list(Phase)),
    last_used=st.integers(0, 100_000).map(lambda tenths: tenths / 10),
)
HEADER = Header(1, 2, 3, 0, 1, 0, NUMBERED)
GOOD = encode(HEADER, codec.encode_removes([5]), SIGNER)


def values(connection: Connection) -> list[object]:
    names = Connection.__dataclass_fields__
    return [getattr(connection, name) for name in names if name != "last_used"]


@settings(max_examples=200, deadline=None)
@given(st.lists(CONNECTION, max_size=30))
def test_records_come_back_as_they_were(connections: list[Connection]) -> None:
    now = 10_000.0
    entries = [codec.encode_record(one, 1, now) for one in connections]
    back = []
    for batch in pack(entries, entries_bytes(1500)):
        frame = encode(HEADER, batch, SIGNER)
        back += decode(frame, 2, SIGNER, now).entries
    assert len(back) == len(connections)
    for one, record in zip(connections, back):
        assert isinstance(record, Record)
        assert values(record.connection) == values(one)
        assert abs(record.connection.last_used - one.last_used) < 0.051


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(ID, st.sampled_from(list(Phase)), st.integers(0, 9999))),
    st.lists(ID, max_size=60),
)
def test_touches_and_removals_come_back(
    touches: list[tuple[int, Phase, int]], removes: list[int]
) -> None:
    wanted = [Touch(id_, phase, tenths / 10) for id_, phase, tenths in touches]
    body = codec.encode_touches(wanted, 1000.0) + codec.encode_removes(removes)
    entries = decode(encode(HEADER, body, SIGNER), 2, SIGNER, 1000.0).entries
    assert [one[:2] for one in entries[: len(wanted)]] == [one[:2] for one in wanted]
    assert [one[0] for one in entries[len(wanted) :]] == removes


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_a_cause(frame: bytes) -> None:
    with pytest.raises(StatePacketError) as caught:
        decode(frame, 2, SIGNER, 0.0)
    assert isinstance(caught.value.refusal, Refusal)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255), st.integers(0, 20))
def test_a_changed_byte_is_never_taken(place: int, change: int, cut: int) -> None:
    frame = bytearray(GOOD)
    frame[place] ^= change
    one = Replicator(host=2, epoch=9, keys=[b"secret"], mtu_bytes=1500, now=0.0)
    received = one.receive(bytes(frame[: len(frame) - cut]), 0.0)
    assert received.refusal is not None
    assert (received.removed, received.replies) == ([], [])


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.builds(
                Header,
                st.sampled_from([1, 2, 3]),
                st.just(2),
                st.sampled_from([0, 1, 2]),
                st.sampled_from([0, 9, 8]),
                st.one_of(st.integers(0, 6), U32),
                st.one_of(st.integers(0, 6), U32),
                st.integers(0, 255),
            ),
            st.one_of(
                st.binary(max_size=60),
                st.tuples(st.integers(0, 9), st.binary(max_size=24)).map(
                    lambda one: bytes([one[0], 0, len(one[1])]) + one[1]
                ),
                st.tuples(U32, U32).map(lambda one: codec.encode_nacks([one])),
                st.tuples(U32, U32).map(
                    lambda one: codec.encode_heartbeat(codec.Heartbeat(*one))
                ),
                U32.map(codec.encode_sync_request),
                U32.map(codec.encode_sync_done),
            ),
        ),
        max_size=12,
    )
)
def test_a_peer_with_the_right_key_cannot_break_a_host(
    packets: list[tuple[Header, bytes]],
) -> None:
    one = Replicator(host=2, epoch=9, keys=[b"secret"], mtu_bytes=1500, now=0.0)
    one.set_peers([1], 0.0)
    now = 0.0
    for header, entries in packets:
        received = one.receive(encode(header, entries, SIGNER), now)
        assert len(received.replies) < 80
        for host in received.sync_wanted_by:
            one.sync(host, [], now)
        now += 0.01
        assert len(one.tick(now)) < 80
    for _ in range(50):
        due = one.deadline()
        assert due is not None
        now = max(now, due)
        assert len(one.tick(now)) < 80
    assert all(len(peer.inbox._ahead) <= 4096 + 12 for peer in one._roster)
