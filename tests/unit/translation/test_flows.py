# SPDX-License-Identifier: Apache-2.0
"""Matches and actions for simulated packets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from midoryu.openflow import flow, pipeline
from midoryu.openflow.flow import Match
from midoryu.packet import field
from midoryu.packet.address import parse_ip
from midoryu.simulation.outcome import Drop, Flood, Forward, Reason, Simulation
from midoryu.topology.tag import host_tag
from midoryu.translation import flows as translation
from midoryu.translation.places import Places
from tests.helpers import frames
from tests.helpers.worlds import FAMILIES, V4, Family, Overlay, two_networks

GRE = 1
VM1 = "02:00:00:00:00:01"


def simulated(frame: bytes, *, read: int = 0) -> Simulation:
    """A frame at vm1, as if just these fields had been read."""
    simulation = Overlay(two_networks(V4)).send("a/vm1", frame)
    simulation.fields = read
    return simulation


def matched(frame: bytes, read: int) -> dict[str, int]:
    match = translation.match_of(simulated(frame, read=read), 5)
    return dict(zip(field.names(match.fields), match.values))


L2 = field.IN_PORT | field.ETH_TYPE


def test_match_has_the_values_of_the_fields_read() -> None:
    frame = frames.tcp(dport=80, flags="S")
    read = L2 | field.IP_PROTO | field.IP_SRC | field.L4_DST | field.TCP_FLAGS

    assert matched(frame, read) == {
        "in_port": 5,
        "eth_type": 0x0800,
        "ip_proto": 6,
        "ip_src": parse_ip(frames.IP_1),
        "ip_frag": 0,
        "l4_dst": 80,
        "tcp_flags": 2,
    }


EVERYTHING = (1 << 15) - 1


@pytest.mark.parametrize(
    ("frame", "absent"),
    [
        (frames.udp(), {"tcp_flags", "nd_target"}),
        (
            frames.arp(),
            {"ip_tos", "ip_frag", "ip_ttl", "l4_src", "l4_dst", "tcp_flags"},
        ),
        (
            frames.ethernet(frames.IP(proto=47) / frames.Raw(b"x" * 40)),
            {"l4_src", "l4_dst", "tcp_flags"},
        ),
        (
            frames.ethernet(frames.IP(proto=6, frag=9) / frames.Raw(b"x" * 40)),
            {"l4_src", "l4_dst", "nd_target"},
        ),
    ],
    ids=["UDP", "ARP", "GRE", "later fragment"],
)
def test_match_leaves_out_what_a_packet_does_not_have(
    frame: bytes, absent: set[str]
) -> None:
    assert not absent & set(matched(frame, EVERYTHING))


def test_later_fragment_is_told_from_whole_packets_by_ports() -> None:
    later = frames.ethernet(frames.IP(proto=6, frag=9) / frames.Raw(b"x" * 40))
    read = L2 | field.IP_PROTO | field.L4_DST

    assert matched(later, read)["ip_frag"] == 2
    assert matched(frames.tcp(), read)["ip_frag"] == 0


def test_solicitation_is_matched_by_its_target() -> None:
    frame = frames.neighbor_solicitation()

    assert matched(frame, EVERYTHING)["nd_target"] == parse_ip(frames.IP6_2)


@pytest.mark.parametrize("beyond", [field.PAYLOAD, field.ICMP_ID])
def test_no_flow_stands_for_what_cannot_be_matched(beyond: int) -> None:
    assert translation.is_installable(simulated(frames.udp(), read=L2))
    assert not translation.is_installable(simulated(frames.udp(), read=L2 | beyond))


def test_no_flow_stands_for_a_length_instead_of_an_ethertype() -> None:
    body = frames.ethernet(frames.Raw(b"x" * 46))
    frame = body[:12] + b"\x00\x2e" + body[14:]

    assert not translation.is_installable(simulated(frame, read=L2))


# Rewrites.


@FAMILIES
def test_routed_packet_has_its_life_shortened_first(family: Family) -> None:
    overlay = Overlay(two_networks(family))
    frame = frames.udp(
        family.ip(1, 11), family.ip(2, 12), eth_src=VM1, eth_dst=overlay.mac("r/a")
    )

    simulation = overlay.send("a/vm1", frame)

    assert translation.rewrites(simulation) == (
        (flow.DEC_TTL,),
        (flow.SET_ETH_SRC, overlay.vport("r/b").mac),
        (flow.SET_ETH_DST, overlay.vport("b/vm2").mac),
    )


def test_each_further_router_says_which_one_it_is() -> None:
    simulation = simulated(frames.udp())
    simulation.hops = 3

    assert translation.rewrites(simulation)[:5] == (
        (flow.DEC_TTL,),
        (flow.LOAD_HOPS, 2),
        (flow.DEC_TTL,),
        (flow.LOAD_HOPS, 3),
        (flow.DEC_TTL,),
    )


def test_routed_source_mac_is_set_though_the_first_packet_had_it() -> None:
    b = two_networks(V4)
    overlay = Overlay(b)
    frame = frames.udp(
        V4.outside,
        V4.ip(2, 12),
        eth_src=overlay.mac("r/b"),
        eth_dst=overlay.mac("r/up"),
    )

    simulation = overlay.send("r/up", frame)

    simulation.fields &= ~field.ETH_SRC
    assert (flow.SET_ETH_SRC, overlay.vport("r/b").mac) in translation.rewrites(
        simulation
    )


def test_translated_packet_has_all_fields_set() -> None:
    simulation = simulated(frames.tcp())
    headers = simulation.headers
    headers.ip_src, headers.ip_dst = parse_ip("192.0.2.1"), parse_ip("192.0.2.2")
    headers.l4_src, headers.l4_dst, headers.ip_tos = 1, 2, 0xB8

    assert translation.rewrites(simulation) == (
        (flow.SET_IP_SRC, parse_ip("192.0.2.1")),
        (flow.SET_L4_SRC, 1, 6),
        (flow.SET_IP_DST, parse_ip("192.0.2.2")),
        (flow.SET_L4_DST, 2, 6),
        (flow.SET_TOS, 0xB8),
    )


# Outputs.


def world() -> tuple[Overlay, Places]:
    overlay = Overlay(two_networks(V4))
    places = Places(overlay.topology, overlay.key("node1"), GRE)
    places.bind(overlay.key("a/vm1"), 11)
    places.bind(overlay.key("a/vm3"), 13)
    return overlay, places


def outputs(overlay: Overlay, places: Places, *names: str, in_port: int = 11) -> Any:
    vports = [overlay.key(name) for name in names]
    return translation.outputs(vports, places, in_port)


def test_local_vport_is_an_ofport() -> None:
    overlay, places = world()

    assert outputs(overlay, places, "a/vm3").actions == ((flow.OUTPUT, 13),)


def test_vport_where_the_packet_came_in_is_the_in_port() -> None:
    overlay, places = world()

    assert outputs(overlay, places, "a/vm1").actions == (
        (flow.OUTPUT, pipeline.PORT_IN_PORT),
    )


def test_remote_vport_is_a_tunnel_key() -> None:
    overlay, places = world()

    made = outputs(overlay, places, "b/vm2")

    assert made.actions == (
        (flow.SET_TUNNEL, overlay.key("b/vm2"), parse_ip("172.31.0.2")),
        (flow.OUTPUT, GRE),
    )
    assert made.tags == (host_tag(overlay.key("node2")),)


def test_flood_goes_to_each() -> None:
    overlay, places = world()

    made = outputs(overlay, places, "a/vm3", "b/vm2")

    assert [action[0] for action in made.actions] == [
        flow.OUTPUT,
        flow.SET_TUNNEL,
        flow.OUTPUT,
    ]


def test_vport_that_is_nowhere_is_left_out() -> None:
    overlay, places = world()
    places.unbind(overlay.key("a/vm3"))

    assert outputs(overlay, places, "a/vm3").actions == ()


def test_host_without_an_address_is_left_out_but_waited_for() -> None:
    overlay, places = world()
    host = overlay.topology.host(overlay.key("node2"))
    assert host is not None
    overlay.change(replace(host, underlay=0))

    made = outputs(overlay, places, "b/vm2")

    assert made.actions == ()
    assert made.tags == (host_tag(overlay.key("node2")),)


def test_vports_of_an_outcome() -> None:
    assert translation.vports_of(Forward(3)) == (3,)
    assert translation.vports_of(Flood((3, 4))) == (3, 4)
    assert translation.vports_of(Drop(Reason.FILTERED)) == ()


@FAMILIES
def test_frame_of_a_simulation_is_what_its_actions_make(family: Family) -> None:
    overlay = Overlay(two_networks(family))
    mac = overlay.mac("r/a")
    src, dst = family.ip(1, 11), family.ip(2, 12)
    simulation = overlay.send("a/vm1", frames.tcp(src, dst, eth_src=VM1, eth_dst=mac))

    made = translation.frame_of(simulation)

    out: dict[str, Any] = {
        "eth_src": overlay.mac("r/b"),
        "eth_dst": "02:00:00:00:00:02",
        "ttl": 63,
    }
    assert made == frames.tcp(src, dst, **out)


def test_a_vport_with_limits_is_reached_by_its_own_flow_and_a_sub_port_tagged() -> None:
    places = Places(Overlay(two_networks(V4)).topology)
    places.bind(7, 11)
    places.bind(8, 11, 101)
    places.bind(9, 12)
    places.special = frozenset((9,))

    assert translation.to_local(7, 11, places, 5) == ((flow.OUTPUT, 11),)
    tagged = ((flow.PUSH_VLAN, 101), (flow.OUTPUT, 11), (flow.POP_VLAN,))
    assert translation.to_local(8, 11, places, 5) == tagged
    assert translation.to_local(9, 12, places, 5) == ((flow.DELIVER, 9),)
    back = pipeline.PORT_IN_PORT
    assert translation.to_local(7, 11, places, 11) == ((flow.OUTPUT, back),)


def test_a_sub_ports_flow_matches_its_tag() -> None:
    simulation = simulated(frames.tcp(), read=L2 | field.VLAN)
    match = translation.match_of(simulation, 5, 101)

    values = dict(zip(field.names(match.fields), match.values))
    assert values == {"in_port": 5, "eth_type": 0x0800, "vlan": 0x1000 | 101}


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        (field.ETH_TYPE | field.IP_PROTO | field.TCP_FLAGS, (0x0800, 6, 0x10)),
        (field.ETH_TYPE | field.IP_PROTO | field.IP_FRAG, (0x0800, 6, 2)),
    ],
    ids=["flags were read", "a later fragment"],
)
def test_what_says_nothing_of_a_whole_connection_stays(
    fields: int, values: tuple[int, ...]
) -> None:
    match = Match(fields, values)

    assert translation.without_syn(match) == match


def test_segments_that_open_a_connection_are_left_out() -> None:
    fields = field.ETH_TYPE | field.IP_PROTO | field.L4
    match = Match(fields, (0x0800, 6, 1, 2))

    left = translation.without_syn(match)

    assert left == Match(fields | field.TCP_SYN, (0x0800, 6, 1, 2, 0))
