# SPDX-License-Identifier: Apache-2.0
"""What a topology says about the machines behind its vports.

`file` asks it for a VM's host, MAC, addresses and gateways. The topology is read by the
same parser as in `midoryu-ctl apply`, so a wrong one is found before anything is made.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Union

from midoryu.compat import SLOTS
from midoryu.errors import TopologyError
from midoryu.lab.error import LabError
from midoryu.nsdb.file_link import stable_mac
from midoryu.nsdb.topology_file import parse
from midoryu.packet.address import format_mac

IpInterface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]

_DEFAULT_LENGTH = {4: 24, 6: 64}


@dataclass(frozen=True, **SLOTS)
class Vport:
    """A vport, as a machine behind it needs to know it."""

    name: str
    """`DEVICE/PORT`."""
    host: str
    """Name of the host, empty when the topology names none."""
    iface_id: str
    """Value of `external_ids:iface-id`."""
    mac: str
    """MAC for the machine."""
    ips: tuple[str, ...]
    """Addresses with prefix length."""
    gateways: tuple[str, ...]
    """Router addresses on the same network, at most one per address family."""
    everywhere: bool = False
    """Each host may have an interface of it."""


def vports(topology: str, source: str) -> dict[str, Vport]:
    """Return the vports in the text of a topology file by name; none in an empty text.

    Raises:
        LabError: the topology is wrong; names file, line, path and reason.
    """
    if not topology:
        return {}
    try:
        items = parse(topology, source)
    except TopologyError as problem:
        raise LabError(str(problem)) from problem
    ports = {name: i.columns for (table, name), i in items.items() if table == "Port"}
    return {name: _vport(name, columns, ports) for name, columns in ports.items()}


def _vport(
    name: str,
    columns: Mapping[str, object],
    ports: Mapping[str, Mapping[str, object]],
) -> Vport:
    routers = list(_router_addresses(columns, ports))
    ips = [_with_length(text, routers) for text in _texts(columns["addresses"])]
    return Vport(
        name=name,
        host=str(columns["host"] or ""),
        iface_id=str(columns["interface_id"] or name),
        mac=str(columns["mac"] or format_mac(stable_mac(name))),
        ips=tuple(str(ip) for ip in ips),
        gateways=tuple(_gateways(ips, routers)),
        everywhere=bool(columns.get("metadata")),
    )


def _router_addresses(
    columns: Mapping[str, object], ports: Mapping[str, Mapping[str, object]]
) -> Iterator[IpInterface]:
    """Yield the addresses of the routers that link to the same network."""
    for other in ports.values():
        peer = ports.get(str(other["peer"]), {}) if other["router"] else {}
        if columns["network"] and peer.get("network") == columns["network"]:
            for text in _texts(other["addresses"]):
                yield ipaddress.ip_interface(text)


def _with_length(text: str, routers: list[IpInterface]) -> IpInterface:
    """Give an address without a length that of a router beside it."""
    ip = ipaddress.ip_interface(text)
    if "/" in text:
        return ip
    lengths = [r.network.prefixlen for r in routers if ip.ip in r.network]
    length = lengths[0] if lengths else _DEFAULT_LENGTH[ip.version]
    return ipaddress.ip_interface(f"{text}/{length}")


def _gateways(ips: list[IpInterface], routers: list[IpInterface]) -> Iterator[str]:
    for version in (4, 6):
        own = [ip for ip in ips if ip.version == version]
        for router in routers:
            if any(router.ip in ip.network for ip in own):
                yield str(router.ip)
                break


def _texts(value: object) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else ()
