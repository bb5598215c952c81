# SPDX-License-Identifier: Apache-2.0
"""A Neutron network -> its rows: the switch, and its ways into a physical network.

Pure: dictionaries of Neutron's API in, items out. `port` and `router` put ports on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from midoryu.compat import SLOTS
from midoryu.neutron import unit
from midoryu.nsdb.file_link import stable_mac
from midoryu.nsdb.item import Item, Value, make_item
from midoryu.packet.address import format_mac

METADATA_PORT: Final = "metadata"
"""Name of a metadata proxy's port within its network."""


@dataclass(frozen=True, **SLOTS)
class Segment:
    """Where a provider network is in the physical world."""

    physical_network: str
    vlan: int = 0
    """VLAN ID 1..4094, 0 for untagged."""


def network_items(
    network: Mapping[str, Any],
    *,
    segments: Iterable[Segment] = (),
    gateways: Mapping[str, Iterable[str]],
    holders: Mapping[str, str],
    all_active: bool = False,
) -> list[Item]:
    """Make the rows of a network.

    Args:
        network: the network as the API shows it.
        segments: its segments on physical networks.
        gateways: hosts by the physical network that they have an interface in.
        holders: names of the switches that those interfaces are at, by physical
            network: a VLAN is a sub-port there.
        all_active: whether every gateway carries traffic, not only the first.
    """
    name = unit.device_name(network["id"])
    columns: dict[str, Value] = {"name": name, "up": network["admin_state_up"]}
    if network.get("mtu"):
        columns["mtu"] = network["mtu"]
    items = [make_item("Network", columns)]
    for number, segment in enumerate(segments):
        hosts = gateways.get(segment.physical_network, ())
        uplinks = [
            _uplink(name, segment, host, holders=holders, up=all_active or not place)
            for place, host in enumerate(hosts)
        ]
        # Ways of one set lead to one segment.
        tail = f"-{segment.physical_network}.{segment.vlan}" if number else ""
        items += [*_with_hosts(uplinks), *_ingress_set(name + tail, uplinks)]
    return items


def metadata_item(network: str) -> Item:
    """Make the port of a network's metadata proxy, which is on every host.

    Args:
        network: Neutron's id of it.
    """
    name = unit.port_name(network, METADATA_PORT)
    columns: dict[str, Value] = {
        "name": METADATA_PORT,
        "network": unit.device_name(network),
        "mac": format_mac(stable_mac(name)),
        "interface_id": name,
        "metadata": True,
    }
    return make_item("Port", columns)


def physical_items(
    physical_network: str, hosts: Iterable[str], *, all_active: bool = False
) -> list[Item]:
    """Make the switch of a physical network that only VLANs are used of."""
    name = unit.physical_name(physical_network)
    segment = Segment(physical_network)
    uplinks = [
        _uplink(name, segment, host, holders={}, up=all_active or not number)
        for number, host in enumerate(hosts)
    ]
    network = make_item("Network", {"name": name})
    return [network, *_with_hosts(uplinks), *_ingress_set(name, uplinks)]


def uplink_interface(physical_network: str, host: str) -> str:
    """Name the iface-id of a host's interface in a physical network."""
    return f"{physical_network}@{host}"


def _uplink(
    network: str,
    segment: Segment,
    host: str,
    *,
    holders: Mapping[str, str],
    up: bool,
) -> Item:
    interface = uplink_interface(segment.physical_network, host)
    name = unit.uplink_name(network, segment.physical_network, host, segment.vlan)
    columns: dict[str, Value] = {
        "name": name.partition("/")[2],
        "network": network,
        "host": host,
        "interface_id": interface,
        "up": up,
    }
    if segment.vlan:
        holder = holders[segment.physical_network]
        columns["parent"] = unit.uplink_name(holder, segment.physical_network, host)
        columns["vlan"] = segment.vlan
        columns["interface_id"] = f"{interface}.{segment.vlan}"
    return make_item("Port", columns)


def _with_hosts(uplinks: Iterable[Item]) -> Iterator[Item]:
    for item in uplinks:
        yield make_item("Host", {"name": item.columns["host"]})
        yield item


def _ingress_set(name: str, uplinks: Sequence[Item]) -> Iterator[Item]:
    if uplinks:
        ports = tuple(sorted(item.name for item in uplinks))
        yield make_item("Port_Group", {"name": name, "ports": ports})
