# SPDX-License-Identifier: Apache-2.0
"""Everything around what is measured: databases, controllers, switches.

Real `ovsdb-server`s for the NSDB and for the local OVS, without an `ovs-vswitchd`: the
bench writes what that would write (datapath id, ofports). Real `ryu-manager`s.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Union

import ovs.poller

from midoryu.bench import world
from midoryu.engine.effect import LearnNeighbor, NsdbWrite, SetVportStatus
from midoryu.engine.event import TopologyChanged
from midoryu.errors import MidoryuError
from midoryu.nsdb.apply import apply
from midoryu.nsdb.client import NsdbClient
from midoryu.nsdb.session import Session
from midoryu.nsdb.topology_file import parse
from midoryu.packet.address import parse_ip, parse_mac
from midoryu.topology.model import Change, Put, Router, Vport

_OVS_SCHEMA: Final = "/usr/share/openvswitch/vswitch.ovsschema"
_NSDB_SCHEMA: Final = Path(__file__).parents[1] / "nsdb" / "midoryu.ovsschema"
_LIMIT_S: Final = 60.0
# So long an agent that has just started waits for what its peers remember.
_MEMORY_S: Final = 2.5
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_DPID: Final = 0x0000_0200_0000_0001


class BenchError(MidoryuError):
    """Something that the bench needs did not come."""


class Stage:
    """A temporary directory with processes; leaving it ends all of them."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mrb-"))
        self._processes: list[subprocess.Popen[str]] = []
        self._clients: list[NsdbClient] = []
        self.nsdb = f"unix:{self.directory}/nsdb.sock"

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        for process in self._processes[::-1]:
            _end(process)
        shutil.rmtree(self.directory, ignore_errors=True)

    # ------------------------------------------------------------ databases

    def start_empty_nsdb(self) -> None:
        """Start the NSDB without a row."""
        self._server("nsdb", _NSDB_SCHEMA)

    def start_nsdb(self) -> tuple[Change, ...]:
        """Start the NSDB with the whole topology in it; return its rows."""
        self._server("nsdb", _NSDB_SCHEMA)
        clients = {
            name: NsdbClient(self.nsdb, host=name, underlay=parse_ip(address))
            for name, address in world.UNDERLAY.items()
        }
        self._clients += clients.values()
        rows: dict[tuple[type, object], Any] = {}
        for count, client in enumerate(clients.values(), 1):
            # One by one: the first makes the row that all of them need.
            _turn([client], rows, lambda: _count(rows, "Host") >= count)  # noqa: B023
        with Session(self.nsdb, timeout_s=_LIMIT_S) as session:
            apply(session, parse(world.topology(), "bench.yaml"), dry_run=False)
        _turn(clients.values(), rows, lambda: _count(rows, "IngressSet"))
        wanted = self._write(clients, list(rows.values()))
        _turn(clients.values(), rows, lambda: wanted(rows))
        for client in self._clients:
            client.close()
        self._clients.clear()
        return tuple(Put(row) for row in rows.values())

    def _write(
        self, clients: dict[str, NsdbClient], rows: list[Any]
    ) -> Callable[[dict[tuple[type, object], Any]], bool]:
        """Say what agents of the other hosts, and the uplinks' neighbours, would."""
        hosts = {row.key: row.name for row in rows if type(row).__name__ == "Host"}
        router = next(
            row.key
            for row in rows
            if isinstance(row, Router) and row.name == "provider"
        )
        writes: dict[str, list[NsdbWrite]] = {name: [] for name in clients}
        for row in rows:
            name = hosts.get(row.host) if isinstance(row, Vport) else None
            if name is not None and name != world.HOST:
                writes[name].append(SetVportStatus(row.key, True))
        for address, mac in world.neighbors():
            known = LearnNeighbor(router, parse_ip(address), parse_mac(mac))
            writes[world.GATEWAYS[0]].append(known)
        for name, client in clients.items():
            client.write(writes[name])
        ups = sum(map(len, writes.values())) - len(world.neighbors())
        return lambda known: (
            _count(known, "VportStatus") == ups
            and _count(known, "Neighbor") >= len(world.neighbors())
        )

    def _start_ovsdb(self) -> None:
        self._server("conf", Path(_OVS_SCHEMA))
        words: list[str] = ["init"]
        ports = [
            ("mr-gre", world.GRE_OFPORT, ""),
            ("mr-state", world.STATE_OFPORT, ""),
            *((f"v{p.ofport}", p.ofport, p.iface_id) for p in world.places()),
        ]
        words = ["--", "add-br", "br-int"]
        words += ["--", "set", "bridge", "br-int", f'datapath_id="{_DPID:016x}"']
        for name, ofport, iface_id in ports:
            words += ["--", "add-port", "br-int", name]
            words += ["--", "set", "interface", name, f"ofport={ofport}"]
            words += [f'external_ids:iface-id="{iface_id}"'] if iface_id else []
        vsctl = ("ovs-vsctl", "--no-wait", f"--db=unix:{self.directory}/conf.sock")
        _run(*vsctl, "init")
        _run(*vsctl, *words[1:])

    def _server(self, name: str, schema: Path) -> None:
        _run("ovsdb-tool", "create", f"{self.directory}/{name}.db", str(schema))
        self._spawn(
            name,
            "ovsdb-server",
            f"{self.directory}/{name}.db",
            f"--remote=punix:{self.directory}/{name}.sock",
            f"--unixctl={self.directory}/{name}.ctl",
            "-vconsole:warn",
        )
        self._wait((self.directory / f"{name}.sock").exists, name)

    # ------------------------------------------------------------ controllers

    def start_agent(self) -> Controller:
        """Start midoryu's agent around its NSDB, and the switch before it."""
        self._start_ovsdb()
        port, here = _free_port(), self.directory
        (here / "midoryu.conf").write_text(
            f"[agent]\nhost = {world.HOST}\nlocal_ip = {world.UNDERLAY[world.HOST]}\n"
            f"ovsdb = unix:{here}/conf.sock\nopenflow_port = {port}\n"
            f"control_socket = {here}/agent.sock\nmax_flows = 1000000\n"
            # All of a kind comes in by one port, which is no flood here.
            "flood_rate_pps = 0\n"
            f"[nsdb]\nconnection = {self.nsdb}\n[flow_state]\njournal =\n"
        )
        arguments = (f"--config-file={here}/midoryu.conf", "midoryu.agent")
        controller = self._controller("agent", port, arguments)
        self._wait(lambda: self._vports_up() == len(world.places()), "agent's vports")
        time.sleep(_MEMORY_S)
        return controller

    def start_ryu(self, application: str) -> Controller:
        """Start a Ryu application, and the switch before it."""
        port = _free_port()
        listen = ("--ofp-listen-host=127.0.0.1", f"--ofp-tcp-listen-port={port}")
        name = application.rpartition(".")[2]
        return self._controller(name, port, (*listen, application))

    def _controller(
        self, name: str, port: int, arguments: tuple[str, ...]
    ) -> Controller:
        python = (sys.executable, "-W", "ignore", "-m")
        manager = self._spawn(name, *python, "midoryu.cmd.ryu_manager", *arguments)
        self._wait(lambda: _listens(port), name, manager)
        command = (*python, "midoryu.bench.switch", str(port), str(_DPID))
        switch = self._spawn(f"{name}-switch", *command, is_asked=True)
        time.sleep(0.5)
        return Controller(name, switch, manager.pid)

    def ask(self, query: str) -> Any:
        """Ask the agent's control socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_LIMIT_S)
            client.connect(f"{self.directory}/agent.sock")
            client.sendall(json.dumps({"query": query}).encode() + b"\n")
            with client.makefile("rb") as lines:
                return json.loads(lines.readline()).get("result")

    def _vports_up(self) -> int:
        try:
            return sum(1 for row in self.ask("vports") if row.get("ofport"))
        except (OSError, ValueError, TypeError):
            return 0

    # ------------------------------------------------------------ processes

    def _spawn(
        self, name: str, *command: str, is_asked: bool = False
    ) -> subprocess.Popen[str]:
        with (self.directory / f"{name}.out").open("a") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if is_asked else subprocess.DEVNULL,
                stdout=subprocess.PIPE if is_asked else log,
                stderr=log,
                text=True,
                env={**os.environ, "OVS_RUNDIR": str(self.directory)},
            )
        self._processes.append(process)
        return process

    def _wait(
        self,
        is_there: Callable[[], object],
        name: str,
        process: Union[subprocess.Popen[str], None] = None,
    ) -> None:
        end = time.monotonic() + _LIMIT_S
        while not is_there():
            ended = process is not None and process.poll() is not None
            if ended or time.monotonic() > end:
                log = self.directory / f"{name}.out"
                words = log.read_text()[-2000:] if log.exists() else ""
                raise BenchError(f"{name} did not come within {_LIMIT_S} s\n{words}")
            time.sleep(0.05)


class Controller:
    """A controller with its switch."""

    def __init__(self, name: str, switch: subprocess.Popen[str], pid: int) -> None:
        self.name = name
        self.pid = pid
        self.keys: dict[str, int] = {}
        """Names of the topology -> keys, for a switch that plays a peer's part."""
        self._switch = switch

    def load(
        self,
        kind: str,
        outstanding: int,
        seconds: float,
        limit: int,
        *,
        is_flood: bool = False,
    ) -> dict[str, Any]:
        """Have the switch send packet-ins; return its counts, seconds and rate.

        A flood has no number outstanding, and its limit is a rate.

        Raises:
            BenchError: the switch ended.
        """
        order = {"kind": kind, "outstanding": outstanding, "keys": self.keys}
        if is_flood:
            order["is_flood"] = True
        assert self._switch.stdin is not None
        assert self._switch.stdout is not None
        line = json.dumps({**order, "seconds": seconds, "limit": limit})
        before = self._processor_time_s()
        with contextlib.suppress(BrokenPipeError):
            self._switch.stdin.write(line + "\n")
            self._switch.stdin.flush()
        answer = self._switch.stdout.readline()
        if not answer:
            raise BenchError(f"the switch of {self.name} ended during {kind}")
        result: dict[str, Any] = json.loads(answer)
        spent = self._processor_time_s() - before
        result["cpu"] = spent / max(result["done"], 1)
        return result

    def _processor_time_s(self) -> float:
        """Return what the controller has used so far; source: proc(5)."""
        text = Path(f"/proc/{self.pid}/stat").read_text()
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


def _turn(
    clients: Any, rows: dict[tuple[type, object], Any], is_done: Callable[[], object]
) -> None:
    """Run NSDB clients until something holds; keep the rows they tell of."""
    end = time.monotonic() + _LIMIT_S
    while not is_done():
        for client in clients:
            for event in client.run():
                for change in _changes(event):
                    rows[type(change.row), change.row.key] = change.row
        if time.monotonic() > end:
            raise BenchError("the NSDB did not take the topology")
        poller = ovs.poller.Poller()
        for client in clients:
            client.wait(poller)
        poller.timer_wait(100)
        poller.block()


def _changes(event: object) -> Iterator[Put]:
    if isinstance(event, TopologyChanged):
        yield from (one for one in event.changes if isinstance(one, Put))


def _count(rows: dict[tuple[type, object], Any], kind: str) -> int:
    return sum(1 for row_kind, _ in rows if row_kind.__name__ == kind)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _run(*command: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )
    if done.returncode:
        raise BenchError(f"{command[0]}: {done.stderr.strip()}")


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
