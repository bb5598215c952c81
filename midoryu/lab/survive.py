# SPDX-License-Identifier: Apache-2.0
"""The failure matrix: break one thing after another while sessions carry numbered data.

    tools/survive                      a table: event, connections, lost packets, gaps
    tools/survive --format json
    tools/survive --only gateway       the events whose names match a pattern

Every event runs under the same sessions (`STREAMS`); connections are counted before and
after it. `survive_events` holds the events, `traffic` the sessions.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

from midoryu.lab.error import LabError
from midoryu.lab.lab import Lab
from midoryu.lab.traffic import Client

LAB_FILE = Path(__file__).resolve().parents[2] / "tools" / "labs" / "survival.yaml"
SERVER, VIP, FLOATING, VM3 = (
    "198.51.100.10",
    "203.0.113.20",
    "203.0.113.30",
    "10.0.1.13",
)
BALANCED = "203.0.113.40"
PORT = 7007
_VIA = {"node1": "192.0.2.2", "node4": "192.0.2.6"}


def stream(name: str, protocol: str, host: str, **more: Any) -> dict[str, Any]:
    """Describe a stream to the numbered-line server of `host`."""
    return {"name": name, "protocol": protocol, "host": host, "port": PORT, **more}


def _sessions() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {"vm2": [], "vm6": [], "server": []}
    for protocol in ("tcp", "udp"):
        twin = {"source_port": 41000}
        found["vm2"] += [
            stream(f"masquerade {protocol}", protocol, SERVER),
            stream(f"masquerade push {protocol}", protocol, SERVER, kind="push"),
            stream(f"twin vm2 {protocol}", protocol, SERVER, **twin),
            stream(f"vm to vm {protocol}", protocol, VM3),
        ]
        found["vm6"].append(stream(f"twin vm6 {protocol}", protocol, SERVER, **twin))
        found["server"] += [
            stream(f"dnat {protocol}", protocol, VIP),
            stream(f"dnat push {protocol}", protocol, VIP, kind="push"),
            stream(f"floating {protocol}", protocol, FLOATING),
            stream(f"balanced {protocol}", protocol, BALANCED),
            stream(f"balanced push {protocol}", protocol, BALANCED, kind="push"),
        ]
    return found


STREAMS = _sessions()
"""Machine -> its sessions."""


@dataclass
class Row:
    """What one event did to the sessions."""

    event: str
    before: int = 0
    """Sessions that carried data before."""
    after: int = 0
    """Those of them that carry data after it."""
    lost_udp: int = 0
    """Numbered UDP packets (either way) that did not come."""
    gap_tcp_ms: int = 0
    gap_udp_ms: int = 0
    worst: str = ""
    """The session with the longest gap."""
    dead: list[str] = field(default_factory=list)
    note: str = ""
    gaps_ms: dict[str, int] = field(default_factory=dict)


class Survival:
    """A lab with its sessions, to be used as a context manager."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.clients: dict[str, Client] = {}
        self.rows: list[Row] = []

    def start(self) -> None:
        """Start servers and sessions; the lab is up.

        Raises:
            LabError: a session cannot be opened.
        """
        quiet = {"stdout": -3, "stderr": -3}
        for node in ("server", "vm3", "vm5"):
            serve = [sys.executable, "-m", "midoryu.lab.traffic", "serve", str(PORT)]
            self.lab.popen(node, serve, **quiet)
        self.upstream_sends_to("node1")
        self.lab.exec("upstream", "ping -c1 -W2 192.0.2.6", check=False)
        for machine in STREAMS:
            self.clients[machine] = self.client(machine)
        time.sleep(1.0)
        for machine, streams in STREAMS.items():
            self._open(machine, streams)

    def client(self, machine: str) -> Client:
        """Start another traffic client in a machine."""
        log = (self.lab.store.directory / "traffic.log").open("a")
        with log:
            process = self.lab.popen(machine, Client.command, stdin=-1, stderr=log)
        return Client(process)

    def upstream_sends_to(self, gateway: str) -> None:
        """Let upstream route what is for the cloud to one gateway, as BGP would."""
        via = _VIA[gateway]
        self.lab.exec("upstream", f"ip route replace 203.0.113.0/24 via {via}")

    def reports(self) -> dict[str, dict[str, Any]]:
        """Return every session's report."""
        found: dict[str, dict[str, Any]] = {}
        for client in self.clients.values():
            found.update(client.report())
        return found

    def measure(
        self, event: str, action: Callable[[], object], *, settle_s: float = 2.0
    ) -> Row:
        """Do something while the sessions run; return what it did to them.

        Args:
            event: its name.
            action: does it; what it returns is the row's note.
            settle_s: how long the sessions are watched after it.
        """
        self.reopen_dead()
        for client in self.clients.values():
            client.begin()
        time.sleep(0.5)
        before = {name for name, r in self.reports().items() if r["alive"]}
        note = action()
        time.sleep(settle_s)
        reports = self.reports()
        row = _row(event, before, reports)
        row.note = str(note) if note is not None else ""
        self.rows.append(row)
        return row

    def reopen_dead(self) -> None:
        """Open dead sessions anew, so that each event has all of them."""
        for machine, streams in STREAMS.items():
            reports = self.clients[machine].report()
            dead = [s for s in streams if not reports[s["name"]]["alive"]]
            if dead:
                self._open(machine, dead)

    def reopen_all(self) -> None:
        """Open every session anew."""
        for machine, streams in STREAMS.items():
            self._open(machine, streams)

    def _open(self, machine: str, streams: Iterable[Mapping[str, Any]]) -> None:
        reports = self.clients[machine].open(streams)
        for one in streams:
            if reports[one["name"]]["error"].startswith("not opened"):
                raise LabError(f"{one['name']}: {reports[one['name']]['error']}")


def _row(event: str, before: set[str], reports: dict[str, dict[str, Any]]) -> Row:
    row = Row(event, before=len(before))
    for name in sorted(before):
        report = reports[name]
        row.gaps_ms[name] = report["gap_ms"]
        if report["alive"]:
            row.after += 1
        else:
            row.dead.append(f"{name}: {report['error'] or 'silent'}")
        if report["kind"] == "bulk":
            # It is judged by its note: it crowds nobody's gap but its own.
            continue
        if name.endswith("udp"):
            row.lost_udp += report["lost"]
            row.gap_udp_ms = max(row.gap_udp_ms, report["gap_ms"])
        else:
            row.gap_tcp_ms = max(row.gap_tcp_ms, report["gap_ms"])
    row.worst = max(row.gaps_ms, key=lambda n: row.gaps_ms[n]) if row.gaps_ms else ""
    return row


_FORMAT = "{:<46} {:>6} {:>5} {:>8} {:>7} {:>7}  {}"


def line_of(row: Row) -> str:
    """Return a row of the table."""
    tail = row.note if not row.dead else f"DEAD {'; '.join(row.dead)} {row.note}"
    numbers = (row.before, row.after, row.lost_udp, row.gap_tcp_ms, row.gap_udp_ms)
    return _FORMAT.format(row.event, *numbers, f"{row.worst} {tail}".strip())


def main(argv: Optional[list[str]] = None) -> int:
    """Run the matrix; return 0 when no connection was lost."""
    from midoryu.lab.survive_events import EVENTS

    parser = argparse.ArgumentParser(
        prog="tools/survive",
        description="Break every part of a four-host lab in turn under live sessions; "
        "print connections before and after, lost packets and the longest gap.",
    )
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.add_argument("--only", default="", help="events whose names match this")
    parser.add_argument("--name", default="survive", help="name of the lab")
    arguments = parser.parse_args(argv)
    is_table = arguments.format == "table"
    if is_table:
        head = ("event", "before", "after", "lost UDP", "TCP ms", "UDP ms", "worst")
        print(_FORMAT.format(*head), flush=True)
    with Lab(LAB_FILE, name=arguments.name) as lab:
        survival = Survival(lab)
        survival.start()
        for name, event in EVENTS.items():
            if not re.search(arguments.only, name):
                continue
            try:
                row = event(survival, name)
            except (LabError, OSError, ValueError) as problem:
                row = Row(name, dead=[f"not done: {problem}"])
                survival.rows.append(row)
            if is_table:
                print(line_of(row), flush=True)
        if not is_table:
            print(json.dumps([asdict(row) for row in survival.rows], indent=1))
    return 1 if any(row.dead for row in survival.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
