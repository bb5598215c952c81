# SPDX-License-Identifier: Apache-2.0
"""Runs an OVSDB client (local OVS or NSDB) on a green thread of its own.

The hub goes on while the client waits: under eventlet the poller of the package `ovs`
waits through the hub.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any, Protocol

import ovs.poller

from midoryu.agent.framework import hub


class Client(Protocol):
    """What both OVSDB clients can do."""

    def run(self) -> list[Any]:
        """Do what can be done now; return what happened."""

    def wait(self, poller: Any) -> None:
        """Have the poller wake up when `run` has something to do."""


class Pump:
    """A client, its green thread, and a way to wake it up."""

    def __init__(self, client: Client, deliver: Callable[[Any], None]) -> None:
        self._client = client
        self._deliver = deliver
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._going = True
        self._signalled = False

    def run(self) -> None:
        """Go on until `stop`; faults are the caller's."""
        while self._going:
            for event in self._client.run():
                self._deliver(event)
            poller = ovs.poller.Poller()
            self._client.wait(poller)
            poller.fd_wait(self._reader.fileno(), ovs.poller.POLLIN)
            # Under eventlet the poller makes 100 ms of "do not wait at all".
            if poller.timeout != 0:
                poller.block()
            with contextlib.suppress(BlockingIOError):
                self._reader.recv(4096)
            self._signalled = False
            hub.sleep(0)

    def wake(self) -> None:
        """Have the client look again: somebody gave it something to do."""
        if not self._signalled:
            self._signalled = True
            with contextlib.suppress(BlockingIOError):
                self._writer.send(b"\0")

    def stop(self) -> None:
        """End the green thread at its next turn."""
        self._going = False
        self.wake()
