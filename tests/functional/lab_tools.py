# SPDX-License-Identifier: Apache-2.0
"""What the functional tests do in a lab: ping, trace, talk, send frames, count."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

from midoryu.lab.error import LabError
from midoryu.lab.lab import Lab
from midoryu.lab.session import Session

LABS = Path(__file__).parent / "labs"
SERVE = "exec python3 -m midoryu.lab.session serve 7007"
PORT = 7007
LabMaker = Callable[..., Lab]
_SENDER = """
import socket, sys, time
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind((sys.argv[1], 0))
for line in sys.stdin:
    raw.send(bytes.fromhex(line))
    time.sleep(0.001)
"""


def pings(lab: Lab, machine: str, ip: str, *options: str, count: int = 3) -> int:
    """Ping; return how many answers came."""
    command = ["ping", "-c", str(count), "-i", "0.1", "-W", "1", *options, ip]
    text = lab.exec(machine, command, check=False).stdout
    found = re.search(r"(\d+) received", text)
    return int(found.group(1)) if found else 0


def hops(lab: Lab, machine: str, ip: str, count: int) -> list[str]:
    """Return who answers to pings with a hop limit of 1, 2, ... `count`."""
    seen = []
    for limit in range(1, count + 1):
        command = ["ping", "-n", "-c", "1", "-W", "2", "-t", str(limit), ip]
        text = lab.exec(machine, command, check=False).stdout
        found = re.search(r"^From (\S+)|bytes from (\S+):", text, re.MULTILINE)
        seen.append((found.group(1) or found.group(2)) if found else "nobody")
    return seen


def echo(lab: Lab, machine: str, protocol: str, ip: str, port: int = PORT) -> str:
    """Open a connection, send a line and return "ok", or why it did not come back."""
    with opened(lab, machine, protocol, ip, port) as session:
        if not session.is_open:
            return session.detail
        result = session.exchange()
        return "ok" if result.ok else result.detail


@contextlib.contextmanager
def opened(
    lab: Lab, machine: str, protocol: str, ip: str, port: int = PORT
) -> Iterator[Session]:
    """Open a session that ends with the block."""
    session = start(lab, machine, protocol, ip, port)
    try:
        yield session
    finally:
        session.close()


def start(lab: Lab, machine: str, protocol: str, ip: str, port: int = PORT) -> Session:
    """Open a session; the caller closes it."""
    command = Session.command(protocol, ip, port)
    return Session(lab.popen(machine, command, stdin=subprocess.PIPE))


def send_frames(lab: Lab, node: str, device: str, frames: list[bytes]) -> None:
    """Send whole frames out of a device of a namespace, a thousand each second."""
    child = lab.popen(node, [sys.executable, "-c", _SENDER, device], stdin=-1)
    _, error = child.communicate("".join(f"{f.hex()}\n" for f in frames), timeout=30)
    assert child.returncode == 0, error


def counters(lab: Lab, host: str) -> dict[str, int]:
    """Return the counters of a host's agent."""
    return dict(lab.agent_query(host, "stats")["counters"])


def added(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """Return by how much counters grew."""
    names = {*before, *after}
    grown = {n: after.get(n, 0) - before.get(n, 0) for n in sorted(names)}
    return {name: value for name, value in grown.items() if value}


def wait(holds: Callable[[], Any], timeout_s: float = 10.0) -> bool:
    """Wait until something holds; return whether it does in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(LabError):
            if holds():
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
