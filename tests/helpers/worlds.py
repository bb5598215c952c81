# SPDX-License-Identifier: Apache-2.0
"""Small virtual worlds for tests: send a frame in, look where and how it comes out.

`Overlay` is one topology with its records; `FAMILIES` runs a test for IPv4 and IPv6.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import pytest

from midoryu.engine.change_lane import open_routers
from midoryu.packet.address import format_mac, parse_ip, parse_mac
from midoryu.packet.codec import decode
from midoryu.simulation.outcome import (
    Emission,
    Flood,
    Forward,
    MacSeen,
    NeighborWanted,
    Simulation,
)
from midoryu.simulation.simulator import simulate, simulate_emission
from midoryu.simulation.world import World
from midoryu.state.nat import NatTable
from midoryu.state.table import ConnectionTable
from midoryu.topology import model
from midoryu.translation import flows as translation
from tests.helpers import frames
from tests.helpers.builder import Builder
from tests.helpers.frames import Ether

NOW: Final = 100.0
GATEWAY_MAC: Final = "02:ff:00:00:00:09"


@dataclass(frozen=True)
class Family:
    """One address family's way to write a test's addresses."""

    name: str
    bits: int
    default: str
    outside: str
    """An address behind the gateway."""
    gateway: str
    uplink: str
    nat: str
    """A prefix of addresses that the outside sees; takes a number."""

    def ip(self, network: int, host: int) -> str:
        return f"fd00:{network}::{host:x}" if self.is_v6 else f"10.0.{network}.{host}"

    def nat_ip(self, number: int) -> str:
        return self.nat.format(number)

    @property
    def is_v6(self) -> bool:
        return self.bits == 64

    def subnet(self, network: int) -> str:
        return f"{self.ip(network, 0)}/{self.bits}"

    def echo(self, *args: Any, **fields: Any) -> bytes:
        make = frames.icmp6_echo if self.is_v6 else frames.icmp_echo
        return make(*args, **fields)


V4: Final = Family(
    "IPv4", 24, "0.0.0.0/0", "198.51.100.9", "192.0.2.1", "192.0.2.2", "203.0.113.{}"
)
V6: Final = Family(
    "IPv6",
    64,
    "::/0",
    "2001:db8:9::9",
    "2001:db8:1::1",
    "2001:db8:1::2",
    "2001:db8:2::{}",
)
FAMILIES = pytest.mark.parametrize("family", [V4, V6], ids=["IPv4", "IPv6"])


def two_networks(family: Family, *, default: bool = True, **vm2: Any) -> Builder:
    """Networks a (vm1, vm3) and b (vm2) around router r, whose uplink r/up goes out.

    Args:
        family: of all addresses.
        default: whether there is a default route.
        vm2: fields of vm2's row, filters for example.
    """
    b = Builder()
    b.host("node1", "172.31.0.1")
    b.host("node2", "172.31.0.2")
    b.network("a")
    b.network("b")
    b.router("r")
    for path, host, network in (
        ("a/vm1", "node1", 1),
        ("b/vm2", "node2", 2),
        ("a/vm3", "node1", 1),
    ):
        number = path[-1]
        ip, mac = family.ip(network, 10 + int(number)), f"02:00:00:00:00:0{number}"
        fields = vm2 if path == "b/vm2" else {}
        b.vport(path, host=host, mac=mac, ip=ip, **fields)
    b.attach("r", "a", f"{family.ip(1, 1)}/{family.bits}")
    b.attach("r", "b", f"{family.ip(2, 1)}/{family.bits}")
    uplink = f"{family.uplink}/{30 if family is V4 else 64}"
    b.vport("r/up", host="node2", mac="02:cc:00:00:00:01", ip=uplink)
    if default:
        b.route("r", family.default, via=family.gateway)
    neighbor(b, "r", family.gateway, GATEWAY_MAC)
    return b


def neighbor(b: Builder, router: str, address: str, mac: str) -> None:
    """Let a router know a neighbour."""
    key = f"neighbor/{router}/{address}"
    row = model.Neighbor(key, b.key(router), parse_ip(address), parse_mac(mac))
    b.put(row)


class Overlay:
    """A topology, its records, and the names of its vports."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.topology = builder.topology()
        self.connections = ConnectionTable()
        self.nat = NatTable()
        for lease in self.topology.rows(model.Lease):
            self.nat.add_lease(lease.router, lease.address, lease.block)
        self.nat.watch(open_routers(self.topology), (), NOW)
        self.world = World(self.topology, self.connections, self.nat)

    def key(self, name: str) -> int:
        return self.builder.keys[name]

    def vport(self, path: str) -> model.Vport:
        found = self.topology.vport(self.key(path))
        assert found is not None
        return found

    def mac(self, path: str) -> str:
        return format_mac(self.vport(path).mac)

    def change(self, *changes: Any) -> set[Any]:
        """Put rows, or delete those given as `Gone`."""
        return self.topology.apply(
            change if isinstance(change, model.Gone) else model.Put(change)
            for change in changes
        )

    def send(self, path: str, frame: bytes, **options: Any) -> Simulation:
        """Simulate a frame that comes in by a vport; nothing changes."""
        options.setdefault("now", NOW)
        return simulate(decode(frame), self.vport(path), self.world, **options)

    def carry(self, path: str, frame: bytes, **options: Any) -> Simulation:
        """Simulate, and take over what was made and learned, as an engine does."""
        simulation = self.send(path, frame, **options)
        made = simulation.connection
        if made is not None:
            number = made.id or 1 + max([0, *(one.id for one in self.connections)])
            kept = replace(made, id=number, owner=1)
            self.connections.insert(kept, NOW)
            self.nat.commit(kept, NOW)
        self.learn(simulation)
        return simulation

    def learn(self, simulation: Simulation) -> None:
        for seen in simulation.learned:
            kind = model.MacEntry if isinstance(seen, MacSeen) else model.Neighbor
            self.change(kind(f"local/{seen[0]}/{seen[1]}", *seen))

    def names(self, simulation: Simulation) -> tuple[str, ...]:
        """Name the vports by which a packet leaves."""
        by_key = {key: name for name, key in self.builder.keys.items()}
        outcome = simulation.outcome
        vports: tuple[int, ...] = ()
        if isinstance(outcome, Forward):
            vports = (outcome.vport,)
        elif isinstance(outcome, Flood):
            vports = outcome.vports
        return tuple(by_key[vport] for vport in vports)

    def said(self, simulation: Simulation) -> tuple[tuple[str, ...], Any]:
        """Follow the only frame that a device said: where it leaves, how it looks."""
        (emission,) = simulation.emissions
        return self.follow(emission)

    def follow(self, emission: Emission) -> tuple[tuple[str, ...], Any]:
        simulation = simulate_emission(emission, self.world)
        return self.names(simulation), seen(simulation)


def seen(simulation: Simulation) -> Any:
    """Return the outgoing frame as scapy reads it; its checksums must be right."""
    frame = translation.frame_of(simulation)
    assert frames.recomputed(frame) == frame
    return Ether(frame)


def wanted_neighbor(overlay: Overlay, router: str, vport: str, ip: str) -> Any:
    return NeighborWanted(overlay.key(router), overlay.key(vport), parse_ip(ip))
