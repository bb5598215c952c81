# SPDX-License-Identifier: Apache-2.0
"""The agent's side of the NSDB: rows become events, writes become transactions.

The agent's rim calls `run` when `wait` woke it and hands what comes out to the engine.
Nothing here blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from midoryu.engine.effect import NsdbWrite
from midoryu.engine.event import Event, NsdbDisconnected, TopologyChanged
from midoryu.nsdb.presence import lock_name
from midoryu.nsdb.remote import Certificates, use_certificates
from midoryu.nsdb.replica import Replica
from midoryu.nsdb.thin_idl import ThinIdl
from midoryu.nsdb.writer import Writer


class NsdbClient:
    """A connection to the NSDB that keeps itself up."""

    def __init__(
        self,
        connection: str,
        *,
        host: str,
        underlay: int,
        private_key: str = "",
        certificate: str = "",
        ca_cert: str = "",
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare to connect; nothing is sent before the first `run`.

        `connection` is a comma-separated list of remotes, `underlay` the tunnel
        endpoint address (128-bit) that this host's row shall have. `pause` is called
        now and then while `run` reads very many rows, to let other green threads run;
        they may call `write` and `is_connected` then.

        Raises:
            ConfigError: a remote is malformed or a certificate file is missing.
        """
        files = Certificates(private_key, certificate, ca_cert)
        use_certificates(connection, files)
        self._idl = ThinIdl(connection, pause)
        self._replica = Replica(self._idl.store, self._idl.problems, pause)
        self._writer = Writer(self._idl, self._replica, host=host, underlay=underlay)
        self._was_connected = False
        self._presence = lock_name(host)

    @property
    def bad_rows(self) -> int:
        """How many rows made no valid value since the start."""
        return self._replica.bad_rows

    @property
    def is_connected(self) -> bool:
        """Whether a server is there and all rows are known."""
        return self._idl.is_connected

    def run(self) -> list[Event]:
        """Read what the server sent and send what is due.

        The first `TopologyChanged` after a (re)connection comes even when it is empty:
        it says that the NSDB is there.
        """
        events: list[Event] = []
        self._idl.run()
        connected = self._idl.is_connected
        if self._was_connected and not connected:
            events.append(NsdbDisconnected())
        if connected:
            self._idl.hold(self._presence)
            events.extend(self._changes(fresh=not self._was_connected))
        self._was_connected = connected
        return [*events, *self._writer.step()]

    def write(self, writes: Iterable[NsdbWrite]) -> None:
        """Queue writes; they are kept while there is no connection."""
        self._writer.add(writes)

    def wait(self, poller: Any) -> None:
        """Let a poller wake when `run` has something to do."""
        self._idl.wait(poller)
        if self._writer.has_work:
            poller.immediate_wake()

    def close(self) -> None:
        """End the connection."""
        self._idl.close()

    def _changes(self, *, fresh: bool) -> Iterable[Event]:
        dirty, self._idl.dirty = self._idl.dirty, set()
        if not dirty and not fresh:
            return
        changes = self._replica.update(dirty)
        if changes or fresh:
            yield TopologyChanged(changes)
