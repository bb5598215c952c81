# SPDX-License-Identifier: Apache-2.0
"""Long-lived connections that carry numbered lines: what tests and the demo break.

    python -m midoryu.lab.session serve PORT             echo every line, TCP and UDP
    python -m midoryu.lab.session open tcp HOST PORT     send a numbered line for each
                                                         line on stdin, expect its echo

`open` prints `open SOURCE_PORT` once, then for each line of stdin `ok N MS` or
`lost N REASON`. A stdin line `push` asks the server to speak first: it sends the
number by itself half a second later. `Session` drives all that from Python.
"""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import sys
import threading
import time
from typing import NamedTuple, Optional

_TIMEOUT_S = 3.0
_PUSH_DELAY_S = 0.5


def serve(port: int) -> None:
    """Echo lines on a TCP and a UDP port of every address, until killed."""
    threading.Thread(target=_serve_udp, args=(port,), daemon=True).start()
    listener = socket.create_server(
        ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512
    )
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        for line in connection.makefile("rb"):
            if line.startswith(b"push "):
                time.sleep(_PUSH_DELAY_S)
                line = line[len(b"push ") :]
            connection.sendall(line)


def _serve_udp(port: int) -> None:
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", port))
    while True:
        data, client = server.recvfrom(2048)
        if data.startswith(b"push "):
            reply = data[len(b"push ") :]
            timer = threading.Timer(_PUSH_DELAY_S, server.sendto, (reply, client))
            timer.daemon = True
            timer.start()
        else:
            server.sendto(data, client)


def open_session(protocol: str, host: str, port: int, source_port: int) -> int:
    """Connect, then exchange one numbered line for each line on stdin.

    Returns:
        An exit code: 0, or 1 when the connection could not be made.
    """
    try:
        connection = _connect(protocol, host, port, source_port)
    except OSError as error:
        print(f"refused {error}", flush=True)
        return 1
    print(f"open {connection.getsockname()[1]}", flush=True)
    for number, command in enumerate(sys.stdin, 1):
        prefix = b"push " if command.strip() == "push" else b""
        start = time.monotonic()
        reason = _exchange(connection, prefix, number)
        taken_ms = (time.monotonic() - start) * 1000
        result = f"lost {number} {reason}" if reason else f"ok {number} {taken_ms:.1f}"
        print(result, flush=True)
    return 0


def _connect(protocol: str, host: str, port: int, source_port: int) -> socket.socket:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    connection = socket.socket(family, kind)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if source_port:
        connection.bind(("", source_port))
    connection.settimeout(_TIMEOUT_S)
    connection.connect((host, port))
    return connection


def _exchange(connection: socket.socket, prefix: bytes, number: int) -> str:
    wanted = b"%d\n" % number
    try:
        connection.sendall(prefix + wanted)
        deadline = time.monotonic() + _TIMEOUT_S
        seen = b""
        while not seen.endswith(wanted):
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            data = connection.recv(2048)
            if not data:
                return "closed"
            seen += data
    except OSError as error:
        return str(error)
    return ""


class Exchange(NamedTuple):
    """What became of one numbered line."""

    ok: bool
    milliseconds: float
    detail: str


class Session:
    """One connection in a lab, driven line by line.

    The process is one that `Lab.popen` made of `Session.command`, with a pipe as stdin.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        first = self._read(10.0)
        self.is_open = first.startswith("open ")
        self.source_port = int(first.split()[1]) if self.is_open else 0
        self.detail = first
        """What the program said first."""

    @staticmethod
    def command(protocol: str, host: str, port: int, source_port: int = 0) -> list[str]:
        """Return the command line of a session."""
        module = [sys.executable, "-m", "midoryu.lab.session", "open", protocol]
        return [*module, host, str(port), str(source_port)]

    def exchange(self, *, push: bool = False, timeout_s: float = 5.0) -> Exchange:
        """Send one numbered line and wait for it to come back.

        Args:
            push: the server speaks first, half a second later.
            timeout_s: how long to wait at most.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("push\n" if push else "send\n")
            self._process.stdin.flush()
        except OSError as error:
            return Exchange(False, 0.0, str(error))
        words = self._read(timeout_s).split(maxsplit=2)
        if len(words) < 3 or words[0] != "ok":
            return Exchange(False, 0.0, " ".join(words))
        return Exchange(True, float(words[2]), "")

    def close(self) -> None:
        """End the connection and its process."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            self._process.stdin = None
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._process.stdout = self._process.stderr = None

    def _read(self, timeout_s: float) -> str:
        stream = self._process.stdout
        assert stream is not None
        ready, _, _ = select.select([stream], [], [], timeout_s)
        return stream.readline().strip() if ready else "lost 0 no answer"


def main(argv: Optional[list[str]] = None) -> int:
    """Run the program that the module's docstring describes."""
    words = sys.argv[1:] if argv is None else argv
    if len(words) == 2 and words[0] == "serve":
        serve(int(words[1]))
        return 0
    if len(words) in (4, 5) and words[0] == "open" and words[1] in ("tcp", "udp"):
        source_port = int(words[4]) if len(words) == 5 else 0
        return open_session(words[1], words[2], int(words[3]), source_port)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
