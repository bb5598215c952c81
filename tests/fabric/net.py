# SPDX-License-Identifier: Apache-2.0
"""Hosts, the underlay between them and the NSDB, driven by one queue of events.

Everything random comes from one generator and time is a number, so a seed is a run.
"""

from __future__ import annotations

import random
import traceback
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Union

from midoryu.engine import effect, event
from midoryu.engine.config import EngineConfig
from midoryu.engine.engine import Engine
from midoryu.openflow.flow import PacketOut, ReadyOut
from midoryu.topology import model
from tests.fabric.database import Database
from tests.fabric.machine import GRE, STATE, Host, InvariantError, Loop
from tests.fabric.timed_switch import TimedSwitch
from tests.fabric.world import World
from tests.helpers.fake_switch import Output

# Lives are short here, so that many end.
AGENT: Final[dict[str, Any]] = {
    "journal": True,
    "lifetimes_s": (15, 24, 10, 16, 10, 15, 8),
    "flow_idle_timeout_s": 3,
    "touch_interval_s": 1.5,
    "nat_block_idle_s": 4.0,
    "nat_last_block_idle_s": 10.0,
}
_SWEEP_S = 1.0
_JOURNAL_BATCH_S = 0.05


class Cloud:
    """The machines of one run."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.rng = rng
        self.loop = Loop(1000.0)
        self.counts: Counter[str] = Counter()
        self.log: deque[str] = deque(maxlen=400)
        self.delivered: Callable[[str, str, bytes], None] = lambda *_: None
        self.state_loss = 0.05
        self.data_loss = 0.005
        self.duplicates = 0.02
        self.slow = 0.02
        """Share of state packets that come up to 40 ms late."""
        self.cut: set[frozenset[str]] = set()
        self.cut_state: set[frozenset[str]] = set()
        self.agent_started_at = 0.0
        """When any agent started last: flows that it adopts live anew."""
        self.disturbed_at = 0.0
        """When something last made agents lead flows elsewhere: each counts as use."""
        self.hosts: dict[str, Host] = {}
        for row in world.builder.rows:
            if isinstance(row, model.Host):
                self.hosts[row.name] = Host(row, self.loop.now)
        self._by_underlay = {host.underlay: host for host in self.hosts.values()}
        by_key = {host.key: host for host in self.hosts.values()}
        rows = [
            row for row in world.builder.rows if not isinstance(row, model.VportStatus)
        ]
        self.nsdb = Database(
            rows,
            self.hosts.values(),
            self.handle,
            loop=self.loop,
            rng=rng,
            counts=self.counts,
            # Few, and one has the ports that the VMs use themselves: they get scarce.
            blocks=2 * len(world.vm_hosts),
        )
        self.place: dict[str, str] = {}
        """Vport -> host where its machine runs now; "" for nowhere."""
        for row in rows:
            if isinstance(row, model.Vport) and row.host and not row.peer:
                self.plug(by_key[row.host].name, row.iface_id)
                self.place[row.iface_id] = by_key[row.host].name
        for name, host in self.hosts.items():
            self.start_agent(name)
            self.loop.after(_SWEEP_S * rng.random(), partial(self._sweep, host))

    def note(self, text: str) -> None:
        """Keep a line for whoever must understand a violation."""
        self.log.append(f"{self.loop.now:10.4f} {text}")

    # Agents and switches.

    def start_agent(self, name: str, *, journal: bool = True) -> None:
        """Start an agent with no memory, but perhaps a journal."""
        host = self.hosts[name]
        host.starts += 1
        host.life += 1
        self.agent_started_at = self.loop.now
        now = self.loop.now
        config = EngineConfig(
            host=name,
            epoch=int(now) + host.starts,
            seed=self.rng.getrandbits(64),
            **AGENT,
        )
        host.engine = Engine(config, now)
        host.tick_at = None
        if not journal:
            host.journal.clear()
        entries = tuple((entry, now - at) for entry, at in host.journal.values())
        self.handle(host, event.JournalRead(entries))
        whats = [partial(self.nsdb.read, host, host.life)]
        if host.is_switch_up:
            whats.append(partial(self._connect_switch, host, host.life))
        self.rng.shuffle(whats)
        for index, what in enumerate(whats):
            self.loop.after(0.01 * (index + self.rng.random()), what)

    def stop_agent(self, name: str) -> None:
        """Kill an agent; what the journal had not written yet may be lost."""
        host = self.hosts[name]
        host.engine = None
        host.life += 1
        if self.rng.random() < 0.5:
            self._write_journal(host, self.loop.now)
        host.unwritten.clear()

    def stop_switch(self, name: str) -> None:
        """Stop a switch: its flows are gone."""
        host = self.hosts[name]
        host.is_switch_up = False
        host.switch = TimedSwitch({GRE, STATE, *host.ofports.values()}, self.loop.now)
        self.handle(host, event.SwitchDisconnected())

    def start_switch(self, name: str) -> None:
        """Start a switch with empty tables."""
        host = self.hosts[name]
        host.is_switch_up = True
        self._connect_switch(host, host.life)

    def plug(self, name: str, vport: str) -> None:
        """Give a host the interface of a vport."""
        host = self.hosts[name]
        host.ofports[vport] = max([10, *host.ofports.values()]) + 1
        host.switch.ports.add(host.ofports[vport])
        if host.is_switch_up:
            self.handle(host, event.InterfacesChanged(dict(host.ofports)))

    def unplug(self, name: str, vport: str) -> None:
        """Take the interface of a vport from a host."""
        host = self.hosts[name]
        host.switch.ports.discard(host.ofports.pop(vport))
        if host.is_switch_up:
            self.handle(host, event.InterfacesChanged(dict(host.ofports)))

    def handle(self, host: Host, what: event.Event) -> None:
        """Let an agent know something, and carry out what it wants."""
        engine, now = host.engine, self.loop.now
        if engine is None or not host.is_up:
            return
        host.switch.now = now
        try:
            effects = engine.handle(what, now)
            self._carry_out(host, effects)
        except Exception as error:
            self.note(traceback.format_exc())
            text = f"{host.name}: {type(error).__name__} at {type(what).__name__}"
            raise InvariantError(f"{text}: {error}") from error

    def _carry_out(self, host: Host, effects: effect.Effects) -> None:
        now = self.loop.now
        for _, text in effects.log:
            self.note(f"{host.name}: {text}")
        for write in effects.journal:
            host.unwritten.append((now, write))
        self._write_journal(host, now - _JOURNAL_BATCH_S)
        if host.is_switch_up:
            for push in effects.state_pushes:
                self._packet_out(host, push)
            host.switch.apply(effects.flow_mods)
            for removed in host.switch.deleted:
                what = partial(self._handle_in, host, host.life, removed)
                self.loop.after(0.001, what)
            host.switch.deleted.clear()
            for packet_out in effects.packet_outs:
                self._packet_out(host, packet_out)
        for row in effects.nsdb_writes:
            delay = 0.001 + 0.01 * self.rng.random()
            self.loop.after(delay, partial(self.nsdb.write, host, host.life, row))
        if effects.deadline is not None and (
            host.tick_at is None or effects.deadline < host.tick_at
        ):
            host.tick_at = effects.deadline
            what = partial(self._tick, host, host.life, effects.deadline)
            self.loop.at(effects.deadline, what)

    def _tick(self, host: Host, life: int, due: float) -> None:
        if host.life == life and host.tick_at == due:
            host.tick_at = None
            self.handle(host, event.Tick())

    def _sweep(self, host: Host) -> None:
        host.switch.now = self.loop.now
        for removed in host.switch.expire():
            if host.is_switch_up:
                self.handle(host, removed)
        self.loop.after(_SWEEP_S, partial(self._sweep, host))

    @staticmethod
    def _write_journal(host: Host, until: float) -> None:
        while host.unwritten and host.unwritten[0][0] <= until:
            at, write = host.unwritten.popleft()
            if write.entry:
                host.journal[write.connection] = (write.entry, at)
            else:
                host.journal.pop(write.connection, None)

    def _connect_switch(self, host: Host, life: int) -> None:
        if host.life != life or not host.is_switch_up:
            return
        flows = tuple(host.switch.flows())
        self.handle(host, event.SwitchConnected(GRE, STATE, flows))
        self.handle(host, event.InterfacesChanged(dict(host.ofports)))

    # Packets.

    def enter(self, vport: str, frame: bytes) -> None:
        """Let a frame in where the vport's machine runs."""
        name = self.place[vport]
        ofport = self.hosts[name].ofports.get(vport) if name else None
        if ofport is not None:
            self._switch_in(self.hosts[name], frame, ofport)

    def _packet_out(self, host: Host, message: Union[PacketOut, ReadyOut]) -> None:
        self._outputs(host, host.switch.packet_out(message))

    def _switch_in(
        self, host: Host, frame: bytes, in_port: int, key: int = 0, source: int = 0
    ) -> None:
        if not host.is_up or not host.is_switch_up:
            return
        host.switch.now = self.loop.now
        try:
            outputs = host.switch.send(
                frame, in_port, tunnel_key=key, tunnel_source=source
            )
        except AssertionError as error:
            raise InvariantError(f"{host.name}: {error}") from error
        self._outputs(host, outputs, key, source)

    def _outputs(
        self, host: Host, outputs: list[Output], key: int = 0, source: int = 0
    ) -> None:
        for out in outputs:
            if out.kind == "controller":
                self._packet_in(host, out, key, source)
            elif out.ofport in (GRE, STATE):
                self._tunnel(host, out)
            else:
                names = {ofport: name for name, ofport in host.ofports.items()}
                vport = names[out.ofport]
                if self.place[vport] == host.name:
                    what = partial(self.delivered, vport, host.name, out.frame)
                    self.loop.after(0.0, what)

    def _packet_in(self, host: Host, out: Output, key: int, source: int) -> None:
        what = event.PacketIn(
            in_port=out.ofport,
            frame=out.frame,
            table=out.table,
            reason=out.reason,
            cookie=out.cookie,
            tunnel_key=key,
            tunnel_source=source,
            hops=out.hops,
        )
        self.counts["packet-ins"] += out.ofport != STATE
        delay = 0.0001 + 0.0004 * self.rng.random()
        host.in_at = max(host.in_at, self.loop.now + delay)
        self.loop.at(host.in_at, partial(self._handle_in, host, host.life, what))

    def _handle_in(
        self, host: Host, life: int, what: Union[event.PacketIn, event.FlowRemoved]
    ) -> None:
        if host.life == life and host.is_switch_up:
            self.handle(host, what)

    def _tunnel(self, host: Host, out: Output) -> None:
        peer = self._by_underlay[out.tunnel_destination]
        is_state = out.ofport == STATE
        rng, pair = self.rng, frozenset((host.name, peer.name))
        self.counts["state packets" if is_state else "data packets"] += 1
        if not host.is_up or pair in self.cut or (is_state and pair in self.cut_state):
            return
        if rng.random() < (self.state_loss if is_state else self.data_loss):
            self.counts["state packets lost" if is_state else "data packets lost"] += 1
            return
        copies = 2 if rng.random() < self.duplicates else 1
        for _ in range(copies):
            delay = 0.0002 + 0.001 * rng.random()
            if is_state and rng.random() < self.slow:
                delay += 0.04 * rng.random()
            what = partial(
                self._switch_in,
                peer,
                out.frame,
                out.ofport,
                out.tunnel_key,
                host.underlay,
            )
            self.loop.after(delay, what)
