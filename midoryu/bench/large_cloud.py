# SPDX-License-Identifier: Apache-2.0
"""The rows of a large cloud, for suite `scale`.

Written straight to an `ovsdb-server`: our own commands would take minutes.
"""

from __future__ import annotations

import contextlib
import json
import socket
import uuid
from collections.abc import Iterator
from typing import Any, Final

from midoryu.errors import MidoryuError
from midoryu.packet.address import format_mac

HOSTS: Final = 1_000
NETWORKS: Final = 2_000
PORTS_EACH: Final = 25
ROUTERS: Final = 500
MEMBERS: Final = 10_000
RULES: Final = 5_000
_LIMIT_S: Final = 300


def fill(path: str) -> None:
    """Write the whole cloud in one transaction. Source: RFC 7047, section 4.1.3.

    Raises:
        MidoryuError: the server refuses.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.settimeout(_LIMIT_S)
        server.connect(path)
        transact(server, list(_rows()))


def transact(server: socket.socket, operations: list[Any]) -> None:
    """Have a server carry out operations, all or none.

    Raises:
        MidoryuError: the server refuses.
    """
    request = {"method": "transact", "params": ["Midoryu", *operations], "id": 1}
    server.sendall(json.dumps(request).encode())
    answer = b""
    result: dict[str, Any] = {}
    while not result:
        piece = server.recv(1 << 20)
        if not piece:
            raise MidoryuError("the NSDB hung up")
        answer += piece
        if answer.endswith(b"}"):  # a whole answer, or a piece that looks so
            with contextlib.suppress(ValueError):
                result = json.loads(answer)
    errors = [one for one in result["result"] if one and one.get("error")]
    if errors or result["error"]:
        raise MidoryuError(f"the NSDB refused: {errors[:1] or result['error']}")


def _insert(table: str, uid: str, row: dict[str, Any]) -> dict[str, Any]:
    return {"op": "insert", "table": table, "uuid": uid, "row": row}


def _uid(table: str, number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{table}/{number}"))


def ref(table: str, number: int) -> list[str]:
    """Return a reference to one of the rows, as the protocol writes it."""
    return ["uuid", _uid(table, number)]


def vm_ip(network: int, port: int) -> str:
    """Return the address of a network's VM."""
    return f"10.{network >> 8}.{network & 0xFF}.{port + 10}"


def vm_mac(network: int, port: int) -> int:
    """Return the MAC address of a network's VM, 48 bits."""
    return 0x02_00_00_00_00_00 | network << 16 | port + 10


def router_mac(network: int) -> int:
    """Return the MAC address of a network's router, 48 bits."""
    return 0x02_00_00_00_00_00 | network << 16 | 1


def _rows() -> Iterator[dict[str, Any]]:
    keys = iter(range(1, 1 << 20))
    yield _insert("Cloud", _uid("cloud", 0), {"next_key": 1 << 21, "revision": 1})
    for n in range(HOSTS):
        underlay = f"172.31.{n >> 8}.{n & 0xFF}"
        row = {"key": next(keys), "name": f"host{n}", "underlay": underlay}
        yield _insert("Host", _uid("host", n), row)
    members = [f"172.16.{n >> 8}.{n & 0xFF}/32" for n in range(MEMBERS)]
    group = {"name": "members", "members": ["set", members]}
    yield _insert("Address_Group", _uid("group", 0), group)
    yield from _chain()
    for n in range(ROUTERS):
        row = {"key": next(keys), "name": f"router{n}", "up": True}
        yield _insert("Router", _uid("router", n), row)
    for n in range(NETWORKS):
        row = {"key": next(keys), "name": f"net{n}", "up": True}
        yield _insert("Network", _uid("network", n), row)
        yield from _link(n, next(keys), next(keys))
        for port in range(PORTS_EACH):
            number = n * PORTS_EACH + port
            yield _insert(
                "Port",
                _uid("port", number),
                {
                    "key": next(keys),
                    "name": f"vm{port}",
                    "network": ref("network", n),
                    "mac": format_mac(vm_mac(n, port)),
                    "addresses": vm_ip(n, port),
                    "host": ref("host", number % HOSTS),
                    "interface_id": f"net{n}/vm{port}",
                    "up": True,
                    "port_security": True,
                    "egress_chain": ref("chain", 0),
                },
            )
            yield _insert(
                "Port_Status",
                _uid("status", number),
                {
                    "port": ref("port", number),
                    "host": ref("host", number % HOSTS),
                    "up": True,
                },
            )


def _link(network: int, key: int, router_key: int) -> Iterator[dict[str, Any]]:
    """Link a network to its router; every router has four."""
    ends = {"network": ("link", "uplink"), "router": ("uplink", "link")}
    for device, (own, other) in ends.items():
        number = network if device == "network" else network % ROUTERS
        row = {
            "key": key if device == "network" else router_key,
            "name": f"{own}{network}",
            device: ref(device, number),
            "peer": ref(other, network),
            "interface_id": f"{device}{number}/{own}{network}",
            "up": True,
        }
        if device == "router":
            row["mac"] = format_mac(router_mac(network))
            row["addresses"] = f"10.{network >> 8}.{network & 0xFF}.1/24"
        yield _insert("Port", _uid(own, network), row)


def _chain() -> Iterator[dict[str, Any]]:
    rules: list[list[Any]] = []
    accepted = ["set", ["established", "related"]]
    todo: list[dict[str, Any]] = [{"action": "accept", "ct_states": accepted}]
    todo += [
        {
            "action": "accept",
            "ip_proto": 6,
            "source": f"172.{16 + n // 60_000}.{n >> 8 & 0xFF}.{n & 0xFF}/32",
            "destination_ports": str(1 + n % 60_000),
        }
        for n in range(RULES - 3)
    ]
    todo.append({"action": "accept", "source_group": ref("group", 0)})
    todo.append({"action": "accept", "ip_proto": 17, "destination_ports": "443"})
    for n, row in enumerate(todo):
        yield _insert("Rule", _uid("rule", n), row)
        rules.append([n, ref("rule", n)])
    chain = {"name": "vm", "policy": "drop", "rules": ["map", rules]}
    yield _insert("Chain", _uid("chain", 0), chain)
