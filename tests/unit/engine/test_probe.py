# SPDX-License-Identifier: Apache-2.0
"""One look at a member, answer by answer."""

from __future__ import annotations

from typing import Any

import pytest

from midoryu.engine import probe
from midoryu.packet.address import parse_ip
from midoryu.replication.entry import ProbeAnswer
from midoryu.topology.balancer import HealthMonitor, Probe

SYN, ACK, RST, FIN, PSH = 2, 16, 4, 1, 8


def attempt(kind: Probe, **fields: Any) -> probe.Attempt:
    monitor = HealthMonitor("h", "p", kind, **fields)
    return probe.begin(monitor, parse_ip("10.0.0.9"), 0xFFFF_FFFF, 100.0)


def tcp(flags: int, sequence: int, ack: int, payload: bytes = b"") -> ProbeAnswer:
    return ProbeAnswer(1, probe.SEGMENT, flags, sequence, ack, payload)


def answered(
    look: probe.Attempt, text: bytes, more: int = 0, skip: int = 0
) -> probe.Verdict:
    opened = probe.hear(look, tcp(SYN | ACK, 500, 0))
    assert opened.healthy is None
    request = opened.segments[0]
    assert (request.sequence, request.acknowledgment) == (0, 501)
    end = request.sequence + len(request.payload)
    return probe.hear(look, tcp(ACK | PSH | more, 501 + skip, end, text))


def test_an_open_port_is_healthy_and_hung_up_on() -> None:
    look = attempt(Probe.TCP)
    assert probe.opening(look) == (SYN, 0xFFFF_FFFF, 0, b"")
    verdict = probe.hear(look, tcp(SYN | ACK, 500, 0))
    assert verdict.healthy is True
    assert verdict.segments == ((RST | ACK, 0, 501, b""),)


def test_a_closed_port_is_a_failure() -> None:
    assert probe.hear(attempt(Probe.TCP), tcp(RST | ACK, 0, 0)).healthy is False


def test_an_answer_of_an_earlier_connection_is_reset() -> None:
    verdict = probe.hear(attempt(Probe.TCP), tcp(ACK, 3, 4000))
    assert verdict == (None, ((RST, 4000, 0, b""),))
    assert probe.hear(attempt(Probe.TCP), tcp(RST, 3, 4000)) == (None, ())


@pytest.mark.parametrize(("code", "healthy"), [(200, True), (299, True), (503, False)])
def test_the_status_code_decides(code: int, healthy: bool) -> None:
    look = attempt(Probe.HTTP, path="/health")
    verdict = answered(look, f"HTTP/1.1 {code} Fine\r\n".encode())
    assert verdict.healthy is healthy
    assert verdict.segments[0].flags == RST | ACK


def test_a_status_line_may_come_in_pieces() -> None:
    look = attempt(Probe.HTTP)
    first = answered(look, b"HTTP/1.")
    assert (first.healthy, first.segments[0].flags) == (None, ACK)
    rest = probe.hear(look, tcp(ACK, 508, 0, b"0 204 Empty\r\n"))
    assert rest.healthy is True


def test_what_is_no_status_line_is_a_failure() -> None:
    assert answered(attempt(Probe.HTTP), b"SSH-2.0", FIN).healthy is False
    assert answered(attempt(Probe.HTTP), b"x" * 80).healthy is False
    assert answered(attempt(Probe.HTTP), b"HTTP/1.1 200 ", 0, 9).healthy is None


@pytest.mark.parametrize("kind", [Probe.ICMP, Probe.UDP])
def test_any_answer_is_healthy_and_an_error_is_not(kind: Probe) -> None:
    look = attempt(kind)
    assert probe.hear(look, ProbeAnswer(1, probe.ANSWER)).healthy is True
    assert probe.hear(look, ProbeAnswer(1, probe.ERROR)).healthy is False
    assert probe.silence(look) is (kind is Probe.UDP)
