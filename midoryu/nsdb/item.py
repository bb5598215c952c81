# SPDX-License-Identifier: Apache-2.0
"""Rows as values that speak of each other by name: what files and the database share.

`topology_file` makes items of a file, `items_of` makes them of the database; `apply`
compares the two, `export` writes them down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Union

from midoryu.compat import SLOTS

RuleColumns = tuple[tuple[str, object], ...]
"""Column and value of each column of a rule, in `RULE_COLUMNS`' order."""
Value = Union[None, bool, int, str, tuple[str, ...], tuple[RuleColumns, ...]]
ItemId = tuple[str, str]
"""Table and name."""

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "Host": ("name", "underlay"),
    "Address_Group": ("name", "members"),
    "Chain": ("name", "policy", "keep_live", "rules"),
    "Qos": (
        "name",
        "ingress_kbps",
        "ingress_burst_kb",
        "egress_kbps",
        "egress_burst_kb",
        "dscp",
    ),
    "Network": (
        "name",
        "up",
        "ingress_chain",
        "egress_chain",
        "mtu",
        "multicast_snooping",
        "flood_unregistered",
        "vlan_transparent",
        "forward_bpdu",
        "mac_limit",
        "qos",
    ),
    "Router": ("name", "up", "ingress_chain", "egress_chain"),
    "Port": (
        "name",
        "network",
        "router",
        "mac",
        "addresses",
        "peer",
        "host",
        "migrating_to",
        "interface_id",
        "up",
        "ingress_chain",
        "egress_chain",
        "port_security",
        "allowed",
        "mtu",
        "mss_clamp",
        "parent",
        "vlan",
        "qos",
        "storm_pps",
        "mac_limit",
        "hostname",
        "dhcp_options",
        "dhcp6_options",
        "metadata",
    ),
    "Subnet": (
        "network",
        "prefix",
        "gateway",
        "dns",
        "domain",
        "search",
        "ntp",
        "routes",
        "mtu",
        "dhcp",
        "lease_s",
        "server",
        "boot_file",
        "boot_server",
        "options",
        "ra_mode",
        "ra_min_s",
        "ra_max_s",
        "ra_lifetime_s",
        "ra_preference",
        "ra_valid_s",
        "ra_preferred_s",
        "resolver",
        "forward",
    ),
    "Route": (
        "router",
        "destination",
        "source",
        "kind",
        "gateway",
        "port",
        "weight",
        "metric",
    ),
    "Nat": (
        "type",
        "router",
        "addresses",
        "source",
        "destination",
        "port",
        "ip_proto",
        "ports",
        "to_address",
        "to_port",
        "filtering",
    ),
    "Port_Group": ("name", "stateful", "ports"),
    "Mirror": ("name", "ports", "port", "direction"),
    "Load_Balancer": ("name", "network", "router", "up"),
    "Pool": ("name", "affinity", "on_remove", "on_down", "no_member"),
    "Vip": ("balancer", "address", "ip_proto", "l4_port", "pool"),
    "Pool_Member": ("pool", "address", "l4_port", "weight", "up"),
    "Health_Monitor": (
        "pool",
        "type",
        "l4_port",
        "path",
        "codes",
        "interval",
        "timeout",
        "rise",
        "fall",
    ),
}
"""Wanted tables and their columns; a table stands after those that it refers to."""

RULE_COLUMNS: Final = (
    "action",
    "jump",
    "ct_states",
    "eth_type",
    "ip_proto",
    "source",
    "not_source",
    "destination",
    "not_destination",
    "source_group",
    "destination_group",
    "source_port_group",
    "destination_port_group",
    "source_ports",
    "not_source_ports",
    "destination_ports",
    "not_destination_ports",
    "icmp_type",
    "icmp_code",
    "stateless",
    "log",
)

REFERENCES: Final[dict[str, str]] = {
    "network": "Network",
    "router": "Router",
    "peer": "Port",
    "parent": "Port",
    "port": "Port",
    "qos": "Qos",
    "balancer": "Load_Balancer",
    "pool": "Pool",
    "host": "Host",
    "migrating_to": "Host",
    "ingress_chain": "Chain",
    "egress_chain": "Chain",
    "jump": "Chain",
    "source_group": "Address_Group",
    "destination_group": "Address_Group",
    "source_port_group": "Port_Group",
    "destination_port_group": "Port_Group",
}
"""Columns that hold a row, and its table. `Port_Group.ports` holds several."""

_EMPTY_COLUMNS: Final[dict[str, Value]] = {
    "up": True,
    "port_security": False,
    "keep_live": False,
    "multicast_snooping": False,
    "flood_unregistered": False,
    "vlan_transparent": False,
    "forward_bpdu": False,
    "dhcp": False,
    "metadata": False,
    **dict.fromkeys(("ntp", "routes", "options"), ()),
    **dict.fromkeys(("dhcp_options", "dhcp6_options"), ()),
    "stateful": True,
    "affinity": 0,
    **dict.fromkeys(("on_remove", "on_down"), "keep"),
    "no_member": "reject",
    "path": "/",
    "codes": ("200-299",),
    "interval": 5000,
    "timeout": 2000,
    "rise": 2,
    "fall": 3,
    "weight": 1,
    "metric": 0,
    "kind": "forward",
    "policy": "accept",
    **dict.fromkeys(("addresses", "allowed", "members", "rules"), ()),
}
_EMPTY_RULE: Final[dict[str, Value]] = {
    "stateless": False,
    **dict.fromkeys((name for name in RULE_COLUMNS if name[:4] == "not_"), False),
    **dict.fromkeys(("ct_states", "source", "destination"), ()),
    **dict.fromkeys(("source_ports", "destination_ports"), ()),
}

OWN_PREFIX: Final = "midoryu:"
BY_COMMAND: Final = {"midoryu:by": "command"}
"""`external_ids` of what a command made: no file deletes it."""


@dataclass(frozen=True, **SLOTS)
class Item:
    """A row of a wanted table."""

    table: str
    name: str
    """Unique in its table: a name, `DEVICE/PORT`, or what tells a route apart."""
    columns: Mapping[str, Value]
    """Every column of `COLUMNS[table]`; rows are named."""

    @property
    def id(self) -> ItemId:
        """Table and name."""
        return self.table, self.name


def make_item(table: str, columns: Mapping[str, Value]) -> Item:
    """Make an item; columns that are not given have their defaults."""
    whole = {
        name: columns.get(name, _EMPTY_COLUMNS.get(name)) for name in COLUMNS[table]
    }
    return Item(table, _name(table, whole), whole)


def make_rule(columns: Mapping[str, object]) -> RuleColumns:
    """Make a rule; columns that are not given have their defaults."""
    return tuple(
        (name, columns.get(name, _EMPTY_RULE.get(name))) for name in RULE_COLUMNS
    )


def items_of(tables: Mapping[str, Any]) -> dict[ItemId, tuple[Item, Any]]:
    """Read the wanted tables of an IDL: item and row."""
    found: dict[ItemId, tuple[Item, Any]] = {}
    for table in COLUMNS:
        for row in tables[table].rows.values():
            item = item_of(table, row)
            found[item.id] = item, row
    return found


def item_of(table: str, row: Any) -> Item:
    """Read one row."""
    columns = {name: column_value(row, name) for name in COLUMNS[table]}
    return Item(table, _name(table, columns), columns)


def rule_of(row: Any) -> RuleColumns:
    """Read one row of a chain."""
    return tuple((name, column_value(row, name)) for name in RULE_COLUMNS)


def is_foreign(row: Any) -> bool:
    """Tell whether others (Neutron, say) made a row: it has an external id not ours."""
    return any(not key.startswith(OWN_PREFIX) for key in row.external_ids)


def is_by_command(row: Any) -> bool:
    """Tell whether a command made a row, so that files leave it."""
    return "midoryu:by" in row.external_ids


def port_name(row: Any) -> str:
    """Return `DEVICE/PORT` of a port's row."""
    devices = row.network + row.router
    return f"{devices[0].name if devices else '?'}/{row.name}"


def _name(table: str, columns: Mapping[str, Value]) -> str:
    if table == "Port":
        return f"{columns['network'] or columns['router']}/{columns['name']}"
    if table == "Subnet":
        return f"{columns['network']} {columns['prefix']}"
    if table == "Route":
        return _route_name(columns)
    if table == "Nat":
        return _nat_name(columns)
    if table in ("Vip", "Pool_Member", "Health_Monitor"):
        return _balancer_name(table, columns)
    return str(columns["name"])


def _balancer_name(table: str, columns: Mapping[str, Value]) -> str:
    words = [str(columns["balancer" if table == "Vip" else "pool"])]
    if table != "Health_Monitor":
        words.append(str(columns["address"]))
        if columns["l4_port"] is not None:
            words.append(f"port {columns['l4_port']}")
    if columns.get("ip_proto") is not None:
        words.append(f"protocol {columns['ip_proto']}")
    return " ".join(words)


def _route_name(columns: Mapping[str, Value]) -> str:
    words = [str(columns["router"]), "to", str(columns["destination"])]
    for word, column in (("from", "source"), ("via", "gateway"), ("port", "port")):
        if columns[column] is not None:
            words += [word, str(columns[column])]
    if columns["kind"] != "forward":
        words.append(str(columns["kind"]))
    return " ".join([*words, "metric", str(columns["metric"] or 0)])


def _nat_name(columns: Mapping[str, Value]) -> str:
    addresses = columns["addresses"]
    shown = ",".join(map(str, addresses)) if isinstance(addresses, tuple) else ""
    words = [str(columns["router"]), str(columns["type"]), shown]
    if columns["ports"] is not None:
        words.append(f"ports {columns['ports']}")
    if columns["ip_proto"] is not None:
        words.append(f"protocol {columns['ip_proto']}")
    for word, column in (("from", "source"), ("to", "destination"), ("port", "port")):
        if columns[column] is not None:
            words += [word, str(columns[column])]
    return " ".join(words)


def column_value(row: Any, column: str) -> Any:
    """Read a column: rows are named, a set is a sorted tuple, an empty option None."""
    if column == "rules":
        return tuple(rule_of(rule) for _, rule in sorted(row.rules.items()))
    value = getattr(row, column)
    kind = row._table.columns[column].type
    if not isinstance(value, list):
        return _named(value, column)
    names = [_named(atom, column) for atom in value]
    if kind.n_max == 1:
        return names[0] if names else None
    return tuple(sorted(names))


def _named(atom: Any, column: str) -> Any:
    table = REFERENCES.get(column, "Port" if column == "ports" else "")
    if not table or isinstance(atom, (str, int)):
        return atom
    return port_name(atom) if table == "Port" else atom.name
