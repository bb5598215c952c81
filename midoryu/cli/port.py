# SPDX-License-Identifier: Apache-2.0
"""`midoryu-ctl port list`: every vport, where it should be and where it is."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Set
from typing import Any

from midoryu.cli.connect import connect
from midoryu.cli.exit_code import DONE
from midoryu.cli.output import print_json, print_table
from midoryu.nsdb.item import port_name

_HEAD = ("PORT", "KEY", "HOST", "UP ON", "MAC", "ADDRESSES", "PEER", "IFACE ID")


def register(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("port", help="look at vports")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="list all vports")
    listing.set_defaults(run=run_list)


def run_list(options: argparse.Namespace) -> int:
    """List all vports."""
    with connect(options) as session:
        ports = describe_ports(session.tables)
    if options.format == "json":
        print_json(ports)
        return DONE
    keys = ("port", "key", "host", "up_on", "mac", "addresses", "peer", "iface_id")
    print_table(_HEAD, [[_cell(port[key]) for key in keys] for port in ports])
    return DONE


def describe_ports(tables: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Describe every vport, by name."""
    up_on = {
        row.port.uuid: row.host.name
        for row in tables["Port_Status"].rows.values()
        if row.up
    }
    ready = {
        (row.port.uuid, row.host.uuid) for row in tables["Port_Ready"].rows.values()
    }
    ports = [_describe(row, up_on, ready) for row in tables["Port"].rows.values()]
    return sorted(ports, key=lambda port: str(port["port"]))


def _describe(
    row: Any, up_on: Mapping[Any, str], ready: Set[tuple[Any, Any]]
) -> dict[str, Any]:
    return {
        "port": port_name(row),
        "key": row.key,
        "host": row.host[0].name if row.host else "",
        "migrating_to": row.migrating_to[0].name if row.migrating_to else "",
        "ready": any((row.uuid, host.uuid) in ready for host in row.migrating_to),
        "up_on": up_on.get(row.uuid, ""),
        "up": row.up,
        "mac": row.mac[0] if row.mac else "",
        "addresses": sorted(row.addresses),
        "peer": port_name(row.peer[0]) if row.peer else "",
        "iface_id": "" if row.peer else row.interface_id,
    }


def _cell(value: object) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)
