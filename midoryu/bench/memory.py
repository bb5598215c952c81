# SPDX-License-Identifier: Apache-2.0
"""Suite `memory`: what a hundred thousand, and a million, records cost.

Each size runs in a process of its own (`python -m midoryu.bench.memory COUNT`), so that
its memory can be read off. The reference is a plain dictionary with two keys a record.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from midoryu.bench.report import Figure
from midoryu.engine.config import EngineConfig
from midoryu.engine.engine import Engine
from midoryu.engine.event import (
    InterfacesChanged,
    PacketIn,
    SwitchConnected,
    Tick,
    TopologyChanged,
)
from midoryu.errors import MidoryuError
from midoryu.packet.address import Prefix, parse_ip, parse_mac
from midoryu.packet.build import udp_frame
from midoryu.state.connection import Connection, Phase, Translation, TranslationKind
from midoryu.topology.model import (
    AddressGroup,
    Host,
    IngressSet,
    Network,
    Put,
    Vport,
    VportStatus,
)

COUNTS: Final = (100_000, 1_000_000)
_REFERENCE: Final = "a plain dict, two keys each"
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_NAT: Final = parse_ip("203.0.113.10")
_SERVER: Final = parse_ip("198.51.100.1")
_BLOCK: Final = 2000
_PACKETS: Final = 3000
_LIMIT_S: Final = 900


def run(
    repeat: int, tell: Callable[[str], None], counts: tuple[int, ...] = COUNTS
) -> list[Figure]:
    """Measure each size, so many times.

    Raises:
        MidoryuError: a process failed.
    """
    figures: dict[str, Figure] = {}
    for count in counts:
        for turn in range(repeat if count < 1_000_000 else 1):
            tell(f"{turn + 1}/{repeat} {count:,} records")
            command = [sys.executable, "-W", "ignore", "-m", "midoryu.bench.memory"]
            done = subprocess.run(
                [*command, str(count)],
                capture_output=True,
                text=True,
                check=False,
                timeout=_LIMIT_S,
            )
            if done.returncode:
                raise MidoryuError(f"{count:,} records: {done.stderr[-800:]}")
            for name, (unit, value, reference) in json.loads(done.stdout).items():
                key = f"{name}, {count:,} records"
                figure = figures.setdefault(
                    key, Figure("memory", key, unit, _REFERENCE)
                )
                figure.samples.append(value)
                figure.reference_samples.append(reference)
    return list(figures.values())


def connections(count: int) -> Iterator[Connection]:
    """Make records of masqueraded TCP and UDP connections, each another one."""
    for number in range(count):
        source = parse_ip("10.0.0.0") + 256 + number // 30_000
        port = 1024 + number % 60_000
        server = _SERVER + number // 60_000
        nat = Translation(7, TranslationKind.SOURCE, _NAT + number // 60_000, port)
        yield Connection(
            id=(number + 1) * 0x9E37_79B9_7F4A_7C15 & (1 << 64) - 1 or 1,
            ip_proto=6,
            original=(source, server, port, 443),
            ingress_device=3,
            ingress_vport=5,
            egress_device=7,
            egress_vport=8,
            translations=(nat,),
            owner=1,
            phase=Phase.TCP_TRANSITORY,
        )


def _resident() -> int:
    """Return this process's resident bytes. Source: proc(5), statm."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def _measure(count: int) -> dict[str, tuple[str, float, float]]:
    """Fill a dictionary, then an engine; (unit, value, reference) by name."""
    plain_bytes, plain_rate = _plain(count)
    rig = _Rig()
    rig.packets()  # what is allocated once
    quiet = rig.packets()
    before, begin = _resident(), time.perf_counter()
    table = rig.core.connections
    for connection in connections(count):
        table.insert(connection, rig.now)
    filled = time.perf_counter() - begin
    results = {
        "record in memory": ("bytes", (_resident() - before) / count, plain_bytes),
        "insert": ("records/s", count / filled, plain_rate),
    }
    gc.freeze()  # as the agent does
    ids = [connection.id for connection in table]
    begin = time.perf_counter()
    for one in ids:
        table.touch(one, rig.now)
    results["touch"] = ("records/s", count / (time.perf_counter() - begin), plain_rate)
    del ids
    base = quiet["p99.9"]
    results["packet, p99.9, at rest"] = ("ms", rig.packets()["p99.9"], base)
    changing = rig.packets(between=rig.change)
    results["packet, p99.9, topology changes"] = ("ms", changing["p99.9"], base)
    lifetime = table.lifetime_s(Phase.TCP_TRANSITORY)
    aging = rig.packets(step_s=1.2 * lifetime / _PACKETS, between=rig.tick)
    results["packet or tick, p99.9, all expire"] = ("ms", aging["p99.9"], base)
    results["packet or tick, worst, all expire"] = ("ms", aging["worst"], base)
    return results


def _plain(count: int) -> tuple[float, float]:
    """Return bytes a record and records/s of the least that one could keep."""
    before, begin = _resident(), time.perf_counter()
    known: dict[tuple[int, ...], tuple[int, ...]] = {}
    for one in connections(count):
        source, target, port, server_port = one.original
        nat = one.translations[0]
        value = (one.id, *one.original, nat.address, nat.port)
        known[one.ingress_device, 6, source, target, port, server_port] = value
        known[7, 6, target, nat.address, server_port, nat.port] = value
    took = time.perf_counter() - begin
    return (_resident() - before) / count, count / took


class _Rig:
    """One engine with two VMs on a network, and packets between them."""

    def __init__(self) -> None:
        self.now = 1000.0
        config = EngineConfig(
            host="h1",
            epoch=1,
            seed=1,
            max_flows=1_000_000,
            max_connections=2_000_000,
            # All are of one vport, and none is answered.
            max_unreplied_per_vport=2_000_000,
        )
        self.engine = Engine(config, self.now)
        self.core: Any = self.engine._core  # noqa: SLF001
        macs = [parse_mac(f"02:00:00:00:00:0{n}") for n in (1, 2)]
        ips = [parse_ip(f"10.9.0.{n}") for n in (1, 2)]
        rows: list[Any] = [
            Host(1, "h1", parse_ip("172.31.0.1")),
            Network(20, "net"),
            AddressGroup("g", "group"),
            IngressSet("s", "set", frozenset((21, 22))),
        ]
        for n in (0, 1):
            name = f"net/v{n}"
            subnet = (Prefix(ips[n], 120),)
            rows.append(
                Vport(21 + n, f"v{n}", 20, macs[n], subnet, host=1, iface_id=name)
            )
            rows.append(VportStatus(21 + n, 1, True))
        self.handle(TopologyChanged(tuple(map(Put, rows))))
        self.handle(SwitchConnected(1, 2))
        self.handle(InterfacesChanged({"net/v0": 10, "net/v1": 11}))
        self.now += 3.0
        self.handle(Tick())
        self._frames = [
            udp_frame(
                mac_src=macs[0],
                mac_dst=macs[1],
                ip_src=ips[0],
                ip_dst=ips[1],
                port_src=1024 + n,
                port_dst=53,
                payload=b"x",
            )  # fmt: skip
            for n in range(_PACKETS)
        ]
        self._up = True

    def handle(self, event: Any) -> None:
        self.engine.handle(event, self.now)

    def tick(self) -> None:
        self.handle(Tick())

    def change(self) -> None:
        """Change a row now and then."""
        self._up = not self._up
        group = frozenset((Prefix(_NAT, 128),)) if self._up else frozenset()
        self.handle(TopologyChanged((Put(AddressGroup("g", "group", group)),)))

    def packets(
        self,
        step_s: float = 1e-4,
        between: Callable[[], None] = lambda: None,
    ) -> dict[str, float]:
        """Send packets; return ms: p99.9 and the worst, with `between`."""
        taken = []
        for frame in self._frames:
            self.now += step_s
            begin = time.perf_counter()
            between()
            self.handle(PacketIn(10, frame, table=10))
            taken.append((time.perf_counter() - begin) * 1e3)
        taken.sort()
        return {"p99.9": taken[-max(1, len(taken) // 1000)], "worst": taken[-1]}


if __name__ == "__main__":
    json.dump(_measure(int(sys.argv[1])), sys.stdout)
