# SPDX-License-Identifier: Apache-2.0
"""Harder events of the failure matrix: what operators do, and what else may go wrong.

Keys that are replaced, a full disk, every process killed in turn, clocks that jump,
gateways and pools that change before a death. `survive_events` lists them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from midoryu.lab import process, wire
from midoryu.lab.error import LabError
from midoryu.lab.host import HostNode
from midoryu.lab.shell import run
from midoryu.lab.survive import Survival
from midoryu.lab.survive_move import wait
from midoryu.replication.keyring import GRACE_S

Opener = Callable[[Survival, int, str], int]
_DISK_BYTES = 1 << 20
_CLOCK_STEP_S = 3600
_RETRY_S = 30.0
_FAKETIME = "faketime/libfaketime.so.1"


def signal_agent(node: HostNode, number: int) -> None:
    """Send a signal to a host's agent.

    Raises:
        LabError: it does not run.
    """
    pid = process.read_pid(node.directory / "agent.pid")
    if pid is None or not node.is_running("agent"):
        raise LabError(f"{node.name}: no agent to signal")
    os.kill(pid, number)


def refused_tags(survival: Survival) -> int:
    """Count the state packets that hosts refused for their tags."""
    found = 0
    for host in survival.lab.hosts:
        stats: Any = survival.lab.agent_query(host, "stats")
        found += sum(
            count for cause, count in stats["state_refused"].items() if "tag" in cause
        )
    return found


def keys_replaced(survival: Survival, open_new: Opener) -> str:
    """Write a new key in the place of the old one; watch until the old one is gone.

    Raises:
        LabError: an agent does not take it.
    """
    lab = survival.lab
    path = lab.store.directory / "flow-state.key"
    before = refused_tags(survival)
    # An operator's slip first: a file without keys must change nothing.
    path.write_text("no key yet\n")
    time.sleep(1.5)
    path.write_text(secrets.token_hex(32) + "\n")
    signal_agent(lab.host("node1"), signal.SIGHUP)
    wait(lambda: _all_changed(survival), 10.0, "an agent has not taken the new key")
    opened, end, tried = 0, time.monotonic() + 2 * GRACE_S + 5.0, 0
    while time.monotonic() < end:
        opened += open_new(survival, 3, f"keys {tried}")
        tried += 3
        time.sleep(5.0)
    refused = refused_tags(survival) - before
    return f"{opened}/{tried} new connections, {refused} state packets refused"


def _all_changed(survival: Survival) -> bool:
    return all(
        survival.lab.agent_query(host, "stats")["counters"].get("state keys changed")
        for host in survival.lab.hosts
    )


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """Give a file system of a megabyte for as long as the block lasts.

    Raises:
        LabError: it cannot be mounted.
    """
    directory.mkdir(parents=True, exist_ok=True)
    size = f"size={_DISK_BYTES},mode=0755"
    run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(directory)])
    try:
        yield directory
    finally:
        run(["umount", "--lazy", str(directory)])
        with contextlib.suppress(OSError):
            directory.rmdir()


def fill(disk: Path) -> Path:
    """Write a file until the disk is full; return it."""
    path = disk / "other"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            # To the last byte.
            file.write(bytes(4096)) or file.write(b"\0")
    return path


def full_disk(survival: Survival, host: str, open_new: Opener) -> str:
    """Fill the disk under a journal, go on, kill the agent, and make room again.

    Raises:
        LabError: an agent does not come back, or the journal does not recover.
    """
    lab, node = survival.lab, survival.lab.host(host)
    usual = node.journal
    with small_disk(node.directory / "disk") as disk:
        try:
            node.journal = disk / "journal.db"
            _restart(survival, host, signal.SIGTERM)
            opened = open_new(survival, 5, "before")
            other = fill(disk)
            opened += open_new(survival, 10, "full")
            time.sleep(1.0)
            opened += open_new(survival, 5, "still full")
            failures = _journal(survival, host)["failures"]
            _restart(survival, host, signal.SIGKILL)
            opened += open_new(survival, 10, "full and killed")
            written = _journal(survival, host)["records_written"]
            other.unlink()
            wait(
                lambda: _journal(survival, host)["records_written"] > written,
                2 * _RETRY_S,
                f"{host}: the journal does not recover",
            )
        finally:
            node.journal = usual
            _restart(survival, host, signal.SIGTERM)
    lab.wait_ready()
    return f"{opened}/30 new connections, {failures} failed writes, then room again"


def _journal(survival: Survival, host: str) -> dict[str, Any]:
    stats: dict[str, Any] = survival.lab.agent_query(host, "agent")["journal"]
    return stats


def _restart(survival: Survival, host: str, number: int) -> None:
    node = survival.lab.host(host)
    if node.is_running("agent"):
        signal_agent(node, number)
        wait(lambda: not node.is_running("agent"), 10.0, f"{host}: it does not end")
    survival.lab.restore(host, "agent")
    survival.lab.wait_ready()


def kill_each(survival: Survival, host: str) -> str:
    """Kill -9 the agent, ovsdb-server and ovs-vswitchd of a host in turn, and the NSDB.

    Raises:
        LabError: one does not come back.
    """
    lab, node = survival.lab, survival.lab.host(host)
    taken = []
    for daemon in ("agent", "ovsdb-server", "ovs-vswitchd", "nsdb"):
        start = time.monotonic()
        if daemon in ("agent", "nsdb"):
            name, part = (host, daemon) if daemon == "agent" else ("nsdb", "")
            lab.kill(name, part)
            lab.restore(name, part)
        else:
            kill_daemon(node, daemon)
            node.start_ovs()
        lab.wait_ready()
        taken.append(f"{daemon} {time.monotonic() - start:.1f} s")
        time.sleep(1.0)
    return ", ".join(taken)


def kill_daemon(node: HostNode, daemon: str) -> None:
    """Kill -9 a daemon of Open vSwitch."""
    pid = process.read_pid(node.directory / "ovs" / f"{daemon}.pid")
    process.end(pid, node.namespace)


def ovsdb_away(survival: Survival, host: str, seconds: float, *, both: bool) -> str:
    """Kill a host's ovsdb-server; start it, and perhaps ovs-vswitchd anew as well.

    ovs-vswitchd stands still without its database: it has lost its lock, and then moves
    no packet of the userspace datapath and no OpenFlow. It looks for it after 1, 2, 4,
    then each 8 s. Whoever restarts both does not wait for that.

    Source: ovs-vswitchd, `bridge_run`; OVS, `reconnect` (back-off up to 8 s).
    """
    node = survival.lab.host(host)
    kill_daemon(node, "ovsdb-server")
    time.sleep(seconds)
    if both:
        kill_daemon(node, "ovs-vswitchd")
    start = time.monotonic()
    node.start_ovs()
    survival.lab.wait_ready()
    return f"whole {(time.monotonic() - start) * 1000:.0f} ms after its return"


def clock_jumps(survival: Survival, host: str, open_new: Opener) -> str:
    """Let the wall clock of a host's agent jump by an hour, on and back, twice.

    Raises:
        LabError: there is no libfaketime.
    """
    found = sorted(Path("/usr/lib").glob(f"*/{_FAKETIME}"))
    if not found:
        raise LabError("libfaketime is missing: run tools/install")
    lab, node = survival.lab, survival.lab.host(host)
    offset = node.directory / "clock"
    opened = 0
    try:
        offset.write_text("+0\n")
        node.agent_prefix = (
            "env",
            f"LD_PRELOAD={found[0]}",
            f"FAKETIME_TIMESTAMP_FILE={offset}",
            "FAKETIME_CACHE_DURATION=1",
            # The kernel's monotonic clock never jumps.
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "NO_FAKE_STAT=1",
        )
        _restart(survival, host, signal.SIGTERM)
        for step in (_CLOCK_STEP_S, -_CLOCK_STEP_S, 0):
            offset.write_text(f"{step:+d}\n")
            time.sleep(2.5)
            opened += open_new(survival, 5, f"clock {step}")
            # An agent that starts an hour early: its epoch would be an old one.
            _restart(survival, host, signal.SIGKILL)
            opened += open_new(survival, 5, f"clock {step} anew")
    finally:
        node.agent_prefix = ()
        _restart(survival, host, signal.SIGKILL)
    lab.wait_ready()
    return f"{opened}/30 new connections"


def join_then_die(survival: Survival) -> None:
    """Gateway node4 joins in mid-connection; then the only old gateway dies at once."""
    lab = survival.lab
    lab.ctl("ingress-set", "remove", "uplinks", "provider/uplink4")
    time.sleep(0.5)
    survival.reopen_all()
    time.sleep(1.0)
    lab.ctl("ingress-set", "add", "uplinks", "provider/uplink4")
    time.sleep(1.0)
    lab.kill("node1", "host")
    survival.upstream_sends_to("node4")


def deaf_gateway(survival: Survival, open_new: Opener) -> str:
    """Let nothing reach gateway node1 for a while; what it sends arrives.

    It hears none of its fellows, and tells everybody that they are dead.
    """
    lab, host = survival.lab, survival.lab.host("node1").host
    wire.deafen(lab.store, host)
    try:
        survival.upstream_sends_to("node4")
        time.sleep(2.0)
        opened = open_new(survival, 10, "deaf")
    finally:
        wire.undeafen(lab.store, host)
    time.sleep(2.0)
    survival.upstream_sends_to("node1")
    return f"{opened}/10 new connections"


def address_changes(survival: Survival, open_new: Opener) -> str:
    """Give masquerade another address in mid-connection, and then the first one again.

    Raises:
        LabError: the topology file is not the one that is known.
    """
    first, second = "203.0.113.10, port", "203.0.113.11, port"
    opened = 0
    for before, after in ((first, second), (second, first)):
        _rewrite(survival, before, after)
        time.sleep(1.0)
        opened += open_new(survival, 5, after)
        survival.upstream_sends_to("node4")
        opened += open_new(survival, 5, f"{after} node4")
        survival.upstream_sends_to("node1")
    return f"{opened}/20 new connections"


def return_node1(survival: Survival) -> None:
    """Bring gateway node1 back, and let upstream send to it again."""
    survival.lab.restore("node1", "host")
    survival.lab.wait_ready()
    time.sleep(1.5)
    survival.upstream_sends_to("node1")


def change_pool(survival: Survival, old: str, new: str) -> None:
    """Change the balanced pool's members in the topology file, and apply it.

    Raises:
        LabError: the file does not hold the old ones.
    """
    _rewrite(survival, f"members: {old}", f"members: {new}")


def _rewrite(survival: Survival, before: str, after: str) -> None:
    topology = survival.lab.store.directory / "topology.yaml"
    text = topology.read_text()
    if before not in text:
        raise LabError(f"{topology}: no {before}")
    topology.write_text(text.replace(before, after))
    survival.lab.ctl("apply", "-f", str(topology))
