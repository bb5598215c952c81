# SPDX-License-Identifier: Apache-2.0
"""Several engines with model switches, joined in memory: a cloud without a machine.

A frame goes in at a vport; every packet-in, state packet, tunnel packet and NSDB write
that follows is carried out until nothing is left; what came out of which vport is the
result. Time is a number that `advance` moves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from midoryu.engine import effect, event
from midoryu.engine.config import EngineConfig
from midoryu.engine.engine import Engine
from midoryu.openflow import pipeline
from midoryu.openflow.flow import RemoveFlow
from midoryu.packet.address import format_ip
from midoryu.topology import model
from tests.helpers.builder import Builder
from tests.helpers.fake_switch import FakeSwitch, Output

GRE = 1
STATE = 2


class Delivery(NamedTuple):
    """A frame that came out of the overlay."""

    vport: str
    frame: bytes


class Underlay(NamedTuple):
    """A packet between two hosts."""

    source: str
    destination: str
    tunnel_key: int
    frame: bytes
    is_state: bool


class FabricHost:
    """One host: an engine and a switch."""

    def __init__(self, name: str, key: int, underlay: int) -> None:
        self.name = name
        self.key = key
        self.underlay = underlay
        self.switch = FakeSwitch({GRE, STATE})
        self.engine: Engine | None = None
        self.deadline: float | None = None
        self.packet_ins = 0
        self.ofports: dict[str, int] = {}
        self.alive = True
        self.starts = 0
        self.journal: dict[int, tuple[bytes, float]] = {}
        """Connection id -> (entry, when it was written)."""


class Fabric:
    """Hosts, an NSDB in memory and the underlay between them."""

    def __init__(self, builder: Builder, **config: Any) -> None:
        self.now = 1000.0
        self.builder = builder
        self.config = config
        self.hosts: dict[str, FabricHost] = {}
        self.delivered: list[Delivery] = []
        self.delivered_at: list[str] = []
        """Hosts where `send_at` let frames out."""
        self.underlay: list[Underlay] = []
        self.drop: Callable[[Underlay], bool] = lambda packet: False
        self.log: list[str] = []
        self._todo: deque[Callable[[], None]] = deque()
        self._rows: dict[tuple[type, Any], Any] = {}
        for row in builder.rows:
            if not isinstance(row, model.VportStatus):
                self._rows[(type(row), row.key)] = row
        for row in builder.rows:
            if isinstance(row, model.Host):
                self.hosts[row.name] = FabricHost(row.name, row.key, row.underlay)
        self._place(builder)
        for name in self.hosts:
            self.start(name)
        self.settle()

    # What a test does.

    def send(self, vport: str, frame: bytes) -> list[Delivery]:
        """Let a frame in at a vport; return what came out, where."""
        self.delivered = []
        host = self._host_of(vport)
        ofport = host.ofports[vport]
        self._todo.append(partial(self._switch_in, host, frame, ofport))
        self.settle()
        return self.delivered

    def advance(self, seconds: float, step: float = 0.05) -> list[Delivery]:
        """Let time pass, with ticks when they are due."""
        self.delivered = []
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + step)
            for host in self.hosts.values():
                due = host.deadline is not None and host.deadline <= self.now
                if due and host.alive:
                    self._handle(host, event.Tick())
            self.settle()
        return self.delivered

    def start(self, name: str, *, keep_switch: bool = True) -> None:
        """Start a host's agent, with no memory."""
        host = self.hosts[name]
        host.starts += 1
        host.alive = True
        if not keep_switch:
            host.switch = FakeSwitch({GRE, STATE, *host.ofports.values()})
        config = EngineConfig(
            host=name,
            epoch=int(self.now) + host.starts,
            seed=host.key * 1000 + host.starts,
            **self.config,
        )
        host.engine = Engine(config, self.now)
        entries = tuple((entry, self.now - at) for entry, at in host.journal.values())
        self._handle(host, event.JournalRead(entries))
        changes = tuple(model.Put(row) for row in self._rows.values())
        flows = tuple(host.switch.flows())
        self._handle(host, event.TopologyChanged(changes))
        self._handle(host, event.SwitchConnected(GRE, STATE, flows))
        self._handle(host, event.InterfacesChanged(dict(host.ofports)))

    def stop(self, name: str) -> None:
        """Kill a host's agent; its switch goes on with its flows."""
        self.hosts[name].alive = False

    def change(self, *changes: model.Change) -> None:
        """Change rows of the NSDB; every agent hears of it."""
        for change in changes:
            if isinstance(change, model.Put):
                self._rows[(type(change.row), change.row.key)] = change.row
            else:
                self._rows.pop((change.kind, change.key), None)
        for host in self.hosts.values():
            if host.alive:
                self._handle(host, event.TopologyChanged(tuple(changes)))
        self.settle()

    def move(self, vport: str, to: str) -> None:
        """Unplug a vport from its host and plug it in at another one."""
        old, new = self._host_of(vport), self.hosts[to]
        row = self._rows[(model.Vport, self.builder.key(vport))]
        self.change(model.Put(replace(row, host=new.key)))
        new.ofports[vport] = max([10, *new.ofports.values()]) + 1
        new.switch.ports.add(new.ofports[vport])
        self._handle(new, event.InterfacesChanged(dict(new.ofports)))
        del old.ofports[vport]
        self._handle(old, event.InterfacesChanged(dict(old.ofports)))
        self.settle()

    def plug(self, vport: str, name: str) -> None:
        """Plug a vport's interface in at one more host."""
        host = self.hosts[name]
        host.ofports[vport] = max([10, *host.ofports.values()]) + 1
        host.switch.ports.add(host.ofports[vport])
        self._handle(host, event.InterfacesChanged(dict(host.ofports)))
        self.settle()

    def unplug(self, vport: str, name: str) -> None:
        """Take a vport's interface away from one host."""
        host = self.hosts[name]
        del host.ofports[vport]
        self._handle(host, event.InterfacesChanged(dict(host.ofports)))
        self.settle()

    def send_at(self, name: str, vport: str, frame: bytes) -> list[Delivery]:
        """Let a frame come in by a vport's interface at a host; as `send`."""
        host = self.hosts[name]
        self.delivered, self.delivered_at = [], []
        self._switch_in(host, frame, host.ofports[vport])
        self.settle()
        return self.delivered

    def idle_flows(self) -> None:
        """Let every flow go that has an idle timeout, as if unused just so long."""
        for host in self.hosts.values():
            for flow in [one for one in host.switch.flows() if one.idle_timeout_s]:
                host.switch.apply([RemoveFlow(flow)])
                idle_s = flow.idle_timeout_s
                gone = event.FlowRemoved(
                    flow.cookie, pipeline.REMOVED_IDLE, idle_s, float(idle_s), 1
                )
                self._handle(host, gone)
        self.settle()

    def records(self, name: str, **arguments: str) -> list[dict[str, Any]]:
        """Return the connection records that a host knows."""
        found: list[dict[str, Any]] = self.inspect(name, "records", **arguments)
        return found

    def inspect(self, name: str, query: str, **arguments: str) -> Any:
        engine = self.hosts[name].engine
        assert engine is not None
        return engine.inspect(query, arguments, self.now)

    def states(self) -> list[Underlay]:
        """Return the state packets that have crossed the underlay so far."""
        return [packet for packet in self.underlay if packet.is_state]

    def settle(self) -> None:
        """Carry out everything that is under way."""
        budget = 200_000
        while self._todo:
            budget -= 1
            assert budget, "the fabric does not come to rest"
            self._todo.popleft()()

    # How it works.

    def _place(self, builder: Builder) -> None:
        by_key = {host.key: host for host in self.hosts.values()}
        for row in builder.rows:
            if isinstance(row, model.Vport) and row.host and not row.peer:
                host = by_key[row.host]
                ofport = 10 + len(host.ofports)
                host.ofports[row.iface_id] = ofport
                host.switch.ports.add(ofport)

    def _host_of(self, vport: str) -> FabricHost:
        for host in self.hosts.values():
            if vport in host.ofports:
                return host
        raise AssertionError(f"no host has vport {vport}")

    def _handle(self, host: FabricHost, what: event.Event) -> None:
        assert host.engine is not None
        if not host.alive:
            return
        effects = host.engine.handle(what, self.now)
        host.deadline = effects.deadline
        self.log.extend(f"{host.name}: {text}" for _, text in effects.log)
        for write in effects.journal:
            if write.entry:
                host.journal[write.connection] = (write.entry, self.now)
            else:
                host.journal.pop(write.connection, None)
        for push in effects.state_pushes:
            self._outputs(host, host.switch.packet_out(push))
        host.switch.apply(effects.flow_mods)
        for packet_out in effects.packet_outs:
            self._outputs(host, host.switch.packet_out(packet_out))
        for row in effects.nsdb_writes:
            self._todo.append(partial(self._write, host, row))

    def _switch_in(
        self,
        host: FabricHost,
        frame: bytes,
        in_port: int,
        tunnel_key: int = 0,
        tunnel_source: int = 0,
    ) -> None:
        outputs = host.switch.send(
            frame, in_port, tunnel_key=tunnel_key, tunnel_source=tunnel_source
        )
        self._outputs(host, outputs, tunnel_key, tunnel_source)

    def _outputs(
        self,
        host: FabricHost,
        outputs: list[Output],
        tunnel_key: int = 0,
        tunnel_source: int = 0,
    ) -> None:
        for out in outputs:
            if out.kind == "controller":
                self._packet_in(host, out, tunnel_key, tunnel_source)
            elif out.ofport in (GRE, STATE):
                self._tunnel(host, out)
            else:
                names = {ofport: name for name, ofport in host.ofports.items()}
                self.delivered.append(Delivery(names[out.ofport], out.frame))
                self.delivered_at.append(host.name)

    def _packet_in(
        self, host: FabricHost, out: Output, tunnel_key: int, tunnel_source: int
    ) -> None:
        if not host.alive:
            return
        if out.ofport != STATE:
            host.packet_ins += 1
        what = event.PacketIn(
            in_port=out.ofport,
            frame=out.frame,
            table=out.table,
            reason=out.reason,
            cookie=out.cookie,
            tunnel_key=tunnel_key,
            tunnel_source=tunnel_source,
            hops=out.hops,
        )
        self._todo.append(partial(self._handle, host, what))

    def _tunnel(self, host: FabricHost, out: Output) -> None:
        for peer in self.hosts.values():
            if peer.underlay != out.tunnel_destination:
                continue
            packet = Underlay(
                host.name, peer.name, out.tunnel_key, out.frame, out.ofport == STATE
            )
            self.underlay.append(packet)
            if self.drop(packet):
                return
            self._todo.append(
                partial(
                    self._switch_in,
                    peer,
                    out.frame,
                    out.ofport,
                    out.tunnel_key,
                    host.underlay,
                )
            )
            return
        self.log.append(f"no host at {format_ip(out.tunnel_destination)}")

    def _write(self, host: FabricHost, write: effect.NsdbWrite) -> None:
        if isinstance(write, effect.LeaseBlock):
            taken = {
                row.block
                for (kind, _), row in self._rows.items()
                if kind is model.Lease and row.address == write.address
            }
            block = next(b for b in range(100, 1024) if b not in taken)
            key = f"lease/{write.router}/{write.address}/{block}"
            row: Any = model.Lease(key, write.router, write.address, block, host.key)
        elif isinstance(write, effect.LearnMac):
            key = f"mac/{write.network}/{write.mac}"
            row = model.MacEntry(key, write.network, write.mac, write.vport)
        elif isinstance(write, effect.LearnGroup):
            key = f"member/{write.network}/{write.group}/{write.vport}"
            row = model.MulticastMember(key, write.network, write.group, write.vport)
        elif isinstance(write, effect.SetVportReady) and write.ready:
            key = f"ready/{write.vport}/{host.key}"
            row = model.VportReady(key, write.vport, host.key)
        elif isinstance(write, (effect.ForgetGroup, effect.SetVportReady)):
            self._withdraw(host, write)
            return
        elif isinstance(write, effect.LearnNeighbor):
            key = f"neighbor/{write.router}/{write.address}"
            row = model.Neighbor(key, write.router, write.address, write.mac)
        elif isinstance(write, effect.SetVportStatus):
            old = self._rows.get((model.VportStatus, write.vport))
            if not write.up and old is not None and old.host != host.key:
                return
            row = model.VportStatus(write.vport, host.key, write.up, write.early)
        elif isinstance(write, effect.SetMemberStatus):
            row = model.MemberStatus(write.member, host.key, write.up)
        else:
            return
        self.change(model.Put(row))

    def _withdraw(
        self, host: FabricHost, write: effect.ForgetGroup | effect.SetVportReady
    ) -> None:
        if isinstance(write, effect.ForgetGroup):
            key = f"member/{write.network}/{write.group}/{write.vport}"
            self.change(model.Gone(model.MulticastMember, key))
        else:
            self.change(model.Gone(model.VportReady, f"ready/{write.vport}/{host.key}"))
