# SPDX-License-Identifier: Apache-2.0
"""`midoryu-ctl ingress-set`: vports that are equivalent ways in or out.

What is created here stays when a topology file without it is applied.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from midoryu.cli.connect import connect
from midoryu.cli.exit_code import DONE
from midoryu.cli.output import print_json, print_table
from midoryu.errors import TopologyError
from midoryu.nsdb.item import BY_COMMAND, port_name


def register(subparsers: Any) -> None:
    """Add the subcommands."""
    parser = subparsers.add_parser(
        "ingress-set", help="look at and change ingress sets"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, ports, what in (
        ("create", run_create, "*", "make a set, with these ports"),
        ("add", run_add, "+", "add ports to a set"),
        ("remove", run_remove, "+", "take ports out of a set"),
        ("delete", run_delete, "", "delete a set"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("name", metavar="NAME", help="the set's name")
        if ports:
            command.add_argument(
                "ports", nargs=ports, metavar="PORT", help="DEVICE/PORT"
            )
        command.set_defaults(run=run)
    commands.add_parser("list", help="list all sets").set_defaults(run=run_list)


def run_create(options: argparse.Namespace) -> int:
    """Make a set; fails when there is one."""
    with connect(options) as session:

        def change(transaction: Any) -> bool:
            if _find(session.tables, options.name) is not None:
                raise TopologyError(f"there is an ingress set {options.name!r} already")
            row = transaction.insert(session.tables["Port_Group"])
            row.name, row.stateful = options.name, True
            row.external_ids = dict(BY_COMMAND)
            row.ports = _ports(session.tables, options.ports)
            return True

        session.transact(change)
    return DONE


def run_add(options: argparse.Namespace) -> int:
    """Add ports; those that are in it already stay."""
    return _change_members(options, add=True)


def run_remove(options: argparse.Namespace) -> int:
    """Take ports out; those that are not in it are no problem."""
    return _change_members(options, add=False)


def run_delete(options: argparse.Namespace) -> int:
    """Delete a set; fails when there is none."""
    with connect(options) as session:

        def change(_: Any) -> bool:
            _need(session.tables, options.name).delete()
            return True

        session.transact(change)
    return DONE


def run_list(options: argparse.Namespace) -> int:
    """List all sets."""
    with connect(options) as session:
        sets = describe_sets(session.tables)
    if options.format == "json":
        print_json(sets)
        return DONE
    print_table(("SET", "PORTS"), [[name, " ".join(sets[name])] for name in sets])
    return DONE


def describe_sets(tables: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the ports of each set, by name."""
    sets = {
        row.name: sorted(map(port_name, row.ports))
        for row in tables["Port_Group"].rows.values()
        if row.stateful
    }
    return dict(sorted(sets.items()))


def _change_members(options: argparse.Namespace, *, add: bool) -> int:
    with connect(options) as session:

        def change(_: Any) -> bool:
            row = _need(session.tables, options.name)
            ports = _ports(session.tables, options.ports)
            members = {port.uuid for port in row.ports}
            # Mutations: two commands at once both have their way.
            for port in ports:
                if add and port.uuid not in members:
                    row.addvalue("ports", port)
                elif not add and port.uuid in members:
                    row.delvalue("ports", port)
            return any((port.uuid in members) != add for port in ports)

        session.transact(change)
    return DONE


def _find(tables: Mapping[str, Any], name: str) -> Any:
    rows = tables["Port_Group"].rows.values()
    return next((row for row in rows if row.name == name and row.stateful), None)


def _need(tables: Mapping[str, Any], name: str) -> Any:
    row = _find(tables, name)
    if row is None:
        raise TopologyError(f"there is no ingress set {name!r}")
    return row


def _ports(tables: Mapping[str, Any], names: list[str]) -> list[Any]:
    by_name = {port_name(row): row for row in tables["Port"].rows.values()}
    for name in names:
        if name not in by_name:
            raise TopologyError(f"there is no port {name!r} (write DEVICE/PORT)")
    return [by_name[name] for name in dict.fromkeys(names)]
