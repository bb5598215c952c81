# SPDX-License-Identifier: Apache-2.0
"""A Neutron subnet -> its row: what the virtual network tells by DHCP and RA.

Pure. `network` says which subnets there are; the rows belong to the network's unit.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final, Union

from midoryu.neutron import unit
from midoryu.neutron.security import host_or_prefix
from midoryu.nsdb.dhcp_option import parse_option
from midoryu.nsdb.item import Item, Value, make_item

LOG = logging.getLogger(__name__)

SERVER_WITHOUT_GATEWAY: Final = "169.254.169.253"
"""Who answers DHCP where a subnet has no gateway; link-local, RFC 3927."""


def subnet_item(
    subnet: Mapping[str, Any],
    *,
    has_router: bool,
    lease_s: int,
    domain: str = "",
) -> Item:
    """Make the row of a subnet.

    Args:
        subnet: the subnet as the API shows it.
        has_router: whether a router has a port on it: only then it advertises.
        lease_s: length of a DHCP lease in seconds; -1 for the longest.
        domain: DNS domain of the cloud, "" for none.
    """
    columns: dict[str, Value] = {
        "network": unit.device_name(subnet["network_id"]),
        "prefix": subnet["cidr"],
        "gateway": subnet.get("gateway_ip"),
        "dns": " ".join(subnet.get("dns_nameservers") or ()) or None,
        "domain": domain.rstrip(".") or None,
        "routes": _routes(subnet),
        "lease_s": 0xFFFF_FFFF if lease_s < 0 else max(60, lease_s),
    }
    if subnet["ip_version"] == 4:
        columns["dhcp"] = bool(subnet["enable_dhcp"])
        if columns["dhcp"] and not columns["gateway"]:
            columns["server"] = SERVER_WITHOUT_GATEWAY
    else:
        by_dhcp = subnet.get("ipv6_address_mode") == "dhcpv6-stateful"
        columns["dhcp"] = bool(subnet["enable_dhcp"] and by_dhcp)
        if has_router and subnet.get("ipv6_ra_mode"):
            columns["ra_mode"] = subnet["ipv6_ra_mode"]
    return make_item("Subnet", columns)


def dhcp_options(options: Iterable[Mapping[str, Any]], version: int) -> tuple[str, ...]:
    """Write a port's extra DHCP options of one IP version as rows hold them.

    One that no DHCP client could read is left out, with a warning.
    """
    found = set()
    for option in options:
        if int(option.get("ip_version") or 4) == version:
            text = _option(option, version)
            if text is not None:
                found.add(text)
    return tuple(sorted(found))


def _option(option: Mapping[str, Any], version: int) -> Union[str, None]:
    # dnsmasq's own spelling has its words, Neutron passes them through.
    name = str(option["opt_name"]).replace("option6:", "").replace("option:", "")
    text = f"{name}={option['opt_value']}"
    try:
        parse_option(text, v4=version == 4)
    except ValueError as problem:
        LOG.warning("left out DHCP option %s: %s", text, problem)
        return None
    return text


def _routes(subnet: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        sorted(
            f"{host_or_prefix(route['destination'])} via {route['nexthop']}"
            for route in subnet.get("host_routes") or ()
        )
    )
