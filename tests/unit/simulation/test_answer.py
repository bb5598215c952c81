# SPDX-License-Identifier: Apache-2.0
"""What routers say: ICMP errors, echo replies, resets, judged by scapy."""

from __future__ import annotations

from typing import Any

import pytest

from midoryu.packet import field
from midoryu.simulation.outcome import Blocked, Consumed, Drop, Reason, Simulation
from midoryu.topology import model
from midoryu.translation.flows import is_installable
from tests.helpers import frames
from tests.helpers.builder import Builder
from tests.helpers.worlds import FAMILIES, V4, V6, Family, Overlay, two_networks

VM1 = "02:00:00:00:00:01"
NO_ROUTE = ((3, 0), (1, 0))
HOST = ((3, 1), (1, 3))
PORT = ((3, 3), (1, 4))
PROHIBITED = ((3, 13), (1, 1))
TTL = ((11, 0), (3, 0))


def udp(overlay: Overlay, family: Family, dst: str, **fields: Any) -> bytes:
    fields.setdefault("eth_dst", overlay.mac("r/a"))
    return frames.udp(family.ip(1, 11), dst, eth_src=VM1, **fields)


def without_default(family: Family) -> Builder:
    return two_networks(family, default=False)


def check_error(
    overlay: Overlay,
    family: Family,
    simulation: Simulation,
    kind: tuple[tuple[int, int], tuple[int, int]],
    quoted: bytes,
    source: str = "",
) -> None:
    """The only thing said is this error, to vm1, about these bytes of IP packet."""
    names, answer = overlay.said(simulation)
    assert names == ("a/vm1",)
    assert (answer.dst, answer.src) == (VM1, overlay.mac("r/a"))
    body = answer.payload
    assert (body.src, body.dst) == (source or family.ip(1, 1), family.ip(1, 11))
    message = body.payload
    assert (message.type, message.code) == kind[1 if family.is_v6 else 0]
    inner = bytes(message)[8:]
    assert quoted.startswith(inner)
    assert len(inner) >= min(len(quoted), 28)
    assert simulation.fields & field.PAYLOAD


@FAMILIES
def test_no_route_is_told(family: Family) -> None:
    overlay = Overlay(without_default(family))
    frame = udp(overlay, family, family.outside, payload=b"x" * 40)

    simulation = overlay.send("a/vm1", frame)

    assert simulation.outcome == Consumed(Reason.NO_ROUTE)
    check_error(overlay, family, simulation, NO_ROUTE, frame[14:])


@FAMILIES
def test_reject_route_is_told_as_prohibited(family: Family) -> None:
    b = two_networks(family)
    prefix = "198.51.0.0/16" if family is V4 else "2001:db8::/32"
    b.route("r", prefix, kind=model.RouteKind.REJECT)
    overlay = Overlay(b)
    frame = udp(overlay, family, family.outside)

    simulation = overlay.send("a/vm1", frame)

    assert simulation.outcome == Consumed(Reason.ROUTE_REJECT)
    check_error(overlay, family, simulation, PROHIBITED, frame[14:])


@FAMILIES
def test_router_that_is_down_answers_nothing(family: Family) -> None:
    b = two_networks(family)
    b.router("r", up=False)
    overlay = Overlay(b)
    frame = udp(overlay, family, family.ip(2, 12))

    simulation = overlay.send("a/vm1", frame)

    assert simulation.outcome == Drop(Reason.ADMIN_DOWN)
    assert simulation.emissions == []


@FAMILIES
def test_time_to_live_ends_at_the_first_router(family: Family) -> None:
    overlay = Overlay(two_networks(family))
    frame = udp(overlay, family, family.outside, ttl=1)

    simulation = overlay.send("a/vm1", frame)

    assert simulation.outcome == Consumed(Reason.TTL_EXCEEDED)
    assert simulation.hops == 0
    check_error(overlay, family, simulation, TTL, frame[14:])


@FAMILIES
def test_time_to_live_ends_at_the_second_router(family: Family) -> None:
    b = without_default(family)
    b.router("s")
    length = family.bits
    b.connect("r", f"{family.ip(9, 1)}/{length}", "s", f"{family.ip(9, 2)}/{length}")
    b.route("r", family.default, via=family.ip(9, 2))
    b.route("s", family.default, via=family.ip(9, 1))
    overlay = Overlay(b)
    frame = udp(overlay, family, family.outside, ttl=2)

    simulation = overlay.send("a/vm1", frame)

    assert simulation.outcome == Consumed(Reason.TTL_EXCEEDED)
    assert simulation.hops == 1
    names, answer = overlay.said(simulation)
    assert names == ("a/vm1",)
    assert answer.payload.src == family.ip(9, 2)


@FAMILIES
def test_next_hop_that_stays_silent_is_told(family: Family) -> None:
    overlay = Overlay(two_networks(family))
    frame = udp(overlay, family, family.ip(2, 99))
    assert isinstance(overlay.send("a/vm1", frame).outcome, Blocked)

    simulation = overlay.send("a/vm1", frame, give_up=True)

    assert simulation.outcome == Consumed(Reason.NO_NEIGHBOR)
    check_error(overlay, family, simulation, HOST, frame[14:])


@FAMILIES
def test_udp_to_a_router_address_finds_no_port(family: Family) -> None:
    overlay = Overlay(two_networks(family))
    frame = udp(overlay, family, family.ip(2, 1))

    simulation = overlay.send("a/vm1", frame)

    assert simulation.outcome == Consumed(Reason.LOCAL)
    # From the address that was asked, not from the link's.
    check_error(overlay, family, simulation, PORT, frame[14:], family.ip(2, 1))


@FAMILIES
def test_a_vip_without_members_says_so_itself(family: Family) -> None:
    b, vip = two_networks(family), family.nat_ip(80)
    b.balancer("shop", "r", [f"[{vip}]:53/17" if family.is_v6 else f"{vip}:53/17"], ())
    overlay = Overlay(b)
    frame = udp(overlay, family, vip, dport=53)

    simulation = overlay.send("a/vm1", frame)

    assert simulation.outcome == Consumed(Reason.NO_MEMBER)
    check_error(overlay, family, simulation, PORT, frame[14:], vip)


@FAMILIES
@pytest.mark.parametrize("network", [1, 2], ids=["near", "far"])
def test_echo_to_a_router_address_is_answered(family: Family, network: int) -> None:
    overlay = Overlay(two_networks(family))
    frame = family.echo(
        family.ip(1, 11),
        family.ip(network, 1),
        identifier=77,
        sequence=3,
        payload=b"hello",
        eth_src=VM1,
        eth_dst=overlay.mac("r/a"),
    )

    simulation = overlay.send("a/vm1", frame)

    assert simulation.outcome == Consumed(Reason.ANSWERED)
    names, answer = overlay.said(simulation)
    body = answer.payload
    assert names == ("a/vm1",)
    assert (body.src, body.dst) == (family.ip(network, 1), family.ip(1, 11))
    assert body.payload.type == (129 if family.is_v6 else 0)
    assert (body.payload.id, body.payload.seq) == (77, 3)
    assert bytes(answer).endswith(b"hello")
    assert not is_installable(simulation)


def test_echo_to_the_link_local_address_of_a_router_is_answered() -> None:
    overlay = Overlay(two_networks(V6))
    link_local = "fe80::aa:ff:fe00:503"
    assert overlay.mac("r/a") == "02:aa:00:00:05:03"
    frame = V6.echo("fe80::5", link_local, eth_src=VM1, eth_dst=overlay.mac("r/a"))

    simulation = overlay.send("a/vm1", frame)

    assert overlay.said(simulation)[1].payload.src == link_local


@FAMILIES
def test_tcp_to_a_router_address_is_reset(family: Family) -> None:
    overlay = Overlay(two_networks(family))
    frame = frames.tcp(
        family.ip(1, 11),
        family.ip(1, 1),
        4000,
        22,
        seq=1000,
        eth_src=VM1,
        eth_dst=overlay.mac("r/a"),
    )

    simulation = overlay.send("a/vm1", frame)

    assert simulation.outcome == Consumed(Reason.LOCAL)
    _, answer = overlay.said(simulation)
    segment = answer["TCP"]
    assert (answer.payload.src, answer.payload.dst) == (
        family.ip(1, 1),
        family.ip(1, 11),
    )
    assert (segment.sport, segment.dport) == (22, 4000)
    # RFC 9293, section 3.10.7.1: the SYN counts.
    assert (str(segment.flags), segment.seq, segment.ack) == ("RA", 0, 1001)


def test_reset_is_not_answered_with_a_reset() -> None:
    overlay = Overlay(two_networks(V4))
    frame = frames.tcp(
        V4.ip(1, 11), V4.ip(1, 1), flags="R", eth_src=VM1, eth_dst=overlay.mac("r/a")
    )

    simulation = overlay.send("a/vm1", frame)

    assert simulation.outcome == Drop(Reason.LOCAL)
    assert simulation.emissions == []


def quiet() -> list[Any]:
    """Packets about which RFC 1122, section 3.2.2 forbids an ICMP error."""
    inner = bytes(frames.IP(src=V4.outside, dst=V4.ip(1, 11)) / frames.UDP())
    later = frames.IP(src=V4.ip(1, 11), dst=V4.outside, proto=17, frag=9)
    return [
        frames.icmp_error(inner, V4.ip(1, 11), V4.outside, eth_src=VM1),
        frames.ethernet(later / frames.Raw(b"x" * 32), eth_src=VM1),
        frames.udp("0.0.0.0", V4.outside, eth_src=VM1),
    ]


@pytest.mark.parametrize("frame", quiet(), ids=["error", "later fragment", "no source"])
def test_some_packets_get_no_error(frame: bytes) -> None:
    overlay = Overlay(without_default(V4))
    to_router = bytes.fromhex(overlay.mac("r/a").replace(":", "")) + frame[6:]

    simulation = overlay.send("a/vm1", to_router)

    assert simulation.outcome in (Drop(Reason.NO_ROUTE), Drop(Reason.MARTIAN))
    assert simulation.emissions == []


def test_frame_to_a_group_mac_gets_no_answer_from_a_router() -> None:
    overlay = Overlay(without_default(V4))
    frame = frames.udp(V4.outside, V4.outside, eth_dst="01:00:5e:00:00:01")

    simulation = overlay.send("r/up", frame)

    assert simulation.outcome == Drop(Reason.NOT_ROUTED)
    assert simulation.emissions == []


@FAMILIES
def test_what_a_router_says_passes_filters(family: Family) -> None:
    b = without_default(family)
    b.chain("nothing", accept=False)
    b.vport("a/vm1", mac=VM1, ip=family.ip(1, 11), egress_chain="nothing")
    overlay = Overlay(b)
    frame = udp(overlay, family, family.outside)

    simulation = overlay.send("a/vm1", frame)

    check_error(overlay, family, simulation, NO_ROUTE, frame[14:])
