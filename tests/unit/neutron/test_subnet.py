# SPDX-License-Identifier: Apache-2.0
"""A Neutron subnet -> its row."""

from __future__ import annotations

from typing import Any

from midoryu.neutron.subnet import SERVER_WITHOUT_GATEWAY, subnet_item
from midoryu.nsdb.item import Item


def item(*, has_router: bool = True, lease_s: int = 86400, **columns: Any) -> Item:
    """Make the row of a subnet."""
    subnet = {
        "network_id": "n",
        "cidr": "10.0.0.0/24",
        "ip_version": 4,
        "gateway_ip": "10.0.0.1",
        "enable_dhcp": True,
        "dns_nameservers": ["192.0.2.53", "192.0.2.54"],
        "host_routes": [{"destination": "10.9.0.0/16", "nexthop": "10.0.0.2"}],
        **columns,
    }
    return subnet_item(
        subnet, has_router=has_router, lease_s=lease_s, domain="example.org."
    )


def v6(**columns: Any) -> dict[str, Any]:
    return {
        "cidr": "2001:db8::/64",
        "ip_version": 6,
        "gateway_ip": "2001:db8::1",
        **columns,
    }


def test_dhcp_tells_what_the_subnet_has() -> None:
    columns = item().columns

    assert columns["prefix"] == "10.0.0.0/24"
    assert columns["dhcp"] is True
    assert columns["dns"] == "192.0.2.53 192.0.2.54"
    assert columns["routes"] == ("10.9.0.0/16 via 10.0.0.2",)
    assert columns["domain"] == "example.org"
    assert columns["lease_s"] == 86400


def test_endless_lease_is_the_longest() -> None:
    assert item(lease_s=-1).columns["lease_s"] == 0xFFFF_FFFF


def test_subnet_without_gateway_has_a_dhcp_server_all_the_same() -> None:
    assert item(gateway_ip=None).columns["server"] == SERVER_WITHOUT_GATEWAY


def test_router_advertises_as_the_subnet_says() -> None:
    slaac = item(**v6(ipv6_ra_mode="slaac", ipv6_address_mode="slaac")).columns
    stateful = item(
        **v6(ipv6_ra_mode="dhcpv6-stateful", ipv6_address_mode="dhcpv6-stateful")
    ).columns

    assert (slaac["ra_mode"], slaac["dhcp"]) == ("slaac", False)
    assert (stateful["ra_mode"], stateful["dhcp"]) == ("dhcpv6-stateful", True)


def test_nobody_advertises_where_no_router_is() -> None:
    assert item(has_router=False, **v6(ipv6_ra_mode="slaac")).columns["ra_mode"] is None
