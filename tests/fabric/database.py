# SPDX-License-Identifier: Apache-2.0
"""The NSDB of the simulation: rows, who hears of them when, and writes that race.

`net` has one of these; agents' writes come here, and every change goes to all agents.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from midoryu.engine import effect, event
from midoryu.topology import model
from tests.fabric.machine import Host, Loop

Handle = Callable[[Host, event.Event], None]


class Database:
    """All rows, as one server has them.

    Args:
        rows: what is in it at the beginning.
        hosts: those that listen.
        handle: lets an agent know something.
        loop, rng, counts: of the run.
        blocks: blocks of NAT ports that may be leased.
    """

    def __init__(
        self,
        rows: Iterable[Any],
        hosts: Iterable[Host],
        handle: Handle,
        *,
        loop: Loop,
        rng: random.Random,
        counts: Counter[str],
        blocks: int,
    ) -> None:
        self.rows: dict[tuple[type, Any], Any] = {
            (type(row), row.key): row for row in rows
        }
        self.is_up = True
        self._hosts = list(hosts)
        self._handle = handle
        self._loop, self._rng, self._counts = loop, rng, counts
        self._blocks = blocks
        self._held: list[Callable[[], None]] = []
        self._holders: dict[tuple[int, int], int] = {}
        """(address, block) -> who had it last."""

    def change(self, *changes: model.Change) -> None:
        """Commit changes of rows; every agent hears of them a little later."""
        if not self.is_up:
            self._held.append(partial(self.change, *changes))
            return
        for one in changes:
            if isinstance(one, model.Put):
                self.rows[(type(one.row), one.row.key)] = one.row
            else:
                self.rows.pop((one.kind, one.key), None)
        for host in self._hosts:
            delay = 0.001 + 0.03 * self._rng.random()
            host.nsdb_at = max(host.nsdb_at, self._loop.now + delay)
            what = partial(self._hear, host, host.life, tuple(changes))
            self._loop.at(host.nsdb_at, what)

    def stop(self) -> None:
        """Stop: writes and reads wait."""
        self.is_up = False
        for host in self._hosts:
            self._handle(host, event.NsdbDisconnected())

    def start(self) -> None:
        """Answer again."""
        self.is_up = True
        held, self._held = self._held, []
        for what in held:
            what()

    def _hear(self, host: Host, life: int, changes: tuple[model.Change, ...]) -> None:
        if host.life == life and host.engine is not None:
            self._handle(host, event.TopologyChanged(changes))

    def read(self, host: Host, life: int) -> None:
        """Let an agent that has just started hear of all rows."""
        if host.life != life:
            return
        if not self.is_up:
            self._held.append(partial(self.read, host, life))
            return
        changes = tuple(model.Put(row) for row in self.rows.values())
        self._handle(host, event.TopologyChanged(changes))

    def write(self, host: Host, life: int, write: effect.NsdbWrite) -> None:
        """Carry out what an agent wants written."""
        if host.life != life:
            return
        if not self.is_up:
            self._held.append(partial(self.write, host, life, write))
            return
        if isinstance(write, effect.LeaseBlock) and self._rng.random() < 0.1:
            # Another host took the block that the rim had picked: it picks again.
            self._counts["lease races lost"] += 1
            self._loop.after(0.02, partial(self.write, host, life, write))
            return
        change = self._changed(host, write)
        if change is None:
            self._handle(host, event.WriteRefused(write, "taken by another host"))
        else:
            self.change(*change)

    def _changed(
        self, host: Host, write: effect.NsdbWrite
    ) -> list[model.Change] | None:
        """Return the changes that a write makes; None where it is refused."""
        if isinstance(write, effect.LeaseBlock):
            return self._lease(host, write)
        if isinstance(write, effect.ReleaseBlock):
            key = f"lease/{write.router}/{write.address}/{write.block}"
            lease = self.rows.get((model.Lease, key))
            if lease is None or lease.host != host.key:
                return []
            self._counts["blocks given back"] += 1
            return [model.Gone(model.Lease, key)]
        if isinstance(write, effect.LearnMac):
            key = f"mac/{write.network}/{write.mac}"
            row: Any = model.MacEntry(key, write.network, write.mac, write.vport)
        elif isinstance(write, effect.LearnNeighbor):
            key = f"neighbor/{write.router}/{write.address}"
            row = model.Neighbor(key, write.router, write.address, write.mac)
        elif isinstance(write, effect.SetVportStatus):
            old = self.rows.get((model.VportStatus, write.vport))
            if not write.up and old is not None and old.host != host.key:
                return []
            row = model.VportStatus(write.vport, host.key, write.up)
        else:
            return []
        return [model.Put(row)]

    def _lease(self, host: Host, write: effect.LeaseBlock) -> list[model.Change] | None:
        taken = {
            row.block
            for (kind, _), row in self.rows.items()
            if kind is model.Lease and row.address == write.address
        }
        # Few, and one has the ports that the VMs use themselves: ports get scarce.
        every = range(625, 625 + self._blocks)
        free = [block for block in every if block not in taken]
        if not free:
            return None
        block = self._rng.choice(free)
        before = self._holders.get((write.address, block), host.key)
        self._counts["blocks taken over from another host"] += before != host.key
        self._holders[write.address, block] = host.key
        key = f"lease/{write.router}/{write.address}/{block}"
        row = model.Lease(key, write.router, write.address, block, host.key)
        return [model.Put(row)]
