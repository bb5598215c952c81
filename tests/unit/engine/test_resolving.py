# SPDX-License-Identifier: Apache-2.0
"""DNS queries for others: out by the rim, and back."""

from __future__ import annotations

from typing import Any

from scapy.layers.dns import DNS, DNSQR

from midoryu.engine import event, resolving
from midoryu.engine.effect import Effects
from midoryu.packet import build, dns
from midoryu.packet.address import parse_ip, parse_prefix
from midoryu.packet.codec import decode
from midoryu.topology.service import Subnet
from tests.helpers.bench import OFPORTS, Bench, office

FORWARDER = parse_ip("192.0.2.53")
QUERY = bytes(DNS(id=5, rd=1, qd=[DNSQR(qname="www.example.net")]))


def bench(**config: Any) -> Bench:
    made = Bench(office(), **config)
    key = made.b.key("web")
    prefix, address = parse_prefix("10.0.1.0/24"), parse_ip("10.0.1.253")
    made.change(Subnet("four", key, prefix, resolver=address))
    return made


def ask(made: Bench, port: int = 4000) -> Effects:
    frame = build.udp_frame(
        mac_src=0x02_00_00_00_00_01,
        mac_dst=0x02_00_00_00_00_99,
        ip_src=parse_ip("10.0.1.1"),
        ip_dst=parse_ip("10.0.1.253"),
        port_src=port,
        port_dst=53,
        payload=QUERY,
    )
    return made.do(event.PacketIn(OFPORTS["web/vm1"], frame))


def told(effects: Effects) -> DNS:
    (out,) = effects.packet_outs
    assert out.actions[-1][-1] == OFPORTS["web/vm1"]
    return DNS(out.frame[decode(out.frame).l4 + 8 :])


def test_answer_from_outside_comes_back_to_who_asked() -> None:
    made = bench(dns_forwarders=(FORWARDER,))

    (resolve,) = ask(made).lookups
    asked = dns.decode_query(QUERY)
    answer = dns.respond(asked, [dns.address_record(parse_ip("192.0.2.7"))])
    effects = made.do(event.Resolved(resolve.number, answer))

    assert (resolve.servers, resolve.payload) == ((FORWARDER,), QUERY)
    read = told(effects)
    assert (read.id, read.an[0].rdata) == (5, "192.0.2.7")
    again = made.do(event.Resolved(resolve.number, answer))
    assert again.packet_outs == []


def test_silence_outside_is_a_failure_inside() -> None:
    made = bench(dns_forwarders=(FORWARDER,))
    (resolve,) = ask(made).lookups

    assert told(made.do(event.Resolved(resolve.number, b""))).rcode == 2


def test_query_without_a_forwarder_is_refused() -> None:
    effects = ask(bench())

    assert effects.lookups == []
    assert told(effects).rcode == dns.REFUSED


def test_one_machine_has_so_many_queries_under_way_at_most() -> None:
    made = bench(dns_forwarders=(FORWARDER,))
    for port in range(resolving.MAX_LOOKUPS_PER_VPORT):
        assert len(ask(made, 4000 + port).lookups) == 1

    effects = ask(made, 60000)

    assert effects.lookups == []
    assert told(effects).rcode == dns.SERVER_FAILURE
