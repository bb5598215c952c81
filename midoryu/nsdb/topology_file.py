# SPDX-License-Identifier: Apache-2.0
"""A topology file -> items, or all that is wrong with it.

The sections of rules are read by `file_chain`, routes and NAT by `file_router`; links
are joined by `file_link`; conflicts are found by `file_check`.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Final

from midoryu.errors import TopologyError
from midoryu.nsdb import file_balancer, file_l2, file_service
from midoryu.nsdb.document import Entry, load
from midoryu.nsdb.draft import Draft, PortDraft, check_name, reference
from midoryu.nsdb.file_chain import read_chains, read_groups
from midoryu.nsdb.file_check import check_conflicts
from midoryu.nsdb.file_link import join_links, stable_mac
from midoryu.nsdb.file_router import read_router
from midoryu.nsdb.item import Item, ItemId, Value
from midoryu.nsdb.schema import (
    format_interface,
    interface_from_text,
    mac_from_text,
)
from midoryu.packet.address import (
    Prefix,
    format_ip,
    format_mac,
    is_multicast_ip,
    is_v4,
    parse_ip,
    parse_prefix,
)
from midoryu.topology.model import MSS_OF_MTU

# RFC 791, section 3.2; a full 16-bit total length.
MTU_RANGE: Final = (68, 0xFFFF)
# An MTU of 88 less 40 bytes of headers; RFC 9293, section 3.1 (16 bits).
MSS_RANGE: Final = (48, MSS_OF_MTU - 1)

SECTIONS: Final = (
    "hosts",
    "networks",
    "routers",
    "chains",
    "groups",
    "port_groups",
    "ingress_sets",
    "qos",
    "mirrors",
    "balancers",
)
DEVICE_FIELDS: Final = ("ports", "up", "ingress", "egress")
NETWORK_FIELDS: Final = (*DEVICE_FIELDS, "mtu", "subnets", *file_l2.NETWORK_FIELDS)
ROUTER_FIELDS: Final = (*DEVICE_FIELDS, "routes", "masquerade", "dnat", "floating")
PORT_FIELDS: Final = (
    "host",
    "migrating_to",
    "iface_id",
    "network",
    "router",
    "peer",
    "mac",
    "ip",
    "up",
    "security",
    "allowed",
    "ingress",
    "egress",
    "mtu",
    "mss_clamp",
    *file_l2.PORT_FIELDS,
    *file_service.PORT_FIELDS,
)


def read_file(path: str) -> dict[ItemId, Item]:
    """Read a topology file.

    Raises:
        TopologyError: it cannot be read, or is wrong: `file:line:column: path: reason`,
            one line for each problem.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as problem:
        raise TopologyError(f"{path}: {problem.strerror or problem}") from problem
    except UnicodeDecodeError as problem:
        raise TopologyError(f"{path}: not UTF-8 text: {problem.reason}") from problem
    return parse(text, path)


def parse(text: str, file: str) -> dict[ItemId, Item]:
    """Read a topology; `file` is its name in messages.

    Raises:
        TopologyError: as `read_file`.
    """
    root = load(text, file)
    top = root.fields(SECTIONS)
    draft = Draft(top)
    for name in draft.routers:
        if name in draft.networks:
            draft.routers[name].report(f"there is a network {name!r} too")
    if "hosts" in top:
        _read_hosts(draft, top["hosts"])
    read_groups(draft)
    read_chains(draft)
    file_l2.read_qos(draft)
    for name, entry in draft.networks.items():
        _read_device(draft, name, entry, is_router=False)
    for name, entry in draft.routers.items():
        _read_device(draft, name, entry, is_router=True)
    join_links(draft)
    file_l2.join_parents(draft)
    if "mirrors" in top:
        file_l2.read_mirrors(draft, top["mirrors"])
    for name, entry in draft.routers.items():
        read_router(draft, name, entry)
    if "balancers" in top:
        file_balancer.read_balancers(draft, top["balancers"])
    _read_port_groups(draft, top)
    check_conflicts(draft)
    _finish(draft, root)
    root.document.raise_problems()
    return draft.items


def _read_hosts(draft: Draft, section: Entry) -> None:
    if section.is_list:
        for entry in section.items():
            _add_host(draft, entry.text(), None, entry)
        return
    for name, entry in section.entries().items():
        fields = entry.fields(("underlay",))
        underlay = fields["underlay"].parsed(parse_ip) if "underlay" in fields else None
        _add_host(draft, name, underlay, entry)


def _add_host(draft: Draft, name: str, underlay: int | None, entry: Entry) -> None:
    check_name(entry, name)
    draft.hosts.add(name)
    address = None if underlay is None else format_ip(underlay)
    draft.add("Host", {"name": name, "underlay": address}, entry)


def _read_device(draft: Draft, name: str, entry: Entry, *, is_router: bool) -> None:
    fields = entry.fields(ROUTER_FIELDS if is_router else NETWORK_FIELDS)
    columns: dict[str, Value] = {"name": name, **_common(draft, fields)}
    if not is_router:
        columns.update(file_l2.network_columns(draft, fields))
    draft.add("Router" if is_router else "Network", columns, entry)
    if "subnets" in fields:
        file_service.read_subnets(draft, name, fields["subnets"])
    ports = fields["ports"].entries() if "ports" in fields else {}
    for port, port_entry in ports.items():
        check_name(port_entry, port)
        _read_port(draft, PortDraft(name, port, is_router, port_entry))


def _common(draft: Draft, fields: dict[str, Entry]) -> dict[str, Value]:
    columns: dict[str, Value] = {}
    if "up" in fields:
        columns["up"] = fields["up"].boolean(default=True)
    for word in ("ingress", "egress"):
        if word in fields:
            chain = reference(fields[word], draft.chains, "chain")
            columns[f"{word}_chain"] = chain
    if "mtu" in fields:
        columns["mtu"] = fields["mtu"].integer(*MTU_RANGE)
    return columns


def _read_port(draft: Draft, port: PortDraft) -> None:
    fields = port.entry.fields(PORT_FIELDS)
    draft.ports[port.device, port.name] = port
    port.columns = {
        **_common(draft, fields),
        **file_l2.port_columns(draft, fields),
        **file_service.port_columns(port, fields),
    }
    _read_place(draft, port, fields)
    _read_link(draft, port, fields)
    mac = fields["mac"].parsed(mac_from_text) if "mac" in fields else None
    if mac is None and port.is_router:
        mac = stable_mac(port.full_name)
    port.columns["mac"] = None if mac is None else format_mac(mac)
    port.columns["mac"] = port.columns["mac"] or file_service.metadata_mac(port)
    port.addresses = _read_addresses(port, fields)
    if "security" in fields:
        port.columns["port_security"] = fields["security"].boolean()
    if "allowed" in fields:
        port.columns["allowed"] = _read_allowed(fields["allowed"])
    if "mss_clamp" in fields:
        port.columns["mss_clamp"] = _read_mss_clamp(port, fields["mss_clamp"])


def _read_mss_clamp(port: PortDraft, entry: Entry) -> int | None:
    """Read `true` (by the link's MTU), `false`, or a size in bytes."""
    if not port.is_router:
        entry.report("belongs to a router's port")
    if entry.text()[:1].isdecimal():
        return entry.integer(*MSS_RANGE)
    return MSS_OF_MTU if entry.boolean() else None


def _read_place(draft: Draft, port: PortDraft, fields: dict[str, Entry]) -> None:
    for word in ("host", "migrating_to", "iface_id"):
        if word in fields and ("network" in fields or "router" in fields):
            fields[word].report("a linked port is not bound to an interface")
    for word in ("host", "migrating_to"):
        if word in fields:
            host = fields[word].text()
            if host:
                check_name(fields[word], host)
                draft.hosts.add(host)
            port.columns[word] = host
    interface = fields["iface_id"].text() if "iface_id" in fields else port.full_name
    if len(interface) > 255:
        fields["iface_id"].report("is longer than 255 characters")
    port.columns["interface_id"] = interface


def _read_link(draft: Draft, port: PortDraft, fields: dict[str, Entry]) -> None:
    if "network" in fields and "router" in fields:
        fields["router"].report("a port links to a network or to a router, not both")
        return
    if "network" in fields and not port.is_router:
        fields["network"].report("a network links to routers only")
        return
    for word, known in (("network", draft.networks), ("router", draft.routers)):
        if word in fields:
            port.link_device = reference(fields[word], known, word) or ""
            port.link_is_router = word == "router"
    if "peer" in fields:
        port.link_port = fields["peer"].text()
        check_name(fields["peer"], port.link_port)
        if not ("network" in fields or "router" in fields):
            fields["peer"].report("needs `network` or `router` beside it")


def _read_addresses(port: PortDraft, fields: dict[str, Entry]) -> tuple[Prefix, ...]:
    found: dict[Prefix, None] = {}
    for entry in fields["ip"].items() if "ip" in fields else ():
        address = entry.parsed(interface_from_text)
        if address is None:
            continue
        reason = _unusable(address, is_router=port.is_router)
        if reason:
            entry.report(f"{format_interface(address)}: {reason}")
        elif address in found:
            entry.report(f"{format_interface(address)} is there twice")
        found[address] = None
    addresses = tuple(sorted(found))
    port.columns["addresses"] = tuple(sorted(map(format_interface, addresses)))
    return addresses


def _unusable(address: Prefix, *, is_router: bool) -> str:
    parsed = ipaddress.ip_address(format_ip(address.value))
    if is_multicast_ip(address.value) or parsed.is_unspecified or parsed.is_loopback:
        return "is no address of one station"
    if address.length == 128 and is_router and not parsed.is_link_local:
        if is_v4(address.value):
            return "needs the length of its subnet, as in /24"
        return "needs the length of its subnet, as in /64"
    host_bits = 128 - address.length
    if host_bits > 1 and is_v4(address.value):
        host = address.value & ((1 << host_bits) - 1)
        if host in (0, (1 << host_bits) - 1):
            return "is the subnet's own or broadcast address"
    return ""


def _read_allowed(section: Entry) -> tuple[str, ...]:
    found: set[str] = set()
    for entry in section.items():
        fields = entry.fields(("mac", "ip"))
        mac = fields["mac"].parsed(mac_from_text) if "mac" in fields else None
        words = [] if mac is None else [format_mac(mac)]
        if not fields:
            entry.report("needs a `mac` or an `ip`")
        prefixes = list(fields["ip"].items()) if "ip" in fields else []
        for prefix_entry in prefixes:
            prefix = prefix_entry.parsed(parse_prefix)
            if prefix is not None:
                found.add(" ".join([*words, str(prefix)]))
        if words and not prefixes:
            found.add(words[0])
    return tuple(sorted(found))


def _read_port_groups(draft: Draft, top: dict[str, Entry]) -> None:
    known = {port.full_name for port in draft.ports.values()}
    for section, stateful in (("ingress_sets", True), ("port_groups", False)):
        for name, entry in top[section].entries().items() if section in top else ():
            check_name(entry, name)
            found = [reference(item, known, "port") for item in entry.items()]
            columns: dict[str, Value] = {
                "name": name,
                "stateful": stateful,
                "ports": tuple(sorted({port for port in found if port})),
            }
            draft.add("Port_Group", columns, entry)


def _finish(draft: Draft, root: Entry) -> None:
    """Turn port drafts into items and add the hosts that ports name."""
    for port in draft.ports.values():
        owner = "router" if port.is_router else "network"
        peer = port.peer.full_name if port.peer else None
        columns = {**port.columns, "name": port.name, owner: port.device, "peer": peer}
        draft.add("Port", columns, port.entry)
    for host in sorted(draft.hosts):
        if ("Host", host) not in draft.items:
            draft.add("Host", {"name": host}, root)
