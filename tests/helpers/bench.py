# SPDX-License-Identifier: Apache-2.0
"""One engine on the bench: events go in one by one, effects are looked at.

`office` is its usual world: two VMs and an uplink here, one VM on another host, whose
part a bare replicator plays.
"""

from __future__ import annotations

from typing import Any, Final

from midoryu.engine import event
from midoryu.engine.config import EngineConfig
from midoryu.engine.core import SYNC_LIMIT_S, Core
from midoryu.engine.effect import Effects
from midoryu.engine.engine import Engine
from midoryu.openflow.flow import Flow, InstallFlow, RemoveFlow
from midoryu.openflow.pipeline import COOKIE_REACTIVE, cookie_kind
from midoryu.packet.address import parse_ip
from midoryu.replication.session import Datagram, Received, Replicator
from midoryu.state.connection import Connection, Phase, Translation, TranslationKind
from midoryu.topology import model
from tests.helpers import frames
from tests.helpers.builder import Builder

GRE: Final = 1
STATE: Final = 2
OFPORTS: Final = {"web/vm1": 11, "web/vm2": 12, "r/up": 13}
GATEWAY: Final = "192.0.2.1"
GATEWAY_MAC: Final = "02:ff:00:00:00:09"
OUTSIDE: Final = "198.51.100.9"
NAT: Final = "203.0.113.10"


def office(
    *, neighbor: bool = True, masquerade: bool = False, gateways: bool = False
) -> Builder:
    """Network web (vm1, vm2 at node1; vm3 at node2) and router r with an uplink.

    Args:
        neighbor: whether the uplink's gateway is known.
        masquerade: whether VMs get NAT's address outside.
        gateways: whether node2 has an uplink too, in one ingress set with node1's.
    """
    b = Builder()
    b.host("node1", "172.31.0.1")
    b.host("node2", "172.31.0.2")
    b.network("web")
    b.router("r")
    for number, host in ((1, "node1"), (2, "node1"), (3, "node2")):
        mac, ip = f"02:00:00:00:00:0{number}", f"10.0.1.{number}"
        b.vport(f"web/vm{number}", host=host, mac=mac, ip=ip, up=host != "node1")
    b.attach("r", "web", "10.0.1.254/24")
    mac = "02:cc:00:00:00:01"
    b.vport("r/up", host="node1", mac=mac, ip="192.0.2.2/30", up=False)
    b.route("r", "0.0.0.0/0", via=GATEWAY)
    if gateways:
        mac = "02:cc:00:00:00:02"
        b.vport("r/up2", host="node2", mac=mac, ip="192.0.2.6/30")
        b.ingress_set("uplinks", "r/up", "r/up2")
    if neighbor:
        learn_gateway(b)
    if masquerade:
        b.masquerade("r", "10.0.0.0/16", NAT, vport="r/up")
    return b


def learn_gateway(b: Builder) -> model.Neighbor:
    """Let the router know its gateway."""
    mac = int(GATEWAY_MAC.replace(":", ""), 16)
    row = model.Neighbor("gateway", b.key("r"), parse_ip(GATEWAY), mac)
    b.put(row)
    return row


class Bench:
    """The engine of node1, and node2's replicator.

    Args:
        builder: has the rows.
        start: let rows and switch come, as long ago as peers are waited for.
        young: let them come just now.
        config: fields of `EngineConfig`.
    """

    def __init__(
        self,
        builder: Builder,
        *,
        start: bool = True,
        young: bool = False,
        **config: Any,
    ) -> None:
        self.b = builder
        self.now = 1000.0
        config = {"host": "node1", "epoch": 5, "seed": 7, **config}
        self.engine = Engine(EngineConfig(**config), self.now)
        self.done: list[Effects] = []
        self.peer: Replicator = Replicator(
            host=builder.key("node2"), epoch=9, keys=(b"",), mtu_bytes=1500, now=0.0
        )
        self.heard: list[Received] = []
        """What node2 was told."""
        if start:
            self.read_topology()
            self.connect()
            if not young:
                self.core.started -= SYNC_LIMIT_S

    @property
    def core(self) -> Core:
        """What the engine knows, for lanes that are called one by one."""
        return self.engine._core

    @property
    def counters(self) -> dict[str, int]:
        return self.core.counters

    def do(self, what: event.Event) -> Effects:
        """Let the engine handle an event; node2 hears what it is told."""
        effects = self.engine.handle(what, self.now)
        self.done.append(effects)
        for push in effects.state_pushes:
            self.heard.append(self.peer.receive(push.frame, self.now))
        return effects

    def read_topology(self) -> Effects:
        return self.change(*self.b.rows)

    def change(self, *rows: Any) -> Effects:
        """Put rows."""
        return self.do(event.TopologyChanged(tuple(model.Put(row) for row in rows)))

    def gone(self, kind: type, key: Any) -> Effects:
        """Take a row away."""
        return self.do(event.TopologyChanged((model.Gone(kind, key),)))

    def connect(self, *flows: Flow) -> Effects:
        """Let the switch connect, with flows in it, and say its interfaces."""
        effects = self.do(event.SwitchConnected(GRE, STATE, flows))
        self.do(event.InterfacesChanged(OFPORTS))
        self.change(*(self.status(vport) for vport in OFPORTS))
        return effects

    def status(self, vport: str, host: str = "node1") -> model.VportStatus:
        """Make the row that says where a vport is up."""
        return model.VportStatus(self.b.key(vport), self.b.key(host), True)

    def send(self, vport: str, frame: bytes, **fields: Any) -> Effects:
        """Let a frame come in at a local vport."""
        return self.do(event.PacketIn(OFPORTS[vport], frame, **fields))

    def wait(self, seconds: float) -> Effects:
        """Let time pass, then a tick."""
        self.now += seconds
        return self.do(event.Tick())

    def greet(self) -> None:
        """Let node2 know this host and be synced with it."""
        self.peer.set_peers({self.b.key("node1")}, self.now)
        self.tell(self.peer.tick(self.now))
        for _ in range(4):
            answers = [one for heard in self.heard for one in heard.replies]
            wanted = [one for heard in self.heard for one in heard.sync_wanted_by]
            self.heard.clear()
            for host in wanted:
                self.peer.sync(host, (), self.now)
            self.tell(answers + self.peer.tick(self.now))

    def tell(self, datagrams: list[Datagram]) -> list[Effects]:
        """Let node2's datagrams arrive."""
        return [self.do(event.PacketIn(STATE, one.frame)) for one in datagrams]

    def push(self, *connections: Connection) -> list[Effects]:
        """Let node2 push records."""
        peers = (self.b.key("node1"),)
        return self.tell(self.peer.push(connections, peers, self.now))

    def frame(self, vm: int = 1, **fields: Any) -> bytes:
        """Make a TCP frame of a VM to the outside, by the router."""
        values: dict[str, Any] = {
            "src": f"10.0.1.{vm}",
            "dst": OUTSIDE,
            "sport": 40000,
            "dport": 80,
            "eth_src": f"02:00:00:00:00:0{vm}",
            "eth_dst": f"02:aa:00:00:{self.b.key('r'):02x}:{self.b.key('web'):02x}",
        }
        return frames.tcp(**{**values, **fields})

    def beside(self, vm: int = 1, to: int = 2, **fields: Any) -> bytes:
        """Make a TCP frame of a VM to another one on its network."""
        values = {"dst": f"10.0.1.{to}", "eth_dst": f"02:00:00:00:00:0{to}"}
        return self.frame(vm, **{**values, **fields})

    def reply(self, **fields: Any) -> bytes:
        """Make a TCP frame from the outside to the NAT address."""
        values: dict[str, Any] = {
            "src": OUTSIDE,
            "dst": NAT,
            "sport": 80,
            "flags": "SA",
            "eth_src": GATEWAY_MAC,
            "eth_dst": "02:cc:00:00:00:01",
        }
        return frames.tcp(**{**values, **fields})

    def record(self, id_: int = 77, **fields: Any) -> Connection:
        """Make a record as node2 would: from vm3 to the outside."""
        values: dict[str, Any] = {
            "id": id_,
            "ip_proto": 6,
            "original": (parse_ip("10.0.1.3"), parse_ip(OUTSIDE), 40000, 80),
            "ingress_device": self.b.key("web"),
            "ingress_vport": self.b.key("web/vm3"),
            "egress_device": self.b.key("r"),
            "egress_vport": self.b.key("r/up"),
            "translations": (),
            "owner": self.b.key("node2"),
            "phase": Phase.TCP_ESTABLISHED,
            "last_used": self.now,
        }
        return Connection(**{**values, **fields})

    def source_nat(self, port: int, address: str = NAT) -> Translation:
        """Make a translation of router r."""
        kind = TranslationKind.SOURCE
        return Translation(self.b.key("r"), kind, parse_ip(address), port)

    def lease(self, block: int = 100, host: str = "node1") -> Effects:
        """Let a lease of the NAT address come from the NSDB."""
        return self.change(self.b.lease("r", NAT, block, host))


def installed(effects: Effects) -> list[Flow]:
    """List the reactive flows that effects install."""
    return [
        mod.flow
        for mod in effects.flow_mods
        if isinstance(mod, InstallFlow)
        and cookie_kind(mod.flow.cookie) == COOKIE_REACTIVE
    ]


def removed(effects: Effects) -> list[Flow]:
    """List the reactive flows that effects remove."""
    return [
        mod.flow
        for mod in effects.flow_mods
        if isinstance(mod, RemoveFlow)
        and cookie_kind(mod.flow.cookie) == COOKIE_REACTIVE
    ]
