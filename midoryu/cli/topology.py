# SPDX-License-Identifier: Apache-2.0
"""`midoryu-ctl apply` and `export`: topology files in and out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from midoryu.cli.connect import connect
from midoryu.cli.exit_code import DONE
from midoryu.cli.output import print_json
from midoryu.nsdb import apply as applying
from midoryu.nsdb.export import export
from midoryu.nsdb.topology_file import parse, read_file


def register(subparsers: Any) -> None:
    """Add the subcommands."""
    parser = subparsers.add_parser(
        "apply",
        help="make the topology what a file says",
        description="Create, change and delete what differs, in one transaction. What "
        "agents learned stays; what others made (Neutron) is not touched.",
    )
    parser.add_argument(
        "-f",
        "--file",
        required=True,
        help="topology file in YAML, - for standard input",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the difference, change nothing"
    )
    parser.set_defaults(run=run_apply)
    parser = subparsers.add_parser(
        "export", help="write the topology as a file that apply takes"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="default: print it")
    parser.set_defaults(run=run_export)


def run_apply(options: argparse.Namespace) -> int:
    """Apply a file; the file is checked before the NSDB is asked."""
    if options.file == "-":
        wanted = parse(sys.stdin.read(), "<stdin>")
    else:
        wanted = read_file(options.file)
    with connect(options) as session:
        changes = applying.apply(session, wanted, dry_run=options.dry_run)
    if options.format == "json":
        print_json([_as_json(change) for change in changes])
        return DONE
    for line in applying.describe(changes):
        print(line)
    print(_summary(changes, dry_run=options.dry_run))
    return DONE


def run_export(options: argparse.Namespace) -> int:
    """Write the topology to a file or to standard output."""
    with connect(options) as session:
        text = export(session.tables)
    if options.output:
        Path(options.output).write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return DONE


def _summary(changes: list[applying.Change], *, dry_run: bool) -> str:
    created = sum(change.before is None for change in changes)
    deleted = sum(change.after is None for change in changes)
    changed = len(changes) - created - deleted
    if not changes:
        return "nothing to change"
    would = "would be " if dry_run else ""
    return f"{created} {would}created, {changed} changed, {deleted} deleted"


def _as_json(change: applying.Change) -> dict[str, object]:
    before, after = change.before, change.after
    verb = "create" if before is None else "delete" if after is None else "change"
    return {
        "change": verb,
        "table": change.item.table,
        "name": change.item.name,
        "columns": {
            column: [
                before.columns[column] if before else None,
                after.columns[column] if after else None,
            ]
            for column in change.columns
        },
    }
