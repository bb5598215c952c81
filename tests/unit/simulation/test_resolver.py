# SPDX-License-Identifier: Apache-2.0
"""What the DNS server of a network says."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.dns import DNS, DNSQR

from midoryu.packet import build, dns
from midoryu.packet.address import format_ip, parse_ip
from midoryu.packet.codec import decode
from midoryu.simulation.outcome import Consumed, Drop, Forward, Reason, Simulation
from midoryu.simulation.simulator import simulate_emission
from midoryu.simulation.world import World
from midoryu.state.nat import NatTable
from midoryu.state.table import ConnectionTable
from tests.helpers.builder import Builder
from tests.helpers.services import enter, payload_of, served, services_of, udp


def ask(b: Builder, name: str, kind: str = "A", **fields: Any) -> Simulation:
    data = bytes(DNS(id=5, rd=1, qd=[DNSQR(qname=name, qtype=kind)], **fields))
    return send(b, data)


def send(b: Builder, data: bytes) -> Simulation:
    mac = services_of(b).mac
    ends = {"source": "10.0.1.11", "destination": "10.0.1.2", "mac_dst": mac}
    return enter(b, udp(data, ports=(4000, 53), **ends))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "kind", "answer"),
    [
        ("b.web.example", "A", "10.0.1.12"),
        ("B.WEB.example", "AAAA", "fd00:1::12"),
        ("b", "A", "10.0.1.12"),
        ("alpha.web.example", "A", "10.0.1.11"),
        ("12.1.0.10.in-addr.arpa", "PTR", b"b.web.example."),
    ],
)
def test_hosts_of_the_network_are_known(name: str, kind: str, answer: object) -> None:
    simulation = ask(served(hostname="alpha"), name, kind)

    read = DNS(payload_of(simulation))
    assert simulation.outcome == Consumed(Reason.ANSWERED)
    assert (read.aa, read.rcode, read.an[0].rdata) == (1, 0, answer)
    headers = decode(simulation.emissions[0].frame).headers
    assert (format_ip(headers.ip_src), headers.l4_src) == ("10.0.1.2", 53)
    assert headers.l4_dst == 4000


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("b.web.example", "MX", dns.NO_ERROR),
        ("web.example", "A", dns.NO_ERROR),
        ("x.web.example", "A", dns.NO_SUCH_NAME),
        ("x", "A", dns.NO_SUCH_NAME),
        ("99.1.0.10.in-addr.arpa", "PTR", dns.NO_SUCH_NAME),
    ],
)
def test_nobody_else_is_asked_for_local_names(name: str, kind: str, code: int) -> None:
    simulation = ask(served(), name, kind)

    read = DNS(payload_of(simulation))
    assert (read.rcode, read.ancount) == (code, 0)
    assert simulation.lookup is None


def test_other_name_is_for_somebody_outside() -> None:
    forward = (parse_ip("192.0.2.53"),)

    simulation = ask(served({"forward": forward}), "www.example.net")

    assert simulation.emissions == []
    assert simulation.lookup is not None
    assert simulation.lookup.servers == forward


def test_other_kinds_of_messages_are_not_implemented() -> None:
    assert DNS(payload_of(ask(served(), "b", opcode=2))).rcode == dns.NOT_IMPLEMENTED


def test_garbage_gets_a_format_error_or_nothing() -> None:
    assert DNS(payload_of(send(served(), bytes(13)))).rcode == dns.FORMAT_ERROR
    assert send(served(), b"x").outcome == Drop(Reason.BAD_REQUEST)


def test_machine_on_another_network_asks_by_its_router() -> None:
    b = served()
    b.network("db")
    b.vport("db/x", host="n1", mac="02:00:00:00:02:11", ip=("10.0.2.11/24",))
    b.attach("r", "db", "10.0.2.1/24")
    topology = b.topology()
    router, x = topology.vport(b.key("r/db")), topology.vport(b.key("db/x"))
    assert router is not None
    assert x is not None
    query = bytes(DNS(id=5, rd=1, qd=[DNSQR(qname="b.web.example")]))
    frame = build.udp_frame(
        mac_src=x.mac,
        mac_dst=router.mac,
        ip_src=parse_ip("10.0.2.11"),
        ip_dst=parse_ip("10.0.1.2"),
        port_src=4000,
        port_dst=53,
        payload=query,
    )

    simulation = enter(b, frame, "db/x")
    assert DNS(payload_of(simulation)).an[0].rdata == "10.0.1.12"
    world = World(topology, ConnectionTable(100), NatTable())
    back = simulate_emission(simulation.emissions[0], world)

    assert back.outcome == Forward(x.key)
    assert back.headers.eth_dst == x.mac
