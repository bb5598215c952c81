# SPDX-License-Identifier: Apache-2.0
"""`midoryu-ctl show`: the topology as a tree for people, or as JSON."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from midoryu.cli.connect import connect
from midoryu.cli.exit_code import DONE
from midoryu.cli.ingress_set import describe_sets
from midoryu.cli.output import print_json
from midoryu.cli.port import describe_ports
from midoryu.errors import TopologyError
from midoryu.nsdb import file_l2
from midoryu.nsdb.export import topology
from midoryu.nsdb.file_balancer import endpoint
from midoryu.nsdb.item import items_of

Lines = Iterator[str]


def register(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("show", help="show the topology, or a part of it")
    parser.add_argument(
        "kind",
        nargs="?",
        choices=sorted(_KINDS),
        metavar="KIND",
        help=", ".join(_KINDS),
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="only this one")
    parser.set_defaults(run=run_show)


def run_show(options: argparse.Namespace) -> int:
    """Show everything, one kind, or one device."""
    with connect(options) as session:
        view = _View(session.tables)
    kinds = [options.kind] if options.kind else list(_KINDS)
    found = {kind: _KINDS[kind](view) for kind in kinds}
    if options.name:
        if options.name not in found[options.kind]:
            raise TopologyError(f"there is no {options.kind} {options.name!r}")
        found = {options.kind: {options.name: found[options.kind][options.name]}}
    if options.format == "json":
        print_json(found)
        return DONE
    for kind, things in found.items():
        for name, thing in things.items():
            print(f"{kind} {name}")
            for line in _lines(thing, "    "):
                print(line)
    return DONE


class _View:
    """What the database holds, with live status beside it."""

    def __init__(self, tables: Mapping[str, Any]) -> None:
        self.tables = tables
        self.ports = describe_ports(tables)
        self.words = topology([item for item, _ in items_of(tables).values()])


def _networks(view: _View) -> dict[str, Any]:
    return _devices(view, "Network", "networks")


def _routers(view: _View) -> dict[str, Any]:
    return _devices(view, "Router", "routers")


def _devices(view: _View, table: str, section: str) -> dict[str, Any]:
    words = view.words.get(section, {})
    found: dict[str, Any] = {}
    rows = sorted(view.tables[table].rows.values(), key=lambda row: str(row.name))
    for row in rows:
        detail = {k: v for k, v in words.get(row.name, {}).items() if k != "ports"}
        written = words.get(row.name, {}).get("ports", {})
        ports = {
            str(port["port"]).partition("/")[2]: {
                **_port_words(port),
                **_sizes(written.get(str(port["port"]).partition("/")[2], {})),
            }
            for port in view.ports
            if str(port["port"]).partition("/")[0] == row.name
        }
        seen = _leases if table == "Router" else _groups
        learned = seen(row, view.tables)
        found[row.name] = {"key": row.key, "ports": ports, **detail, **learned}
    return found


def _sizes(port: Mapping[str, Any]) -> dict[str, Any]:
    known = ("mtu", "mss_clamp", *file_l2.PORT_FIELDS)
    return {key: port[key] for key in known if key in port}


def _groups(network: Any, tables: Mapping[str, Any]) -> dict[str, Any]:
    """Show who wants which multicast group, as agents heard."""
    found: dict[str, list[str]] = {}
    for row in tables["Multicast_Member"].rows.values():
        if row.network.uuid == network.uuid:
            group = row.address[0] if row.address else "routers"
            found.setdefault(group, []).append(str(row.port.name))
    members = {group: sorted(ports) for group, ports in sorted(found.items())}
    return {"multicast": members} if members else {}


def _leases(router: Any, tables: Mapping[str, Any]) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for row in tables["Nat_Lease"].rows.values():
        if row.router.uuid == router.uuid:
            who = f"{row.address} {row.host.name}"
            counts[who] = counts.get(who, 0) + 1
    return {"leased blocks": dict(sorted(counts.items()))} if counts else {}


def _port_words(port: Mapping[str, Any]) -> dict[str, Any]:
    words = {"key": port["key"], "addresses": port["addresses"], "mac": port["mac"]}
    if port["peer"]:
        words["peer"] = port["peer"]
    elif port["host"] or port["up_on"]:
        words["host"] = port["host"]
        words["status"] = f"up on {port['up_on']}" if port["up_on"] else "down"
    if port["migrating_to"]:
        state = "ready" if port["ready"] else "not ready"
        words["migrating to"] = f"{port['migrating_to']} ({state})"
    if not port["up"]:
        words["status"] = "administratively down"
    return {key: value for key, value in words.items() if value not in ("", [])}


def _hosts(view: _View) -> dict[str, Any]:
    found: dict[str, Any] = {}
    rows = sorted(view.tables["Host"].rows.values(), key=lambda row: str(row.name))
    for row in rows:
        bound = [port["port"] for port in view.ports if port["host"] == row.name]
        underlay = row.underlay[0] if row.underlay else "not registered yet"
        found[row.name] = {"key": row.key, "underlay": underlay, "ports": bound}
    return found


def _section(name: str) -> Callable[[_View], dict[str, Any]]:
    return lambda view: dict(view.words.get(name, {}))


def _balancers(view: _View) -> dict[str, Any]:
    """Show balancers, each member with what its monitor found."""
    found = {}
    health = _health(view.tables)
    for name, detail in view.words.get("balancers", {}).items():
        members = []
        for member in detail.get("members", ()):
            words = dict(member) if isinstance(member, dict) else {"address": member}
            state = "not watched" if "monitor" not in detail else "unknown"
            members.append(
                {**words, "health": health.get((name, words["address"]), state)}
            )
        found[name] = {**detail, "members": members}
    return found


def _health(tables: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    found = {}
    for row in tables["Member_Status"].rows.values():
        member = row.member
        port = member.l4_port[0] if member.l4_port else None
        where = endpoint({"address": member.address, "l4_port": port})
        word = "up" if row.up else "down"
        found[member.pool.name, where] = f"{word} (seen by {row.host.name})"
    return found


def _sets(view: _View) -> dict[str, Any]:
    return dict(describe_sets(view.tables))


_KINDS: Final[dict[str, Callable[[_View], dict[str, Any]]]] = {
    "network": _networks,
    "router": _routers,
    "chain": _section("chains"),
    "group": _section("groups"),
    "ingress-set": _sets,
    "balancer": _balancers,
    "qos": _section("qos"),
    "mirror": _section("mirrors"),
    "host": _hosts,
}


def _lines(thing: Any, indent: str) -> Lines:
    """Show mappings as a tree; what fits stands on its own line."""
    if isinstance(thing, list):
        for item in thing:
            yield f"{indent}- {_flat(item)}"
        return
    for key, value in thing.items():
        if key == "ports" and isinstance(value, dict):
            for name, port in value.items():
                yield f"{indent}port {name}: {_flat(port)}"
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            yield f"{indent}{key}"
            yield from _lines(value, f"{indent}    ")
        else:
            yield f"{indent}{key}: {_flat(value)}"


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{key} {_flat(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_flat, value))
    return str(value)
