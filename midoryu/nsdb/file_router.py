# SPDX-License-Identifier: Apache-2.0
"""A router's `routes`, `masquerade`, `dnat` and `floating` in a topology file.

`topology_file` calls it when all ports are known.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar, Union

from midoryu.compat import SLOTS
from midoryu.nsdb.document import Entry
from midoryu.nsdb.draft import Draft, reference
from midoryu.nsdb.file_chain import WITH_PORTS, parse_protocol
from midoryu.nsdb.item import Value
from midoryu.nsdb.schema import format_ports, ports_from_text
from midoryu.packet.address import Prefix, format_ip, is_v4, parse_ip, parse_prefix
from midoryu.topology.model import Filtering

T = TypeVar("T")

ROUTE_FIELDS: Final = (
    "to",
    "from",
    "via",
    "port",
    "blackhole",
    "reject",
    "weight",
    "metric",
)
MASQUERADE_FIELDS: Final = ("from", "to", "destination", "port", "filtering")
_FILTERINGS: Final = tuple(one.value for one in Filtering)
_ENDPOINT: Final = re.compile(
    r"(?:(?P<plain>[^\[\]/]+?)|\[(?P<bracket>[^\[\]]+)\])"
    r"(?::(?P<ports>\d+(?:-\d+)?))?(?:/(?P<protocol>\w+))?\Z"
)


@dataclass(frozen=True, **SLOTS)
class Endpoint:
    """`ADDRESS`, `ADDRESS:PORT`, `ADDRESS:FIRST-LAST`, each maybe with `/PROTOCOL`."""

    address: int
    ports: Union[tuple[int, int], None]
    protocol: Union[int, None]


def read_router(draft: Draft, name: str, entry: Entry) -> None:
    """Read the routes and NAT rules of a router."""
    fields = entry.entries()
    ports = {port.name: port for port in draft.device_ports(name)}
    subnets = [
        Prefix(address.value & address.mask, address.length)
        for port in ports.values()
        for address in port.addresses
    ]
    reader = _RouterReader(draft, name, set(ports), subnets)
    for section, read in (
        ("routes", reader.route),
        ("masquerade", reader.masquerade),
        ("dnat", reader.dnat),
        ("floating", reader.floating),
    ):
        for item in fields[section].list_items() if section in fields else ():
            read(item)


def parse_endpoint(text: str) -> Endpoint:
    """Read the outside or inside of a DNAT rule.

    Raises:
        ValueError: it is none.
    """
    try:
        return Endpoint(parse_ip(text), None, None)
    except ValueError:
        found = _ENDPOINT.match(text)
    if found is None:
        raise ValueError(f"{text!r} is not ADDRESS, ADDRESS:PORT or ADDRESS:PORT/PROTO")
    ports = found["ports"] and ports_from_text(found["ports"])
    number = found["protocol"] and parse_protocol(found["protocol"])
    if ports and ports[0] == 0:
        raise ValueError("port 0 cannot be translated")
    return Endpoint(
        parse_ip(found["plain"] or found["bracket"]), ports or None, number or None
    )


class _RouterReader:
    def __init__(
        self, draft: Draft, router: str, ports: set[str], subnets: list[Prefix]
    ) -> None:
        self._draft = draft
        self._router = router
        self._ports = ports
        self._subnets = subnets

    def route(self, entry: Entry) -> None:
        fields = entry.fields(ROUTE_FIELDS)
        destination = self._required(entry, fields, "to", parse_prefix)
        source = fields["from"].parsed(parse_prefix) if "from" in fields else None
        gateway = fields["via"].parsed(parse_ip) if "via" in fields else None
        columns: dict[str, Value] = {
            "router": self._router,
            "destination": str(destination),
            "source": None if source is None else str(source),
            "kind": self._kind(entry, fields),
            "gateway": None if gateway is None else format_ip(gateway),
            "port": self._port(fields),
        }
        if "weight" in fields:
            columns["weight"] = fields["weight"].integer(1, 255)
        if "metric" in fields:
            columns["metric"] = fields["metric"].integer(0, 0xFFFF_FFFF)
        if destination is not None:
            self._check_route(fields, destination, gateway)
            self._draft.add("Route", columns, entry)

    def _kind(self, entry: Entry, fields: dict[str, Entry]) -> str:
        words = [word for word in ("blackhole", "reject") if word in fields]
        words = [word for word in words if fields[word].boolean(default=True)]
        ways = [word for word in ("via", "port") if word in fields]
        if len(words) > 1 or (words and ways):
            entry.report("is blackhole, reject, or goes somewhere: only one of them")
        if not words and not ways:
            entry.report("needs `via`, `port`, `blackhole: true` or `reject: true`")
        return words[0] if words else "forward"

    def _check_route(
        self, fields: dict[str, Entry], destination: Prefix, gateway: Union[int, None]
    ) -> None:
        if gateway is None:
            return
        if is_v4(gateway) != _is_v4_prefix(destination):
            fields["via"].report("is of another address family than `to`")
        elif "port" not in fields and not self._is_on_link(gateway):
            fields["via"].report(
                f"{format_ip(gateway)} is in no subnet of {self._router}'s ports"
            )

    def _is_on_link(self, gateway: int) -> bool:
        return any(subnet.contains(gateway) for subnet in self._subnets)

    def masquerade(self, entry: Entry) -> None:
        fields = entry.fields(MASQUERADE_FIELDS)
        if "to" not in fields:
            entry.report("needs `to`, the NAT address")
            return
        found = [item.parsed(parse_ip) for item in fields["to"].items()]
        addresses = sorted({address for address in found if address is not None})
        if not found:
            fields["to"].report("names no address")
        if not addresses:
            return
        family = is_v4(addresses[0])
        source: Union[Prefix, None] = parse_prefix("0.0.0.0/0" if family else "::/0")
        if "from" in fields:
            source = fields["from"].parsed(parse_prefix)
        if any(is_v4(address) != family for address in addresses):
            fields["to"].report("mixes IPv4 and IPv6; write one rule for each")
        elif source is not None and _is_v4_prefix(source) != family:
            fields["to"].report("is of another address family than `from`")
        destination = None
        if "destination" in fields:
            destination = fields["destination"].parsed(parse_prefix)
        self._add_nat(
            entry,
            "masquerade",
            addresses,
            source=str(source),
            destination=None if destination is None else str(destination),
            port=self._port(fields),
            filtering=fields["filtering"].choice(_FILTERINGS)
            if "filtering" in fields
            else None,
        )

    def dnat(self, entry: Entry) -> None:
        fields = entry.fields(("address", "to"))
        outside = self._required(entry, fields, "address", parse_endpoint)
        inside = self._required(entry, fields, "to", parse_endpoint)
        if outside is None or inside is None:
            return
        problem = _dnat_problem(outside, inside)
        if problem:
            entry.report(problem)
        to_port = inside.ports[0] if inside.ports else None
        self._add_nat(
            entry,
            "dnat",
            [outside.address],
            ip_proto=outside.protocol,
            ports=format_ports(outside.ports) if outside.ports else None,
            to_address=format_ip(inside.address),
            to_port=to_port if outside.ports else None,
        )

    def floating(self, entry: Entry) -> None:
        fields = entry.fields(("address", "to"))
        outside = self._required(entry, fields, "address", parse_ip)
        inside = self._required(entry, fields, "to", parse_ip)
        if outside is None or inside is None:
            return
        if is_v4(outside) != is_v4(inside):
            entry.report("`address` and `to` are of different address families")
        self._add_nat(entry, "floating", [outside], to_address=format_ip(inside))

    def _add_nat(
        self, entry: Entry, kind: str, addresses: list[int], **columns: Value
    ) -> None:
        texts = tuple(sorted(map(format_ip, addresses)))
        whole = {"type": kind, "router": self._router, "addresses": texts, **columns}
        self._draft.add("Nat", whole, entry)

    def _port(self, fields: dict[str, Entry]) -> Union[str, None]:
        if "port" not in fields:
            return None
        name = reference(fields["port"], self._ports, f"port of {self._router}")
        return f"{self._router}/{name}" if name else None

    @staticmethod
    def _required(
        entry: Entry,
        fields: dict[str, Entry],
        key: str,
        parse: Callable[[str], T],
    ) -> Union[T, None]:
        if key not in fields:
            entry.report(f"needs `{key}`")
            return None
        return fields[key].parsed(parse)


def _is_v4_prefix(prefix: Prefix) -> bool:
    return prefix.length >= 96 and is_v4(prefix.value)


def _dnat_problem(outside: Endpoint, inside: Endpoint) -> str:
    if is_v4(outside.address) != is_v4(inside.address):
        return "`address` and `to` are of different address families"
    if inside.protocol is not None:
        return "the protocol belongs to `address`, not to `to`"
    if outside.ports and outside.protocol not in WITH_PORTS:
        return "`address` with a port needs a protocol, as in 192.0.2.1:80/tcp"
    if inside.ports and not outside.ports:
        return "`to` has a port, so `address` needs one too"
    if inside.ports and outside.ports:
        size = outside.ports[1] - outside.ports[0]
        if inside.ports[1] - inside.ports[0] not in (0, size):
            return "the two port ranges differ in size"
        if inside.ports[0] + size > 0xFFFF:
            return "`to` has too few ports after its first"
    return ""
