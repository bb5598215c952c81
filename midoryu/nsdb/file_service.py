# SPDX-License-Identifier: Apache-2.0
"""A network's `subnets` in a topology file, and what ports say to DHCP and DNS.

`topology_file` calls it. A subnet looks like this; all but the prefix is optional:

    10.0.1.0/24:
      gateway: 10.0.1.1
      dns: [10.0.1.2, 192.0.2.53]       # what hosts are told; default: the resolver
      domain: web.example
      search: [web.example, example]
      ntp: [192.0.2.123]
      routes: [{to: 10.9.0.0/16, via: 10.0.1.254}]
      mtu: 1400                         # default: the network's
      dhcp: true                        # or {lease: 3600, server: 10.0.1.3,
                                        #     boot_file: x, boot_server: 10.0.1.9,
                                        #     options: {252: "http://wpad/", mtu: 1400}}
      resolver: 10.0.1.2                # the network itself answers DNS here
      forward: [192.0.2.53]             # who is asked for other names
    "2001:db8:1::/64":
      gateway: "2001:db8:1::1"
      ra: slaac                         # dhcpv6-stateful, dhcpv6-stateless; or {mode:,
                                        #     min_interval: 3, max_interval: 4,
                                        #     lifetime: 1800, preference: high,
                                        #     valid: 86400, preferred: 14400}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Union

from midoryu.nsdb.dhcp_option import parse_option
from midoryu.nsdb.document import Entry
from midoryu.nsdb.draft import Draft, PortDraft
from midoryu.nsdb.file_link import stable_mac
from midoryu.nsdb.item import Value
from midoryu.nsdb.service_rows import name
from midoryu.packet.address import (
    Prefix,
    format_ip,
    format_mac,
    is_link_local,
    is_v4,
    parse_ip,
    parse_prefix,
)

PORT_FIELDS: Final = ("hostname", "dhcp_options", "dhcp6_options", "metadata")
SUBNET_FIELDS: Final = (
    "gateway",
    "dns",
    "domain",
    "search",
    "ntp",
    "routes",
    "mtu",
    "dhcp",
    "ra",
    "resolver",
    "forward",
)
DHCP_FIELDS: Final = ("lease", "server", "boot_file", "boot_server", "options")
RA_FIELDS: Final[dict[str, tuple[str, tuple[int, int]]]] = {
    # RFC 4861, section 6.2.1.
    "min_interval": ("ra_min_s", (3, 1350)),
    "max_interval": ("ra_max_s", (4, 1800)),
    "lifetime": ("ra_lifetime_s", (0, 9000)),
    "valid": ("ra_valid_s", (0, 0xFFFF_FFFF)),
    "preferred": ("ra_preferred_s", (0, 0xFFFF_FFFF)),
}
RA_MODES: Final = ("slaac", "dhcpv6-stateful", "dhcpv6-stateless")
_MTU_RANGE: Final = (68, 0xFFFF)


def read_subnets(draft: Draft, network: str, section: Entry) -> None:
    """Read the subnets of a network; overlapping ones are a problem."""
    seen: list[Prefix] = []
    for text, entry in section.entries().items():
        try:
            prefix = parse_prefix(text)
        except ValueError as problem:
            entry.report(str(problem))
            continue
        overlap = [one for one in seen if _overlap(one, prefix)]
        if overlap:
            entry.report(f"overlaps {overlap[0]}")
        seen.append(prefix)
        columns = _Reader(prefix, entry).columns()
        whole: dict[str, Value] = {"network": network, "prefix": str(prefix), **columns}
        draft.add("Subnet", whole, entry)


def _overlap(one: Prefix, other: Prefix) -> bool:
    return one.contains(other.value) or other.contains(one.value)


class _Reader:
    """Reads one subnet."""

    def __init__(self, prefix: Prefix, entry: Entry) -> None:
        self._prefix = prefix
        self._v4 = prefix.length >= 96 and is_v4(prefix.value)
        self._entry = entry
        self._fields = entry.fields(SUBNET_FIELDS)

    def columns(self) -> dict[str, Value]:
        fields = self._fields
        columns: dict[str, Value] = {
            "gateway": self._address(fields, "gateway", inside=True),
            "dns": self._list(fields, "dns"),
            "forward": self._list(fields, "forward"),
            "resolver": self._address(fields, "resolver", inside=True),
            "ntp": tuple(sorted(self._addresses(fields, "ntp"))),
        }
        if "domain" in fields:
            columns["domain"] = fields["domain"].parsed(name)
        if "search" in fields:
            found = [one.parsed(name) for one in fields["search"].items()]
            columns["search"] = " ".join(one for one in found if one) or None
        if "mtu" in fields:
            columns["mtu"] = fields["mtu"].integer(*_MTU_RANGE)
        if "routes" in fields:
            columns["routes"] = self._routes(fields["routes"])
        if "dhcp" in fields:
            columns.update(self._dhcp(fields["dhcp"]))
        if "ra" in fields:
            columns.update(self._ra(fields["ra"]))
        has_server = columns["gateway"] or columns.get("server")
        if self._v4 and columns.get("dhcp") and not has_server:
            fields["dhcp"].report("needs `server`, or a `gateway` beside it")
        if "forward" in fields and "resolver" not in fields:
            fields["forward"].report("needs `resolver` beside it")
        return columns

    def _address(
        self, fields: Mapping[str, Entry], word: str, *, inside: bool = False
    ) -> Union[str, None]:
        if word not in fields:
            return None
        address = fields[word].parsed(parse_ip)
        if address is None:
            return None
        if is_v4(address) != self._v4:
            fields[word].report("is of another address family than the subnet")
        elif (
            inside
            and not self._prefix.contains(address)
            and not (is_link_local(address) and not self._v4)
        ):
            fields[word].report(f"is not in {self._prefix}")
        return format_ip(address)

    def _addresses(self, fields: Mapping[str, Entry], word: str) -> list[str]:
        found = (
            [one.parsed(parse_ip) for one in fields[word].items()]
            if (word in fields)
            else []
        )
        return [format_ip(address) for address in found if address is not None]

    def _list(self, fields: Mapping[str, Entry], word: str) -> Union[str, None]:
        return " ".join(dict.fromkeys(self._addresses(fields, word))) or None

    def _routes(self, section: Entry) -> tuple[str, ...]:
        found: set[str] = set()
        for entry in section.list_items():
            fields = entry.fields(("to", "via"))
            if "to" not in fields or "via" not in fields:
                entry.report("needs `to` and `via`")
                continue
            destination = fields["to"].parsed(parse_prefix)
            via = self._address(fields, "via")
            if destination is not None and via is not None:
                found.add(f"{destination} via {via}")
        return tuple(sorted(found))

    def _dhcp(self, entry: Entry) -> dict[str, Value]:
        if not _is_mapping(entry):
            return {"dhcp": entry.boolean()}
        fields = entry.fields(DHCP_FIELDS)
        columns: dict[str, Value] = {
            "dhcp": True,
            "server": self._address(fields, "server"),
            "boot_server": self._address(fields, "boot_server"),
        }
        if "lease" in fields:
            columns["lease_s"] = fields["lease"].integer(60, 0xFFFF_FFFF)
        if "boot_file" in fields:
            columns["boot_file"] = fields["boot_file"].text() or None
        if "options" in fields:
            columns["options"] = _read_options(fields["options"], v4=self._v4)
        return columns

    def _ra(self, entry: Entry) -> dict[str, Value]:
        if self._v4:
            entry.report("router advertisements are for IPv6")
        if not _is_mapping(entry):
            return {"ra_mode": self._mode(entry)}
        fields = entry.fields(("mode", "preference", *RA_FIELDS))
        columns: dict[str, Value] = {
            column: fields[word].integer(*limits)
            for word, (column, limits) in RA_FIELDS.items()
            if word in fields
        }
        if "mode" not in fields:
            entry.report("needs `mode`")
        else:
            columns["ra_mode"] = self._mode(fields["mode"])
        if "preference" in fields:
            preference = fields["preference"].choice(("medium", "high", "low"))
            columns["ra_preference"] = preference
        return columns

    def _mode(self, entry: Entry) -> str:
        mode = entry.choice(RA_MODES)
        if mode != "dhcpv6-stateful" and self._prefix.length != 64:
            entry.report(f"hosts make addresses of a /64 only, not of {self._prefix}")
        return mode


def port_columns(port: PortDraft, fields: Mapping[str, Entry]) -> dict[str, Value]:
    """Read what a port says to DHCP, DNS and metadata."""
    columns: dict[str, Value] = {}
    for word in PORT_FIELDS:
        if word in fields and (port.is_router or "router" in fields):
            fields[word].report("belongs to a machine's port on a network")
    if "hostname" in fields:
        columns["hostname"] = fields["hostname"].parsed(name)
    for word, v4 in (("dhcp_options", True), ("dhcp6_options", False)):
        if word in fields:
            columns[word] = _read_options(fields[word], v4=v4)
    if "metadata" in fields:
        columns["metadata"] = fields["metadata"].boolean()
    for word in ("host", "migrating_to"):
        if columns.get("metadata") and word in fields:
            fields[word].report(
                "a metadata port is on every host that has its interface"
            )
    return columns


def metadata_mac(port: PortDraft) -> Union[str, None]:
    """Return the MAC address of a metadata port that the file gives none."""
    if port.columns.get("metadata") and port.columns.get("mac") is None:
        return format_mac(stable_mac(port.full_name))
    return None


def _read_options(section: Entry, *, v4: bool) -> tuple[str, ...]:
    found: list[str] = []
    for word, entry in section.entries().items():
        values = [one.text() for one in entry.items()]
        text = f"{word}={','.join(values)}"
        try:
            parse_option(text, v4=v4)
        except ValueError as problem:
            entry.report(str(problem))
        found.append(text)
    return tuple(sorted(found))


def _is_mapping(entry: Entry) -> bool:
    return type(entry.node).__name__ == "MappingNode"
