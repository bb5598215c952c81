# SPDX-License-Identifier: Apache-2.0
"""Small values of the lab file: addresses, MACs, MTUs, routes, shell lines.

`file` reads the larger things out of these.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Union

import yaml

from midoryu.errors import TopologyError
from midoryu.lab.error import LabError
from midoryu.lab.spec import Interface, Route
from midoryu.nsdb.document import Entry

MTU_RANGE = (576, 9600)
_INTERFACE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")


def refusal(entry: Entry, reason: str = "") -> LabError:
    """Return the error to raise: `reason` at `entry`, and what was found before."""
    if reason:
        entry.report(reason)
    try:
        entry.document.raise_problems()
    except TopologyError as problem:
        return LabError(str(problem))
    return LabError(f"{entry.document.file}: is wrong")


def interface(name: str, entry: Entry) -> Interface:
    """Return an interface from `ADDRESS`, a list of them, or `{ip:, mac:}`.

    Raises:
        LabError: it is wrong; names file, line and path.
    """
    if not _INTERFACE_NAME.fullmatch(name) or name == "lo":
        raise refusal(entry, "not a usable interface name (1 to 15 letters or digits)")
    if not isinstance(entry.node, yaml.MappingNode):
        return Interface(name, prefixes(entry))
    fields = entry.fields(["ip", "mac"])
    ips = prefixes(fields["ip"]) if "ip" in fields else ()
    return Interface(name, ips, mac(fields["mac"]) if "mac" in fields else "")


def prefixes(entry: Entry) -> tuple[str, ...]:
    """Return addresses with prefix length.

    Raises:
        LabError: it is wrong; names file, line and path.
    """
    found = []
    for each in entry.items():
        if "/" not in each.text():
            raise refusal(each, "needs a prefix length, such as 192.0.2.1/24")
        found.append(checked(each, ipaddress.ip_interface))
    return tuple(found)


def gateways(entry: Union[Entry, None], default: tuple[str, ...]) -> tuple[str, ...]:
    """Return next hops, `default` when nothing is written.

    Raises:
        LabError: it is wrong; names file, line and path.
    """
    if entry is None:
        return default
    return tuple(checked(e, ipaddress.ip_address) for e in entry.items())


def routes(fields: dict[str, Entry]) -> tuple[Route, ...]:
    """Return the `routes` of a machine.

    Raises:
        LabError: it is wrong; names file, line and path.
    """
    found = []
    for entry in fields["routes"].list_items() if "routes" in fields else ():
        route = entry.fields(["to", "via"])
        if set(route) != {"to", "via"}:
            raise refusal(entry, "a route is {to: PREFIX, via: ADDRESS}")
        to = route["to"].text()
        if to != "default":
            to = checked(route["to"], ipaddress.ip_network)
        found.append(Route(to, checked(route["via"], ipaddress.ip_address)))
    return tuple(found)


def mac(entry: Entry) -> str:
    """Return a MAC in lower case.

    Raises:
        LabError: it is wrong; names file, line and path.
    """
    if not _MAC.fullmatch(entry.text()):
        raise refusal(entry, "not a MAC address such as 02:00:00:00:00:01")
    return entry.text().lower()


def mtu(entry: Union[Entry, None]) -> int:
    """Return an MTU in bytes, 1500 when nothing is written.

    Raises:
        LabError: it is wrong; names file, line and path.
    """
    return entry.integer(*MTU_RANGE) if entry else 1500


def lines(entry: Union[Entry, None]) -> tuple[str, ...]:
    """Return one or more shell lines.

    Raises:
        LabError: it is wrong; names file, line and path.
    """
    return tuple(e.text() for e in entry.items()) if entry else ()


def checked(entry: Entry, parser: Callable[[str], object]) -> str:
    """Return what `parser` makes of a text, as text.

    Raises:
        LabError: it is wrong; names file, line and path.
    """
    try:
        return str(parser(entry.text()))
    except ValueError as problem:
        raise refusal(entry, str(problem)) from problem
