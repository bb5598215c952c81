# SPDX-License-Identifier: Apache-2.0
"""Neutron's API behind the standard library's threaded HTTP server.

`python serve.py PORT` with OS_NEUTRON_CONFIG_DIR and OS_NEUTRON_CONFIG_FILES set. A
fault point (MIDORYU_TEST_DIE_BEFORE_WRITE names a file) ends the process between the
database's commit and the NSDB's write, as long as the file is there.
"""

from __future__ import annotations

import os
import socketserver
import sys
import wsgiref.simple_server
from typing import Any


class Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    """One thread for each connection."""

    daemon_threads = True
    request_queue_size = 64


class Handler(wsgiref.simple_server.WSGIRequestHandler):
    """Quiet, and does not look names up."""

    def address_string(self) -> str:
        return str(self.client_address[0])

    def log_message(self, *args: Any) -> None:
        pass


def die_before_write(marker: str) -> None:
    """End the process where a power cut would hurt most."""
    from midoryu.neutron.store import Store

    real = Store.transact

    def transact(self: Any, change: Any) -> bool:
        if os.path.exists(marker):
            os._exit(70)
        return real(self, change)

    Store.transact = transact  # type: ignore[method-assign]


def main() -> None:
    port = int(sys.argv[1])
    # Neutron parses the arguments, which are not its own.
    sys.argv[1:] = []
    from neutron import policy
    from neutron.wsgi import api
    from neutron_lib.policy import _engine

    # Both make their enforcer with the first request that needs one, and another thread
    # finds it without rules meanwhile: 403. uwsgi's processes have one thread each.
    policy.init()
    _engine.init()
    marker = os.environ.get("MIDORYU_TEST_DIE_BEFORE_WRITE")
    if marker:
        die_before_write(marker)
    server = wsgiref.simple_server.make_server(
        "127.0.0.1", port, api.application, Server, Handler
    )
    server.serve_forever()


if __name__ == "__main__":
    main()
