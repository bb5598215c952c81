# SPDX-License-Identifier: Apache-2.0
"""Floods of refused packets end in the switch; what is allowed never does."""

from __future__ import annotations

import random
from typing import Any

import pytest

from midoryu.engine.event import FlowRemoved, PacketIn
from midoryu.openflow import pipeline
from midoryu.openflow.flow import Flow, RemoveFlow
from midoryu.packet import field
from midoryu.packet.address import parse_ip
from midoryu.state.connection import Phase
from midoryu.topology import model
from tests.helpers import frames
from tests.helpers.bench import OFPORTS, Bench, office
from tests.helpers.fake_switch import FakeSwitch, Output

ACCEPT, DROP = model.RuleAction.ACCEPT, model.RuleAction.DROP
LIVE = model.Rule(ACCEPT, ct_states=model.CT_ESTABLISHED | model.CT_RELATED)
WEB = model.Rule(ACCEPT, ip_proto=6, destination_ports=((80, 80),))
NAMES = model.Rule(ACCEPT, ip_proto=17, destination_ports=((5000, 5010),))


class Host:
    """An engine and its switch; vm1's own chain lets out what rules accept."""

    def __init__(self, *rules: model.Rule, secure: bool = False, **config: Any) -> None:
        b = office()
        b.chain("out", *rules, accept=False)
        b.vport(
            "web/vm1",
            host="node1",
            mac="02:00:00:00:00:01",
            ip="10.0.1.1",
            ingress_chain="out",
            port_security=secure,
            up=True,
        )
        self.bench = Bench(b, **config)
        self.switch = FakeSwitch([1, 2, *OFPORTS.values()])
        for effects in self.bench.done:
            self.switch.apply(effects.flow_mods)
        self.packet_ins = 0

    def send(self, frame: bytes, vport: str = "web/vm1") -> list[Output]:
        """Let a frame come in; return what leaves in the end."""
        out: list[Output] = []
        for one in self.switch.send(frame, OFPORTS[vport]):
            if one.kind == "port":
                out.append(one)
                continue
            self.packet_ins += 1
            effects = self.bench.do(PacketIn(one.ofport, one.frame))
            self.switch.apply(effects.flow_mods)
            for packet in effects.packet_outs:
                out += self.switch.packet_out(packet)
        return out

    def wide(self, priority: int = pipeline.PRIORITY_REFUSED) -> list[Flow]:
        """List the wide flows that stand."""
        flows = self.switch.flows(pipeline.VPORT)
        return [one for one in flows if one.priority == priority]

    def expire(self) -> None:
        """Let the wide flows reach their end."""
        priorities = (pipeline.PRIORITY_REFUSED, pipeline.PRIORITY_GUARD)
        for one in [flow for p in priorities for flow in self.wide(p)]:
            self.switch.apply([RemoveFlow(one)])
            self.bench.do(FlowRemoved(one.cookie, pipeline.REMOVED_HARD, 0, 2.0, 9))


def syn(host: Host, **fields: Any) -> bytes:
    return host.bench.frame(**fields)


def udp(host: Host, **fields: Any) -> bytes:
    b = host.bench.b
    values: dict[str, Any] = {
        "src": "10.0.1.1",
        "dst": "198.51.100.9",
        "eth_src": "02:00:00:00:00:01",
        "eth_dst": f"02:aa:00:00:{b.key('r'):02x}:{b.key('web'):02x}",
    }
    return frames.udp(**{**values, **fields})


def flood(host: Host, count: int = 100) -> None:
    """Send SYNs to a port that is not allowed, from random ports to random hosts."""
    dice = random.Random(1)
    for _ in range(count):
        address = f"198.51.100.{dice.randrange(1, 255)}"
        host.send(syn(host, dst=address, sport=dice.randrange(1024, 65536), dport=23))


@pytest.mark.parametrize("secure", [False, True])
def test_a_syn_flood_to_a_refused_port_costs_one_flow(secure: bool) -> None:
    host = Host(LIVE, WEB, secure=secure)
    flood(host)

    assert host.packet_ins == 21
    assert len(host.wide()) == 1
    assert host.wide()[0].hard_timeout_s == 2
    host.expire()
    flood(host)
    assert host.packet_ins == 22


def test_few_refusals_make_flows_of_their_own() -> None:
    host = Host(LIVE, WEB)
    flood(host, 20)

    assert host.wide() == []
    assert host.packet_ins == 20


def test_a_scan_of_all_ports_costs_a_packet_for_each_block() -> None:
    host = Host(LIVE, WEB)
    for port in range(1024, 3072):
        host.send(syn(host, dport=port))

    assert host.packet_ins <= 21 + 2048 // 64


def test_allowed_ports_work_amid_a_scan() -> None:
    host = Host(LIVE, WEB, NAMES)
    for port in range(1, 200):
        assert bool(host.send(syn(host, dport=port))) is (port == 80)
    for port in range(4960, 5040):
        sent = host.send(udp(host, dport=port))
        assert bool(sent) is (5000 <= port <= 5010)


@pytest.mark.parametrize("secure", [False, True])
def test_a_udp_flood_from_random_ports_costs_one_flow(secure: bool) -> None:
    host = Host(LIVE, WEB, secure=secure)
    for port in range(2000, 2100):
        host.send(udp(host, sport=port, dport=port * 3))

    assert host.packet_ins == 21
    assert host.bench.counters["refused floods dropped by a wide flow"] == 1


def test_a_spoofed_flood_is_refused_at_once_and_the_owner_is_not() -> None:
    host = Host(LIVE, WEB, secure=True)
    dice = random.Random(2)
    for number in range(100):
        host.send(syn(host, src=f"192.0.2.{dice.randrange(1, 255)}", sport=number + 1))
        host.send(
            syn(host, eth_src=f"02:99:00:00:{number >> 8:02x}:{number & 255:02x}")
        )

    assert host.packet_ins == 21
    assert host.send(syn(host))
    assert host.send(syn(host, sport=999))


def test_a_connection_from_outside_goes_on_amid_a_flood_of_its_protocol() -> None:
    host = Host(LIVE, WEB)
    client = {"src": "198.51.100.7", "dst": "10.0.1.1", "sport": 7777, "dport": 53}
    known = host.bench.record(
        ip_proto=17,
        original=(parse_ip("198.51.100.7"), parse_ip("10.0.1.1"), 7777, 53),
        ingress_device=host.bench.b.key("r"),
        ingress_vport=host.bench.b.key("r/up"),
        egress_device=host.bench.b.key("web"),
        egress_vport=host.bench.b.key("web/vm1"),
        phase=Phase.UDP,
    )
    answer = {"dst": client["src"], "sport": 53, "dport": 7777}
    for port in range(2000, 2100):
        host.send(udp(host, sport=port, dport=9999))
    assert host.wide()
    # The record comes from a peer: flows that it could meet go.
    for effects in host.bench.push(known):
        host.switch.apply(effects.flow_mods)
    assert host.wide() == []
    assert host.send(udp(host, **answer))
    for port in range(2000, 2100):
        host.send(udp(host, sport=port, dport=9999))

    assert len(host.wide()) == 1
    assert len(host.wide(pipeline.PRIORITY_GUARD)) >= 1
    # Its own flow went idle; the guard leads it to the agent.
    for flow in host.switch.flows(pipeline.VPORT):
        if flow.priority == pipeline.PRIORITY_REACTIVE:
            host.switch.apply([RemoveFlow(flow)])
    assert host.send(udp(host, **answer))


def test_a_connection_that_exists_is_never_dropped_by_a_wide_flow() -> None:
    host = Host(LIVE, WEB)
    assert host.send(syn(host))
    flood(host)
    for flow in host.switch.flows(pipeline.VPORT):
        if flow.priority == pipeline.PRIORITY_REACTIVE:
            host.switch.apply([RemoveFlow(flow)])

    assert host.send(syn(host, flags="A"))
    assert host.send(syn(host))


def test_many_connections_narrow_the_flow_to_blocks_of_ports() -> None:
    host = Host(LIVE)
    b = host.bench.b
    for n in range(40):
        known = host.bench.record(
            100 + n,
            original=(
                parse_ip("198.51.100.7"),
                parse_ip("10.0.1.1"),
                5000 + 64 * n,
                22,
            ),
            ingress_device=b.key("r"),
            ingress_vport=b.key("r/up"),
            egress_device=b.key("web"),
            egress_vport=b.key("web/vm1"),
        )
        for effects in host.bench.push(known):
            host.switch.apply(effects.flow_mods)
    flood(host, 60)

    assert host.packet_ins == 21
    (flow,) = host.wide()
    assert flow.match.fields & field.PORT_BLOCK
    assert host.send(syn(host, dst="198.51.100.7", sport=22, dport=5000, flags="SA"))


def test_packets_that_were_flooded_before_do_not_keep_a_flood_from_being_dropped() -> (
    None
):
    host = Host(LIVE, NAMES)
    nobody = {"dst": "10.0.1.77", "eth_dst": "02:00:00:00:00:77"}
    for port in range(7000, 7040):
        assert host.send(udp(host, sport=port, dport=5000, **nobody))
    before = host.packet_ins
    for port in range(7000, 7200):
        host.send(udp(host, sport=port + 1000, dport=7000 + port % 40, **nobody))

    assert host.packet_ins - before == 21
    assert host.send(udp(host, sport=7000, dport=5000, **nobody))


def test_changed_rules_remove_the_wide_flow() -> None:
    host = Host(LIVE, WEB)
    flood(host)
    telnet = model.Rule(ACCEPT, ip_proto=6, destination_ports=((23, 23),))
    row = model.Chain("out", "out", (LIVE, WEB, telnet), accept=False)
    host.switch.apply(host.bench.change(row).flow_mods)

    assert host.wide() == []
    assert host.send(syn(host, dport=23))


def test_records_that_nobody_floods_beside_are_not_watched() -> None:
    host = Host(LIVE, WEB)
    flood(host)
    assert host.bench.core.connections._watched
    host.bench.wait(60.0)

    assert not host.bench.core.connections._watched


def test_a_limit_of_nothing_means_never() -> None:
    host = Host(LIVE, WEB, refused_rate_pps=0)
    flood(host)

    assert host.wide() == []


def test_rules_about_source_ports_keep_the_flow_narrow() -> None:
    odd = model.Rule(ACCEPT, ip_proto=17, source_ports=((2050, 2060),))
    host = Host(LIVE, odd)
    for port in range(2000, 2100):
        sent = host.send(udp(host, sport=port))
        assert bool(sent) is (2050 <= port <= 2060)
