# SPDX-License-Identifier: Apache-2.0
"""Views of devices: who is where, who is answered for, where routes go."""

from __future__ import annotations

from midoryu.packet.address import link_local_of, parse_ip, parse_mac
from midoryu.topology.snapshot import Topology
from midoryu.topology.view import NetworkView, RouterView, subnets
from tests.helpers.builder import Builder, cloud

ROUTER_MAC = "02:aa:00:00:{:02x}:{:02x}"


def network(b: Builder, name: str, topology: Topology | None = None) -> NetworkView:
    view = (topology or b.topology()).network(b.key(name))
    assert view is not None
    return view


def router(b: Builder, name: str) -> RouterView:
    view = b.topology().router(b.key(name))
    assert view is not None
    return view


def test_a_network_knows_its_vms_and_its_router_by_mac() -> None:
    b = cloud()
    view = network(b, "web")
    mac = parse_mac(ROUTER_MAC.format(b.key("tenant"), b.key("web")))
    assert view.vport_by_mac == {
        parse_mac("02:00:00:00:00:02"): b.key("web/vm2"),
        parse_mac("02:00:00:00:00:03"): b.key("web/vm3"),
        mac: b.key("web/tenant"),
    }
    assert {vport.key for vport in view.exterior} == {
        b.key("web/vm2"),
        b.key("web/vm3"),
    }
    assert [vport.key for vport in view.interior] == [b.key("web/tenant")]


def test_a_network_answers_for_vms_and_routers_and_their_link_local_address() -> None:
    b = cloud()
    known = network(b, "web").mac_by_ip
    mac = parse_mac(ROUTER_MAC.format(b.key("tenant"), b.key("web")))
    assert known[parse_ip("10.0.1.2")] == parse_mac("02:00:00:00:00:02")
    assert known[parse_ip("10.0.1.1")] == mac
    assert known[link_local_of(mac)] == mac
    assert parse_ip("203.0.113.10") not in known


def test_a_network_answers_for_nat_addresses_of_its_own_subnet() -> None:
    b = cloud()
    b.floating("tenant", "10.0.1.99", "10.0.1.2")
    mac = parse_mac(ROUTER_MAC.format(b.key("tenant"), b.key("web")))
    assert network(b, "web").mac_by_ip[parse_ip("10.0.1.99")] == mac


def test_a_vm_that_has_a_nat_address_itself_keeps_it() -> None:
    b = cloud()
    b.floating("tenant", "10.0.1.2", "10.0.1.3")
    known = network(b, "web").mac_by_ip
    assert known[parse_ip("10.0.1.2")] == parse_mac("02:00:00:00:00:02")


def test_a_vport_without_a_mac_is_nowhere() -> None:
    b = Builder()
    b.network("web")
    b.vport("web/vm1", ip="10.0.1.1")
    view = network(b, "web")
    assert (view.vport_by_mac, view.mac_by_ip) == ({}, {})


def test_a_router_knows_its_own_addresses_and_its_subnets_as_routes() -> None:
    b = cloud()
    view = router(b, "tenant")
    assert view.local == {
        parse_ip("10.0.1.1"): b.key("tenant/web"),
        parse_ip("100.64.0.2"): b.key("tenant/provider"),
    }
    (route,) = next(view.routes.lookup(parse_ip("10.0.1.77")))
    assert route.vport == b.key("tenant/web")


def test_a_route_leaves_by_the_vport_whose_subnet_holds_its_next_hop() -> None:
    b = cloud()
    (route,) = next(router(b, "tenant").routes.lookup(parse_ip("198.51.100.1")))
    assert route.vport == b.key("tenant/provider")
    b.route("tenant", "198.18.0.0/15", via="172.16.0.1")
    (lost,) = next(router(b, "tenant").routes.lookup(parse_ip("198.18.0.1")))
    assert lost.vport == 0


def test_subnets_have_no_host_bits() -> None:
    b = Builder()
    row = b.vport("r/up", ip=["192.0.2.2/30", "fd00::5/64"])
    assert [str(one) for one in subnets(row)] == ["192.0.2.0/30", "fd00::/64"]
