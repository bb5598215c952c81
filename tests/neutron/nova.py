# SPDX-License-Identifier: Apache-2.0
"""The part of Nova that Neutron speaks to: it takes external events.

Runs in the test's own process, on loopback.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any


class Nova:
    """What Neutron said."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        nova = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                said = json.loads(self.rfile.read(length))["events"]
                nova.events.extend(said)
                answer = {"events": [{**event, "code": 200} for event in said]}
                text = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v2.1"

    def plugged(self, port: str) -> int:
        """Count the times that a port was said to be plugged."""
        found = [(event["name"], event.get("tag")) for event in self.events]
        return found.count(("network-vif-plugged", port))

    def serve(self) -> None:
        """Answer until `stop`."""
        self._server.serve_forever(poll_interval=0.1)

    def stop(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def listening() -> Iterator[Nova]:
    """Have a Nova for the length of a block."""
    nova = Nova()
    thread = threading.Thread(target=nova.serve, daemon=True)
    thread.start()
    try:
        yield nova
    finally:
        nova.stop()
        thread.join()
