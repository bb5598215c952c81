# SPDX-License-Identifier: Apache-2.0
"""Suite `scale`: one agent's core with the NSDB of a large cloud.

A real `ovsdb-server` with 1,000 hosts, 50,000 vports, 2,000 networks, 500 routers, a
group of 10,000 members and a chain of 5,000 rules; a process of its own reads it as the
agent does. The reference is `ovs.db.idl` alone, reading the same database.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import ovs.poller

from midoryu.bench.large_cloud import (
    NETWORKS,
    PORTS_EACH,
    fill,
    ref,
    transact,
    vm_ip,
    vm_mac,
)
from midoryu.bench.report import Figure
from midoryu.bench.stage import Stage
from midoryu.engine.config import EngineConfig
from midoryu.engine.engine import Engine
from midoryu.engine.event import InterfacesChanged, PacketIn, SwitchConnected, Tick
from midoryu.errors import MidoryuError
from midoryu.nsdb.client import NsdbClient
from midoryu.nsdb.remote import TrackingIdl
from midoryu.openflow.flow import RemoveFlow
from midoryu.packet.address import parse_ip
from midoryu.packet.build import udp_frame

_CHANGES: Final = 20
_NOBODY: Final = "00000000-0000-0000-0000-000000000000"
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


# The readers.


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


class _Pauses:
    """How long others wait for their turn while a database is read again."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._since = time.perf_counter()

    def note(self) -> None:
        """Give others their turn."""
        now = time.perf_counter()
        self.longest_s = max(self.longest_s, now - self._since)
        self._since = now

    def read_again(self, idl: TrackingIdl, turn: Callable[[], object]) -> float:
        """Have all rows read again, as those of another server; return the pause, ms.

        `turn` does what is due.
        """
        idl.last_id, self.longest_s = _NOBODY, 0.0
        idl.force_reconnect()

        def again() -> bool:
            was_there = idl.is_connected
            self._since = time.perf_counter()
            turn()
            self.note()
            return bool(idl.is_connected and not was_there)

        _wait(again, idl.wait)
        return self.longest_s * 1e3


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
        where = ["_uuid", "==", ref("port", 1)]
        begin = time.perf_counter()
        row = {"op": "update", "table": "Port", "where": [where]}
        transact(self._server, [{**row, "row": {"up": self._up}}])
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
    return _values(took, memory, times, _Pauses().read_again(idl, idl.run))


def _values(
    took: float, memory: float, times: list[float], pause_ms: float
) -> dict[str, tuple[str, float]]:
    times.sort()
    return {
        "start": ("s", took),
        "memory": ("MB", memory),
        "changed row to flows corrected, median": ("ms", times[len(times) // 2]),
        "changed row to flows corrected, worst": ("ms", times[-1]),
        "all rows read again, longest pause": ("ms", pause_ms),
    }


class _Agent:
    """The agent without its OpenFlow rim: NSDB client and engine."""

    def __init__(self, remote: str) -> None:
        self.pauses = _Pauses()
        self.client = NsdbClient(
            remote,
            host="host0",
            underlay=parse_ip("172.31.0.0"),
            pause=self.pauses.note,
        )
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
    idl = agent.client._idl  # noqa: SLF001
    pause_ms = agent.pauses.read_again(idl, agent.turn)
    return _values(took, memory, times, pause_ms)


if __name__ == "__main__":
    gc.set_threshold(20_000, 20, 1_000_000)  # as the agent does
    readers = {"idl": _idl, "agent": _agent}
    json.dump(readers[sys.argv[2]](sys.argv[1]), sys.stdout)
