# SPDX-License-Identifier: Apache-2.0
"""The database as a topology file: applying it again changes nothing.

The opposite of `topology_file`; rows that others made (Neutron, say) are left out.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any, Final

import yaml

from midoryu.nsdb import export_l2, export_service, file_balancer
from midoryu.nsdb.file_chain import ETHERTYPES, PROTOCOLS
from midoryu.nsdb.file_link import stable_mac
from midoryu.nsdb.item import Item, is_foreign, items_of
from midoryu.packet.address import format_mac
from midoryu.topology.model import MSS_OF_MTU

Words = dict[str, Any]
"""A mapping of the file."""

_PROTOCOL_NAMES: Final = {number: name for name, number in PROTOCOLS.items()}
_ETHERTYPE_NAMES: Final = {number: name for name, number in ETHERTYPES.items()}
_RULE_WORDS: Final = (
    ("ct", "ct_states"),
    ("ethertype", "eth_type"),
    ("proto", "ip_proto"),
    ("from", "source"),
    ("to", "destination"),
    ("from_group", "source_group"),
    ("to_group", "destination_group"),
    ("from_port_group", "source_port_group"),
    ("to_port_group", "destination_port_group"),
    ("from_port", "source_ports"),
    ("to_port", "destination_ports"),
    ("icmp_type", "icmp_type"),
    ("icmp_code", "icmp_code"),
    ("log", "log"),
)
_PORT_WORDS: Final = (
    ("host", "host"),
    ("migrating_to", "migrating_to"),
    ("mac", "mac"),
    ("ip", "addresses"),
    ("ingress", "ingress_chain"),
    ("egress", "egress_chain"),
)


def own_items(tables: Mapping[str, Any]) -> list[Item]:
    """Return the items that a topology file may hold, by name."""
    there = items_of(tables).values()
    items = [item for item, row in there if not is_foreign(row)]
    return sorted(items, key=lambda item: (item.table, item.name))


def export(tables: Mapping[str, Any]) -> str:
    """Write the database down as a topology file."""
    return yaml.safe_dump(
        topology(own_items(tables)),
        default_flow_style=None,
        sort_keys=False,
        width=100,
        allow_unicode=True,
    )


def topology(items: Iterable[Item]) -> Words:
    """Put items together as the file's mappings and lists."""
    by_table: dict[str, list[Item]] = {}
    for item in items:
        by_table.setdefault(item.table, []).append(item)

    def names(table: str) -> list[Item]:
        return by_table.get(table, [])

    networks = {item.name for item in names("Network")}
    sections: Words = {
        "hosts": _hosts(names("Host"), names("Port")),
        "networks": {
            item.name: _network(item, names("Port"), names("Subnet"))
            for item in names("Network")
        },
        "routers": {
            item.name: _router(
                item, names("Port"), names("Route") + names("Nat"), networks
            )
            for item in names("Router")
        },
        "chains": {item.name: _chain(item) for item in names("Chain")},
        "groups": {
            item.name: _list(item.columns["members"]) for item in names("Address_Group")
        },
        "port_groups": _port_groups(names("Port_Group"), names("Port")),
        "ingress_sets": _ingress_sets(names("Port_Group"), names("Port")),
        "qos": {item.name: export_l2.qos(item) for item in names("Qos")},
        "mirrors": export_l2.mirrors(names("Mirror"), names("Port")),
        "balancers": file_balancer.words(by_table),
    }
    kept = {name: section for name, section in sections.items() if section}
    return kept or {"networks": {}}


def _hosts(hosts: Iterable[Item], ports: Iterable[Item]) -> Words:
    """List hosts that no port names, and the addresses of the others."""
    places = ("host", "migrating_to")
    named = {port.columns[place] for port in ports for place in places}
    found: Words = {}
    for host in hosts:
        underlay = host.columns["underlay"]
        if underlay:
            found[host.name] = {"underlay": underlay}
        elif host.name not in named:
            found[host.name] = {}
    return found


def _network(item: Item, ports: Iterable[Item], subnets: Iterable[Item]) -> Words:
    words = _device(item)
    own_subnets = {
        str(subnet.columns["prefix"]): export_service.subnet(subnet)
        for subnet in subnets
        if subnet.columns["network"] == item.name
    }
    if own_subnets:
        words["subnets"] = own_subnets
    own = [port for port in ports if port.columns["network"] == item.name]
    written = {
        str(port.columns["name"]): _port(port, ())
        for port in own
        if not _is_implied(port)
    }
    return {"ports": written, **words} if written else words


def _router(
    item: Item, ports: Iterable[Item], rules: Iterable[Item], networks: Container[str]
) -> Words:
    own = [port for port in ports if port.columns["router"] == item.name]
    words: Words = {
        "ports": {str(port.columns["name"]): _port(port, networks) for port in own}
    }
    words.update(_device(item))
    sections: dict[str, list[Words]] = {}
    for rule in rules:
        if rule.columns["router"] != item.name:
            continue
        if rule.table == "Route":
            sections.setdefault("routes", []).append(_route(rule))
        else:
            kind = str(rule.columns["type"])
            sections.setdefault(kind, []).append(_nat(rule))
    return {**words, **sections}


def _device(item: Item) -> Words:
    columns = item.columns
    words: Words = {} if columns["up"] else {"up": False}
    for word in ("ingress", "egress"):
        if columns[f"{word}_chain"]:
            words[word] = columns[f"{word}_chain"]
    if columns.get("mtu"):
        words["mtu"] = columns["mtu"]
    words.update(export_l2.options(item))
    return words


def _is_implied(port: Item) -> bool:
    """Tell whether the router's end of a link says all about the network's end."""
    columns = port.columns
    peer = str(columns["peer"] or "")
    if not peer or columns["interface_id"] != port.name:
        return False
    plain = not any(columns[column] for _, column in _PORT_WORDS)
    plain = plain and not columns["port_security"] and not columns["allowed"]
    plain = plain and not columns["mtu"] and not export_l2.options(port)
    return bool(plain and columns["up"])


def _port(port: Item, networks: Container[str]) -> Words:
    columns = port.columns
    words = _link(port, networks)
    for word, column in _PORT_WORDS:
        if columns[column]:
            words[word] = _one_or_list(columns[column])
    if columns["router"] and columns["mac"] == format_mac(stable_mac(port.name)):
        del words["mac"]
    if columns["interface_id"] != port.name:
        words["iface_id"] = columns["interface_id"]
    if not columns["up"]:
        words["up"] = False
    if columns["port_security"]:
        words["security"] = True
    if columns["allowed"]:
        words["allowed"] = [_allowed(text) for text in _list(columns["allowed"])]
    if columns["mtu"]:
        words["mtu"] = columns["mtu"]
    if columns["mss_clamp"]:
        clamp = columns["mss_clamp"]
        words["mss_clamp"] = True if clamp == MSS_OF_MTU else clamp
    words.update(export_l2.options(port))
    words.update(export_service.port(port))
    return words


def _link(port: Item, networks: Container[str]) -> Words:
    peer = str(port.columns["peer"] or "")
    if not peer:
        return {}
    device, _, name = peer.partition("/")
    is_to_network = bool(port.columns["router"]) and device in networks
    words: Words = {"network" if is_to_network else "router": device}
    if not (is_to_network and name == port.columns["router"]):
        words["peer"] = name
    return words


def _allowed(text: str) -> Words:
    words: Words = {}
    for part in text.split(" "):
        is_mac = len(part) == 17 and part.count(":") == 5
        words["mac" if is_mac else "ip"] = part
    return words


def _route(item: Item) -> Words:
    columns = item.columns
    words: Words = {"to": columns["destination"]}
    for word, column in (("from", "source"), ("via", "gateway")):
        if columns[column]:
            words[word] = columns[column]
    if columns["port"]:
        words["port"] = _port_of(columns["port"])
    if columns["kind"] != "forward":
        words[str(columns["kind"])] = True
    if columns["weight"] != 1:
        words["weight"] = columns["weight"]
    if columns["metric"]:
        words["metric"] = columns["metric"]
    return words


def _nat(item: Item) -> Words:
    columns = item.columns
    outside = _list(columns["addresses"])
    if columns["type"] == "floating":
        return {"address": outside[0], "to": columns["to_address"]}
    if columns["type"] == "dnat":
        address = _endpoint(outside[0], columns["ports"])
        if columns["ip_proto"] is not None:
            address += f"/{_protocol(columns['ip_proto'])}"
        return {
            "address": address,
            "to": _endpoint(str(columns["to_address"]), columns["to_port"]),
        }
    words: Words = {"from": columns["source"]} if columns["source"] else {}
    words["to"] = _one_or_list(columns["addresses"])
    if columns["destination"]:
        words["destination"] = columns["destination"]
    if columns["port"]:
        words["port"] = _port_of(columns["port"])
    if columns["filtering"]:
        words["filtering"] = columns["filtering"]
    return words


def _endpoint(address: str, ports: object) -> str:
    if ports is None:
        return address
    return f"[{address}]:{ports}" if ":" in address else f"{address}:{ports}"


def _chain(item: Item) -> Words:
    words: Words = {} if item.columns["policy"] == "accept" else {"policy": "drop"}
    if item.columns["keep_live"]:
        words["keep_live"] = True
    rules = item.columns["rules"]
    if rules and isinstance(rules, tuple):
        words["rules"] = [_rule(dict(rule)) for rule in rules]  # type: ignore[arg-type]
    return words


def _rule(columns: Mapping[str, Any]) -> Words:
    action = columns["action"]
    words: Words = {action: columns["jump"] if action == "jump" else True}
    for word, column in _RULE_WORDS:
        value = columns[column]
        if value in (None, ()):
            continue
        if column == "ip_proto":
            value = _protocol(value)
        elif column == "eth_type":
            value = _ETHERTYPE_NAMES.get(value, value)
        negative = "not_" if columns.get(f"not_{column}") else ""
        words[negative + word] = _one_or_list(value)
    if columns["stateless"]:
        words["stateless"] = True
    return words


def _protocol(number: Any) -> Any:
    return _PROTOCOL_NAMES.get(number, number)


def _ingress_sets(groups: Iterable[Item], ports: Iterable[Item]) -> Words:
    return _groups_of_ports(groups, ports, stateful=True)


def _port_groups(groups: Iterable[Item], ports: Iterable[Item]) -> Words:
    return _groups_of_ports(groups, ports, stateful=False)


def _groups_of_ports(
    groups: Iterable[Item], ports: Iterable[Item], *, stateful: bool
) -> Words:
    own = {port.name for port in ports}
    return {
        group.name: _list(group.columns["ports"])
        for group in groups
        if group.columns["stateful"] is stateful
        and own.issuperset(_list(group.columns["ports"]))
    }


def _port_of(value: object) -> str:
    return str(value).partition("/")[2]


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, tuple) else []


def _one_or_list(value: Any) -> Any:
    if isinstance(value, tuple):
        return value[0] if len(value) == 1 else list(value)
    return value
