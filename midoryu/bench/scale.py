# SPDX-License-Identifier: Apache-2.0
"""Suite `scale`: one agent's core with the NSDB of a large cloud.

A real `ovsdb-server` with 1,000 hosts, 50,000 vports, 2,000 networks, 500 routers, a
group of 10,000 members and a chain of 5,000 rules; a process of its own reads it as the
agent does. The reference is `ovs.db.idl` alone, reading the same database.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import ovs.poller

from midoryu.bench.report import Figure
from midoryu.bench.stage import Stage
from midoryu.engine.config import EngineConfig
from midoryu.engine.engine import Engine
from midoryu.engine.event import InterfacesChanged, PacketIn, SwitchConnected, Tick
from midoryu.errors import MidoryuError
from midoryu.nsdb.client import NsdbClient
from midoryu.nsdb.remote import TrackingIdl
from midoryu.openflow.flow import RemoveFlow
from midoryu.packet.address import format_mac, parse_ip
from midoryu.packet.build import udp_frame

HOSTS: Final = 1_000
NETWORKS: Final = 2_000
PORTS_EACH: Final = 25
ROUTERS: Final = 500
MEMBERS: Final = 10_000
RULES: Final = 5_000
_CHANGES: Final = 20
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_LIMIT_S: Final = 300
_REFERENCE: Final = "ovs.db.idl alone"


def run(repeat: int, tell: Callable[[str], None]) -> list[Figure]:
    """Fill a database once, then read it so many times.

    Raises:
        MidoryuError: the database refuses, or a reader fails.
    """
    figures: dict[str, Figure] = {}
    with Stage() as stage:
        tell(f"filling an NSDB with {NETWORKS * PORTS_EACH:,} vports")
        stage.start_empty_nsdb()
        fill(f"{stage.directory}/nsdb.sock")
        for turn in range(repeat):
            tell(f"{turn + 1}/{repeat}")
            reference = _read(stage.nsdb, "idl")
            values = _read(stage.nsdb, "agent")
            for name, (unit, value) in values.items():
                figure = figures.setdefault(
                    name, Figure("scale", name, unit, _REFERENCE)
                )
                figure.samples.append(value)
                figure.reference_samples.append(reference[name][1])
    return list(figures.values())


def _read(remote: str, reader: str) -> dict[str, tuple[str, float]]:
    command = [sys.executable, "-W", "ignore", "-m", "midoryu.bench.scale"]
    done = subprocess.run(
        [*command, remote, reader],
        capture_output=True,
        text=True,
        check=False,
        timeout=_LIMIT_S,
    )
    if done.returncode:
        raise MidoryuError(f"scale, {reader}: {done.stderr[-800:]}")
    values: dict[str, tuple[str, float]] = json.loads(done.stdout)
    return values


# ---------------------------------------------------------------- the database


def fill(path: str) -> None:
    """Write the whole cloud in one transaction. Source: RFC 7047, section 4.1.3.

    Raises:
        MidoryuError: the server refuses.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.settimeout(_LIMIT_S)
        server.connect(path)
        _transact(server, list(_rows()))


def _transact(server: socket.socket, operations: list[Any]) -> None:
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


def _ref(table: str, number: int) -> list[str]:
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
                    "network": _ref("network", n),
                    "mac": format_mac(vm_mac(n, port)),
                    "addresses": vm_ip(n, port),
                    "host": _ref("host", number % HOSTS),
                    "interface_id": f"net{n}/vm{port}",
                    "up": True,
                    "port_security": True,
                    "egress_chain": _ref("chain", 0),
                },
            )
            yield _insert(
                "Port_Status",
                _uid("status", number),
                {
                    "port": _ref("port", number),
                    "host": _ref("host", number % HOSTS),
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
            device: _ref(device, number),
            "peer": _ref(other, network),
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
    todo.append({"action": "accept", "source_group": _ref("group", 0)})
    todo.append({"action": "accept", "ip_proto": 17, "destination_ports": "443"})
    for n, row in enumerate(todo):
        yield _insert("Rule", _uid("rule", n), row)
        rules.append([n, _ref("rule", n)])
    chain = {"name": "vm", "policy": "drop", "rules": ["map", rules]}
    yield _insert("Chain", _uid("chain", 0), chain)


# ---------------------------------------------------------------- the readers


def _resident_mb() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE / 1e6


def _wait(run_once: Callable[[], bool], wait: Callable[[Any], None]) -> None:
    end = time.monotonic() + _LIMIT_S
    while not run_once():
        if time.monotonic() > end:
            raise MidoryuError("the database does not answer")
        poller = ovs.poller.Poller()
        wait(poller)
        poller.timer_wait(1000)
        poller.block()


class _Change:
    """Another client that takes a VM's vport down and up again."""

    def __init__(self, remote: str) -> None:
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.settimeout(_LIMIT_S)
        self._server.connect(remote.partition(":")[2])
        self._up = True

    def make(self) -> float:
        """Change the row; return when it was asked for (perf_counter)."""
        self._up = not self._up
        where = ["_uuid", "==", _ref("port", 1)]
        begin = time.perf_counter()
        row = {"op": "update", "table": "Port", "where": [where]}
        _transact(self._server, [{**row, "row": {"up": self._up}}])
        return begin


def _idl(remote: str) -> dict[str, tuple[str, float]]:
    """Read the database with nothing but the IDL."""
    before, begin = _resident_mb(), time.perf_counter()
    idl = TrackingIdl(remote)

    def connected() -> bool:
        idl.run()
        return bool(idl.is_connected)

    _wait(connected, idl.wait)
    took = time.perf_counter() - begin
    memory = _resident_mb() - before
    change, times = _Change(remote), []
    for _ in range(_CHANGES):
        seqno, asked = idl.change_seqno, change.make()
        _wait(lambda seqno=seqno: idl.run() or idl.change_seqno != seqno, idl.wait)  # type: ignore[misc]
        times.append((time.perf_counter() - asked) * 1e3)
    if not change._up:  # noqa: SLF001
        change.make()
    return _values(took, memory, times)


def _values(
    took: float, memory: float, times: list[float]
) -> dict[str, tuple[str, float]]:
    times.sort()
    return {
        "start": ("s", took),
        "memory": ("MB", memory),
        "changed row to flows corrected, median": ("ms", times[len(times) // 2]),
        "changed row to flows corrected, worst": ("ms", times[-1]),
    }


class _Agent:
    """The agent without its OpenFlow rim: NSDB client and engine."""

    def __init__(self, remote: str) -> None:
        self.client = NsdbClient(remote, host="host0", underlay=parse_ip("172.31.0.0"))
        config = EngineConfig(host="host0", epoch=1, seed=1)
        self.engine = Engine(config, time.monotonic())
        self.is_ready = False
        self.removed = 0

    def turn(self) -> None:
        """Take in what the database sent."""
        for event in self.client.run():
            self.is_ready = True
            effects = self.engine.handle(event, time.monotonic())
            self.client.write(effects.nsdb_writes)
            self.removed += sum(isinstance(m, RemoveFlow) for m in effects.flow_mods)

    def handle(self, event: Any) -> Any:
        """Hand an event to the engine."""
        return self.engine.handle(event, time.monotonic())


def _agent(remote: str) -> dict[str, tuple[str, float]]:
    """Read the database as the agent does, then let a row change under a flow."""
    before, begin = _resident_mb(), time.perf_counter()
    agent = _Agent(remote)

    def ready() -> bool:
        agent.turn()
        return agent.is_ready

    _wait(ready, agent.client.wait)
    agent.handle(SwitchConnected(1, 2))
    agent.handle(InterfacesChanged({"net0/vm0": 10}))
    took = time.perf_counter() - begin
    memory = _resident_mb() - before
    gc.freeze()
    time.sleep(2.0)  # nobody answers: peers' memory is not waited for
    agent.handle(Tick())
    frame = udp_frame(
        mac_src=vm_mac(0, 0),
        mac_dst=vm_mac(0, 1),
        ip_src=parse_ip(vm_ip(0, 0)),
        ip_dst=parse_ip(vm_ip(0, 1)),
        port_src=40_000,
        port_dst=443,
        payload=b"x",
    )
    change, times = _Change(remote), []
    for _ in range(_CHANGES):
        # A vport that goes down removes its flow, one that comes up its drop flow.
        agent.handle(PacketIn(10, frame, table=10))
        removed, asked = agent.removed, change.make()

        def corrected(removed: int = removed) -> bool:
            agent.turn()
            return agent.removed > removed

        _wait(corrected, agent.client.wait)
        times.append((time.perf_counter() - asked) * 1e3)
    if not change._up:  # noqa: SLF001
        change.make()
    return _values(took, memory, times)


if __name__ == "__main__":
    gc.set_threshold(20_000, 20, 1_000_000)  # as the agent does
    readers = {"idl": _idl, "agent": _agent}
    json.dump(readers[sys.argv[2]](sys.argv[1]), sys.stdout)
