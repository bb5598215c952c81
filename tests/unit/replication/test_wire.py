# SPDX-License-Identifier: Apache-2.0
"""State packets on the wire."""

from __future__ import annotations

import dataclasses

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from midoryu.packet.address import parse_ip
from midoryu.packet.protocol import TCP
from midoryu.replication import entry as codec
from midoryu.replication.entry import Heartbeat, Hello, Nack, Remove, Touch
from midoryu.replication.wire import (
    NUMBERED,
    TUNNEL_BYTES,
    Header,
    Refusal,
    Signer,
    StatePacketError,
    decode,
    encode,
    entries_bytes,
    pack,
    widen,
)
from midoryu.state.connection import Connection, Phase, Translation, TranslationKind

SIGNER = Signer([b"secret"])
HEADER = Header(1, 2, 100, 200, 7, 6, NUMBERED)
RECORD = Connection(
    id=0x1122334455667788,
    ip_proto=TCP,
    original=(parse_ip("10.0.1.11"), parse_ip("198.51.100.1"), 40000, 80),
    ingress_device=1,
    ingress_vport=11,
    egress_device=3,
    egress_vport=12,
    translations=(
        Translation(2, TranslationKind.SOURCE, parse_ip("203.0.113.10"), 40001),
    ),
    owner=1,
    phase=Phase.TCP_ESTABLISHED,
    last_used=90.0,
)


def refusal_of(frame: bytes, host: int = 2, signer: Signer = SIGNER) -> Refusal:
    with pytest.raises(StatePacketError) as caught:
        decode(frame, host, signer, 0.0)
    return caught.value.refusal


def test_a_tcp_record_with_one_ipv4_translation_has_this_shape() -> None:
    assert codec.encode_record(RECORD, 1, 100.0).hex(" ", -4) == (
        "01003511 22334455 66778806 010a0001 0bc63364 019c4000 50000000"
        " 01000000 0b000000 03000000 0c000064 01000000 0200cb00 710a9c41"
    )


def test_a_record_of_another_owner_has_at_most_64_bytes() -> None:
    assert len(codec.encode_record(RECORD, 1, 100.0)) == 56
    assert len(codec.encode_record(RECORD, 9, 100.0)) == 60


def test_a_changed_record_says_its_version_in_three_bytes() -> None:
    changed = dataclasses.replace(RECORD, version=0x012345)
    entry = codec.encode_record(changed, 9, 100.0)
    assert len(entry) == 63
    (back,) = codec.decode_entries(memoryview(entry), codec.Context(1, 100.0))
    assert isinstance(back, codec.Record)
    assert back.connection.version == 0x012345
    assert back.connection.owner == 1
    assert back.connection.translations == RECORD.translations


def test_a_whole_frame_has_this_shape() -> None:
    frame = encode(HEADER, codec.encode_hello(Hello(True)), SIGNER)
    assert frame.hex(" ") == (
        "02 6d 72 00 00 02 02 6d 72 00 00 01 08 00"
        " 45 00 00 4c 00 00 40 00 ff 11 4d a0 a9 fe 6d 01 a9 fe 6d 02"
        " 6d 72 6d 72 00 38 00 00"
        " 01 01 00 00 00 00 00 01 00 00 00 02 00 00 00 64 00 00 00 c8"
        " 00 00 00 07 00 00 00 06"
        " 04 00 01 01"
        " 40 1f 38 1b 86 29 af ee d1 2c 82 c6 c1 96 0b ae"
    )


def test_other_tools_read_the_headers() -> None:
    frame = encode(HEADER, codec.encode_hello(Hello(True)), SIGNER)
    packet = Ether(frame)
    assert (packet[IP].src, packet[IP].dst) == ("169.254.109.1", "169.254.109.2")
    assert packet[IP].len == len(frame) - 14
    assert packet[UDP].len == len(frame) - 34
    checksum = packet[IP].chksum
    del packet[IP].chksum
    assert Ether(bytes(packet))[IP].chksum == checksum


def test_every_entry_comes_back() -> None:
    touch = Touch(5, Phase.UDP, 99.5)
    entries = [
        codec.encode_record(RECORD, 1, 100.0),
        codec.encode_touches([touch], 100.0),
        codec.encode_removes([6, 7]),
        codec.encode_hello(Hello(True)),
        codec.encode_sync_request(3),
        codec.encode_sync_done(4),
        codec.encode_nacks([Nack(2, 3), Nack(5, 5)]),
        codec.encode_heartbeat(Heartbeat(9, 8)),
    ]
    message = decode(encode(HEADER, b"".join(entries), SIGNER), 2, SIGNER, 1100.0)
    assert message.header == HEADER
    first, *others = message.entries
    assert isinstance(first, codec.Record)
    assert first.connection.last_used == 1090.0
    assert first.connection.translations == RECORD.translations
    assert others == [
        Touch(5, Phase.UDP, 1099.5),
        Remove(6),
        Remove(7),
        Hello(True),
        codec.SyncRequest(3),
        codec.SyncDone(4),
        Nack(2, 3),
        Nack(5, 5),
        Heartbeat(9, 8),
    ]


def test_an_entry_of_an_unknown_kind_is_skipped() -> None:
    entries = b"\xc8\0\x03abc" + codec.encode_removes([6])
    message = decode(encode(HEADER, entries, SIGNER), 2, SIGNER, 0.0)
    assert message.entries == (Remove(6),)


def test_many_entries_fill_packets_up_to_the_mtu_and_no_further() -> None:
    room = entries_bytes(1500)
    record = codec.encode_record(RECORD, 1, 100.0)
    batches = list(pack([record] * 100, room))
    assert b"".join(batches) == record * 100
    assert len(batches) == 5
    frame = encode(HEADER, batches[0], SIGNER)
    assert 1500 - len(record) < len(frame) + TUNNEL_BYTES <= 1500


FRAME = encode(HEADER, codec.encode_record(RECORD, 1, 100.0), SIGNER)


@pytest.mark.parametrize(
    ("frame", "refusal"),
    [
        (b"", Refusal.TRUNCATED),
        (FRAME[:20], Refusal.TRUNCATED),
        (FRAME[:-1], Refusal.TRUNCATED),
        (FRAME + b"\0", Refusal.OVERSIZED),
        (FRAME + bytes(10_000), Refusal.OVERSIZED),
        (b"\xff" + FRAME[1:], Refusal.NOT_STATE),
        (FRAME[:23] + b"\x06" + FRAME[24:], Refusal.NOT_STATE),
        (FRAME[:42] + b"\x02" + FRAME[43:], Refusal.VERSION),
        (FRAME[:-1] + bytes([FRAME[-1] ^ 1]), Refusal.TAG),
        (FRAME[:60] + bytes([FRAME[60] ^ 1]) + FRAME[61:], Refusal.TAG),
    ],
    ids=[
        "empty",
        "a stump",
        "one byte less",
        "one byte more",
        "huge",
        "other MAC",
        "other protocol",
        "other version",
        "other tag",
        "changed on the way",
    ],
)
def test_each_fault_has_its_cause(frame: bytes, refusal: Refusal) -> None:
    assert refusal_of(frame) is refusal


def test_a_frame_for_another_host_is_refused() -> None:
    assert refusal_of(FRAME, host=3) is Refusal.RECEIVER


@pytest.mark.parametrize(
    "entries",
    [
        b"\x01",
        b"\x01\0\x05abc",
        codec.encode_removes([0]),
        b"\x03\0\x07" + bytes(7),
        b"\x02\0\x0c" + b"\1" * 8 + b"\x09\0\0\0",
        b"\x01\0\x36" + codec.encode_record(RECORD, 1, 100.0)[3:] + b"\0",
        b"\x01\0\x34" + codec.encode_record(RECORD, 1, 100.0)[3:-1],
        codec.encode_record(RECORD, 1, 100.0)[:49]
        + b"\x07"
        + codec.encode_record(RECORD, 1, 100.0)[50:],
    ],
    ids=[
        "cut header",
        "cut body",
        "id 0",
        "cut list",
        "unknown phase",
        "too long",
        "too short",
        "unknown translation",
    ],
)
def test_malformed_entries_are_refused_even_with_a_right_tag(entries: bytes) -> None:
    assert refusal_of(encode(HEADER, entries, SIGNER)) is Refusal.MALFORMED


def test_keys_rotate_without_a_gap() -> None:
    old, new = b"old", b"new"
    both = Signer([new, old])
    by_old = encode(HEADER, b"", Signer([old]))
    by_both = encode(HEADER, b"", both)
    assert decode(by_old, 2, both, 0.0).header == HEADER
    assert decode(by_both, 2, Signer([old, new]), 0.0).header == HEADER
    assert refusal_of(by_both, signer=Signer([old])) is Refusal.TAG


def test_a_number_too_big_for_the_wire_is_named() -> None:
    wrong = dataclasses.replace(RECORD, ingress_device=1 << 32)
    with pytest.raises(ValueError, match="0x1122334455667788"):
        codec.encode_record(wrong, 1, 0.0)


def test_serial_numbers_widen_to_the_nearest() -> None:
    assert widen(1, 2**32 - 1) == 2**32 + 1
    assert widen(0xFFFF_FFFF, 2**32 + 5) == 2**32 - 1
    assert widen(5, 3) == 5
