# SPDX-License-Identifier: Apache-2.0
"""Asks DNS servers outside the overlay, for machines inside it.

The engine bounds how many queries are under way; here each has a socket and a green
thread of its own, a random port and id, and a time limit. The engine always hears how
it ended.

Source: RFC 5452 (answers that are hard to forge).
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
from collections.abc import Callable, Iterable
from typing import Final

from midoryu.agent.framework import hub
from midoryu.engine.effect import Resolve
from midoryu.engine.event import Resolved
from midoryu.packet.address import format_ip, is_v4
from midoryu.packet.dns import PORT

LOG = logging.getLogger(__name__)

TIMEOUT_S: Final = 2.0
TRIES: Final = 2
_MAX_BYTES: Final = 4096
# Strangers' datagrams that one query may meet.
_MAX_WRONG: Final = 8


class Resolver:
    """Carries queries out and reports each one's end."""

    def __init__(self, report: Callable[[Resolved], None], *, port: int = PORT) -> None:
        self._report = report
        self._port = port

    def resolve(self, queries: Iterable[Resolve]) -> None:
        """Begin to ask; returns at once."""
        for query in queries:
            hub.spawn(self._run, query)

    def _run(self, query: Resolve) -> None:
        answer = b""
        try:
            answer = self._ask(query)
        finally:
            self._report(Resolved(query.number, answer))

    def _ask(self, query: Resolve) -> bytes:
        for _ in range(TRIES):
            for server in query.servers:
                with contextlib.suppress(OSError):
                    answer = exchange(query.payload, server, self._port)
                    if answer:
                        return answer
        return b""


def exchange(payload: bytes, server: int, port: int = PORT) -> bytes:
    """Ask one server once; return its answer with the query's own id, b"" for none.

    Raises:
        OSError: it cannot be reached.
    """
    ident = secrets.token_bytes(2)
    family = socket.AF_INET if is_v4(server) else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(TIMEOUT_S)
        # A connected socket takes datagrams from this server alone.
        client.connect((format_ip(server), port))
        client.send(ident + payload[2:])
        for _ in range(_MAX_WRONG):
            answer = client.recv(_MAX_BYTES)
            if answer[:2] == ident:
                return payload[:2] + answer[2:]
    return b""
