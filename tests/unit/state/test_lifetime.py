# SPDX-License-Identifier: Apache-2.0
"""Phases of connections."""

from __future__ import annotations

import pytest

from midoryu.packet.protocol import (
    ICMP,
    ICMPV6,
    SCTP,
    TCP,
    TCP_ACK,
    TCP_FIN,
    TCP_PSH,
    TCP_RST,
    TCP_SYN,
    UDP,
)
from midoryu.state.connection import Direction, Phase
from midoryu.state.lifetime import (
    DEFAULT_LIFETIMES_S,
    UNREPLIED,
    TcpVerdict,
    first_phase,
    next_phase,
    tcp_verdict,
    told_phase,
)

FORWARD, RETURN = Direction.FORWARD, Direction.RETURN


@pytest.mark.parametrize(
    ("proto", "phase"),
    [
        (TCP, Phase.TCP_TRANSITORY),
        (UDP, Phase.UDP_UNREPLIED),
        (ICMP, Phase.ICMP),
        (ICMPV6, Phase.ICMP),
        (SCTP, Phase.OTHER),
    ],
)
def test_each_protocol_begins_in_its_phase(proto: int, phase: Phase) -> None:
    assert first_phase(proto) is phase


@pytest.mark.parametrize(
    ("phase", "proto", "flags", "direction", "after"),
    [
        (0, TCP, TCP_SYN, FORWARD, Phase.TCP_TRANSITORY),
        (0, TCP, TCP_ACK, FORWARD, Phase.TCP_TRANSITORY),
        (0, TCP, TCP_SYN | TCP_ACK, RETURN, Phase.TCP_ESTABLISHED),
        (0, TCP, TCP_SYN, RETURN, Phase.TCP_TRANSITORY),
        (0, TCP, TCP_RST | TCP_ACK, RETURN, Phase.TCP_CLOSING),
        (1, TCP, TCP_ACK, FORWARD, Phase.TCP_ESTABLISHED),
        (1, TCP, TCP_FIN | TCP_ACK, FORWARD, Phase.TCP_CLOSING),
        (1, TCP, TCP_RST, RETURN, Phase.TCP_CLOSING),
        (6, TCP, TCP_ACK, RETURN, Phase.TCP_CLOSING),
        (6, TCP, TCP_ACK, FORWARD, Phase.TCP_CLOSING),
        (6, TCP, TCP_SYN, FORWARD, Phase.TCP_TRANSITORY),
        (2, UDP, 0, FORWARD, Phase.UDP_UNREPLIED),
        (2, UDP, 0, RETURN, Phase.UDP),
        (3, UDP, 0, FORWARD, Phase.UDP),
        (4, ICMP, 0, RETURN, Phase.ICMP),
    ],
)
def test_a_packet_moves_the_phase(
    phase: int, proto: int, flags: int, direction: Direction, after: Phase
) -> None:
    assert next_phase(Phase(phase), proto, flags, direction) is after


@pytest.mark.parametrize("direction", [FORWARD, RETURN])
def test_data_on_a_half_closed_connection_establishes_it_again(
    direction: Direction,
) -> None:
    closing = Phase.TCP_CLOSING

    phase = next_phase(closing, TCP, TCP_ACK, direction, has_data=True)

    assert phase is Phase.TCP_ESTABLISHED


def test_a_connection_that_is_being_closed_lives_four_minutes() -> None:
    assert DEFAULT_LIFETIMES_S[Phase.TCP_CLOSING] >= 4 * 60
    assert Phase.TCP_CLOSING in UNREPLIED


@pytest.mark.parametrize(
    ("flags", "verdict"),
    [
        (TCP_SYN, TcpVerdict.NEW),
        (TCP_SYN | 0xC0, TcpVerdict.NEW),
        (TCP_SYN | TCP_ACK, TcpVerdict.INVALID),
        (TCP_RST, TcpVerdict.INVALID),
        (TCP_RST | TCP_ACK, TcpVerdict.INVALID),
        (TCP_SYN | TCP_FIN, TcpVerdict.INVALID),
        (TCP_FIN, TcpVerdict.INVALID),
        (0, TcpVerdict.INVALID),
        (TCP_ACK, TcpVerdict.MIDSTREAM),
        (TCP_ACK | TCP_PSH, TcpVerdict.MIDSTREAM),
        (TCP_ACK | TCP_FIN, TcpVerdict.MIDSTREAM),
    ],
)
def test_flags_alone_judge_a_packet_without_a_record(
    flags: int, verdict: TcpVerdict
) -> None:
    assert tcp_verdict(flags) is verdict


def test_lifetimes_respect_the_minimums_of_the_rfcs() -> None:
    assert DEFAULT_LIFETIMES_S[Phase.TCP_ESTABLISHED] >= 2 * 3600 + 4 * 60
    assert DEFAULT_LIFETIMES_S[Phase.TCP_TRANSITORY] >= 4 * 60
    assert DEFAULT_LIFETIMES_S[Phase.UDP] >= 300
    assert DEFAULT_LIFETIMES_S[Phase.UDP_UNREPLIED] >= 120
    assert DEFAULT_LIFETIMES_S[Phase.ICMP] >= 60


@pytest.mark.parametrize(
    ("known", "told", "later_s", "then"),
    [
        (Phase.TCP_TRANSITORY, Phase.TCP_ESTABLISHED, -9.0, Phase.TCP_ESTABLISHED),
        (Phase.TCP_ESTABLISHED, Phase.TCP_TRANSITORY, 9.0, Phase.TCP_ESTABLISHED),
        (Phase.TCP_CLOSING, Phase.TCP_TRANSITORY, 9.0, Phase.TCP_CLOSING),
        (Phase.TCP_ESTABLISHED, Phase.TCP_CLOSING, -9.0, Phase.TCP_CLOSING),
        (Phase.TCP_CLOSING, Phase.TCP_ESTABLISHED, 0.1, Phase.TCP_CLOSING),
        (Phase.TCP_CLOSING, Phase.TCP_ESTABLISHED, 0.9, Phase.TCP_ESTABLISHED),
        (Phase.UDP_UNREPLIED, Phase.UDP, -9.0, Phase.UDP),
        (Phase.UDP, Phase.UDP_UNREPLIED, 9.0, Phase.UDP),
        (Phase.ICMP, Phase.ICMP, 9.0, Phase.ICMP),
    ],
)
def test_a_peer_talks_nobody_out_of_having_seen_a_reply(
    known: Phase, told: Phase, later_s: float, then: Phase
) -> None:
    assert told_phase(known, told, later_s=later_s) is then


_KINDS = ((0, 1, 6), (2, 3), (4,), (5,))


@pytest.mark.parametrize(
    ("one", "other"),
    [(Phase(a), Phase(b)) for kind in _KINDS for a in kind for b in kind],
)
def test_two_hosts_that_tell_each_other_at_once_come_to_the_same(
    one: Phase, other: Phase
) -> None:
    assert told_phase(one, other, later_s=0.01) is told_phase(other, one, later_s=0.01)
