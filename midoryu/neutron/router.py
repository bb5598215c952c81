# SPDX-License-Identifier: Apache-2.0
"""A Neutron router -> its rows: both ends of its ports, routes, address translation.

Pure. The external network that a gateway port is on has the way out (`network`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from midoryu.compat import SLOTS
from midoryu.neutron import unit
from midoryu.neutron.security import protocol_number
from midoryu.nsdb.item import Item, Value, make_item

GATEWAY_OWNER: Final = "network:router_gateway"

Api = Mapping[str, Any]
"""A resource as Neutron's API shows it."""


@dataclass(frozen=True, **SLOTS)
class RouterParts:
    """All that a router's rows are made of."""

    router: Api
    ports: Iterable[Api] = ()
    """Its ports, gateway ports too."""
    subnets: Mapping[str, Api] = field(default_factory=dict)
    """Subnets of its ports, by id."""
    floating_ips: Iterable[Api] = ()
    port_forwardings: Iterable[Api] = ()
    """Each with the `floating_ip_address` that it is at."""
    unmasked: frozenset[str] = frozenset()
    """Subnets whose addresses the external network knows (one address scope)."""


def router_items(parts: RouterParts) -> list[Item]:
    """Make the rows of a router."""
    router, ports = parts.router, list(parts.ports)
    name = unit.device_name(router["id"])
    items = [make_item("Router", {"name": name, "up": router["admin_state_up"]})]
    for port in ports:
        items += _both_ends(router["id"], port, parts.subnets)
    items += _routes(parts, [port for port in ports if _is_gateway(port)])
    items += _translations(parts, ports)
    return list({item.id: item for item in items}.values())


def _is_gateway(port: Api) -> bool:
    return bool(port["device_owner"] == GATEWAY_OWNER)


def _both_ends(router: str, port: Api, subnets: Mapping[str, Api]) -> Iterator[Item]:
    addresses = []
    for fixed in port["fixed_ips"]:
        subnet = subnets.get(fixed["subnet_id"])
        if subnet is not None:
            length = subnet["cidr"].partition("/")[2]
            addresses.append(f"{fixed['ip_address']}/{length}")
    ends = (
        unit.port_name(router, port["id"]),
        unit.port_name(port["network_id"], port["id"]),
    )
    yield make_item(
        "Port",
        {
            "name": port["id"],
            "router": unit.device_name(router),
            "mac": port["mac_address"].lower(),
            "addresses": tuple(sorted(addresses)),
            "peer": ends[1],
            "interface_id": ends[0],
            "up": port["admin_state_up"],
        },
    )
    yield make_item(
        "Port",
        {
            "name": port["id"],
            "network": unit.device_name(port["network_id"]),
            "peer": ends[0],
            "interface_id": ends[1],
            "up": port["admin_state_up"],
        },
    )


def _routes(parts: RouterParts, gateways: Iterable[Api]) -> Iterator[Item]:
    router = parts.router["id"]
    for port in gateways:
        for fixed in port["fixed_ips"]:
            subnet = parts.subnets.get(fixed["subnet_id"])
            if subnet is None or not subnet.get("gateway_ip"):
                continue
            is_v6 = subnet["ip_version"] == 6
            yield _route(
                router,
                "::/0" if is_v6 else "0.0.0.0/0",
                subnet["gateway_ip"],
                unit.port_name(router, port["id"]),
            )
    for route in parts.router.get("routes") or ():
        yield _route(router, route["destination"], route["nexthop"], None)


def _route(router: str, destination: str, gateway: str, port: Value) -> Item:
    columns: dict[str, Value] = {
        "router": unit.device_name(router),
        "destination": str(ipaddress.ip_network(destination, strict=False)),
        "gateway": gateway,
        "port": port,
    }
    return make_item("Route", columns)


def _translations(parts: RouterParts, ports: Iterable[Api]) -> Iterator[Item]:
    router = unit.device_name(parts.router["id"])
    for floating in parts.floating_ips:
        if floating.get("fixed_ip_address"):
            yield make_item(
                "Nat",
                {
                    "type": "floating",
                    "router": router,
                    "addresses": (floating["floating_ip_address"],),
                    "to_address": floating["fixed_ip_address"],
                },
            )
    for forwarding in parts.port_forwardings:
        yield _forwarding(router, forwarding)
    info = parts.router.get("external_gateway_info") or {}
    if info.get("enable_snat", False):
        yield from _masquerades(parts, list(ports))


def _masquerades(parts: RouterParts, ports: list[Api]) -> Iterator[Item]:
    router = parts.router["id"]
    inside = sorted(
        {
            parts.subnets[fixed["subnet_id"]]["cidr"]
            for port in ports
            if not _is_gateway(port)
            for fixed in port["fixed_ips"]
            if fixed["subnet_id"] in parts.subnets
            and fixed["subnet_id"] not in parts.unmasked
            and parts.subnets[fixed["subnet_id"]]["ip_version"] == 4
        }
    )
    for port in filter(_is_gateway, ports):
        outside = [f["ip_address"] for f in port["fixed_ips"] if _is_v4(f)]
        for cidr in inside if outside else ():
            yield make_item(
                "Nat",
                {
                    "type": "masquerade",
                    "router": unit.device_name(router),
                    "addresses": (outside[0],),
                    "source": cidr,
                    "port": unit.port_name(router, port["id"]),
                },
            )


def _is_v4(fixed: Api) -> bool:
    return ":" not in fixed["ip_address"]


def _forwarding(router: str, forwarding: Api) -> Item:
    outside, inside = _port_range(forwarding, "external"), None
    first = _port_range(forwarding, "internal")
    if first is not None:
        inside = int(first.partition("-")[0])
    return make_item(
        "Nat",
        {
            "type": "dnat",
            "router": router,
            "addresses": (forwarding["floating_ip_address"],),
            "ip_proto": protocol_number(forwarding["protocol"], "IPv4"),
            "ports": outside,
            "to_address": str(forwarding["internal_ip_address"]),
            "to_port": inside,
        },
    )


def _port_range(forwarding: Api, side: str) -> Any:
    """Read a port or a range of ports, which Neutron writes `first:last`."""
    ports = forwarding.get(f"{side}_port_range") or forwarding.get(f"{side}_port")
    if ports is None:
        return None
    first, _, last = str(ports).partition(":")
    return first if last in ("", first) else f"{first}-{last}"
