# SPDX-License-Identifier: Apache-2.0
"""Who calls one server twice from one port is told apart; nobody else is touched."""

from __future__ import annotations

from typing import Any

from midoryu.simulation.apart import floats, moves_address
from midoryu.state.connection import Connection, Phase, Translation, TranslationKind
from tests.helpers import frames
from tests.helpers.worlds import V4, Overlay, two_networks

SERVER = V4.ip(2, 12)
NAT = V4.nat_ip(20)
SOURCE, FLOATING = TranslationKind.SOURCE, TranslationKind.FLOATING_SOURCE


def overlay() -> Overlay:
    b = two_networks(V4)
    b.dnat("r", NAT, SERVER, ports=(80, 80), to_port=8080)
    return Overlay(b)


def call(world: Overlay, dst: str, dport: int, sport: int = 2000) -> Any:
    to = world.mac("r/a")
    return world.carry("a/vm1", frames.tcp(V4.ip(1, 11), dst, sport, dport, eth_dst=to))


def test_the_later_one_of_two_gets_another_port() -> None:
    for calls in ([(NAT, 80), (SERVER, 8080)], [(SERVER, 8080), (NAT, 80)]):
        world = overlay()
        first, second = (call(world, *one).headers for one in calls)
        assert (first.ip_dst, first.l4_dst) == (second.ip_dst, second.l4_dst)
        assert first.l4_src == 2000 != second.l4_src


def test_one_alone_and_other_ports_keep_theirs() -> None:
    world = overlay()
    assert call(world, NAT, 80).headers.l4_src == 2000
    assert call(world, SERVER, 8081).headers.l4_src == 2000
    assert call(world, SERVER, 8080, 2001).headers.l4_src == 2001


def test_a_packet_to_another_port_of_the_server_needs_no_record() -> None:
    assert call(overlay(), SERVER, 8081).connection is None


def record(*translations: Translation) -> Connection:
    return Connection(1, 6, (1, 2, 10, 20), 5, 6, 7, 8, translations, 0, Phase.OTHER)


def test_a_port_alone_is_no_address() -> None:
    port, address = Translation(3, SOURCE, 1, 11), Translation(4, SOURCE, 9, 11)

    assert not moves_address(record(port, address), 3)
    assert moves_address(record(port, address), 4)
    assert not moves_address(record(), 3)


def test_port_and_floating_address_of_one_device() -> None:
    port, address = Translation(3, SOURCE, 1, 11), Translation(3, FLOATING, 9, 11)

    assert floats(record(port, address), 3)
    assert not floats(record(port, address), 4)
    assert not floats(record(address), 3)
