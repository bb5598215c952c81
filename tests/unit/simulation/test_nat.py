# SPDX-License-Identifier: Apache-2.0
"""Address translation, both ways, judged by the packets that come out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from midoryu.packet import field
from midoryu.packet.address import parse_ip
from midoryu.simulation.outcome import (
    Blocked,
    Consumed,
    Drop,
    ErrorDrop,
    LeaseWanted,
    Reason,
)
from midoryu.state.connection import Direction, TranslationKind
from midoryu.topology import model
from midoryu.translation.flows import is_installable
from tests.helpers import frames
from tests.helpers.builder import Builder
from tests.helpers.frames import ICMP, IP, TCP, UDP
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
)

VM1 = "02:00:00:00:00:01"
VM2 = "02:00:00:00:00:02"


def masquerading(family: Family, blocks: tuple[int, ...] = (0, 16, 62)) -> Builder:
    """Network a hides behind NAT address .10; ports 0..63, 1024..., 3968... leased."""
    b = two_networks(family)
    b.masquerade("r", family.subnet(1), family.nat_ip(10), vport="r/up")
    for block in blocks:
        b.lease("r", family.nat_ip(10), block, "node1")
    return b


def from_vm1(overlay: Overlay, family: Family, dst: str, **fields: Any) -> bytes:
    make = fields.pop("make", frames.tcp)
    fields.setdefault("sport", 4000)
    src = fields.pop("src", family.ip(1, 11))
    eth_dst = fields.pop("eth_dst", overlay.mac("r/a"))
    return bytes(make(src, dst, eth_src=VM1, eth_dst=eth_dst, **fields))


def from_outside(overlay: Overlay, family: Family, dst: str, **fields: Any) -> bytes:
    make = fields.pop("make", frames.tcp)
    src = fields.pop("src", family.outside)
    mac = overlay.mac("r/up")
    return bytes(make(src, dst, eth_src=GATEWAY_MAC, eth_dst=mac, **fields))


def tuple_of(frame: Any) -> tuple[str, str, int, int]:
    body = frame.payload
    return body.src, body.dst, body.payload.sport, body.payload.dport


# Masquerade.


@FAMILIES
@pytest.mark.parametrize("make", [frames.tcp, frames.udp], ids=["TCP", "UDP"])
def test_masquerade_translates_the_source(family: Family, make: Any) -> None:
    overlay = Overlay(masquerading(family))

    simulation = overlay.send(
        "a/vm1", from_vm1(overlay, family, family.outside, make=make)
    )

    assert overlay.names(simulation) == ("r/up",)
    expected = (
        family.nat_ip(10),
        family.outside,
        4000,
        80 if make is frames.tcp else 53,
    )
    assert tuple_of(seen(simulation)) == expected


@FAMILIES
def test_masquerade_hides_sources_on_a_provider_network(family: Family) -> None:
    b = two_networks(family, default=False)
    b.network("public")
    b.vport("public/up", host="node2")
    link = f"{family.nat_ip(1)}/{24 if family is V4 else 64}"
    b.attach("r", "public", link)
    b.masquerade("r", family.subnet(1), family.nat_ip(10))
    b.lease("r", family.nat_ip(10), 62, "node1")
    neighbor(b, "r", family.nat_ip(2), GATEWAY_MAC)
    overlay = Overlay(b)

    outwards = overlay.send("a/vm1", from_vm1(overlay, family, family.nat_ip(2)))
    inwards = overlay.send("a/vm1", from_vm1(overlay, family, family.ip(2, 12)))

    assert tuple_of(seen(outwards))[:2] == (family.nat_ip(10), family.nat_ip(2))
    assert tuple_of(seen(inwards))[:2] == (family.ip(1, 11), family.ip(2, 12))


@FAMILIES
def test_masquerade_makes_a_record(family: Family) -> None:
    overlay = Overlay(masquerading(family))

    made = overlay.send("a/vm1", from_vm1(overlay, family, family.outside)).connection

    assert made is not None
    assert (made.ip_proto, made.id) == (6, 0)
    assert made.original == (
        parse_ip(family.ip(1, 11)),
        parse_ip(family.outside),
        4000,
        80,
    )
    assert (made.ingress_device, made.ingress_vport) == (
        overlay.key("a"),
        overlay.key("a/vm1"),
    )
    assert (made.egress_device, made.egress_vport) == (
        overlay.key("r"),
        overlay.key("r/up"),
    )
    (translation,) = made.translations
    assert translation == (
        overlay.key("r"),
        TranslationKind.SOURCE,
        parse_ip(family.nat_ip(10)),
        4000,
    )


@FAMILIES
def test_return_packet_of_a_masqueraded_connection_is_translated_back(
    family: Family,
) -> None:
    overlay = Overlay(masquerading(family))
    overlay.carry("a/vm1", from_vm1(overlay, family, family.outside))

    back = from_outside(
        overlay, family, family.nat_ip(10), sport=80, dport=4000, flags="SA"
    )
    simulation = overlay.send("r/up", back)

    assert overlay.names(simulation) == ("a/vm1",)
    assert tuple_of(seen(simulation)) == (family.outside, family.ip(1, 11), 80, 4000)
    assert simulation.found is not None
    assert simulation.found.direction is Direction.RETURN
    assert simulation.connection is None


@FAMILIES
def test_later_packet_repeats_its_record(family: Family) -> None:
    overlay = Overlay(masquerading(family))
    frame = from_vm1(overlay, family, family.outside)
    first = overlay.carry("a/vm1", frame)

    later = overlay.send("a/vm1", from_vm1(overlay, family, family.outside, flags="A"))

    assert later.connection is None
    assert later.found is not None
    assert tuple_of(seen(later)) == tuple_of(seen(first))


def test_taken_port_is_not_given_again() -> None:
    overlay = Overlay(masquerading(V4))
    overlay.carry("a/vm1", from_vm1(overlay, V4, V4.outside))

    other = frames.tcp(
        V4.ip(1, 13), V4.outside, 4000, eth_src=VM2, eth_dst=overlay.mac("r/a")
    )
    simulation = overlay.send("a/vm3", other)

    src, _, sport, _ = tuple_of(seen(simulation))
    assert src == V4.nat_ip(10)
    assert sport != 4000


@FAMILIES
def test_no_lease_is_waited_for(family: Family) -> None:
    overlay = Overlay(masquerading(family, blocks=()))

    simulation = overlay.send("a/vm1", from_vm1(overlay, family, family.outside))

    wanted = LeaseWanted(overlay.key("r"), parse_ip(family.nat_ip(10)))
    assert simulation.outcome == Blocked(wanted)
    assert simulation.connection is None


def test_exhausted_ports_are_told() -> None:
    b = masquerading(V4, blocks=(62,))
    overlay = Overlay(b)
    overlay.nat.lease_failed(overlay.key("r"), parse_ip(V4.nat_ip(10)), 100.0)
    for port in range(64):
        frame = from_vm1(overlay, V4, V4.outside, sport=5000 + port)
        overlay.carry("a/vm1", frame)

    simulation = overlay.send("a/vm1", from_vm1(overlay, V4, V4.outside, sport=9000))

    assert simulation.outcome == Consumed(Reason.NAT_EXHAUSTED)
    _, answer = overlay.said(simulation)
    assert (answer[ICMP].type, answer[ICMP].code) == (3, 13)
    assert answer[IP].dst == V4.ip(1, 11)


def test_a_sender_with_as_many_ports_as_it_may_have_is_told() -> None:
    """RFC 6888, REQ-4."""
    overlay = Overlay(masquerading(V4, blocks=(62,)))
    overlay.nat._max_ports = 3
    for port in range(3):
        overlay.carry("a/vm1", from_vm1(overlay, V4, V4.outside, sport=5000 + port))

    simulation = overlay.send("a/vm1", from_vm1(overlay, V4, V4.outside, sport=9000))

    assert simulation.outcome == Consumed(Reason.NAT_LIMIT)
    _, answer = overlay.said(simulation)
    assert (answer[ICMP].type, answer[ICMP].code) == (3, 13)


@FAMILIES
def test_inside_traffic_is_not_masqueraded(family: Family) -> None:
    b = masquerading(family)
    overlay = Overlay(b)

    simulation = overlay.send("a/vm1", from_vm1(overlay, family, family.ip(2, 12)))

    assert overlay.names(simulation) == ("b/vm2",)
    assert seen(simulation).payload.src == family.ip(1, 11)


@FAMILIES
def test_nat_address_without_binding_drops_and_waits_for_the_key(
    family: Family,
) -> None:
    overlay = Overlay(masquerading(family))
    frame = from_outside(overlay, family, family.nat_ip(10), sport=80, dport=4000)

    simulation = overlay.send("r/up", frame)

    assert simulation.outcome == Drop(Reason.NO_BINDING)
    tuple4 = (parse_ip(family.outside), parse_ip(family.nat_ip(10)), 80, 4000)
    assert (overlay.key("r"), 6, *tuple4) in simulation.tags
    made = overlay.carry("a/vm1", from_vm1(overlay, family, family.outside)).connection
    assert made is not None
    assert is_installable(simulation)


def test_missing_key_is_exactly_what_a_late_record_brings() -> None:
    overlay = Overlay(masquerading(V4))
    frame = from_outside(overlay, V4, V4.nat_ip(10), sport=80, dport=4000, flags="SA")
    early = overlay.send("r/up", frame)
    made = overlay.send("a/vm1", from_vm1(overlay, V4, V4.outside)).connection
    assert made is not None

    keys = overlay.connections.insert(replace(made, id=5), 100.0)

    assert set(keys) & early.tags
    assert overlay.names(overlay.send("r/up", frame)) == ("a/vm1",)


def test_later_fragment_has_no_ports_to_translate() -> None:
    overlay = Overlay(masquerading(V4))
    later = IP(src=V4.outside, dst=V4.nat_ip(10), proto=17, frag=9)
    frame = frames.ethernet(
        later / frames.Raw(b"x" * 64), eth_src=GATEWAY_MAC, eth_dst=overlay.mac("r/up")
    )

    simulation = overlay.send("r/up", frame)

    assert simulation.outcome == ErrorDrop(Reason.FRAGMENT)
    assert simulation.fields & field.IP_FRAG, "or the drop hits whole packets too"


def test_protocol_without_ports_is_not_masqueraded() -> None:
    overlay = Overlay(masquerading(V4))
    body = IP(src=V4.ip(1, 11), dst=V4.outside, proto=47) / frames.Raw(b"x" * 40)
    frame = frames.ethernet(body, eth_src=VM1, eth_dst=overlay.mac("r/a"))

    assert overlay.send("a/vm1", frame).outcome == Drop(Reason.NAT_PROTOCOL)


@FAMILIES
def test_echo_through_masquerade_has_its_identifier_translated(family: Family) -> None:
    overlay = Overlay(masquerading(family))
    # Identifier 9000 is in no leased block, so another one has to be chosen.
    out = overlay.carry(
        "a/vm1",
        family.echo(
            family.ip(1, 11),
            family.outside,
            identifier=9000,
            eth_src=VM1,
            eth_dst=overlay.mac("r/a"),
        ),
    )
    frame = seen(out)
    chosen = frame.payload.payload.id
    assert frame.payload.src == family.nat_ip(10)
    assert chosen != 9000
    assert not is_installable(out)

    back = overlay.send(
        "r/up",
        family.echo(
            family.outside,
            family.nat_ip(10),
            identifier=chosen,
            reply=True,
            eth_src=GATEWAY_MAC,
            eth_dst=overlay.mac("r/up"),
        ),
    )

    assert overlay.names(back) == ("a/vm1",)
    frame = seen(back)
    assert frame.payload.dst == family.ip(1, 11)
    assert frame.payload.payload.id == 9000


@FAMILIES
def test_echo_reply_for_another_identifier_finds_nothing(family: Family) -> None:
    overlay = Overlay(masquerading(family))
    overlay.carry(
        "a/vm1",
        family.echo(
            family.ip(1, 11),
            family.outside,
            identifier=4000,
            eth_src=VM1,
            eth_dst=overlay.mac("r/a"),
        ),
    )

    simulation = overlay.send(
        "r/up",
        family.echo(
            family.outside,
            family.nat_ip(10),
            identifier=4001,
            reply=True,
            eth_src=GATEWAY_MAC,
            eth_dst=overlay.mac("r/up"),
        ),
    )

    assert simulation.outcome == Drop(Reason.NO_BINDING)


# DNAT.


def with_dnat(family: Family, **fields: Any) -> Builder:
    """Port 8000..8009 of NAT address .20 is port 80..89 of vm1, over TCP."""
    fields.setdefault("ip_proto", 6)
    fields.setdefault("ports", (8000, 8009))
    fields.setdefault("to_port", 80)
    b = masquerading(family)
    b.dnat("r", family.nat_ip(20), family.ip(1, 11), **fields)
    return b


@FAMILIES
@pytest.mark.parametrize(("port", "inside"), [(8000, 80), (8005, 85), (8009, 89)])
def test_dnat_maps_a_range_in_order(family: Family, port: int, inside: int) -> None:
    overlay = Overlay(with_dnat(family))
    frame = from_outside(overlay, family, family.nat_ip(20), dport=port)

    simulation = overlay.send("r/up", frame)

    assert overlay.names(simulation) == ("a/vm1",)
    expected = (family.outside, family.ip(1, 11), 1000, inside)
    assert tuple_of(seen(simulation)) == expected
    assert simulation.connection is not None


@FAMILIES
def test_answer_through_dnat_is_translated_back(family: Family) -> None:
    overlay = Overlay(with_dnat(family))
    frame = from_outside(overlay, family, family.nat_ip(20), dport=8005)
    overlay.carry("r/up", frame)

    back = from_vm1(overlay, family, family.outside, sport=85, dport=1000, flags="SA")
    simulation = overlay.send("a/vm1", back)

    assert overlay.names(simulation) == ("r/up",)
    expected = (family.nat_ip(20), family.outside, 8005, 1000)
    assert tuple_of(seen(simulation)) == expected
    assert simulation.connection is None


@pytest.mark.parametrize("port", [7999, 8010])
def test_port_outside_the_dnat_range_has_no_binding(port: int) -> None:
    overlay = Overlay(with_dnat(V4))

    simulation = overlay.send(
        "r/up", from_outside(overlay, V4, V4.nat_ip(20), dport=port)
    )

    assert simulation.outcome == Drop(Reason.NO_BINDING)


def test_dnat_of_a_whole_address_keeps_ports() -> None:
    overlay = Overlay(with_dnat(V4, ip_proto=0, ports=(0, 0xFFFF), to_port=0))

    simulation = overlay.send(
        "r/up",
        from_outside(overlay, V4, V4.nat_ip(20), make=frames.udp, dport=777),
    )

    assert tuple_of(seen(simulation)) == (V4.outside, V4.ip(1, 11), 1000, 777)


def test_dnat_that_leads_nowhere_is_told_about_the_outside_address() -> None:
    b = with_dnat(V4)
    b.dnat("r", V4.nat_ip(21), "10.0.2.99")
    overlay = Overlay(b)
    frame = from_outside(overlay, V4, V4.nat_ip(21), make=frames.udp)

    simulation = overlay.send("r/up", frame, give_up=True)

    assert simulation.outcome == Consumed(Reason.NO_NEIGHBOR)
    _, answer = overlay.said(simulation)
    assert frame[14:].startswith(bytes(answer[ICMP].payload))


@FAMILIES
def test_hairpin_goes_through_both_translations(family: Family) -> None:
    b = masquerading(family)
    b.masquerade("r", family.subnet(1), family.nat_ip(10))
    b.dnat("r", family.nat_ip(20), family.ip(1, 13), ip_proto=6)
    overlay = Overlay(b)

    simulation = overlay.carry("a/vm1", from_vm1(overlay, family, family.nat_ip(20)))

    assert overlay.names(simulation) == ("a/vm3",)
    there = tuple_of(seen(simulation))
    assert there == (family.nat_ip(10), family.ip(1, 13), 4000, 80)

    back = frames.tcp(
        family.ip(1, 13),
        family.nat_ip(10),
        80,
        4000,
        flags="SA",
        eth_src="02:00:00:00:00:03",
        eth_dst=overlay.mac("r/a"),
    )
    returned = overlay.send("a/vm3", back)

    assert overlay.names(returned) == ("a/vm1",)
    assert tuple_of(seen(returned)) == (family.nat_ip(20), family.ip(1, 11), 80, 4000)


@FAMILIES
def test_hairpin_to_a_floating_address_comes_back_from_it(family: Family) -> None:
    b = masquerading(family)
    b.masquerade("r", family.subnet(1), family.nat_ip(10))
    b.floating("r", family.nat_ip(33), family.ip(1, 13))
    overlay = Overlay(b)

    simulation = overlay.carry("a/vm1", from_vm1(overlay, family, family.nat_ip(33)))

    there = tuple_of(seen(simulation))
    assert there == (family.nat_ip(10), family.ip(1, 13), 4000, 80)

    back = frames.tcp(
        family.ip(1, 13),
        family.nat_ip(10),
        80,
        4000,
        flags="SA",
        eth_src="02:00:00:00:00:03",
        eth_dst=overlay.mac("r/a"),
    )
    returned = overlay.send("a/vm3", back)

    assert overlay.names(returned) == ("a/vm1",)
    assert tuple_of(seen(returned)) == (family.nat_ip(33), family.ip(1, 11), 80, 4000)


@FAMILIES
def test_hairpin_from_a_floating_address_stays_the_same(family: Family) -> None:
    b = masquerading(family)
    b.floating("r", family.nat_ip(31), family.ip(1, 11))
    b.dnat("r", family.nat_ip(20), family.ip(1, 13), ip_proto=6)
    overlay = Overlay(b)
    first = overlay.carry("a/vm1", from_vm1(overlay, family, family.nat_ip(20)))
    assert tuple_of(seen(first))[:2] == (family.nat_ip(31), family.ip(1, 13))

    later = from_vm1(overlay, family, family.nat_ip(20), flags="A")
    second = overlay.send("a/vm1", later)

    assert tuple_of(seen(second)) == tuple_of(seen(first))


@FAMILIES
def test_source_and_destination_are_translated_in_one_pass(family: Family) -> None:
    b = masquerading(family)
    # A service outside has an address of its own inside.
    b.dnat("r", family.nat_ip(30), family.outside, ip_proto=6)
    overlay = Overlay(b)

    simulation = overlay.carry("a/vm1", from_vm1(overlay, family, family.nat_ip(30)))

    assert overlay.names(simulation) == ("r/up",)
    expected = (family.nat_ip(10), family.outside, 4000, 80)
    assert tuple_of(seen(simulation)) == expected
    assert simulation.connection is not None
    assert len(simulation.connection.translations) == 2

    back = from_outside(
        overlay, family, family.nat_ip(10), sport=80, dport=4000, flags="SA"
    )
    returned = overlay.send("r/up", back)

    assert overlay.names(returned) == ("a/vm1",)
    assert tuple_of(seen(returned)) == (family.nat_ip(30), family.ip(1, 11), 80, 4000)


# Floating addresses.


def with_floating(family: Family) -> Builder:
    b = masquerading(family)
    b.floating("r", family.nat_ip(40), family.ip(1, 11))
    return b


@FAMILIES
def test_floating_address_leads_in(family: Family) -> None:
    overlay = Overlay(with_floating(family))
    frame = from_outside(overlay, family, family.nat_ip(40), dport=99)

    simulation = overlay.send("r/up", frame)

    assert overlay.names(simulation) == ("a/vm1",)
    assert tuple_of(seen(simulation)) == (family.outside, family.ip(1, 11), 1000, 99)
    assert simulation.connection is None, "no state for arithmetic"
    assert is_installable(simulation)
    assert not simulation.fields & field.L4


@FAMILIES
def test_floating_address_leads_out_before_masquerade(family: Family) -> None:
    overlay = Overlay(with_floating(family))

    simulation = overlay.send("a/vm1", from_vm1(overlay, family, family.outside))

    assert overlay.names(simulation) == ("r/up",)
    assert tuple_of(seen(simulation)) == (family.nat_ip(40), family.outside, 4000, 80)
    assert simulation.connection is None


def test_later_fragments_pass_a_floating_address() -> None:
    overlay = Overlay(with_floating(V4))
    later = IP(src=V4.outside, dst=V4.nat_ip(40), proto=17, frag=9)
    frame = frames.ethernet(
        later / frames.Raw(b"x" * 64), eth_src=GATEWAY_MAC, eth_dst=overlay.mac("r/up")
    )

    assert overlay.names(overlay.send("r/up", frame)) == ("a/vm1",)


@FAMILIES
def test_echo_keeps_its_identifier_through_a_floating_address(family: Family) -> None:
    overlay = Overlay(with_floating(family))
    frame = family.echo(
        family.outside,
        family.nat_ip(40),
        identifier=9000,
        eth_src=GATEWAY_MAC,
        eth_dst=overlay.mac("r/up"),
    )

    simulation = overlay.send("r/up", frame)

    assert seen(simulation).payload.payload.id == 9000
    assert is_installable(simulation)


@FAMILIES
def test_filter_behind_a_floating_address_knows_its_connections(
    family: Family,
) -> None:
    b = with_floating(family)
    accept = model.RuleAction.ACCEPT
    chain = b.chain(
        "to-vm",
        model.Rule(accept, ct_states=model.CT_ESTABLISHED),
        model.Rule(accept, ct_states=model.CT_NEW, ip_proto=6),
        accept=False,
    )
    row = b.vport("a/vm1", host="node1", mac=VM1, ip=family.ip(1, 11))
    b.put(replace(row, egress_chain=chain))
    overlay = Overlay(b)
    frame = from_outside(overlay, family, family.nat_ip(40), dport=99)
    first = overlay.carry("r/up", frame)
    assert first.connection is not None

    reset = from_outside(overlay, family, family.nat_ip(40), dport=99, flags="R")
    later = overlay.send("r/up", reset)

    assert overlay.names(later) == ("a/vm1",)
    assert later.found is not None
    assert later.connection is None


# Two routers with NAT in a row.


def two_nats(family: Family) -> Builder:
    """Vm1 behind router r behind router s, both masquerade."""
    b = two_networks(family, default=False)
    length = family.bits
    b.router("s")
    b.connect("r", f"{family.ip(9, 1)}/{length}", "s", f"{family.ip(9, 2)}/{length}")
    b.vport("s/up", host="node2", mac="02:cc:00:00:00:02", ip=family.uplink)
    b.route("r", family.default, via=family.ip(9, 2))
    b.route("s", family.default, via=family.gateway, vport="s/up")
    b.put(model.Neighbor("n", b.key("s"), parse_ip(family.gateway), 0x02FF_0000_0009))
    b.masquerade("r", family.subnet(1), family.ip(9, 5))
    b.masquerade("s", family.subnet(9), family.nat_ip(10))
    b.route(
        "s", f"{family.ip(9, 5)}/{128 if family.is_v6 else 32}", via=family.ip(9, 1)
    )
    for router, address in (("r", family.ip(9, 5)), ("s", family.nat_ip(10))):
        b.lease(router, address, 62, "node1")
    return b


def outer(overlay: Overlay, frame: bytes) -> bytes:
    mac = bytes.fromhex(overlay.mac("s/up").replace(":", ""))
    return mac + frame[6:]


@FAMILIES
def test_two_masquerades_in_a_row(family: Family) -> None:
    overlay = Overlay(two_nats(family))

    simulation = overlay.carry("a/vm1", from_vm1(overlay, family, family.outside))

    assert overlay.names(simulation) == ("s/up",)
    assert tuple_of(seen(simulation)) == (family.nat_ip(10), family.outside, 4000, 80)
    assert simulation.hops == 2

    back = from_outside(
        overlay, family, family.nat_ip(10), sport=80, dport=4000, flags="SA"
    )
    returned = overlay.send("s/up", outer(overlay, back))

    assert overlay.names(returned) == ("a/vm1",)
    assert tuple_of(seen(returned)) == (family.outside, family.ip(1, 11), 80, 4000)


@FAMILIES
def test_route_tracing_through_masquerade_shows_every_router(family: Family) -> None:
    overlay = Overlay(two_nats(family))
    probe = from_vm1(
        overlay, family, family.outside, make=frames.udp, dport=33434, ttl=2
    )

    simulation = overlay.carry("a/vm1", probe)

    assert simulation.outcome == Consumed(Reason.TTL_EXCEEDED)
    names, answer = overlay.said(simulation)
    assert names == ("a/vm1",)
    assert (answer.payload.src, answer.payload.dst) == (
        family.ip(9, 2),
        family.ip(1, 11),
    )
    inner = quoted(family, answer)
    assert (inner.src, inner.payload.sport) == (family.ip(1, 11), 4000)


@FAMILIES
def test_what_a_router_says_is_not_masqueraded_anew(family: Family) -> None:
    overlay = Overlay(two_nats(family))
    frame = family.echo(family.outside, family.ip(9, 1), eth_src=GATEWAY_MAC)

    simulation = overlay.carry("s/up", outer(overlay, frame))

    assert simulation.outcome == Consumed(Reason.ANSWERED)
    names, answer = overlay.said(simulation)
    assert names == ("s/up",)
    assert (answer.payload.src, answer.payload.dst) == (
        family.ip(9, 1),
        family.outside,
    )
    assert answer.payload.payload.id == 7


# ICMP errors from outside.


def quoted(family: Family, frame: Any) -> Any:
    """Return what an ICMP error quotes, as scapy reads it; checksums must be right."""
    data = bytes(frame.payload.payload)[8:]
    kind = frames.IPv6 if family.is_v6 else IP
    fresh = kind(data)
    if not family.is_v6:
        del fresh[IP].chksum
    for layer in (TCP, UDP):
        if layer in fresh:
            del fresh[layer].chksum
    assert bytes(fresh) == data
    return kind(data)


def error_about(overlay: Overlay, family: Family, frame: Any) -> bytes:
    """A router outside complains about a packet that left by the uplink."""
    far = "2001:db8:7::7" if family.is_v6 else "198.51.100.254"
    return frames.icmp_error(
        bytes(frame.payload),
        far,
        frame.payload.src,
        kind=3,
        code=0 if family.is_v6 else 1,
        eth_src=GATEWAY_MAC,
        eth_dst=overlay.mac("r/up"),
    )


@FAMILIES
@pytest.mark.parametrize("make", [frames.tcp, frames.udp], ids=["TCP", "UDP"])
def test_error_about_a_masqueraded_packet_is_translated_inside_and_out(
    family: Family, make: Any
) -> None:
    overlay = Overlay(masquerading(family))
    frame = from_vm1(overlay, family, family.outside, make=make, sport=9000)
    left = seen(overlay.carry("a/vm1", frame))

    simulation = overlay.send("r/up", error_about(overlay, family, left))

    assert overlay.names(simulation) == ("a/vm1",)
    arrived = seen(simulation)
    assert arrived.payload.dst == family.ip(1, 11)
    inner = quoted(family, arrived)
    assert (inner.src, inner.dst) == (family.ip(1, 11), family.outside)
    assert inner.payload.sport == 9000
    assert simulation.connection is None
    assert not is_installable(simulation)


@FAMILIES
def test_error_about_a_masqueraded_echo_has_the_old_identifier(family: Family) -> None:
    overlay = Overlay(masquerading(family))
    frame = family.echo(
        family.ip(1, 11),
        family.outside,
        identifier=9000,
        eth_src=VM1,
        eth_dst=overlay.mac("r/a"),
    )
    left = seen(overlay.carry("a/vm1", frame))

    simulation = overlay.send("r/up", error_about(overlay, family, left))

    assert overlay.names(simulation) == ("a/vm1",)
    inner = quoted(family, seen(simulation))
    assert inner.src == family.ip(1, 11)
    assert inner.payload.id == 9000


@FAMILIES
def test_error_about_nothing_known_is_dropped(family: Family) -> None:
    overlay = Overlay(masquerading(family))
    frame = frames.Ether(
        frames.tcp(family.nat_ip(10), family.outside, 4000, eth_src=VM1)
    )

    simulation = overlay.send("r/up", error_about(overlay, family, frame))

    assert simulation.outcome == Drop(Reason.NO_BINDING)


@FAMILIES
def test_error_about_an_answer_through_dnat_reaches_the_server(family: Family) -> None:
    overlay = Overlay(with_dnat(family))
    overlay.carry("r/up", from_outside(overlay, family, family.nat_ip(20), dport=8000))
    back = from_vm1(overlay, family, family.outside, sport=80, dport=1000, flags="SA")
    left = seen(overlay.carry("a/vm1", back))
    assert left.payload.src == family.nat_ip(20)

    simulation = overlay.send("r/up", error_about(overlay, family, left))

    assert overlay.names(simulation) == ("a/vm1",)
    inner = quoted(family, seen(simulation))
    assert (inner.src, inner.payload.sport) == (family.ip(1, 11), 80)


@FAMILIES
def test_error_about_a_floating_address_is_translated(family: Family) -> None:
    overlay = Overlay(with_floating(family))
    left = seen(overlay.carry("a/vm1", from_vm1(overlay, family, family.outside)))
    assert left.payload.src == family.nat_ip(40)

    simulation = overlay.send("r/up", error_about(overlay, family, left))

    assert overlay.names(simulation) == ("a/vm1",)
    assert seen(simulation).payload.dst == family.ip(1, 11)
    assert quoted(family, seen(simulation)).src == family.ip(1, 11)


@FAMILIES
def test_error_from_inside_about_a_dnat_packet_shows_the_outside_address(
    family: Family,
) -> None:
    overlay = Overlay(with_dnat(family, ip_proto=17))
    asked = overlay.carry(
        "r/up",
        from_outside(overlay, family, family.nat_ip(20), make=frames.udp, dport=8000),
    )
    inner = bytes(seen(asked).payload)
    error = frames.icmp_error(
        inner,
        family.ip(1, 11),
        family.outside,
        kind=1 if family.is_v6 else 3,
        code=4 if family.is_v6 else 3,
        eth_src=VM1,
        eth_dst=overlay.mac("r/a"),
    )

    simulation = overlay.send("a/vm1", error)

    assert overlay.names(simulation) == ("r/up",)
    left = seen(simulation)
    assert left.payload.src == family.nat_ip(20)
    about = quoted(family, left)
    assert (about.dst, about.payload.dport) == (family.nat_ip(20), 8000)


def test_v6_and_v4_do_not_mix_in_one_rule() -> None:
    b = two_networks(V6)
    b.masquerade("r", "::/0", V4.nat_ip(10))
    overlay = Overlay(b)

    simulation = overlay.send("a/vm1", from_vm1(overlay, V6, V6.outside))

    assert seen(simulation).payload.src == V6.ip(1, 11)
