# SPDX-License-Identifier: Apache-2.0
"""A Neutron router -> its rows."""

from __future__ import annotations

from typing import Any

from midoryu.neutron.router import RouterParts, router_items
from midoryu.nsdb.item import Item

SUBNETS = {
    "in": {
        "id": "in",
        "cidr": "10.0.0.0/24",
        "ip_version": 4,
        "gateway_ip": "10.0.0.1",
    },
    "in6": {
        "id": "in6",
        "cidr": "2001:db8:1::/64",
        "ip_version": 6,
        "gateway_ip": "2001:db8:1::1",
    },
    "out": {
        "id": "out",
        "cidr": "203.0.113.0/24",
        "ip_version": 4,
        "gateway_ip": "203.0.113.1",
    },
    "out6": {
        "id": "out6",
        "cidr": "2001:db8:f::/64",
        "ip_version": 6,
        "gateway_ip": "fe80::1",
    },
}


def port(ident: str, owner: str, network: str, **addresses: str) -> dict[str, Any]:
    """Make a router's port as Neutron's API shows it."""
    return {
        "id": ident,
        "network_id": network,
        "device_owner": f"network:{owner}",
        "mac_address": "fa:16:3e:00:00:01",
        "admin_state_up": True,
        "fixed_ips": [
            {"subnet_id": subnet, "ip_address": ip} for subnet, ip in addresses.items()
        ],
    }


INSIDE = port("i", "router_interface", "n", **{"in": "10.0.0.1"})
INSIDE6 = port("i6", "router_interface", "n", in6="2001:db8:1::1")
GATEWAY = port("g", "router_gateway", "ext", out="203.0.113.5", out6="2001:db8:f::5")


def items(**parts: Any) -> list[Item]:
    """Make the rows of a router with an outside."""
    router = {
        "id": "r",
        "admin_state_up": True,
        "external_gateway_info": {"network_id": "ext", "enable_snat": True},
        **parts.pop("router", {}),
    }
    ports = parts.pop("ports", [INSIDE, INSIDE6, GATEWAY])
    return router_items(RouterParts(router, ports=ports, subnets=SUBNETS, **parts))


def of(found: list[Item], table: str) -> list[Item]:
    return [item for item in found if item.table == table]


def test_port_has_two_ends_that_name_each_other() -> None:
    ends = [p for p in of(items(), "Port") if p.columns["name"] == "i"]

    router, network = ends
    assert router.columns["addresses"] == ("10.0.0.1/24",)
    assert router.columns["peer"] == network.name == "neutron-n/i"
    assert network.columns["peer"] == router.name == "neutron-r/i"


def test_default_routes_of_both_families_leave_by_the_gateway() -> None:
    found = [
        (r.columns["destination"], r.columns["gateway"], r.columns["port"])
        for r in of(items(), "Route")
    ]

    assert found == [
        ("0.0.0.0/0", "203.0.113.1", "neutron-r/g"),
        ("::/0", "fe80::1", "neutron-r/g"),
    ]


def test_extra_routes_find_their_way_by_the_next_hop() -> None:
    routes = [{"destination": "10.9.0.0/16", "nexthop": "10.0.0.254"}]

    found = of(items(router={"routes": routes}), "Route")[-1]

    assert found.columns["destination"] == "10.9.0.0/16"
    assert found.columns["gateway"] == "10.0.0.254"
    assert found.columns["port"] is None


def test_inside_ipv4_subnets_are_masqueraded_behind_the_gateways_address() -> None:
    (nat,) = of(items(), "Nat")

    assert nat.columns["type"] == "masquerade"
    assert nat.columns["source"] == "10.0.0.0/24"
    assert nat.columns["addresses"] == ("203.0.113.5",)
    assert nat.columns["port"] == "neutron-r/g"


def test_without_snat_nothing_is_masqueraded() -> None:
    info = {"network_id": "ext", "enable_snat": False}

    assert of(items(router={"external_gateway_info": info}), "Nat") == []


def test_subnet_in_the_outside_address_scope_is_not_masqueraded() -> None:
    assert of(items(unmasked=frozenset({"in"})), "Nat") == []


def test_floating_address_that_has_a_port_is_translated() -> None:
    floating = [
        {"floating_ip_address": "203.0.113.9", "fixed_ip_address": "10.0.0.7"},
        {"floating_ip_address": "203.0.113.10", "fixed_ip_address": None},
    ]

    found = of(items(floating_ips=floating), "Nat")

    assert [n.columns["type"] for n in found] == ["floating", "masquerade"]
    assert found[0].columns["to_address"] == "10.0.0.7"


def test_forwarded_ports_are_dnat() -> None:
    forwarding = {
        "floating_ip_address": "203.0.113.9",
        "protocol": "tcp",
        "external_port_range": "8080:8090",
        "internal_port_range": "80:90",
        "internal_ip_address": "10.0.0.7",
    }

    found = of(items(port_forwardings=[forwarding]), "Nat")[0]

    assert found.columns["ports"] == "8080-8090"
    assert (found.columns["to_address"], found.columns["to_port"]) == ("10.0.0.7", 80)
    assert found.columns["ip_proto"] == 6


def test_two_gateways_share_the_default_route() -> None:
    other = port("g2", "router_gateway", "ext2", out="203.0.113.6")

    found = of(items(ports=[INSIDE, GATEWAY, other]), "Route")

    ways = [r.columns["port"] for r in found if r.columns["destination"] == "0.0.0.0/0"]
    assert ways == ["neutron-r/g", "neutron-r/g2"]
