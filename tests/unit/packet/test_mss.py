# SPDX-License-Identifier: Apache-2.0
"""The MSS option of TCP SYNs; scapy is the judge."""

from __future__ import annotations

from typing import Any

import pytest

from midoryu.packet.codec import decode
from midoryu.packet.mss import clamp_mss, is_syn
from tests.helpers import frames
from tests.helpers.frames import IP, TCP, Ether, IPv6


def syn(options: list[Any], flags: str = "S", v6: bool = False) -> bytes:
    layer = IPv6(src=frames.IP6_1, dst=frames.IP6_2) if v6 else IP(dst=frames.IP_2)
    segment = TCP(sport=1, dport=2, flags=flags, options=options)
    return bytes(Ether(src=frames.MAC_1, dst=frames.MAC_2) / layer / segment)


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("flags", ["S", "SA", "SEC"])
@pytest.mark.parametrize(
    "before", [[], [("NOP", None)], [("WScale", 7)], [("Timestamp", (1, 0))]]
)
def test_a_larger_mss_is_lowered_with_its_checksum(
    before: list[Any], flags: str, v6: bool
) -> None:
    frame = syn([*before, ("MSS", 1460), ("SAckOK", b"")], flags, v6)
    clamped = clamp_mss(decode(frame), 1200)
    assert dict(Ether(clamped)[TCP].options)["MSS"] == 1200
    assert frames.recomputed(clamped) == clamped
    assert len(clamped) == len(frame)


def test_a_smaller_mss_is_left_alone() -> None:
    frame = syn([("MSS", 536)])
    assert clamp_mss(decode(frame), 1200) == frame


def test_a_syn_without_the_option_is_left_alone() -> None:
    for options in ([], [("NOP", None)], [("EOL", None)], [("WScale", 7)]):
        frame = syn(options)
        assert clamp_mss(decode(frame), 1200) == frame


def test_other_segments_are_left_alone() -> None:
    frame = syn([("MSS", 1460)], flags="A")
    assert not is_syn(decode(frame))
    assert clamp_mss(decode(frame), 1200) == frame
    assert clamp_mss(decode(frames.udp()), 1200) == frames.udp()


@pytest.mark.parametrize("length", [0, 1, 3, 40])
def test_an_option_of_impossible_length_is_left_alone(length: int) -> None:
    frame = bytearray(syn([("MSS", 1460)]))
    frame[14 + 20 + 20 + 1] = length
    assert clamp_mss(decode(bytes(frame)), 1200) == bytes(frame)
