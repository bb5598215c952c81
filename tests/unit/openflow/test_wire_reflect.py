# SPDX-License-Identifier: Apache-2.0
"""The action that sends a tunnel packet back, as bytes."""

from __future__ import annotations

from midoryu.openflow import pipeline
from midoryu.openflow import wire_match as oxm
from midoryu.openflow.wire_reflect import REFLECT

MOVE, LOAD = 6, 7


def parts() -> list[bytes]:
    found, rest = [], REFLECT
    while rest:
        length = int.from_bytes(rest[2:4], "big")
        found.append(rest[:length])
        rest = rest[length:]
    return found


def test_far_ends_are_moved_whole_and_the_sources_cleared() -> None:
    *turns, out = parts()
    moves = [one for one in turns if int.from_bytes(one[8:10], "big") == MOVE]
    assert [int.from_bytes(one[10:12], "big") for one in moves] == [32, 128]
    assert [int.from_bytes(one[16:20], "big") for one in moves] == [
        oxm.TUN_IPV4_SRC,
        oxm.TUN_IPV6_SRC,
    ]
    assert [int.from_bytes(one[20:24], "big") for one in moves] == [
        oxm.TUN_IPV4_DST,
        oxm.TUN_IPV6_DST,
    ]
    loads = [one for one in turns if int.from_bytes(one[8:10], "big") == LOAD]
    cleared = [int.from_bytes(one[10:12], "big") for one in loads]
    # Offset (10 bits), number of bits less one (6 bits).
    assert [(one >> 6, (one & 0x3F) + 1) for one in cleared] == [
        (0, 32),
        (0, 64),
        (64, 64),
    ]
    assert int.from_bytes(out[4:8], "big") == pipeline.PORT_IN_PORT
