# SPDX-License-Identifier: Apache-2.0
"""What a template says about one more sibling; `test_replay` compares all of it."""

from __future__ import annotations

from midoryu.packet.address import parse_ip
from midoryu.packet.codec import decode
from midoryu.simulation.template import Template
from tests.helpers.worlds import NOW, V4
from tests.unit.simulation.test_replay import Pair, eth, office, syn


def frame(pair: Pair, sport: int) -> bytes:
    return syn(V4, V4.outside, sport, **eth(pair.overlay))


def template(pair: Pair) -> Template:
    for sport in (1000, 1001, 1002):
        _, replayed = pair.ask(frame(pair, sport))
    assert replayed.template is not None
    return replayed.template


def test_a_sibling_gets_a_port_and_a_record_of_its_own() -> None:
    pair = Pair(office(V4))
    made = template(pair)
    packet = decode(frame(pair, 1003))
    sibling = made.replay(packet, pair.overlay.world, NOW)
    assert sibling is not None
    assert sibling.connection is not None
    assert sibling.connection.original[2] == 1003
    (translation,) = sibling.connection.translations
    assert sibling.headers.l4_src == translation.port
    assert sibling.headers.ip_src == parse_ip(V4.nat_ip(1))


def test_a_packet_of_a_known_connection_is_no_sibling() -> None:
    pair = Pair(office(V4))
    made = template(pair)
    known = frame(pair, 1003)
    pair.overlay.carry("a/vm1", known)
    assert made.replay(decode(known), pair.overlay.world, NOW) is None
