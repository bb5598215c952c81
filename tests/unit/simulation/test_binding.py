# SPDX-License-Identifier: Apache-2.0
"""A translation is made once, and repeated from the record."""

from __future__ import annotations

from midoryu.packet.address import format_ip, parse_ip
from midoryu.packet.codec import decode
from midoryu.simulation.binding import bind, repeat
from midoryu.simulation.walk import Walk
from midoryu.state.connection import (
    Connection,
    Direction,
    Phase,
    Translation,
    TranslationKind,
)
from midoryu.state.table import Hit
from tests.helpers import frames
from tests.helpers.worlds import V4, Overlay, two_networks

TARGET = parse_ip("10.0.9.9")


def walk(**fields: object) -> Walk:
    overlay = Overlay(two_networks(V4))
    packet = decode(frames.tcp(**fields))  # type: ignore[arg-type]
    return Walk(packet, overlay.vport("a/vm1"), overlay.world, trace=True)


def test_a_binding_changes_the_packet_and_is_remembered() -> None:
    one = walk()
    translation = Translation(3, TranslationKind.DESTINATION, TARGET, 8080)
    bind(one, translation)
    assert (one.headers.ip_dst, one.headers.l4_dst) == (TARGET, 8080)
    assert (one.translations, one.tracked) == ([translation], True)
    assert one.steps is not None
    assert one.steps[-1].detail.endswith("10.0.9.9 port 8080")


def test_each_device_repeats_its_own_part_of_a_record() -> None:
    translation = Translation(3, TranslationKind.DESTINATION, TARGET, 8080)
    source, target = parse_ip("10.0.0.1"), parse_ip("10.0.0.2")
    original = (source, target, 1000, 80)
    record = Connection(1, 6, original, 1, 1, 1, 2, (translation,), 1, Phase.OTHER)
    forward = walk()
    forward.hit = Hit(record, Direction.FORWARD)
    repeat(forward, 4, after_routing=False)
    assert forward.headers.ip_dst == target
    for _ in range(2):
        repeat(forward, 3, after_routing=False)
    assert forward.translations == [translation]
    back = walk(src="10.0.9.9", dst="10.0.0.1", sport=8080, dport=1000)
    back.hit = Hit(record, Direction.RETURN)
    repeat(back, 3, after_routing=True)
    assert (format_ip(back.headers.ip_src), back.headers.l4_src) == ("10.0.0.2", 80)
