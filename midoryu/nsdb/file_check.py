# SPDX-License-Identifier: Apache-2.0
"""Conflicts between parts of a topology file that are each right alone.

`topology_file` calls it last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Union

from midoryu.nsdb.document import Entry
from midoryu.nsdb.draft import Draft, PortDraft
from midoryu.nsdb.file_address import check_addresses
from midoryu.nsdb.item import Item
from midoryu.nsdb.schema import ports_from_text
from midoryu.packet.address import format_ip


def check_conflicts(draft: Draft) -> None:
    """Report what two parts of the file both claim."""
    ports_by_device: dict[str, list[PortDraft]] = {}
    for port in draft.ports.values():
        ports_by_device.setdefault(port.device, []).append(port)
    interfaces = (
        (str(port.columns.get("interface_id")), port) for port in draft.ports.values()
    )
    _check_unique(interfaces, "iface_id")
    for name, ports in ports_by_device.items():
        if name in draft.networks:
            stations = [port.peer or port for port in ports]
            _check_unique(_macs(stations), "MAC address")
            _check_unique(_addresses(stations), "address")
        else:
            _check_unique(_addresses(ports), "address")
    _check_dnat(draft)
    _check_vips(draft)
    check_addresses(draft)


def _macs(ports: Iterable[PortDraft]) -> Iterator[tuple[str, PortDraft]]:
    for port in ports:
        if port.columns.get("mac") is not None:
            yield str(port.columns["mac"]), port


def _addresses(ports: Iterable[PortDraft]) -> Iterator[tuple[str, PortDraft]]:
    for port in ports:
        for address in port.addresses:
            yield format_ip(address.value), port


def _check_unique(claims: Iterable[tuple[str, PortDraft]], what: str) -> None:
    owners: dict[str, PortDraft] = {}
    for claim, port in claims:
        owner = owners.setdefault(claim, port)
        if owner is not port:
            _place(port, what).report(f"{what} {claim} is {owner.full_name}'s already")


def _place(port: PortDraft, what: str) -> Entry:
    """Point at the very field where there is one."""
    key = {"address": "ip", "MAC address": "mac"}.get(what, what)
    return port.entry.entries().get(key, port.entry)


def _check_dnat(draft: Draft) -> None:
    seen: dict[tuple[object, ...], list[tuple[tuple[int, int], Item]]] = {}
    for item in draft.items.values():
        kind = item.columns.get("type")
        if item.table != "Nat" or kind == "masquerade":
            continue
        ports = _ports(item.columns["ports"])
        place = (item.columns["router"], item.columns["addresses"])
        for other_ports, other in seen.setdefault(place, []):
            if _overlap(item, ports, other, other_ports):
                entry = draft.places[item.id]
                there = draft.places[other.id].path
                entry.report(f"translates what {there} translates already")
        seen[place].append((ports, item))


def _check_vips(draft: Draft) -> None:
    """Report a VIP that a second balancer of the same device claims."""
    balancers = {
        item.name: item
        for item in draft.items.values()
        if item.table == "Load_Balancer"
    }
    owners: dict[tuple[object, ...], str] = {}
    for item in draft.items.values():
        balancer = balancers.get(str(item.columns.get("balancer")))
        if item.table != "Vip" or balancer is None:
            continue
        device = balancer.columns["router"], balancer.columns["network"]
        place = tuple(item.columns[c] for c in ("address", "ip_proto", "l4_port"))
        owner = owners.setdefault((device, place), balancer.name)
        if owner != balancer.name:
            draft.places[item.id].report(f"is a VIP of balancers.{owner} already")


def _ports(column: object) -> tuple[int, int]:
    return ports_from_text(str(column)) if column is not None else (0, 0xFFFF)


def _overlap(
    one: Item, ports: tuple[int, int], other: Item, other_ports: tuple[int, int]
) -> bool:
    """Tell whether two rules of one address meet; a narrower one beside all is fine."""
    protocols: tuple[Union[object, None], ...] = (
        one.columns["ip_proto"],
        other.columns["ip_proto"],
    )
    if one.columns["type"] != other.columns["type"]:
        return False
    return protocols[0] == protocols[1] and (
        ports[0] <= other_ports[1] and other_ports[0] <= ports[1]
    )
