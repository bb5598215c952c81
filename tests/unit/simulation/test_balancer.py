# SPDX-License-Identifier: Apache-2.0
"""What load balancing reads, tags and says; where packets go: `tests/scenarios`."""

from __future__ import annotations

from typing import Any

import pytest

from midoryu.packet import field
from midoryu.packet.address import parse_ip
from midoryu.simulation.outcome import Consumed, Drop, Forward, Reason
from midoryu.state.connection import TranslationKind
from midoryu.topology import model
from midoryu.topology.tag import pool_tag
from tests.helpers import frames
from tests.helpers.worlds import FAMILIES, V4, Family, Overlay, two_networks

VIP = "10.0.2.80"


def overlay(*members: Any, device: str = "b", **pool: Any) -> Overlay:
    b = two_networks(V4)
    b.balancer("shop", device, [f"{VIP}:80/6"], members or ["10.0.2.12:8080"], **pool)
    return Overlay(b)


def call(world: Overlay, **fields: Any) -> bytes:
    values: dict[str, Any] = {
        "src": "10.0.1.11",
        "dst": VIP,
        "dport": 80,
        "eth_dst": world.mac("r/a"),
    }
    return frames.tcp(**{**values, **fields})


@pytest.mark.parametrize("device", ["b", "r"])
def test_the_record_holds_the_choice(device: str) -> None:
    world = overlay(device=device)
    made = world.send("a/vm1", call(world)).connection
    assert made is not None
    (translation,) = made.translations
    assert translation.kind is TranslationKind.DESTINATION
    assert translation.device == world.key(device)
    assert (translation.address, translation.port) == (parse_ip("10.0.2.12"), 8080)


def test_a_network_without_members_or_vips_reads_no_addresses() -> None:
    world = overlay(device="b")
    frame = frames.tcp(src="10.0.1.11", dst="10.0.1.13", eth_dst="02:00:00:00:00:03")
    simulation = world.send("a/vm1", frame)
    assert isinstance(simulation.outcome, Forward)
    assert not simulation.fields & (field.IP_DST | field.IP_SRC)


def test_a_drop_for_want_of_members_goes_when_the_pool_changes() -> None:
    for device in ("b", "r"):
        world = overlay(("10.0.2.12:8080", 0), device=device, rejects=False)
        simulation = world.send("a/vm1", call(world))
        assert simulation.outcome == Drop(Reason.NO_MEMBER)
        assert pool_tag("pool/shop") in simulation.tags


def test_a_trace_tells_that_nobody_is_there() -> None:
    world = overlay(("10.0.2.12:8080", 0))
    simulation = world.send("a/vm1", call(world), trace=True)
    assert simulation.outcome == Consumed(Reason.NO_MEMBER)
    steps = [(step.device, step.verb, step.detail) for step in simulation.trace]
    assert ("pool shop", "choose", "no usable member") in steps


def test_a_frame_to_the_vips_mac_for_another_address_goes_nowhere() -> None:
    world = overlay(device="a")
    network = world.topology.network(world.key("a"))
    assert network is not None
    assert network.balancing is not None
    mac = f"{network.balancing.mac:012x}"
    eth_dst = ":".join(mac[i : i + 2] for i in range(0, 12, 2))
    frame = frames.tcp(src="10.0.1.11", dst="10.0.1.99", eth_dst=eth_dst)
    assert world.send("a/vm1", frame).outcome == Drop(Reason.NO_BINDING)


def test_a_member_that_left_is_still_known_by_its_records() -> None:
    world = overlay(device="r")
    first = world.carry("a/vm1", call(world))
    assert isinstance(first.outcome, Forward)
    world.change(model.Gone(model.PoolMember, "member/shop/10.0.2.12:8080"))
    back = frames.tcp(
        src="10.0.2.12",
        dst="10.0.1.11",
        sport=8080,
        dport=1000,
        flags="SA",
        eth_src="02:00:00:00:00:02",
        eth_dst=world.mac("r/b"),
    )
    simulation = world.send("b/vm2", back)
    assert simulation.headers.ip_src == parse_ip(VIP)
    assert simulation.headers.l4_src == 80


@FAMILIES
def test_an_address_wide_vip_is_for_every_port(family: Family) -> None:
    b = two_networks(family)
    vip = family.ip(2, 80)
    b.balancer("shop", "r", [vip], [family.ip(2, 12)])
    world = Overlay(b)
    assert world.topology.balancers
    router = world.topology.router(world.key("r"))
    assert router is not None
    assert router.nat.balancing.find(parse_ip(vip), 17, 9) is not None
