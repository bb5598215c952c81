# SPDX-License-Identifier: Apache-2.0
"""One look at a load-balancer member: a small client, moved by answers and the clock.

`health` decides when to look, sends what comes out here, and brings the answers. TCP
is spoken just far enough: SYN, then a reset or a request, and a reset when its status
line has come.

Source: RFC 9293, section 3.10.7 (SYN-SENT); RFC 9112, section 4 (status line).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple, Union

from midoryu.compat import SLOTS
from midoryu.packet.address import format_ip, is_v4
from midoryu.packet.protocol import TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN
from midoryu.packet.segment import Segment
from midoryu.replication.entry import ProbeAnswer
from midoryu.topology.balancer import HealthMonitor, Probe

SEGMENT: Final = 0
ANSWER: Final = 1
ERROR: Final = 2
# What a UDP probe says; any answer will do.
DATAGRAM: Final = b"midoryu\n"
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r\n]")
_MAX_STATUS_BYTES: Final = 64


@dataclass(**SLOTS)
class Attempt:
    """A look under way."""

    monitor: HealthMonitor
    member: int
    """Address."""
    sequence: int
    """First sequence number."""
    deadline: float
    resend_at: float
    """When to say the first word again; it may have been lost."""
    is_open: bool = False
    """The TCP handshake is done."""
    expected: int = 0
    """Next sequence number of the member."""
    heard: bytes = b""


class Verdict(NamedTuple):
    """What an answer leads to."""

    healthy: Union[bool, None]
    """None: not known yet."""
    segments: tuple[Segment, ...] = ()
    """To be sent."""


def begin(monitor: HealthMonitor, member: int, sequence: int, now: float) -> Attempt:
    """Begin a look."""
    timeout_s = monitor.timeout_s
    deadline, again = now + timeout_s, now + timeout_s / 2
    return Attempt(monitor, member, sequence, deadline, again)


def opening(attempt: Attempt) -> Segment:
    """Return the SYN."""
    return Segment(TCP_SYN, attempt.sequence, 0)


def silence(attempt: Attempt) -> bool:
    """Judge a member that said nothing in time: a UDP service may be a silent one."""
    return attempt.monitor.kind is Probe.UDP


def hear(attempt: Attempt, answer: ProbeAnswer) -> Verdict:
    """Take an answer."""
    if answer.what == ERROR:
        return Verdict(False)
    if attempt.monitor.kind in (Probe.ICMP, Probe.UDP):
        return Verdict(True if answer.what == ANSWER else None)
    if answer.what != SEGMENT:
        return Verdict(None)
    segment = Segment(
        answer.flags, answer.sequence, answer.acknowledgment, answer.payload
    )
    if attempt.is_open:
        return _read(attempt, segment)
    return _shake(attempt, segment)


def _shake(attempt: Attempt, segment: Segment) -> Verdict:
    after_syn = attempt.sequence + 1 & 0xFFFF_FFFF
    if segment.acknowledgment != after_syn:
        # From an earlier connection of this port: end it (RFC 9293, 3.10.7.3).
        if segment.flags & TCP_RST or not segment.flags & TCP_ACK:
            return Verdict(None)
        return Verdict(None, (Segment(TCP_RST, segment.acknowledgment, 0),))
    if segment.flags & TCP_RST:
        return Verdict(False)
    if not segment.flags & TCP_SYN:
        return Verdict(None)
    attempt.expected = segment.sequence + 1 & 0xFFFF_FFFF
    if attempt.monitor.kind is Probe.TCP:
        return Verdict(True, (_reset(attempt),))
    attempt.is_open = True
    request = _request(attempt)
    flags = TCP_ACK | TCP_PSH
    return Verdict(None, (Segment(flags, after_syn, attempt.expected, request),))


def _read(attempt: Attempt, segment: Segment) -> Verdict:
    if segment.flags & TCP_RST:
        return Verdict(False)
    if segment.sequence != attempt.expected or segment.flags & TCP_SYN:
        return Verdict(None)
    attempt.heard += segment.payload
    attempt.expected = segment.sequence + len(segment.payload) & 0xFFFF_FFFF
    found = _STATUS.match(attempt.heard)
    if found is not None:
        code = int(found.group(1))
        codes = attempt.monitor.codes
        healthy = any(first <= code <= last for first, last in codes)
        return Verdict(healthy, (_reset(attempt),))
    if segment.flags & TCP_FIN or len(attempt.heard) > _MAX_STATUS_BYTES:
        return Verdict(False, (_reset(attempt),))
    if not segment.payload:
        return Verdict(None)
    acknowledgment = Segment(TCP_ACK, _sent(attempt), attempt.expected)
    return Verdict(None, (acknowledgment,))


def _reset(attempt: Attempt) -> Segment:
    return Segment(TCP_RST | TCP_ACK, _sent(attempt), attempt.expected)


def _sent(attempt: Attempt) -> int:
    sent = len(_request(attempt)) if attempt.is_open else 0
    return attempt.sequence + 1 + sent & 0xFFFF_FFFF


def _request(attempt: Attempt) -> bytes:
    host = format_ip(attempt.member)
    name = host if is_v4(attempt.member) else f"[{host}]"
    return (
        f"GET {attempt.monitor.path} HTTP/1.1\r\nHost: {name}\r\n"
        "User-Agent: midoryu\r\nConnection: close\r\n\r\n"
    ).encode("ascii", "replace")
