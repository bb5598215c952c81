# SPDX-License-Identifier: Apache-2.0
"""Where packets to a NAT address come in from outside."""

from __future__ import annotations

import pytest

from midoryu.packet.address import parse_ip, parse_mac
from midoryu.topology.model import Router
from midoryu.topology.uplinks import Uplink, uplinks_of
from tests.helpers.builder import Builder, cloud

NAT = "203.0.113.10"


def found(b: Builder, router: str, address: str = NAT) -> dict[str, Uplink]:
    """Return the uplinks by name."""
    names = {key: name for name, key in b.keys.items()}
    uplinks = uplinks_of(b.topology(), b.key(router), parse_ip(address)).uplinks
    return {names[one.vport]: one for one in uplinks}


def public(*, length: int = 24) -> Builder:
    """Make a router whose NAT address is on a provider network, as Neutron does."""
    b = Builder()
    b.host("node1", "172.31.0.1")
    b.network("web")
    b.network("public")
    b.router("r")
    b.attach("r", "web", "10.0.1.1/24")
    b.attach("r", "public", f"203.0.113.9/{length}")
    b.vport("web/vm1", host="node1", mac="02:00:00:00:00:01", ip="10.0.1.2")
    b.vport("public/wire", host="node1")
    b.vport("public/vm9", host="node1", mac="02:00:00:00:00:09", ip="203.0.113.99")
    b.route("r", "0.0.0.0/0", via="203.0.113.1")
    b.masquerade("r", "10.0.0.0/16", NAT)
    return b


def test_vports_of_a_router_in_front_are_uplinks_and_equals_of_one_set() -> None:
    b = cloud()
    uplinks = found(b, "tenant")
    keys = tuple(sorted(b.key(f"provider/uplink{n}") for n in (1, 4)))
    assert uplinks == {
        f"provider/uplink{n}": Uplink(
            b.key(f"provider/uplink{n}"), parse_mac(f"02:cc:00:00:00:0{n}"), keys
        )
        for n in (1, 4)
    }


def test_uplinks_that_filters_part_are_not_equal() -> None:
    b = cloud()
    chain = b.chain("strict", accept=False)
    b.vport(
        "provider/uplink4",
        host="node4",
        mac="02:cc:00:00:00:04",
        ip="192.0.2.14/30",
        ingress_chain=chain,
    )
    assert {len(one.equals) for one in found(b, "tenant").values()} == {1}


def test_a_router_without_a_way_back_has_no_uplinks_in_front() -> None:
    b = cloud()
    b.route("provider", "203.0.113.10/32", vport="provider/uplink1")
    assert found(b, "tenant") == {}


def test_a_second_way_back_is_not_plain() -> None:
    b = cloud()
    b.connect("spare", "100.64.1.2/30", "provider", "100.64.1.1/30")
    b.router("spare")
    b.route("provider", "203.0.113.0/24", via="100.64.1.2")
    assert found(b, "tenant") == {}


def test_a_wire_of_a_provider_network_is_an_uplink_and_its_machines_are_not() -> None:
    b = public()
    mac = b.topology().vport(b.key("r/public"))
    assert mac is not None
    wire = b.key("public/wire")
    assert found(b, "r") == {"public/wire": Uplink(wire, mac.mac, (wire,))}


def test_a_network_behind_the_routers_next_hop_is_found_without_the_subnet() -> None:
    assert set(found(public(length=29), "r")) == {"public/wire"}


def test_own_vports_are_uplinks_whatever_routes_say() -> None:
    b = public()
    b.vport("r/up", host="node1", mac="02:cc:00:00:00:01", ip="192.0.2.2/30")
    assert set(found(b, "r")) == {"public/wire", "r/up"}


@pytest.mark.parametrize("router", ["tenant", "nobody"])
def test_what_decides_is_told(router: str) -> None:
    b = cloud()
    devices = uplinks_of(b.topology(), b.key(router), parse_ip(NAT)).devices
    assert b.key(router) in devices
    assert (b.key("provider") in devices) == (router == "tenant")


def test_routers_in_a_ring_end() -> None:
    b = cloud()
    b.route("provider", "0.0.0.0/0", via="100.64.0.2", metric=5)
    assert len(found(b, "tenant")) == 2
    assert isinstance(b.topology().row(Router, b.key("tenant")), Router)
