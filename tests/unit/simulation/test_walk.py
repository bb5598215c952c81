# SPDX-License-Identifier: Apache-2.0
"""The packet under way: its tuple, its look-ups and its rewrites."""

from __future__ import annotations

import pytest

from midoryu.packet import field
from midoryu.packet.address import parse_ip
from midoryu.packet.codec import decode
from midoryu.packet.fragment import lend, split
from midoryu.simulation.readdress import set_destination, set_source
from midoryu.simulation.walk import Walk
from midoryu.state.connection import Connection, Phase, reverse
from midoryu.topology.model import CT_ESTABLISHED, CT_INVALID, CT_NEW, CT_RELATED
from tests.helpers import frames
from tests.helpers.worlds import FAMILIES, V4, Family, Overlay, two_networks

OTHER = "198.51.100.1"


def walk_of(frame: bytes, overlay: Overlay | None = None) -> Walk:
    overlay = overlay or Overlay(two_networks(V4))
    return Walk(decode(frame), overlay.vport("a/vm1"), overlay.world)


def ips(src: str, dst: str) -> tuple[int, int]:
    return parse_ip(src), parse_ip(dst)


def known(overlay: Overlay, proto: int, tuple4: tuple[int, int, int, int]) -> None:
    """Put a record of a connection through network a into the table."""
    device, vport = overlay.key("a"), overlay.key("a/vm1")
    record = Connection(1, proto, tuple4, device, vport, device, 0, (), 1, Phase.OTHER)
    overlay.connections.insert(record, 0.0)


def test_tuple_of_tcp_is_addresses_and_ports() -> None:
    walk = walk_of(frames.tcp(dport=80))

    assert walk.tuple4() == (*ips(frames.IP_1, frames.IP_2), 1000, 80)


def test_query_and_reply_of_icmp_reverse_each_other() -> None:
    asked, said = walk_of(frames.icmp_echo()), walk_of(frames.icmp_echo(reply=True))
    asked.count_id()
    said.count_id()

    assert asked.tuple4()[2:] == (7, 8)
    assert said.tuple4()[2:] == reverse(asked.tuple4())[2:]


def test_tuple_of_an_error_is_that_of_its_quoted_connection() -> None:
    inner = frames.udp(frames.IP_1, frames.IP_2)[14:]
    walk = walk_of(frames.icmp_error(inner, frames.IP_2, frames.IP_1))

    assert walk.ip_proto == 17
    assert walk.tuple4() == (*ips(frames.IP_2, frames.IP_1), 53, 1000)


def test_miss_leaves_its_keys_among_the_tags() -> None:
    overlay = Overlay(two_networks(V4))
    walk = walk_of(frames.icmp_echo(), overlay)

    assert walk.find_at(77) is None

    addresses = ips(frames.IP_1, frames.IP_2)
    assert {(77, 1, *addresses, 0, 8), (77, 1, *addresses, 7, 8)} <= walk.tags
    assert not walk.fields & field.ICMP_ID


def test_tracking_looks_the_packet_up_as_it_came_in() -> None:
    overlay = Overlay(two_networks(V4))
    known(overlay, 6, (*ips(frames.IP_1, frames.IP_2), 1000, 80))
    walk = walk_of(frames.tcp(), overlay)
    set_destination(walk, parse_ip(OTHER), 8080)

    assert walk.ct_state() == CT_ESTABLISHED


def test_states_of_a_connection() -> None:
    overlay = Overlay(two_networks(V4))
    sent = frames.udp()
    error = frames.icmp_error(sent[14:], frames.IP_2, frames.IP_1)
    assert walk_of(sent, overlay).ct_state() == CT_NEW
    assert walk_of(error, overlay).ct_state() == CT_INVALID

    known(overlay, 17, (*ips(frames.IP_1, frames.IP_2), 1000, 53))

    assert walk_of(sent, overlay).ct_state() == CT_ESTABLISHED
    assert walk_of(error, overlay).ct_state() == CT_RELATED


@FAMILIES
def test_packet_as_arrived_is_the_one_before_the_router(family: Family) -> None:
    src, dst = family.ip(1, 11), family.ip(2, 12)
    frame = frames.tcp(src, dst)
    walk = walk_of(frame)
    walk.arrive()
    set_destination(walk, parse_ip(family.outside), 99)
    walk.headers.ip_ttl -= 1

    assert walk.as_arrived().frame == frame


def test_packet_that_came_in_never_changes() -> None:
    packet = decode(frames.icmp_error(frames.udp()[14:], frames.IP_2, frames.IP_1))
    overlay = Overlay(two_networks(V4))
    walk = Walk(packet, overlay.vport("a/vm1"), overlay.world)
    before = decode(packet.frame)

    set_destination(walk, parse_ip(OTHER), 5)
    set_source(walk, parse_ip(OTHER), 6)

    assert packet == before
    assert walk.quoted != packet.embedded


def test_trace_costs_nothing_unless_asked() -> None:
    walk = walk_of(frames.udp())

    walk.note("r", "route")

    assert walk.steps is None


def test_asking_whether_it_is_a_fragment_is_reading() -> None:
    walk = walk_of(frames.udp())

    assert not walk.is_later_fragment
    assert walk.fields & field.IP_FRAG


def fragments(src: str, dst: str) -> list[bytes]:
    """Make the fragments of a large UDP datagram."""
    whole = decode(frames.udp(src=src, dst=dst, payload=bytes(2000)))
    return split(whole, 1280, 7)


ENDS = [(frames.IP_1, frames.IP_2), (frames.IP6_1, frames.IP6_2)]


@pytest.mark.parametrize(("src", "dst"), ENDS)
def test_fragment_whose_ports_nobody_asks_for_needs_no_first_one(
    src: str, dst: str
) -> None:
    for frame in fragments(src, dst):
        walk = walk_of(frame)
        assert not walk.is_neighbor_talk
        assert not walk.needs_first


@pytest.mark.parametrize(("src", "dst"), ENDS)
def test_fragment_that_is_tracked_needs_the_first_one(src: str, dst: str) -> None:
    for frame in fragments(src, dst):
        walk = walk_of(frame)
        walk.track()
        assert walk.needs_first
        assert walk.fields & field.IP_FRAG


@pytest.mark.parametrize(("src", "dst"), ENDS)
def test_only_a_later_fragment_without_borrowed_ports_lacks_them(
    src: str, dst: str
) -> None:
    first, later = (decode(frame) for frame in fragments(src, dst)[:2])
    overlay = Overlay(two_networks(V4))
    lacks = [
        Walk(packet, overlay.vport("a/vm1"), overlay.world).is_later_fragment
        for packet in (first, later, lend(later, first))
    ]
    assert lacks == [False, True, False]


def test_protocol_of_an_ipv6_packet_is_read_with_its_being_a_fragment() -> None:
    """A switch sees protocol 44 in later fragments."""
    for (src, dst), has_frag in zip(ENDS, (False, True)):
        walk = walk_of(frames.udp(src=src, dst=dst))
        walk.read_protocol()
        assert bool(walk.fields & field.IP_FRAG) is has_frag
        assert not walk.needs_first


def test_a_borrowed_tuple_is_that_of_the_first_fragment() -> None:
    first, later = (decode(frame) for frame in fragments(*ENDS[0]))
    overlay = Overlay(two_networks(V4))
    lent = Walk(lend(later, first), overlay.vport("a/vm1"), overlay.world)
    assert lent.tuple4() == (*ips(frames.IP_1, frames.IP_2), 1000, 53)
