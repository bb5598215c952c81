# SPDX-License-Identifier: Apache-2.0
"""What an agent may write in the NSDB: OVSDB's role-based access control.

`nsdb` calls it once the server runs. Whoever comes by a remote with the role `agent` is
known by the common name of its certificate, and may write what agents learn, lease and
report, and no topology; the server itself refuses the rest. The rules live in the
database, so that members of a cluster share them.
Source: ovsdb-server(7), "RBAC"; RFC 7047, section 4.1.3.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from midoryu.cmd.nsdb_process import find_program, run_program
from midoryu.compat import SLOTS
from midoryu.errors import NsdbError
from midoryu.nsdb.schema import DATABASE

ROLE: Final = "agent"

_REMOTES: Final = f"db:{DATABASE},Cloud,connections"
"""Where the server itself looks for the remotes that have a role."""

_ANYBODY: Final = ""
"""As a column's name in `authorization`: every client of the role."""


@dataclass(frozen=True, **SLOTS)
class Permission:
    """What the role may do with one table."""

    table: str
    authorization: tuple[str, ...] = (_ANYBODY,)
    """Columns of which one must hold the client's name, for changes of a row."""
    may_insert_and_delete: bool = True
    update: tuple[str, ...] = ()
    """Columns that may change."""


PERMISSIONS: Final = (
    # The host's own row, and the count of keys that it takes its key from.
    Permission("Host", ("name",), update=("underlay",)),
    Permission("Cloud", may_insert_and_delete=False, update=("next_key",)),
    # What agents learned. These move from host to host, so anybody may change them.
    Permission("Mac", update=("port",)),
    Permission("Arp", update=("mac",)),
    Permission("Multicast_Member"),
    # What they report and lease.
    Permission("Nat_Lease"),
    Permission("Port_Status", update=("host", "up", "early")),
    Permission("Port_Ready"),
    Permission("Member_Status", update=("host", "up")),
)


def listen_for_agents(remote: str, control: Path, targets: Sequence[str]) -> None:
    """Make the running server listen at targets for clients of the role `agent`.

    Args:
        remote: of the running server, for a client that may write everything.
        control: the server's control socket.
        targets: OVSDB passive connection methods, `pssl:PORT:HOST`.

    Raises:
        NsdbError: the server refused.
    """
    cloud = _transact(remote, _select("Cloud", ["_uuid"]))[0]["rows"]
    names = [["named-uuid", f"c{number}"] for number in range(len(targets))]
    row: dict[str, Any] = {"connections": ["set", names]}
    operation = {"op": "update", "table": "Cloud", "where": [], "row": row}
    if not cloud:
        row["next_key"] = 1
        operation = {"op": "insert", "table": "Cloud", "row": row}
    _transact(remote, _delete_role(), *_role(), *_connections(targets), operation)
    appctl = find_program("ovs-appctl")
    run_program(appctl, "-t", str(control), "ovsdb-server/add-remote", _REMOTES)


def _role() -> list[dict[str, Any]]:
    permissions = []
    for number, permission in enumerate(PERMISSIONS):
        row = {
            "table": permission.table,
            "authorization": ["set", list(permission.authorization)],
            "insert_delete": permission.may_insert_and_delete,
            "update": ["set", list(permission.update)],
        }
        permissions.append(_insert("RBAC_Permission", row, f"p{number}"))
    by_table = [
        [permission.table, ["named-uuid", f"p{number}"]]
        for number, permission in enumerate(PERMISSIONS)
    ]
    role = {"name": ROLE, "permissions": ["map", by_table]}
    return [*permissions, _insert("RBAC_Role", role, "role")]


def _connections(targets: Sequence[str]) -> list[dict[str, Any]]:
    return [
        _insert("Connection", {"target": target, "role": ROLE}, f"c{number}")
        for number, target in enumerate(targets)
    ]


def _insert(table: str, row: dict[str, Any], name: str) -> dict[str, Any]:
    return {"op": "insert", "table": table, "row": row, "uuid-name": name}


def _delete_role() -> dict[str, Any]:
    # What an operator made beside it stays.
    return {"op": "delete", "table": "RBAC_Role", "where": [["name", "==", ROLE]]}


def _select(table: str, columns: list[str]) -> dict[str, Any]:
    return {"op": "select", "table": table, "where": [], "columns": columns}


def _transact(remote: str, *operations: dict[str, Any]) -> list[dict[str, Any]]:
    client = find_program("ovsdb-client")
    text = json.dumps([DATABASE, *operations])
    said = run_program(client, "--timeout=30", "transact", remote, text)
    results: list[dict[str, Any]] = json.loads(said)
    for result in results:
        if result and "error" in result:
            details = result.get("details", "")
            raise NsdbError(f"the NSDB refused its roles: {result['error']} {details}")
    return results
