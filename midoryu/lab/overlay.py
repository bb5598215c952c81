# SPDX-License-Identifier: Apache-2.0
"""What a topology file says about the machines behind its vports.

`file` asks it for a VM's host, MAC, addresses and gateways. Only those few keys are
read; whether the topology makes sense is for `midoryu-ctl apply` to say.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Union

from midoryu.compat import SLOTS
from midoryu.lab.document import Entry

IpInterface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]

_DEFAULT_LENGTH = {4: 24, 6: 64}


@dataclass(frozen=True, **SLOTS)
class Vport:
    """A vport that is bound to a host, as a machine behind it needs to know it."""

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


def vports(topology: Entry) -> dict[str, Vport]:
    """Return the vports of all networks and routers by name.

    Raises:
        LabError: a part that is read here has the wrong shape.
    """
    top = topology.entries()
    routers = list(_ports(top, "routers"))
    found: dict[str, Vport] = {}
    for device, port, fields in _ports(top, "networks"):
        gateways = [
            ip
            for _, _, other in routers
            if "network" in other and other["network"].text() == device
            for ip in _interfaces(other, ())
        ]
        found[f"{device}/{port}"] = _vport(f"{device}/{port}", fields, gateways)
    for device, port, fields in routers:
        found[f"{device}/{port}"] = _vport(f"{device}/{port}", fields, [])
    return found


def stable_mac(name: str) -> str:
    """Return a locally administered MAC that depends on the name only."""
    digest = hashlib.blake2s(name.encode(), digest_size=5).digest()
    return ":".join(f"{byte:02x}" for byte in b"\x06" + digest)


def _ports(
    top: Mapping[str, Entry], kind: str
) -> Iterator[tuple[str, str, dict[str, Entry]]]:
    if kind not in top:
        return
    for device, entry in top[kind].entries().items():
        ports = entry.entries().get("ports")
        for port, port_entry in ports.entries().items() if ports else ():
            yield device, port, port_entry.entries()


def _vport(
    name: str, fields: Mapping[str, Entry], gateways: list[IpInterface]
) -> Vport:
    ips = _interfaces(fields, gateways)
    return Vport(
        name=name,
        host=fields["host"].text() if "host" in fields else "",
        iface_id=fields["iface_id"].text() if "iface_id" in fields else name,
        mac=fields["mac"].text() if "mac" in fields else stable_mac(name),
        ips=tuple(str(ip) for ip in ips),
        gateways=tuple(_gateways(ips, gateways)),
    )


def _interfaces(
    fields: Mapping[str, Entry], neighbours: list[IpInterface] | tuple[()]
) -> list[IpInterface]:
    """Read `ip`; an address without a length gets that of a router beside it."""
    found: list[IpInterface] = []
    for entry in fields["ip"].one_or_more() if "ip" in fields else ():
        text = entry.text()
        try:
            ip = ipaddress.ip_interface(text)
        except ValueError as problem:
            raise entry.error(f"not an IP address: {problem}") from problem
        if "/" not in text:
            lengths = [n.network.prefixlen for n in neighbours if ip.ip in n.network]
            length = lengths[0] if lengths else _DEFAULT_LENGTH[ip.version]
            ip = ipaddress.ip_interface(f"{text}/{length}")
        found.append(ip)
    return found


def _gateways(ips: list[IpInterface], routers: list[IpInterface]) -> Iterator[str]:
    for version in (4, 6):
        for router in routers:
            own = [ip for ip in ips if ip.version == version]
            if any(router.ip in ip.network for ip in own):
                yield str(router.ip)
                break
