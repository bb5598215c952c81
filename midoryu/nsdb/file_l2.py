# SPDX-License-Identifier: Apache-2.0
"""Layer 2 services in a topology file: options of networks and ports, QoS, mirrors.

`topology_file` calls it for the words that it has here; sub-ports find their parents
when all ports are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from midoryu.nsdb.document import Entry
from midoryu.nsdb.draft import Draft, PortDraft, check_name, reference
from midoryu.nsdb.item import Value
from midoryu.topology.l2 import MirrorDirection

_FLAGS: Final = (
    "multicast_snooping",
    "flood_unregistered",
    "vlan_transparent",
    "forward_bpdu",
)
NETWORK_FIELDS: Final = (*_FLAGS, "mac_limit", "qos")
PORT_FIELDS: Final = ("parent", "vlan", "qos", "storm_pps", "mac_limit")
QOS_FIELDS: Final = (
    "ingress_kbps",
    "egress_kbps",
    "burst_kb",
    "ingress_burst_kb",
    "egress_burst_kb",
    "dscp",
)
MIRROR_FIELDS: Final = ("ports", "to", "direction")
_MAX_RATE: Final = 1_000_000_000
_MAX_PPS: Final = 100_000_000
_MAX_MACS: Final = 1_000_000


def network_columns(draft: Draft, fields: Mapping[str, Entry]) -> dict[str, Value]:
    """Read a network's options."""
    columns: dict[str, Value] = {
        word: fields[word].boolean() for word in _FLAGS if word in fields
    }
    return {**columns, **_common(draft, fields)}


def port_columns(draft: Draft, fields: Mapping[str, Entry]) -> dict[str, Value]:
    """Read a port's options; `join_parents` completes those of a sub-port."""
    columns = _common(draft, fields)
    if "storm_pps" in fields:
        columns["storm_pps"] = fields["storm_pps"].integer(1, _MAX_PPS)
    if "vlan" in fields:
        columns["vlan"] = fields["vlan"].integer(1, 4094)
        if "parent" not in fields:
            fields["vlan"].report("needs `parent` beside it")
    if "parent" in fields:
        columns["parent"] = fields["parent"].text() or None
        if "vlan" not in fields:
            fields["parent"].report("needs `vlan` beside it")
        for word in ("network", "router"):
            if word in fields:
                fields[word].report("a sub-port cannot be linked")
        for word in ("host", "migrating_to", "iface_id"):
            if word in fields:
                fields[word].report("a sub-port is where its parent is")
    return columns


def _common(draft: Draft, fields: Mapping[str, Entry]) -> dict[str, Value]:
    columns: dict[str, Value] = {}
    if "mac_limit" in fields:
        columns["mac_limit"] = fields["mac_limit"].integer(1, _MAX_MACS)
    if "qos" in fields:
        columns["qos"] = reference(fields["qos"], draft.policies, "QoS policy")
    return columns


def join_parents(draft: Draft) -> None:
    """Check that sub-ports have a real parent, each with a tag of its own."""
    known = {port.full_name: port for port in draft.ports.values()}
    tags: dict[tuple[object, object], PortDraft] = {}
    for port in known.values():
        if port.columns.get("parent") is None:
            continue
        entry = port.entry.entries()["parent"]
        name = reference(entry, known, "port")
        parent = known.get(name or "")
        if parent is None:
            continue
        if parent.columns.get("parent") is not None or parent.peer is not None:
            entry.report(f"{name} has no interface of its own")
        other = tags.setdefault((name, port.columns.get("vlan")), port)
        if other is not port:
            entry.report(f"{other.full_name} has this tag of {name} already")


def read_qos(draft: Draft) -> None:
    """Read the section `qos`."""
    for name, entry in draft.policies.items():
        fields = entry.fields(QOS_FIELDS)
        columns: dict[str, Value] = {"name": name}
        burst = None
        if "burst_kb" in fields:
            burst = fields["burst_kb"].integer(1, _MAX_RATE)
        for way in ("ingress", "egress"):
            rate, own_burst = f"{way}_kbps", f"{way}_burst_kb"
            if rate in fields:
                columns[rate] = fields[rate].integer(1, _MAX_RATE)
                columns[own_burst] = burst
            if own_burst in fields:
                columns[own_burst] = fields[own_burst].integer(1, _MAX_RATE)
                if rate not in fields:
                    fields[own_burst].report(f"needs `{rate}` beside it")
        if "dscp" in fields:
            columns["dscp"] = fields["dscp"].integer(0, 63)
        draft.add("Qos", columns, entry)


def read_mirrors(draft: Draft, section: Entry) -> None:
    """Read the section `mirrors`."""
    known = {port.full_name: port for port in draft.ports.values()}
    for name, entry in section.entries().items():
        check_name(entry, name)
        fields = entry.fields(MIRROR_FIELDS)
        columns: dict[str, Value] = {"name": name, "direction": "both"}
        for word in ("ports", "to"):
            if word not in fields:
                entry.report(f"needs `{word}`")
        if "direction" in fields:
            directions = [direction.value for direction in MirrorDirection]
            columns["direction"] = fields["direction"].choice(directions)
        if "ports" in fields and not any(True for _ in fields["ports"].items()):
            fields["ports"].report("names no port to mirror")
        target = reference(fields["to"], known, "port") if "to" in fields else None
        columns["port"] = target
        found = []
        for item in fields["ports"].items() if "ports" in fields else ():
            port = reference(item, known, "port")
            if port is not None:
                _check_mirrored(item, known[port], port, target)
                found.append(port)
        if target is not None and known[target].peer is not None:
            fields["to"].report(f"{target} is linked: nobody can see the copies")
        columns["ports"] = tuple(sorted(set(found)))
        if target is not None:
            draft.add("Mirror", columns, entry)


def _check_mirrored(
    item: Entry, port: PortDraft, name: str, target: str | None
) -> None:
    if port.peer is not None:
        item.report(f"{name} is linked: only ports of interfaces are mirrored")
    if name == target:
        item.report("is mirrored to itself")
