# SPDX-License-Identifier: Apache-2.0
"""Ports take turns, whatever each of them sends."""

from __future__ import annotations

import struct
from typing import Callable

import pytest

from midoryu.agent.turns import Turns
from midoryu.openflow import wire
from midoryu.openflow.pipeline import CLASSIFY, ECHOED_MAC


def packet_in(
    port: int, number: int = 0, *, first: bytes = b"", frame: bytes = b""
) -> bytes:
    fields = first + struct.pack(">II", 0x80000004, port)
    body = struct.pack(">IHBBQ", 0xFFFFFFFF, 0, 0, 10, number)
    body += struct.pack(">HH", 1, 4 + len(fields)) + fields
    body += bytes(-(4 + len(fields)) % 8 + 2) + frame
    return struct.pack(">BBHI", 4, wire.PACKET_IN, 8 + len(body), 1) + body


def state_packet(to: bytes, number: int = 0) -> bytes:
    message = bytearray(packet_in(9, number, frame=to + bytes(60)))
    message[15] = CLASSIFY
    return bytes(message)


def drain(turns: Turns) -> list[bytes]:
    taken = []
    while turns:
        taken.append(turns.take())
    return taken


def test_nothing_waits_at_first() -> None:
    turns = Turns(64)

    assert not turns
    assert turns.take() is None


def test_each_port_has_one_packet_in_each_round_in_its_order() -> None:
    turns = Turns(1000)
    for number in range(100):
        turns.add(packet_in(1, number))
    for number in range(3):
        turns.add(packet_in(2, number))

    taken = drain(turns)

    assert [taken.index(packet_in(2, n)) for n in range(3)] == [1, 3, 5]
    assert [m for m in taken if m[32:36] == b"\0\0\0\1"] == [
        packet_in(1, n) for n in range(100)
    ]


def test_an_echo_goes_before_a_burst_of_records() -> None:
    turns = Turns(64)
    records = [state_packet(b"\x02\x6d\x72\0\0\2", number) for number in range(100)]
    for message in records:
        turns.add(message)
    echo = state_packet(ECHOED_MAC.to_bytes(6, "big"))
    turns.add(echo)

    assert drain(turns) == [echo, *records]


def test_a_full_queue_loses_its_oldest_packets_and_no_others() -> None:
    turns = Turns(64)
    turns.add(packet_in(2))
    for number in range(100):
        turns.add(packet_in(1, number))

    taken = drain(turns)

    assert packet_in(2) in taken
    assert taken[-1] == packet_in(1, 99)
    assert len(taken) == 1 + 32
    assert turns.take_shed() == {1: 68}
    assert turns.take_shed() == {}


def test_a_port_that_is_alone_has_all_the_room() -> None:
    turns = Turns(64)
    for number in range(64):
        turns.add(packet_in(1, number))

    assert turns.take_shed() == {}
    assert len(drain(turns)) == 64


def test_many_floods_leave_each_port_some_room() -> None:
    turns = Turns(64)
    for _ in range(20):
        for port in range(10):
            turns.add(packet_in(port))

    assert len(drain(turns)) == 160


def test_the_port_is_found_behind_other_fields() -> None:
    turns = Turns(16)
    register = struct.pack(">II", 0x00010004, 3)
    for number in range(20):
        turns.add(packet_in(5, number, first=register))

    assert turns.take_shed() == {5: 4}


def test_packets_that_make_no_sense_have_a_queue_too() -> None:
    turns = Turns(16)
    cut = struct.pack(">BBHI", 4, wire.PACKET_IN, 8, 1)
    turns.add(cut)

    assert turns.take() == cut


def to_v4(last: int) -> bytes:
    return bytes(12) + b"\x08\x00" + bytes(16) + bytes((10, 0, 0, last)) + bytes(20)


def to_v6(last: int) -> bytes:
    return bytes(12) + b"\x86\xdd" + bytes(39) + bytes((last,)) + bytes(20)


@pytest.mark.parametrize("to", [to_v4, to_v6])
@pytest.mark.parametrize("tag", [b"", b"\x81\x00\x00\x05"])
def test_packets_of_one_port_go_in_turns_of_their_destinations(
    to: Callable[[int], bytes], tag: bytes
) -> None:
    turns = Turns(1000)
    for number in range(50):
        turns.add(packet_in(1, number, frame=to(1)))
    other = packet_in(1, 99, frame=to(2))
    turns.add(other[:54] + tag + other[54:] if tag else other)

    taken = drain(turns)

    assert len(taken) == 51
    assert struct.unpack(">Q", taken[1][16:24])[0] == 99


def test_where_a_port_has_too_many_those_go_that_most_others_are_like() -> None:
    turns = Turns(64)
    few = packet_in(1, 99, frame=to_v4(2))
    turns.add(few)
    for number in range(200):
        turns.add(packet_in(1, number, frame=to_v4(1)))

    taken = drain(turns)

    assert few in taken
    assert len(taken) == 64
    assert turns.take_shed() == {1: 137}


def test_many_destinations_share_one_row_and_lose_no_packet() -> None:
    turns = Turns(1000)
    for number in range(200):
        turns.add(packet_in(1, number, frame=to_v4(number)))

    assert len(drain(turns)) == 200
    assert not turns
