# SPDX-License-Identifier: Apache-2.0
"""A network with every service, and what a machine on it is told."""

from __future__ import annotations

from typing import Any, Union

from midoryu.packet import build
from midoryu.packet.address import parse_ip, parse_mac, parse_prefix
from midoryu.packet.codec import decode
from midoryu.simulation.outcome import Simulation
from midoryu.simulation.simulator import simulate
from midoryu.simulation.world import World
from midoryu.state.nat import NatTable
from midoryu.state.table import ConnectionTable
from midoryu.topology.service import Advertising, RaMode, Subnet
from midoryu.topology.service_view import ServiceView
from midoryu.topology.snapshot import Topology
from tests.helpers.builder import Builder

MAC = parse_mac("02:00:00:00:01:11")
NOBODY, ALL = "0.0.0.0", "255.255.255.255"


def served(
    v4: Union[dict[str, Any], None] = None,
    v6: Union[dict[str, Any], None] = None,
    **vport: Any,
) -> Builder:
    """Make a network `web` with machines `a` and `b` and a router; options by name."""
    b = Builder()
    b.host("n1", "172.31.0.1")
    web = b.network("web")
    b.router("r")
    vport = {"port_security": True, **vport}
    ips = ("10.0.1.11/24", "fd00:1::11/64")
    b.vport("web/a", host="n1", mac="02:00:00:00:01:11", ip=ips, **vport)
    b.vport(
        "web/b",
        host="n1",
        mac="02:00:00:00:01:12",
        ip=("10.0.1.12/24", "fd00:1::12/64"),
    )
    b.attach("r", "web", ("10.0.1.1/24", "fd00:1::1/64"))
    fields = {
        "gateway": parse_ip("10.0.1.1"),
        "dhcp": True,
        "lease_s": 600,
        "domain": "web.example",
        "resolver": parse_ip("10.0.1.2"),
        **(v4 or {}),
    }
    b.put(Subnet("four", web.key, parse_prefix("10.0.1.0/24"), **fields))
    fields = {
        "gateway": parse_ip("fd00:1::1"),
        "advertising": Advertising(RaMode.STATEFUL),
        "domain": "web.example",
        "resolver": parse_ip("fd00:1::2"),
        **(v6 or {}),
    }
    b.put(Subnet("six", web.key, parse_prefix("fd00:1::/64"), **fields))
    return b


def services_of(b: Builder) -> ServiceView:
    """Return the services of `web`."""
    return view_of(b.topology(), b)


def view_of(topology: Topology, b: Builder) -> ServiceView:
    """Return the services of `web` in a topology."""
    view = topology.network(b.key("web"))
    assert view is not None
    assert view.services is not None
    return view.services


def enter(b: Builder, frame: bytes, at: str = "web/a") -> Simulation:
    """Let a frame enter at a machine's vport."""
    topology = b.topology()
    vport = topology.vport(b.key(at))
    assert vport is not None
    world = World(topology, ConnectionTable(100), NatTable())
    return simulate(decode(frame), vport, world, now=1.0)


def udp(
    payload: bytes,
    *,
    ports: tuple[int, int],
    source: str,
    destination: str,
    mac_dst: int = 0xFFFF_FFFF_FFFF,
) -> bytes:
    """Make a datagram of machine `a`."""
    return build.udp_frame(
        mac_src=MAC,
        mac_dst=mac_dst,
        ip_src=parse_ip(source),
        ip_dst=parse_ip(destination),
        port_src=ports[0],
        port_dst=ports[1],
        payload=payload,
    )


def payload_of(simulation: Simulation) -> bytes:
    """Return the UDP payload of the only emission."""
    (emission,) = simulation.emissions
    packet = decode(emission.frame)
    return emission.frame[packet.l4 + 8 :]
