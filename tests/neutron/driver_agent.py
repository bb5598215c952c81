# SPDX-License-Identifier: Apache-2.0
"""The part of Octavia that a provider driver speaks to: its driver agent's sockets.

Length in decimal digits, a line feed, JSON; the answer likewise.
"""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union


class DriverAgent:
    """Keeps the statuses that it is told."""

    def __init__(self, directory: Path) -> None:
        self.paths = {n: str(directory / n) for n in ("status", "stats", "get")}
        self.said: dict[str, dict[str, dict[str, str]]] = {}
        self.to_refuse = 0
        """So many times more it answers as if its database did not have the row yet."""
        agent = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                news = json.loads(self.rfile.read(int(self.rfile.readline())))
                text = json.dumps(agent.take(news)).encode()
                self.wfile.write(b"%d\n%s" % (len(text), text))

        self._servers = [
            socketserver.ThreadingUnixStreamServer(path, Handler)
            for path in self.paths.values()
        ]
        for server in self._servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def take(self, news: Any) -> dict[str, Any]:
        """Take a message and return the answer."""
        if self.to_refuse:
            self.to_refuse -= 1
            return {"status_code": 500, "fault_string": "not found"}
        for kind, entries in news.items():
            for entry in entries:
                self.said.setdefault(kind, {}).setdefault(entry["id"], {}).update(entry)
        return {"status_code": 200}

    def status(self, kind: str, ident: str, word: str = "provisioning") -> Union[str]:
        """Return what was said of an object, "" for nothing."""
        return self.said.get(kind, {}).get(ident, {}).get(f"{word}_status", "")

    def stop(self) -> None:
        """End."""
        for server in self._servers:
            server.shutdown()
            server.server_close()


@contextlib.contextmanager
def listening(directory: Path) -> Iterator[DriverAgent]:
    """Have a driver agent for the length of a block."""
    agent = DriverAgent(directory)
    try:
        yield agent
    finally:
        agent.stop()
