# SPDX-License-Identifier: Apache-2.0
"""A web server for machines of a lab: says who it is and who calls, on port 8080.

Run as `python3 -m midoryu.lab.web_server`; members of load balancers do.
"""

from __future__ import annotations

import http.server
import socket
from typing import Any

PORT = 8080


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every path."""

    def do_GET(self) -> None:
        """Tell the machine's first address and the caller's."""
        here = str(self.connection.getsockname()[0]).removeprefix("::ffff:")
        there = str(self.client_address[0]).removeprefix("::ffff:")
        body = f"{here} {there}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Stay silent."""


class Server(http.server.ThreadingHTTPServer):
    """Listens on both families."""

    address_family = socket.AF_INET6
    request_queue_size = 64


if __name__ == "__main__":
    Server(("::", PORT), Handler).serve_forever()
