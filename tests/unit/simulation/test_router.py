# SPDX-License-Identifier: Apache-2.0
"""Which way a router sends packets, and which it does not send."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from midoryu.packet import field
from midoryu.packet.address import Prefix, link_local_of, parse_ip, parse_mac
from midoryu.simulation.outcome import (
    Blocked,
    Consumed,
    Drop,
    ErrorDrop,
    NeighborSeen,
    Reason,
)
from midoryu.topology import model
from midoryu.topology.tag import neighbor_tag, vport_tag
from midoryu.translation.flows import is_installable
from tests.helpers import frames
from tests.helpers.builder import Builder
from tests.helpers.worlds import (
    FAMILIES,
    GATEWAY_MAC,
    V4,
    V6,
    Family,
    Overlay,
    neighbor,
    seen,
    two_networks,
    wanted_neighbor,
)

VM1 = "02:00:00:00:00:01"
VM2 = "02:00:00:00:00:02"
SPARE = ("r/x", "r/y", "r/z")


def routed(overlay: Overlay, family: Family, dst: str, **fields: Any) -> bytes:
    """A UDP packet from vm1 to the router."""
    fields.setdefault("eth_src", VM1)
    fields.setdefault("eth_dst", overlay.mac("r/a"))
    return frames.udp(fields.pop("src", family.ip(1, 11)), dst, **fields)


def send(overlay: Overlay, family: Family, dst: str, **fields: Any) -> Any:
    return overlay.send("a/vm1", routed(overlay, family, dst, **fields))


def with_uplinks(family: Family) -> Builder:
    """The router gets three more uplinks, x, y and z, with a neighbour each."""
    b = two_networks(family)
    for number, path in enumerate(SPARE, 4):
        ip = f"{family.ip(number, 1)}/{family.bits}"
        b.vport(path, host="node2", mac=f"02:cc:00:00:00:0{number}", ip=ip)
        neighbor(b, "r", family.ip(number, 2), f"02:ff:00:00:00:0{number}")
    return b


def via(family: Family, path: str) -> dict[str, str]:
    return {"via": family.ip(4 + SPARE.index(path), 2)}


@FAMILIES
def test_packet_crosses_the_router(family: Family) -> None:
    overlay = Overlay(two_networks(family))

    simulation = send(overlay, family, family.ip(2, 12), ttl=64)

    assert overlay.names(simulation) == ("b/vm2",)
    assert simulation.hops == 1
    frame = seen(simulation)
    assert (frame.dst, frame.src) == (VM2, overlay.mac("r/b"))
    assert simulation.headers.ip_ttl == 63


@FAMILIES
def test_packet_takes_the_default_route_to_the_gateway(family: Family) -> None:
    overlay = Overlay(two_networks(family))

    simulation = send(overlay, family, family.outside)

    assert overlay.names(simulation) == ("r/up",)
    assert seen(simulation).dst == GATEWAY_MAC


@FAMILIES
def test_longest_prefix_wins(family: Family) -> None:
    b = with_uplinks(family)
    length = 128 if family.is_v6 else 32
    b.route("r", f"{family.outside}/{length}", **via(family, "r/x"))
    overlay = Overlay(b)

    assert overlay.names(send(overlay, family, family.outside)) == ("r/x",)
    other = "198.51.100.10" if family is V4 else "2001:db8:9::a"
    assert overlay.names(send(overlay, family, other)) == ("r/up",)


@FAMILIES
def test_lower_metric_wins(family: Family) -> None:
    b = with_uplinks(family)
    prefix = "198.51.0.0/16" if family is V4 else "2001:db8::/32"
    b.route("r", prefix, metric=20, **via(family, "r/x"))
    b.route("r", prefix, metric=10, **via(family, "r/y"))
    overlay = Overlay(b)

    assert overlay.names(send(overlay, family, family.outside)) == ("r/y",)


@FAMILIES
def test_route_for_some_sources_is_not_for_others(family: Family) -> None:
    b = with_uplinks(family)
    prefix = "198.51.0.0/16" if family is V4 else "2001:db8::/32"
    only = Prefix(parse_ip(family.ip(1, 11)), 128)
    b.route("r", prefix, source=only, **via(family, "r/x"))
    overlay = Overlay(b)

    mine = send(overlay, family, family.outside)
    others = send(overlay, family, family.outside, src=family.ip(1, 50))

    assert overlay.names(mine) == ("r/x",)
    assert overlay.names(others) == ("r/up",)
    assert mine.fields & others.fields & field.IP_SRC


def test_route_for_a_source_comes_before_one_for_all_of_the_same_metric() -> None:
    b = with_uplinks(V4)
    only = Prefix(parse_ip(V4.ip(1, 11)), 128)
    b.route("r", "198.51.0.0/16", **via(V4, "r/x"))
    b.route("r", "198.51.0.0/16", source=only, **via(V4, "r/y"))
    overlay = Overlay(b)

    for port in range(2000, 2020):
        assert overlay.names(send(overlay, V4, V4.outside, sport=port)) == ("r/y",)
        other = send(overlay, V4, V4.outside, src=V4.ip(1, 50), sport=port)
        assert overlay.names(other) == ("r/x",)


# Equal-cost routes.


def equal_cost(family: Family, **weights: int) -> Overlay:
    b = with_uplinks(family)
    prefix = "198.51.0.0/16" if family is V4 else "2001:db8::/32"
    for path in SPARE:
        b.route("r", prefix, weight=weights.get(path[-1], 1), **via(family, path))
    return Overlay(b)


def spread(overlay: Overlay, family: Family, count: int = 60) -> list[str]:
    """Where each of many connections goes."""
    return [
        overlay.names(send(overlay, family, family.outside, sport=2000 + port))[0]
        for port in range(count)
    ]


@FAMILIES
def test_equal_cost_routes_share_connections(family: Family) -> None:
    overlay = equal_cost(family)

    ways = spread(overlay, family)

    assert set(ways) == set(SPARE)
    assert ways == spread(equal_cost(family), family), "every host chooses alike"


def test_choice_among_equals_reads_the_five_tuple() -> None:
    simulation = send(equal_cost(V4), V4, V4.outside)

    tuple5 = field.IP_SRC | field.IP_DST | field.IP_PROTO | field.L4
    assert simulation.fields & tuple5 == tuple5


def test_weight_is_a_share() -> None:
    ways = spread(equal_cost(V4, x=8), V4, 200)

    assert 130 < ways.count("r/x") < 185


@FAMILIES
def test_uplink_that_goes_down_moves_only_its_connections(family: Family) -> None:
    overlay = equal_cost(family)
    before = spread(overlay, family)

    overlay.change(model.Gone(model.VportStatus, overlay.key("r/y")))
    after = spread(overlay, family)

    assert "r/y" not in after
    kept = [(was, now) for was, now in zip(before, after) if was != "r/y"]
    assert all(was == now for was, now in kept)


def test_down_uplink_is_among_the_tags() -> None:
    overlay = equal_cost(V4)
    overlay.change(model.Gone(model.VportStatus, overlay.key("r/y")))

    simulation = send(overlay, V4, V4.outside)

    assert vport_tag(overlay.key("r/y")) in simulation.tags


def test_uplink_of_a_dead_host_is_down() -> None:
    overlay = equal_cost(V4)
    alive = model.VportStatus(overlay.key("r/y"), overlay.key("node1"), True)
    overlay.topology.apply([model.Put(alive)])
    tags = overlay.topology.set_dead_hosts(frozenset({overlay.key("node2")}))

    simulation = send(overlay, V4, V4.outside)

    assert set(spread(overlay, V4)) == {"r/y"}
    assert vport_tag(overlay.key("r/x")) in tags & simulation.tags


def test_uplinks_held_for_dead_are_the_last_resort() -> None:
    overlay = equal_cost(V4)
    before = spread(overlay, V4)
    tags = overlay.topology.set_dead_hosts(frozenset({overlay.key("node2")}))

    simulation = send(overlay, V4, V4.outside)

    assert spread(overlay, V4) == before
    assert vport_tag(overlay.key("r/x")) in tags & simulation.tags


def test_shorter_prefix_serves_when_the_longer_one_is_down() -> None:
    b = with_uplinks(V4)
    b.route("r", "198.51.100.0/24", **via(V4, "r/x"))
    overlay = Overlay(b)
    overlay.change(model.VportStatus(overlay.key("r/x"), overlay.key("node2"), False))

    assert overlay.names(send(overlay, V4, V4.outside)) == ("r/up",)


def test_route_over_a_link_that_is_down_at_its_far_end_is_tagged() -> None:
    b = two_networks(V4)
    b.router("s")
    b.connect("r", "100.64.0.1/30", "s", "100.64.0.2/30")
    b.route("r", "198.51.100.0/24", via="100.64.0.2")
    overlay = Overlay(b)
    overlay.change(replace(overlay.vport("s/r"), up=False))

    simulation = send(overlay, V4, V4.outside)

    assert overlay.names(simulation) == ("r/up",)
    assert overlay.change(replace(overlay.vport("s/r"), up=True)) & simulation.tags


@FAMILIES
def test_recorded_connection_keeps_its_uplink(family: Family) -> None:
    b = with_uplinks(family)
    prefix = "198.51.0.0/16" if family is V4 else "2001:db8::/32"
    for path in SPARE[:2]:
        b.route("r", prefix, **via(family, path))
    tracked = b.chain("tracked", model.Rule(model.RuleAction.ACCEPT, ct_states=3))
    b.put(replace(b.vport("a/vm1", host="node1", mac=VM1), ingress_chain=tracked))
    overlay = Overlay(b)
    before = [
        overlay.names(
            overlay.carry(
                "a/vm1", routed(overlay, family, family.outside, sport=2000 + port)
            )
        )
        for port in range(20)
    ]

    third = b.route("r", prefix, **via(family, "r/z"))
    overlay.change(third)

    kept = [
        overlay.names(send(overlay, family, family.outside, sport=2000 + port))
        for port in range(20)
    ]
    fresh = spread(overlay, family)
    assert kept == before
    assert "r/z" in fresh


# What is not forwarded.


@FAMILIES
def test_blackhole_drops_silently(family: Family) -> None:
    b = two_networks(family)
    prefix = "198.51.0.0/16" if family is V4 else "2001:db8::/32"
    b.route("r", prefix, kind=model.RouteKind.BLACKHOLE)
    simulation = send(Overlay(b), family, family.outside)

    assert simulation.outcome == Drop(Reason.BLACKHOLE)
    assert simulation.emissions == []
    assert is_installable(simulation)


@FAMILIES
def test_group_destination_is_not_routed(family: Family) -> None:
    overlay = Overlay(two_networks(family))
    group = "ff0e::5" if family.is_v6 else "239.1.1.1"

    simulation = send(overlay, family, group)

    assert simulation.outcome == Drop(Reason.NOT_ROUTED)


@pytest.mark.parametrize(
    ("src", "dst"),
    [("fe80::1", V6.ip(2, 12)), (V6.ip(1, 11), "fe80::77")],
    ids=["source", "destination"],
)
def test_link_local_is_not_routed(src: str, dst: str) -> None:
    overlay = Overlay(two_networks(V6))

    simulation = send(overlay, V6, dst, src=src)

    assert simulation.outcome == Drop(Reason.NOT_ROUTED)


def test_routing_ipv6_reads_the_source_that_could_be_link_local() -> None:
    overlay = Overlay(two_networks(V6))

    assert send(overlay, V6, V6.ip(2, 12)).fields & field.IP_SRC


def test_routing_ipv4_reads_no_source_and_no_layer_4() -> None:
    overlay = Overlay(two_networks(V4))

    read = send(overlay, V4, V4.ip(2, 12)).fields

    assert not read & (field.IP_SRC | field.L4 | field.IP_PROTO | field.UNMATCHABLE)


def test_frame_for_another_mac_is_not_taken() -> None:
    b = two_networks(V4)
    overlay = Overlay(b)
    frame = frames.udp(V4.outside, V4.ip(1, 11), eth_dst=VM1)

    simulation = overlay.send("r/up", frame)

    assert simulation.outcome == Drop(Reason.NOT_FOR_ROUTER)


@pytest.mark.parametrize(
    "frame",
    [
        frames.udp(eth_dst="02:cc:00:00:00:01", vlan=5),
        frames.ethernet(frames.Raw(b"x" * 46), eth_dst="02:cc:00:00:00:01"),
    ],
    ids=["VLAN", "not IP"],
)
def test_router_takes_untagged_ip_only(frame: bytes) -> None:
    overlay = Overlay(two_networks(V4))

    assert overlay.send("r/up", frame).outcome == Drop(Reason.NOT_IP)


def test_routers_in_a_circle_end_in_a_loop() -> None:
    b = two_networks(V4)
    b.router("s")
    b.connect("r", "100.64.0.1/30", "s", "100.64.0.2/30")
    b.route("r", "198.51.100.0/24", via="100.64.0.2")
    b.route("s", "198.51.100.0/24", via="100.64.0.1")

    overlay = Overlay(b)
    simulation = send(overlay, V4, V4.outside, ttl=64)

    assert simulation.outcome == ErrorDrop(Reason.LOOP)


# Neighbours.


@FAMILIES
def test_unknown_neighbour_is_wanted(family: Family) -> None:
    overlay = Overlay(two_networks(family))
    target = family.ip(2, 99)

    simulation = send(overlay, family, target)

    assert simulation.outcome == Blocked(wanted_neighbor(overlay, "r", "r/b", target))
    tag = neighbor_tag(overlay.key("r"), parse_ip(target))
    assert tag in simulation.tags


@FAMILIES
def test_neighbour_once_heard_lets_the_packet_go(family: Family) -> None:
    overlay = Overlay(two_networks(family))
    target, mac = family.ip(2, 99), "02:dd:00:00:00:09"
    if family.is_v6:
        said = frames.neighbor_advertisement(
            target, family.ip(2, 1), target, eth_src=mac, eth_dst=overlay.mac("r/b")
        )
    else:
        said = frames.arp(
            target,
            family.ip(2, 1),
            operation=2,
            eth_src=mac,
            eth_dst=overlay.mac("r/b"),
            target_mac=overlay.mac("r/b"),
        )

    heard = overlay.carry("b/vm2", said)

    row = NeighborSeen(overlay.key("r"), parse_ip(target), parse_mac(mac))
    assert row in heard.learned
    simulation = send(overlay, family, target)
    assert overlay.names(simulation) == ("b/vm2",)
    assert seen(simulation).dst == mac


def test_vm_that_gets_an_address_touches_flows_to_the_neighbour_that_had_it() -> None:
    b = two_networks(V4)
    neighbor(b, "r", V4.ip(2, 99), "02:dd:00:00:00:09")
    b.vport("b/vm4", host="node2")
    mac = parse_mac("02:dd:00:00:00:09")
    b.put(model.MacEntry("m", b.key("b"), mac, b.key("b/vm4")))
    overlay = Overlay(b)
    simulation = send(overlay, V4, V4.ip(2, 99))
    assert overlay.names(simulation) == ("b/vm4",)

    address = Prefix(parse_ip(V4.ip(2, 99)), 120)
    taken = replace(overlay.vport("b/vm2"), addresses=(address,))

    assert overlay.change(taken) & simulation.tags


@FAMILIES
@pytest.mark.parametrize("known", ["own", "nat"])
def test_uplink_answers_for_own_and_nat_addresses(family: Family, known: str) -> None:
    b = two_networks(family)
    base = family.uplink[:-1]
    b.masquerade("r", family.subnet(1), base + "3")
    overlay = Overlay(b)
    target = family.uplink if known == "own" else base + "3"
    if family.is_v6:
        frame = frames.neighbor_solicitation(family.gateway, target)
    else:
        frame = frames.arp(family.gateway, target)

    simulation = overlay.send("r/up", frame)

    names, answer = overlay.said(simulation)
    assert names == ("r/up",)
    assert answer.src == overlay.mac("r/up")
    assert target == (answer.payload.src if family.is_v6 else answer.payload.psrc)


@FAMILIES
def test_uplink_answers_for_nobody_else(family: Family) -> None:
    b = two_networks(family)
    b.masquerade("r", family.subnet(1), family.nat_ip(3))
    overlay = Overlay(b)
    target = family.ip(1, 11)
    if family.is_v6:
        frame = frames.neighbor_solicitation(family.gateway, target)
    else:
        frame = frames.arp(family.gateway, target)

    assert overlay.send("r/up", frame).emissions == []


def test_next_hop_may_be_the_link_local_address_of_a_linked_router() -> None:
    b = two_networks(V6)
    b.router("s")
    b.connect("r", "fd00:64::1/64", "s", "fd00:64::2/64")
    overlay = Overlay(b)
    key, prefix = overlay.key("r"), Prefix(parse_ip("2001:db8::"), 32)
    gateway, leaving = link_local_of(overlay.vport("s/r").mac), overlay.key("r/s")
    overlay.change(model.Route("x", key, prefix, gateway=gateway, vport=leaving))

    simulation = send(overlay, V6, V6.outside)

    # Router s has no route to there, and says so.
    assert simulation.outcome == Consumed(Reason.NO_ROUTE)
    assert simulation.hops == 1


@FAMILIES
def test_gateway_outside_every_subnet_leads_nowhere(family: Family) -> None:
    b = two_networks(family)
    prefix = "198.51.0.0/16" if family is V4 else "2001:db8::/32"
    b.route("r", prefix, via=family.nat_ip(77))
    overlay = Overlay(b)

    assert overlay.names(send(overlay, family, family.outside)) == ("r/up",)


def test_later_fragment_among_equal_routes_reads_that_it_is_one() -> None:
    overlay = equal_cost(V4)
    later = frames.IP(src=V4.ip(1, 11), dst=V4.outside, proto=17, frag=100)
    body = later / frames.Raw(b"x" * 64)
    frame = frames.ethernet(body, eth_src=VM1, eth_dst=overlay.mac("r/a"))

    simulation = overlay.send("a/vm1", frame)

    assert simulation.fields & field.IP_FRAG


# Addresses that cannot be, and devices that are down.


@pytest.mark.parametrize(
    ("family", "source"),
    [
        (V4, "127.0.0.1"),
        (V4, "0.0.0.0"),
        (V4, "10.0.1.255"),
        (V4, "10.0.2.1"),
        (V6, "::1"),
        (V6, "fd00:2::1"),
        (V6, "::"),
    ],
    ids=str,
)
def test_martian_source_is_dropped(family: Family, source: str) -> None:
    overlay = Overlay(two_networks(family))
    frame = frames.udp(source, family.ip(2, 12), eth_dst=overlay.mac("r/a"))

    simulation = overlay.send("a/vm1", frame)

    assert simulation.outcome == Drop(Reason.MARTIAN)
    assert simulation.fields & field.IP_SRC


@pytest.mark.parametrize("destination", ["127.0.0.1", "0.0.0.0", "255.255.255.255"])
def test_martian_destination_is_not_routed(destination: str) -> None:
    overlay = Overlay(two_networks(V4))
    frame = frames.udp(V4.ip(1, 11), destination, eth_dst=overlay.mac("r/a"))

    outcome = overlay.send("a/vm1", frame).outcome

    assert isinstance(outcome, Drop)
    assert outcome.reason in (Reason.MARTIAN, Reason.NOT_ROUTED)


def test_broadcast_of_a_subnet_is_not_forwarded_into_it() -> None:
    overlay = Overlay(two_networks(V4))
    frame = frames.udp(V4.ip(1, 11), "10.0.2.255", eth_dst=overlay.mac("r/a"))

    simulation = overlay.send("a/vm1", frame)

    assert simulation.outcome == Drop(Reason.NOT_ROUTED)
    assert simulation.emissions == []


@FAMILIES
def test_router_that_is_down_answers_neither_question_nor_ping(family: Family) -> None:
    b = two_networks(family)
    overlay = Overlay(b)
    own = family.ip(1, 1)
    if family.is_v6:
        group = {"dst": "ff02::1:ff00:1", "eth_dst": "33:33:ff:00:00:01"}
        question = frames.neighbor_solicitation(family.ip(1, 11), own, **group)
    else:
        question = frames.arp(family.ip(1, 11), own)
    assert len(overlay.send("a/vm1", question).emissions) == 1

    tags = overlay.change(b.router("r", up=False))

    assert overlay.send("a/vm1", question).emissions == []
    ping = family.echo(family.ip(1, 11), own, eth_dst=overlay.mac("r/a"))
    simulation = overlay.send("a/vm1", ping)
    assert simulation.outcome == Drop(Reason.ADMIN_DOWN)
    assert tags & simulation.tags


# Connections among equals.


def uplinks(count: int) -> Overlay:
    """Three uplinks of equal cost, `count` of them up."""
    b = two_networks(V4, default=False)
    for number in range(1, 4):
        mac, ip = f"02:cc:00:00:01:0{number}", f"192.0.2.{16 * number + 2}/28"
        b.vport(f"r/w{number}", host="node1", mac=mac, ip=ip, up=number <= count)
        via = f"192.0.2.{16 * number + 1}"
        b.route("r", "0.0.0.0/0", via=via)
        neighbor(b, "r", via, f"02:ff:00:00:01:0{number}")
    return Overlay(b)


def way(overlay: Overlay, port: int, *, keep: bool) -> str:
    do = overlay.carry if keep else overlay.send
    frame = frames.tcp(V4.ip(1, 11), V4.outside, port, 80, eth_dst=overlay.mac("r/a"))
    (name,) = overlay.names(do("a/vm1", frame))
    return name


PORTS = range(2000, 2300)


def test_uplink_that_comes_takes_new_connections_only() -> None:
    overlay = uplinks(2)
    before = {port: way(overlay, port, keep=port < 2150) for port in PORTS}

    key = overlay.key("r/w3")
    overlay.change(model.VportStatus(key, overlay.key("node1"), True))
    after = {port: way(overlay, port, keep=False) for port in PORTS}

    live = [port for port in PORTS if port < 2150]
    assert all(before[port] == after[port] for port in live)
    fresh = [port for port in PORTS if port >= 2150]
    moved = [port for port in fresh if before[port] != after[port]]
    assert all(after[port] == "r/w3" for port in moved)
    assert len(fresh) / 3 * 0.6 < len(moved) < len(fresh) / 3 * 1.4


def test_uplink_that_goes_moves_its_own_connections_only() -> None:
    overlay = uplinks(3)
    before = {port: way(overlay, port, keep=False) for port in PORTS}

    key = overlay.key("r/w3")
    overlay.change(model.VportStatus(key, overlay.key("node1"), False))
    after = {port: way(overlay, port, keep=False) for port in PORTS}

    moved = {port for port in PORTS if before[port] != after[port]}
    assert moved == {port for port in PORTS if before[port] == "r/w3"}


def test_uplink_that_goes_and_comes_has_its_connections_back() -> None:
    overlay = uplinks(3)
    before = {port: way(overlay, port, keep=True) for port in PORTS}
    key, host = overlay.key("r/w3"), overlay.key("node1")

    overlay.change(model.VportStatus(key, host, False))
    assert "r/w3" not in {way(overlay, port, keep=False) for port in PORTS}
    overlay.change(model.VportStatus(key, host, True))

    assert {port: way(overlay, port, keep=False) for port in PORTS} == before


def test_gateways_behind_one_uplink_keep_their_connections() -> None:
    b = two_networks(V4, default=False)
    b.vport("r/w", host="node1", mac="02:cc:00:00:01:01", ip="192.0.2.1/28")
    for number in range(2, 5):
        b.route("r", "0.0.0.0/0", via=f"192.0.2.{number}")
        neighbor(b, "r", f"192.0.2.{number}", f"02:ff:00:00:01:0{number}")
    overlay = Overlay(b)

    def gateway(port: int, *, keep: bool) -> int:
        do = overlay.carry if keep else overlay.send
        to = overlay.mac("r/a")
        frame = frames.tcp(V4.ip(1, 11), V4.outside, port, 80, eth_dst=to)
        return int(do("a/vm1", frame).headers.eth_dst)

    before = {port: gateway(port, keep=True) for port in range(2000, 2060)}

    assert len(set(before.values())) == 3
    assert {port: gateway(port, keep=False) for port in before} == before


def test_answers_leave_by_the_uplink_that_the_connection_came_by() -> None:
    overlay = uplinks(3)
    for number in (1, 2, 3):
        path, to = f"r/w{number}", overlay.mac(f"r/w{number}")
        for port in range(2000 * number, 2000 * number + 10):
            call = frames.tcp(V4.outside, V4.ip(1, 11), port, 80, eth_dst=to)
            assert overlay.names(overlay.carry(path, call)) == ("a/vm1",)
            back = frames.tcp(
                V4.ip(1, 11), V4.outside, 80, port, eth_dst=overlay.mac("r/a"),
                flags="SA",
            )  # fmt: skip
            assert overlay.names(overlay.carry("a/vm1", back)) == (path,)


@FAMILIES
def test_reject_route_is_told_and_blackhole_is_not(family: Family) -> None:
    b = two_networks(family)
    length = "128" if family.is_v6 else "32"
    for number, kind in ((50, model.RouteKind.REJECT), (51, model.RouteKind.BLACKHOLE)):
        b.route("r", f"{family.ip(9, number)}/{length}", kind=kind)
    overlay = Overlay(b)
    told, silent = (
        overlay.send(
            "a/vm1",
            frames.udp(
                family.ip(1, 11), family.ip(9, number), eth_dst=overlay.mac("r/a")
            ),
        )
        for number in (50, 51)
    )

    assert told.outcome == Consumed(Reason.ROUTE_REJECT)
    _, answer = overlay.said(told)
    error = answer.payload.payload
    assert (error.type, error.code) == ((1, 1) if family.is_v6 else (3, 13))
    assert silent.outcome == Drop(Reason.BLACKHOLE)
    assert silent.emissions == []
