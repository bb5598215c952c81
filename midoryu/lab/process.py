# SPDX-License-Identifier: Apache-2.0
"""Start, find and end processes that live in the lab's namespaces.

`host`, `database` and `lab` use it. The namespace a process lives in is the proof that
it belongs to the lab; a recycled pid never passes that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Optional

from midoryu.lab.error import LabError
from midoryu.lab.shell import inside, run

NETNS_DIR = Path("/run/netns")
_DETACH = 'setsid "$@" </dev/null >>"$LAB_LOG" 2>&1 & echo $!'


def start(
    namespace: str,
    argv: Sequence[str],
    log: Path,
    directory: Optional[Path] = None,
) -> int:
    """Start a program in a namespace, detached from this process; return its pid.

    What it prints is appended to `log`; it runs in `directory`, or this one.
    """
    command = ["sh", "-c", _DETACH, "sh", *inside(namespace, argv)]
    result = run(command, env={"LAB_LOG": str(log)}, directory=directory)
    pid = int(result.stdout)
    _wait_until_inside(pid, namespace, timeout_s=5.0)
    return pid


def read_pid(path: Path) -> Optional[int]:
    """Return the pid in a pid file, or None when there is no usable one."""
    try:
        return int(path.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def lives_in(pid: Optional[int], namespace: str) -> bool:
    """Tell whether a process is alive and in a namespace."""
    if pid is None or pid <= 1:
        return False
    wanted = _identity(NETNS_DIR / namespace)
    if wanted is None or _identity(Path(f"/proc/{pid}/ns/net")) != wanted:
        return False
    return not _is_zombie(pid)


def end(pid: Optional[int], namespace: str, *, timeout_s: float = 10.0) -> bool:
    """Kill (-9) a process if it lives in a namespace; tell whether it did.

    Raises:
        LabError: it is still there after `timeout_s`.
    """
    if pid is None or not lives_in(pid, namespace):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + timeout_s
    while lives_in(pid, namespace):
        if time.monotonic() > deadline:
            raise LabError(f"process {pid} does not end")
        time.sleep(0.01)
    return True


def end_all(namespaces: Iterable[str], *, timeout_s: float = 10.0) -> None:
    """Kill (-9) everything that lives in the namespaces, until nothing does.

    Raises:
        LabError: something is still there after `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    names = list(namespaces)
    killed: dict[int, str] = {}
    while found := pids_in(names):
        if time.monotonic() > deadline:
            raise LabError(f"processes do not end: {sorted(found)}")
        for pid in found:
            killed.setdefault(pid, start_time(pid))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    _wait_until_gone(killed, timeout_s=2.0)


def pids_in(namespaces: Iterable[str]) -> set[int]:
    """Return the pids of all processes that live in the namespaces.

    This process itself is never among them.
    """
    wanted = {_identity(NETNS_DIR / name) for name in namespaces} - {None}
    own = _identity(Path("/proc/self/ns/net"))
    found = set()
    for entry in os.listdir("/proc") if wanted - {own} else ():
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        identity = _identity(Path(f"/proc/{entry}/ns/net"))
        if identity in wanted - {own} and not _is_zombie(int(entry)):
            found.add(int(entry))
    return found


def start_time(pid: int) -> str:
    """Return when a process started (clock ticks since boot), empty when it is gone.

    Source: proc(5), /proc/pid/stat, field 22.
    """
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else ""


def _wait_until_inside(pid: int, namespace: str, *, timeout_s: float) -> None:
    """Wait until a new process has entered its namespace, or has already ended."""
    deadline = time.monotonic() + timeout_s
    while not (lives_in(pid, namespace) or _is_zombie(pid)):
        if time.monotonic() > deadline:
            raise LabError(f"process {pid} does not enter {namespace}")
        time.sleep(0.005)


def _wait_until_gone(start_time_by_pid: Mapping[int, str], *, timeout_s: float) -> None:
    """Wait until ended processes have left the process table.

    A process leaves its namespace before that. One that nobody collects (a child of
    this very process, or under an init that does not) is not waited for longer.
    """
    deadline = time.monotonic() + timeout_s
    left = {p: t for p, t in start_time_by_pid.items() if _parent(p) != os.getpid()}
    while left and time.monotonic() < deadline:
        left = {p: t for p, t in left.items() if start_time(p) == t != ""}
        time.sleep(0.01)


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if len(fields) > 1 else 0


def _identity(path: Path) -> Optional[tuple[int, int]]:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


def _is_zombie(pid: int) -> bool:
    fields = _stat(pid)
    return not fields or fields[0] in ("Z", "X")


def _stat(pid: int) -> list[str]:
    """Return the fields behind the command name, the process state first."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()
