# SPDX-License-Identifier: Apache-2.0
"""A real NSDB in a temporary directory, and clients that are turned by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Union

import ovs.poller

from midoryu.cmd import nsdb
from midoryu.engine.event import Event, TopologyChanged
from midoryu.nsdb.apply import Change, apply
from midoryu.nsdb.client import NsdbClient
from midoryu.nsdb.session import Session
from midoryu.nsdb.topology_file import parse
from midoryu.topology.model import Put, Row

LIMIT_S = 20.0


class Server:
    """`midoryu-nsdb` with its files in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.remote = f"unix:{directory / 'sock'}"

    def start(self, database: str = "nsdb.db", *options: str) -> int:
        """Start the server; return the exit code."""
        return nsdb.main(
            [
                "start",
                f"--db={self.directory / database}",
                f"--unix={self.directory / 'sock'}",
                f"--run-dir={self.directory}",
                *options,
            ]
        )

    def stop(self) -> int:
        """Stop the server; return the exit code."""
        return nsdb.main(["stop", f"--run-dir={self.directory}"])

    def session(self) -> Session:
        """Connect as a command does."""
        return Session(self.remote, timeout_s=LIMIT_S)

    def apply(self, text: str, *, dry_run: bool = False) -> list[Change]:
        """Apply a topology file's text."""
        with self.session() as session:
            return apply(session, parse(text, "test.yaml"), dry_run=dry_run)


class Agent:
    """A client, and what it was told so far."""

    def __init__(self, server: Server, host: str, underlay: int = 0) -> None:
        self.client = NsdbClient(server.remote, host=host, underlay=underlay)
        self.events: list[Event] = []
        self.rows: dict[tuple[type, object], Row] = {}

    def of(self, kind: type) -> list[Row]:
        """Return the rows of a kind that the client told of."""
        return [row for (row_kind, _), row in self.rows.items() if row_kind is kind]

    def names(self, kind: type) -> set[str]:
        """Return the names of a kind's rows."""
        return {row.name for row in self.of(kind)}  # type: ignore[union-attr]

    def turn(self) -> list[Event]:
        """Run the client once and keep what it says."""
        events = self.client.run()
        self.events += events
        for event in events:
            if isinstance(event, TopologyChanged):
                self._take(event)
        return events

    def _take(self, event: TopologyChanged) -> None:
        for change in event.changes:
            if isinstance(change, Put):
                self.rows[type(change.row), _key(change.row)] = change.row
            else:
                del self.rows[change.kind, change.key]


def _key(row: Row) -> Union[int, str]:
    return row.key


def turn_until(agents: Iterable[Agent], is_done: Callable[[], object]) -> None:
    """Run clients until something holds; fail after a while."""
    deadline = time.monotonic() + LIMIT_S
    agents = list(agents)
    while True:
        for agent in agents:
            agent.turn()
        if is_done():
            return
        assert time.monotonic() < deadline, [agent.events for agent in agents]
        poller = ovs.poller.Poller()
        for agent in agents:
            agent.client.wait(poller)
        poller.timer_wait(200)
        poller.block()
