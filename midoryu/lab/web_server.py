# SPDX-License-Identifier: Apache-2.0
"""A server for machines of a lab: says who it is and who calls, HTTP on port 8080.

Run as `python3 -m midoryu.lab.web_server NAME`; members of load balancers do. To a
datagram on port 8053 it answers NAME.
"""

from __future__ import annotations

import http.server
import socket
import sys
import threading
from typing import Any

PORT = 8080
UDP_PORT = 8053


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every path."""

    protocol_version = "HTTP/1.1"

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


def answer_datagrams(name: bytes) -> None:
    """Answer each datagram with a name, for ever."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as listener:
        listener.bind(("::", UDP_PORT))
        while True:
            _, sender = listener.recvfrom(2048)
            listener.sendto(name + b"\n", sender)


if __name__ == "__main__":
    name = sys.argv[1].encode()
    threading.Thread(target=answer_datagrams, args=(name,), daemon=True).start()
    Server(("::", PORT), Handler).serve_forever()
