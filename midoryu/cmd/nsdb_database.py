# SPDX-License-Identifier: Apache-2.0
"""The NSDB's database file: make it, or bring it to this release's schema.

`nsdb` calls it around the start of the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from midoryu.cmd.nsdb_process import find_program, run_program
from midoryu.errors import NsdbError
from midoryu.nsdb.schema import DATABASE, SCHEMA_FILE


def make_database(
    file: Path, cluster_local: str, cluster_remotes: Sequence[str]
) -> None:
    """Make a database file if there is none, convert a standalone one if it is older.

    Raises:
        NsdbError: the file is no NSDB, or a program failed.
    """
    tool = find_program("ovsdb-tool")
    if file.exists():
        _check(tool, file, cluster_local)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    if not cluster_local:
        run_program(tool, "create", str(file), str(SCHEMA_FILE))
    elif cluster_remotes:
        run_program(
            tool, "join-cluster", str(file), DATABASE, cluster_local, *cluster_remotes
        )
    else:
        run_program(tool, "create-cluster", str(file), str(SCHEMA_FILE), cluster_local)


def convert_online(remote: str, *, is_clustered: bool) -> None:
    """Bring a running cluster to this release's schema (a file cannot be converted).

    Raises:
        NsdbError: the server refused.
    """
    if not is_clustered:
        return
    client = find_program("ovsdb-client")
    options = ("--timeout=30", "--no-leader-only")
    run_program(client, *options, "wait", remote, DATABASE, "connected")
    needs = run_program(client, *options, "needs-conversion", remote, str(SCHEMA_FILE))
    if needs == "yes":
        run_program(client, "--timeout=30", "convert", remote, str(SCHEMA_FILE))


def _check(tool: str, file: Path, cluster_local: str) -> None:
    name = run_program(tool, "db-name", str(file))
    if name != DATABASE:
        raise NsdbError(f"{file} holds database {name!r}, not {DATABASE!r}")
    is_clustered = _is_clustered(tool, file)
    if is_clustered != bool(cluster_local):
        kind = "a cluster member's" if is_clustered else "a standalone server's"
        raise NsdbError(f"{file} is {kind} database; --cluster-local says otherwise")
    if is_clustered:
        return
    if run_program(tool, "needs-conversion", str(file), str(SCHEMA_FILE)) == "yes":
        run_program(tool, "convert", str(file), str(SCHEMA_FILE))


def _is_clustered(tool: str, file: Path) -> bool:
    try:
        run_program(tool, "db-is-clustered", str(file))
    except NsdbError:
        return False
    return True
