# SPDX-License-Identifier: Apache-2.0
"""Addresses of a topology file that cannot mean what they say, taken together.

`file_check` calls it when the parts of the file are read; what two parts claim alike
it finds itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Union

from midoryu.nsdb.document import Entry
from midoryu.nsdb.draft import Draft, PortDraft
from midoryu.nsdb.item import Item
from midoryu.packet.address import (
    Prefix,
    format_ip,
    is_link_local,
    is_v4,
    parse_ip,
    parse_prefix,
)


class _Sight:
    """A draft, its ports by device and its items by table."""

    def __init__(self, draft: Draft) -> None:
        self.places = draft.places
        self.ports: dict[str, list[PortDraft]] = defaultdict(list)
        for port in draft.ports.values():
            self.ports[port.device].append(port)
        self.items: dict[str, list[Item]] = defaultdict(list)
        for item in draft.items.values():
            self.items[item.table].append(item)

    def report(self, item: Item, reason: str) -> None:
        """Note a problem where an item is written."""
        self.places[item.id].report(reason)


def check_addresses(draft: Draft) -> None:
    """Report what contradicts itself: subnets, routes, and addresses of NAT."""
    sight = _Sight(draft)
    _check_networks(sight)
    for router in draft.routers:
        _check_subnets(sight.ports[router])
    _check_routes(sight)
    _check_floating(sight)
    _check_own(sight)
    _check_stations(sight)


# Networks and routers.


def _check_networks(sight: _Sight) -> None:
    """Report stations outside the subnets that a network says it has."""
    said: dict[str, list[Prefix]] = defaultdict(list)
    for item in sight.items["Subnet"]:
        prefix = parse_prefix(str(item.columns["prefix"]))
        said[str(item.columns["network"])].append(prefix)
    for network, subnets in said.items():
        ports = sight.ports[network]
        routed = [one for port in ports if port.peer for one in _subnets(port.peer)]
        for port in ports:
            for address in port.addresses:
                own = [one for one in subnets if _is_v4(one) == is_v4(address.value)]
                if own and not _is_inside(address.value, [*own, *routed]):
                    text, listed = format_ip(address.value), ", ".join(map(str, own))
                    reason = f"{text} is in no subnet of {network}: {listed}"
                    _at(port, "ip").report(reason)


def _is_inside(address: int, subnets: Iterable[Prefix]) -> bool:
    return is_link_local(address) or any(one.contains(address) for one in subnets)


def _check_subnets(ports: Iterable[PortDraft]) -> None:
    """Report subnets of two ports of a router of which one holds the other.

    Two uplinks may be in one subnet.
    """
    places = [(port, subnet) for port in ports for subnet in _subnets(port)]
    for (one, subnet), (other, another) in combinations(places, 2):
        if one is other or not _overlap(subnet, another):
            continue
        both_out = not (one.link_device or other.link_device)
        if subnet == another and (both_out or one.link_device == other.link_device):
            continue
        _at(other, "ip").report(f"{another} overlaps {subnet} of {one.full_name}")


# Routes.


def _check_routes(sight: _Sight) -> None:
    kinds: dict[tuple[object, ...], Item] = {}
    for item in sight.items["Route"]:
        columns, entry = item.columns, sight.places[item.id]
        ports = sight.ports[str(columns["router"])]
        if columns["gateway"] is not None:
            port = _named(ports, columns["port"])
            _check_gateway(entry, parse_ip(str(columns["gateway"])), ports, port)
        place = [columns[c] or 0 for c in ("router", "destination", "source", "metric")]
        owner = kinds.setdefault(tuple(place), item)
        if owner.columns["kind"] != columns["kind"]:
            there = sight.places[owner.id].path
            entry.report(f"goes another way than {there}, with the same metric")
        if not columns["metric"] and columns["source"] is None:
            _check_connected(entry, str(columns["destination"]), ports)


def _check_gateway(
    entry: Entry, gateway: int, ports: list[PortDraft], port: Union[PortDraft, None]
) -> None:
    text = format_ip(gateway)
    via = entry.entries().get("via", entry)
    for one in ports:
        if any(address.value == gateway for address in one.addresses):
            via.report(f"{text} is {one.full_name}'s own address")
    subnets = [
        one
        for one in (_subnets(port) if port is not None else ())
        if _is_v4(one) == is_v4(gateway)
    ]
    if port is not None and subnets and not _is_inside(gateway, subnets):
        via.report(f"{text} is in no subnet of {port.full_name}")


def _check_connected(entry: Entry, destination: str, ports: list[PortDraft]) -> None:
    for port in ports:
        if any(str(subnet) == destination for subnet in _subnets(port)):
            entry.report(f"{destination} is on the link of {port.full_name}")


# NAT.


def _check_floating(sight: _Sight) -> None:
    """Report a machine with two floating addresses of one router.

    What it sends could have either; OpenStack refuses that as well.
    """
    owners: dict[tuple[object, object], Item] = {}
    for item in sight.items["Nat"]:
        if item.columns["type"] != "floating":
            continue
        target = item.columns["to_address"]
        owner = owners.setdefault((item.columns["router"], target), item)
        if owner is not item:
            there = ", ".join(map(str, _addresses(owner)))
            sight.report(item, f"{target} has the floating IP {there} already")


def _check_own(sight: _Sight) -> None:
    """Report a router's own address that it would translate whole."""
    for item, router, address, is_whole in _outside(sight):
        for port in sight.ports[router] if is_whole else ():
            if any(own.value == address for own in port.addresses):
                text = format_ip(address)
                sight.report(item, f"{text} is {port.full_name}'s own address")


def _check_stations(sight: _Sight) -> None:
    """Report an outside address, or a network's VIP, that a machine has, too."""
    owners = {
        (port.device, address.value): port
        for ports in sight.ports.values()
        for port in ports
        if not port.is_router
        for address in (port.peer or port).addresses
    }
    balancers = {item.name: item for item in sight.items["Load_Balancer"]}
    for vip in sight.items["Vip"]:
        balancer = balancers.get(str(vip.columns["balancer"]))
        network = balancer.columns["network"] if balancer is not None else None
        address = parse_ip(str(vip.columns["address"]))
        _report_owner(sight, vip, owners.get((str(network), address)))
    for item, router, address, _ in _outside(sight):
        for port in sight.ports[router]:
            owner = owners.get((port.link_device, address))
            if owner is not None and (
                owner.peer is None or owner.peer.device != router
            ):
                _report_owner(sight, item, owner)


def _report_owner(sight: _Sight, item: Item, owner: Union[PortDraft, None]) -> None:
    if owner is not None:
        name = (owner.peer or owner).full_name
        sight.report(item, f"its address is {name}'s already")


def _outside(sight: _Sight) -> Iterator[tuple[Item, str, int, bool]]:
    """Yield (item, router, address, whether whole) of floating addresses and VIPs."""
    for item in sight.items["Nat"]:
        if item.columns["type"] == "floating":
            for text in _addresses(item):
                yield item, str(item.columns["router"]), parse_ip(text), True
    balancers = {item.name: item for item in sight.items["Load_Balancer"]}
    for item in sight.items["Vip"]:
        balancer = balancers.get(str(item.columns["balancer"]))
        router = balancer.columns["router"] if balancer is not None else None
        if router is not None:
            address = parse_ip(str(item.columns["address"]))
            yield item, str(router), address, item.columns["ip_proto"] is None


# Helpers.


def _addresses(item: Item) -> tuple[str, ...]:
    column = item.columns["addresses"]
    return tuple(map(str, column)) if isinstance(column, tuple) else ()


def _subnets(port: PortDraft) -> Iterator[Prefix]:
    for address in port.addresses:
        if not is_link_local(address.value):
            yield Prefix(address.value & address.mask, address.length)


def _named(ports: Iterable[PortDraft], name: object) -> Union[PortDraft, None]:
    return next((port for port in ports if port.full_name == name), None)


def _is_v4(prefix: Prefix) -> bool:
    return prefix.length >= 96 and is_v4(prefix.value)


def _overlap(one: Prefix, other: Prefix) -> bool:
    return one.contains(other.value) or other.contains(one.value)


def _at(port: PortDraft, word: str) -> Entry:
    """Point at the very field where there is one."""
    return port.entry.entries().get(word, port.entry)
