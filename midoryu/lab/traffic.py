# SPDX-License-Identifier: Apache-2.0
"""Many sessions with numbered data at once, and the longest gap that each has seen.

    python -m midoryu.lab.traffic serve PORT     answer on TCP and UDP
    python -m midoryu.lab.traffic client         open and judge streams, told by stdin

A client obeys lines of JSON: `{"open": [STREAM...]}`, `{"begin": true}` (count anew),
`{"report": true}`, `{"close": [NAME...]}`; it answers each with one line of JSON.
A stream is `{name, protocol, host, port, source_port, kind, interval_ms}`. Kinds:
`echo` sends numbered lines and wants each back, `push` says one word and from then on
only the server speaks, `bulk` downloads as fast as it goes. `Client` drives it.
"""

from __future__ import annotations

import contextlib
import json
import select
import selectors
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Optional

_CONNECT_TIMEOUT_S = 4.0
_ANSWER_TIMEOUT_S = 30.0
# A number sent so shortly before a report may still come back.
_GRACE_S = 0.4
_OPENERS = 16
_MAX_PUSHES = 100_000


def serve(port: int) -> None:
    """Answer streams on a TCP and a UDP port of every address, until killed."""
    threading.Thread(target=_serve_udp, args=(port,), daemon=True).start()
    listener = socket.create_server(
        ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512
    )
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve_tcp, args=(connection,), daemon=True).start()


def _serve_tcp(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, contextlib.suppress(OSError):
        for line in connection.makefile("rb"):
            words = line.split()
            if words[0] == b"push":
                _push(connection.sendall, float(words[1]) / 1000)
            elif words[0] == b"bulk":
                piece = bytes(1 << 16)
                while True:
                    connection.sendall(piece)
            else:
                connection.sendall(line)


def _serve_udp(port: int) -> None:
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", port))
    while True:
        with contextlib.suppress(OSError):
            data, client = server.recvfrom(2048)
            if data.startswith(b"push"):
                interval_s = float(data.split()[1]) / 1000

                def send(line: bytes, to: Any = client) -> None:
                    with contextlib.suppress(OSError):
                        server.sendto(line, to)

                arguments = (send, interval_s)
                threading.Thread(target=_push, args=arguments, daemon=True).start()
            else:
                server.sendto(data, client)


def _push(send: Any, interval_s: float) -> None:
    for number in range(_MAX_PUSHES):
        send(b"%d\n" % number)
        time.sleep(interval_s)


class _Stream:
    """One session of a client."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.name = str(spec["name"])
        self.kind = str(spec.get("kind", "echo"))
        self.is_tcp = spec["protocol"] == "tcp"
        self.interval_s = float(spec.get("interval_ms", 20)) / 1000
        self.error = ""
        self.failed = False
        self.next_at = 0.0
        self.number = 0
        self._partial = b""
        self.open_ms = 0
        self.socket: Optional[socket.socket] = None
        start = time.monotonic()
        self.begin(start)
        try:
            self.socket = _connect(spec)
        except OSError as error:
            self.error = f"not opened: {error}"
            return
        self.begin(time.monotonic())
        self.open_ms = round((self.since - start) * 1000)
        word = {"push": b"push %g\n" % (self.interval_s * 1000), "bulk": b"bulk\n"}
        if self.kind in word:
            self.socket.send(word[self.kind])

    def begin(self, now: float) -> None:
        self.since = self.last = now
        self.gap_s = 0.0
        self.gap_at = now
        self.bytes = 0
        self.sent: dict[int, float] = {}
        self.got: set[int] = set()
        self.first_number = self.number

    def _is_open(self) -> bool:
        return self.socket is not None and not self.failed

    def send(self, now: float) -> None:
        if self.socket is None or self.failed or self.kind != "echo":
            return
        if now < self.next_at:
            return
        self.next_at = max(self.next_at + self.interval_s, now - self.interval_s)
        try:
            self.socket.send(b"%d\n" % self.number)
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(error)
            return
        self.sent[self.number] = now
        self.number += 1

    def receive(self, now: float) -> None:
        assert self.socket is not None
        try:
            data = self.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(error)
            return
        if not data and self.is_tcp:
            self._failed(OSError("closed by the other end"))
            return
        if now - self.last > self.gap_s:
            self.gap_s, self.gap_at = now - self.last, self.last
        self.last = now
        self.bytes += len(data)
        if self.kind != "bulk":
            lines = (self._partial + data).split(b"\n")
            self._partial = lines.pop()
            self.got.update(int(line) for line in lines if line.isdigit())

    def _failed(self, error: OSError) -> None:
        if not self.is_tcp:
            # An ICMP error; the socket goes on.
            self.error = str(error)
            return
        self.error = str(error)
        self.failed = True

    def report(self, now: float) -> dict[str, Any]:
        silent = now - self.last
        gap_s = max(self.gap_s, silent if silent > 2 * self.interval_s else 0.0)
        if self.kind == "push" and self.got:
            lost = max(self.got) - min(self.got) + 1 - len(self.got)
        else:
            due = {n for n, at in self.sent.items() if at < now - _GRACE_S}
            lost = len(due - self.got)
        return {
            "kind": self.kind,
            "alive": self._is_open() and silent < max(1.0, 3 * self.interval_s),
            "gap_ms": round(gap_s * 1000),
            "gap_at": self.gap_at,
            "lost": lost,
            "received": len(self.got) or self.bytes,
            "mbps": round(self.bytes * 8e-6 / max(now - self.since, 0.001), 1),
            "open_ms": self.open_ms,
            "error": self.error,
        }


def _connect(spec: Mapping[str, Any]) -> socket.socket:
    host, is_tcp = str(spec["host"]), spec["protocol"] == "tcp"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kind = socket.SOCK_STREAM if is_tcp else socket.SOCK_DGRAM
    connection = socket.socket(family, kind)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_tcp:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if spec.get("source_port"):
        # Closed by a reset: no TIME_WAIT keeps the port from being used again.
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.bind(("", int(spec.get("source_port", 0))))
    connection.settimeout(_CONNECT_TIMEOUT_S)
    connection.connect((host, int(spec["port"])))
    connection.setblocking(False)
    return connection


class _Program:
    """What runs in a machine's namespace."""

    def __init__(self) -> None:
        self.streams: dict[str, _Stream] = {}
        self.selector = selectors.DefaultSelector()
        self.selector.register(sys.stdin, selectors.EVENT_READ)

    def run(self) -> None:
        while True:
            for key, _ in self.selector.select(self._wait_s()):
                if key.data is None:
                    line = sys.stdin.readline()
                    if not line:
                        return
                    print(json.dumps(self._obey(json.loads(line))), flush=True)
                elif key.data.socket is not None:
                    key.data.receive(time.monotonic())
            now = time.monotonic()
            for stream in self.streams.values():
                stream.send(now)
                if stream.failed:
                    self._hang_up(stream)

    def _wait_s(self) -> float:
        due = [
            s.next_at
            for s in self.streams.values()
            if s.kind == "echo" and s.socket is not None
        ]
        return min(max(min(due, default=1e18) - time.monotonic(), 0.002), 0.02)

    def _obey(self, order: Mapping[str, Any]) -> Any:
        now = time.monotonic()
        if "begin" in order:
            for stream in self.streams.values():
                stream.begin(now)
        specs = order.get("open", ())
        for spec in specs:
            self._close(spec["name"])
        with ThreadPoolExecutor(_OPENERS) as pool:
            for stream in pool.map(_Stream, specs):
                self._add(stream)
        for name in order.get("close", ()):
            self._close(name)
        return {name: s.report(now) for name, s in self.streams.items()}

    def _add(self, stream: _Stream) -> None:
        self.streams[stream.name] = stream
        if stream.socket is not None:
            self.selector.register(stream.socket, selectors.EVENT_READ, stream)

    def _close(self, name: str) -> None:
        stream = self.streams.pop(name, None)
        if stream is not None:
            self._hang_up(stream)

    def _hang_up(self, stream: _Stream) -> None:
        if stream.socket is not None:
            self.selector.unregister(stream.socket)
            stream.socket.close()
            stream.socket = None


class Client:
    """Drives the client in one machine; `process` has pipes as stdin and stdout."""

    command = (sys.executable, "-m", "midoryu.lab.traffic", "client")

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def open(self, streams: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Open streams, several at once; return a report of each."""
        return self._order({"open": list(streams)})

    def close(self, names: Iterable[str]) -> None:
        """Close streams."""
        self._order({"close": list(names)})

    def begin(self) -> None:
        """Count anew."""
        self._order({"begin": True})

    def report(self) -> dict[str, dict[str, Any]]:
        """Return name -> alive, gap_ms, lost, received, error; since `begin`."""
        return self._order({"report": True})

    def _order(self, order: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(order) + "\n")
        stdin.flush()
        ready, _, _ = select.select([stdout], [], [], _ANSWER_TIMEOUT_S)
        if not ready:
            raise TimeoutError(f"no answer from the traffic client to {order}")
        answer: dict[str, dict[str, Any]] = json.loads(stdout.readline())
        return answer


def main(argv: Optional[list[str]] = None) -> int:
    """Run the program that the module's docstring describes."""
    words = sys.argv[1:] if argv is None else argv
    if len(words) == 2 and words[0] == "serve":
        serve(int(words[1]))
    elif words == ["client"]:
        _Program().run()
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
