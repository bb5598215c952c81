# SPDX-License-Identifier: Apache-2.0
"""Segments and echo requests that devices send, judged by scapy."""

from __future__ import annotations

import pytest

from midoryu.packet.address import parse_ip
from midoryu.packet.codec import decode
from midoryu.packet.segment import (
    Ends,
    Segment,
    echo_request,
    read_segment,
    tcp_frame,
)
from tests.helpers.frames import recomputed

PAIRS = pytest.mark.parametrize(
    ("source", "target"), [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")]
)


def ends(source: str, target: str) -> Ends:
    return Ends(1 << 41, (1 << 41) + 1, parse_ip(source), parse_ip(target), 4000, 80)


@PAIRS
@pytest.mark.parametrize(
    "segment", [Segment(2, 7, 0), Segment(24, 8, 9, b"GET /"), Segment(20, 1 << 32, 5)]
)
def test_segment_reads_as_it_was_made(
    source: str, target: str, segment: Segment
) -> None:
    frame = tcp_frame(ends(source, target), segment)
    packet = decode(frame)
    assert recomputed(frame) == frame
    assert (packet.headers.l4_src, packet.headers.l4_dst) == (4000, 80)
    wrapped = segment._replace(sequence=segment.sequence & 0xFFFF_FFFF)
    assert read_segment(packet) == wrapped


@PAIRS
def test_echo_request_has_its_identifier(source: str, target: str) -> None:
    frame = echo_request(ends(source, target), 77, 3)
    packet = decode(frame)
    assert recomputed(frame) == frame
    assert packet.headers.icmp_id == 77
    assert packet.headers.l4_src in (8, 128)
