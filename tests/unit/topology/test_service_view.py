# SPDX-License-Identifier: Apache-2.0
"""What a network listens to for its services."""

from __future__ import annotations

from dataclasses import replace

from midoryu.packet.address import parse_ip, parse_mac
from midoryu.topology.model import Gone, Put
from midoryu.topology.service import Subnet
from midoryu.topology.tag import device_tag
from tests.helpers.builder import Builder
from tests.helpers.services import served, services_of, view_of


def test_network_without_subnets_has_no_services() -> None:
    b = Builder()
    b.network("web")

    view = b.topology().network(b.key("web"))

    assert view is not None
    assert view.services is None


def test_resolver_has_a_mac_of_the_networks_own_and_the_gateway_its_routers() -> None:
    b = served()
    services = services_of(b)
    router = b.topology().vport(b.key("r/web"))
    assert router is not None

    assert services.own_macs[parse_ip("10.0.1.2")] == services.mac
    assert services.own_macs[parse_ip("10.0.1.1")] == router.mac
    assert parse_ip("10.0.1.11") not in services.addresses


def test_offers_are_the_vports_addresses_in_subnets_with_dhcp() -> None:
    b = served()
    services = services_of(b)
    vport = b.topology().vport(b.key("web/a"))
    assert vport is not None

    (offer,) = services.offers(vport, services.dhcp4)

    assert offer.address == parse_ip("10.0.1.11")
    off = services_of(served({"dhcp": False}))
    assert off.dhcp4 == ()


def test_names_stand_with_and_without_domain() -> None:
    names = services_of(served(hostname="Alpha")).names()

    own = [parse_ip("10.0.1.11"), parse_ip("fd00:1::11")]
    assert names.addresses["alpha"] == own
    assert names.addresses["alpha.web.example"] == own
    assert names.by_address[own[1]] == "alpha.web.example"
    assert names.is_ours("x.web.example")
    assert not names.is_ours("xweb.example")


def test_metadata_addresses_are_the_proxys() -> None:
    b = served()
    b.vport("web/meta", mac="02:00:00:00:0a:fe", metadata=True)

    services = services_of(b)

    assert services.own_macs[parse_ip("169.254.169.254")] == parse_mac(
        "02:00:00:00:0a:fe"
    )


def test_changed_subnet_makes_a_new_view_and_its_tag() -> None:
    b = served()
    topology = b.topology()
    before = view_of(topology, b)
    row = next(row for row in b.rows if isinstance(row, Subnet) and row.is_v4)

    tags = topology.apply([Put(replace(row, lease_s=61))])

    assert device_tag(b.key("web")) in tags
    assert view_of(topology, b) is not before
    topology.apply([Gone(Subnet, "four"), Gone(Subnet, "six")])
    view = topology.network(b.key("web"))
    assert view is not None
    assert view.services is None
