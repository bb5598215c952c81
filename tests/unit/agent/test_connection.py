# SPDX-License-Identifier: Apache-2.0
"""Messages are cut out of a stream of bytes, whatever its pieces."""

from __future__ import annotations

import struct

import pytest

from midoryu.agent.connection import Connection
from midoryu.agent.framework import DEAD, MAIN
from midoryu.agent.turns import Turns
from midoryu.openflow import wire


class Owner:
    """Notes what it gets."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.flushes = 0
        self.shed_packets: dict[int, int] = {}

    def shed(self, ofport: int, count: int) -> None:
        self.shed_packets[ofport] = self.shed_packets.get(ofport, 0) + count

    def receive(self, _connection: object, _kind: int, message: bytes) -> None:
        self.messages.append(message)

    def flush(self) -> None:
        self.flushes += 1

    def disconnected(self, _connection: object) -> None:
        """Nothing to forget."""


class Brick:
    """Ryu's event source, with nobody who listens."""

    def send_event_to_observers(self, *_: object) -> None:
        """Nobody is there."""


@pytest.fixture
def connection() -> Connection:
    """Give a connection after its handshake, without a socket."""
    made = Connection.__new__(Connection)
    made._owner = Owner()
    made._served = False
    made._turns = Turns(1024)
    made._unanswered = 0
    made.sent = []
    made.send = made.sent.append
    made.ofp_brick = Brick()
    made.state = MAIN
    made.close = lambda: setattr(made, "state", DEAD)
    return made


def message(size: int) -> bytes:
    return struct.pack(">BBHI", 4, wire.PACKET_IN, 8 + size, 1) + bytes(size)


def test_whole_messages_are_handed_over_and_the_rest_is_kept(connection) -> None:
    stream = message(3) + message(0) + message(90)

    rest = connection._consume(stream[:-1])

    assert connection._owner.messages == [message(3), message(0)]
    assert rest == message(90)[:-1]
    assert connection._consume(rest + stream[-1:]) == b""
    assert connection._owner.messages[2:] == [message(90)]


def test_what_many_messages_caused_is_sent_in_between(connection) -> None:
    connection._consume(message(0) * 100)

    assert connection._owner.flushes == 1 + 100 // 16


def test_an_impossible_length_ends_the_connection(connection) -> None:
    assert connection._consume(b"\x04\x0a\x00\x07" + bytes(20)) == b""

    assert connection.state == DEAD
    assert connection._owner.messages == []


def packet_in(port: int, number: int = 0, table: int = 10) -> bytes:
    body = struct.pack(">IHBBQ", 0xFFFFFFFF, 0, 0, table, number)
    body += struct.pack(">HHII", 1, 12, 0x80000004, port) + bytes(6)
    return struct.pack(">BBHI", 4, wire.PACKET_IN, 8 + len(body), 1) + body


def test_a_flood_at_one_port_takes_turns_with_the_others(connection) -> None:
    error = struct.pack(">BBHI", 4, wire.ERROR, 16, 1) + bytes(8)
    state = packet_in(2, table=0)
    flood = [packet_in(7, number) for number in range(1000)]
    others = [packet_in(8), packet_in(9)]
    rest = packet_in(7)[:-1]

    kept = connection._sort(b"".join([*flood, *others, error, state, rest]))
    connection._take_turns()

    assert kept == rest
    assert connection._owner.messages[:6] == [error, state, flood[0], *others, flood[1]]
    assert len(connection._owner.messages) == 16
    assert connection._owner.flushes == 1
    assert connection._owner.shed_packets == {}


def test_the_switch_is_asked_after_each_batch_and_its_answer_counts(connection) -> None:
    connection._sort(packet_in(7) * 100)
    connection._take_turns()
    connection._take_turns()
    (question, _) = connection.sent
    answer = question[:1] + b"\x03" + question[2:]

    assert connection._unanswered == 2
    connection._sort(answer)
    assert connection._unanswered == 1
    connection._consume(answer)
    assert connection._unanswered == 0
    connection._consume(answer)
    assert connection._unanswered == 0


def test_packets_that_are_left_out_are_told_by_port(connection) -> None:
    connection._sort(packet_in(7) * 1030 + packet_in(8) * 3)

    assert connection._owner.shed_packets == {7: 6}
