# SPDX-License-Identifier: Apache-2.0
"""How packets, and what ICMP errors quote, present their connection."""

from __future__ import annotations

import pytest

from midoryu.packet.address import parse_ip
from midoryu.packet.codec import decode
from midoryu.simulation.tuples import (
    is_lone_reply,
    quoted_tuple,
    quotes_query,
    tuple_of,
)
from tests.helpers import frames

ENDS = (parse_ip(frames.IP_1), parse_ip(frames.IP_2))


@pytest.mark.parametrize("make", [frames.tcp, frames.udp])
def test_ports_are_part_of_it(make: object) -> None:
    packet = decode(make(sport=5, dport=6))  # type: ignore[operator]
    wanted = (*ENDS, 5, 6)
    assert tuple_of(packet.ip_proto, packet.headers, with_id=False) == wanted


def test_a_querys_identifier_is_part_of_it_where_it_counts() -> None:
    packet = decode(frames.icmp_echo(identifier=9))
    assert tuple_of(1, packet.headers, with_id=True) == (*ENDS, 9, 8)
    assert tuple_of(1, packet.headers, with_id=False) == (*ENDS, 0, 8)


def test_a_protocol_without_ports_has_none() -> None:
    packet = decode(frames.udp())
    assert tuple_of(47, packet.headers, with_id=True) == (*ENDS, 0, 0)


def test_a_quote_presents_the_quoted_connection() -> None:
    sent = frames.udp(frames.IP_1, frames.IP_2, 7, 8)
    packet = decode(frames.icmp_error(sent[14:], frames.IP_2, frames.IP_1))
    assert packet.embedded is not None
    assert quoted_tuple(packet.embedded, with_id=True) == (*ENDS, 7, 8)


@pytest.mark.parametrize("reply", [False, True])
def test_a_quote_is_of_a_query_or_of_its_answer(*, reply: bool) -> None:
    sent = frames.icmp_echo(reply=reply)
    packet = decode(frames.icmp_error(sent[14:], frames.IP_2, frames.IP_1))
    assert packet.embedded is not None
    assert quotes_query(packet.embedded) is not reply


@pytest.mark.parametrize("make", [frames.icmp_echo, frames.icmp6_echo])
def test_an_echo_reply_begins_nothing(make: object) -> None:
    assert is_lone_reply(decode(make(reply=True)))  # type: ignore[operator]
    assert not is_lone_reply(decode(make()))  # type: ignore[operator]
    assert not is_lone_reply(decode(frames.udp()))
