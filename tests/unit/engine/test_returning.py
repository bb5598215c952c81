# SPDX-License-Identifier: Apache-2.0
"""Flows for answers that gateways hand on, and what they tell about a connection."""

from __future__ import annotations

from typing import Any

import pytest

from midoryu.engine.event import FlowRemoved, PacketIn
from midoryu.openflow import flow, pipeline
from midoryu.openflow.flow import Flow
from midoryu.packet import field
from midoryu.packet.address import parse_ip
from midoryu.state.connection import Connection, Phase
from midoryu.topology.model import Neighbor
from tests.helpers.bench import (
    GATEWAY_MAC,
    GRE,
    NAT,
    OUTSIDE,
    Bench,
    installed,
    office,
)

OTHER_UPLINK_MAC = "02:cc:00:00:00:02"


def bench(**config: Any) -> Bench:
    """node1 has vm1 and a lease, and node2 the uplink by which its packets leave."""
    b = office(masquerade=True, gateways=True)
    b.masquerade("r", "10.0.0.0/16", NAT)
    b.route("r", "0.0.0.0/0", via="192.0.2.5", metric=0)
    b.route("r", "0.0.0.0/0", via="192.0.2.1", metric=9)
    mac = int(GATEWAY_MAC.replace(":", ""), 16)
    b.put(Neighbor("gateway2", b.key("r"), parse_ip("192.0.2.5"), mac))
    one = Bench(b, **{"gateway_return": "holder", **config})
    one.lease()
    return one


def connect(
    one: Bench, sport: int = 40000, dst: str = OUTSIDE
) -> tuple[list[Flow], Connection]:
    before = {connection.id for connection in one.core.connections}
    made = installed(one.send("web/vm1", one.frame(sport=sport, dst=dst)))
    (record,) = (c for c in one.core.connections if c.id not in before)
    return made, record


def returning(made: list[Flow]) -> Flow:
    (found,) = (one for one in made if one.match.fields & field.TUNNEL_KEY)
    return found


def removed(made: Flow, packets: int, idle_s: int = 60) -> FlowRemoved:
    cookie = made.cookie
    return FlowRemoved(cookie, pipeline.REMOVED_IDLE, idle_s, 90.0, packets)


def test_both_flows_come_with_the_first_packet() -> None:
    made, record = connect(bench())
    assert len(made) == 2
    back = returning(made)
    assert (flow.SET_IP_DST, parse_ip("10.0.1.1")) in back.actions
    assert not back.match.fields & field.ETH_DST
    assert record.translations[0].port in back.match.values


def test_siblings_have_flows_of_the_same_kind() -> None:
    one = bench()
    flows = [returning(connect(one, 40000 + n)[0]) for n in range(6)]
    shapes = {(f.match.fields, tuple(a[0] for a in f.actions)) for f in flows}
    assert len(shapes) == 1
    ports = [a[1] for f in flows for a in f.actions if a[0] == flow.SET_L4_DST]
    assert ports == list(range(40000, 40006))
    assert len({f.match.values for f in flows}) == 6
    assert one.core.replays.answers


def test_a_sibling_is_what_a_simulation_makes() -> None:
    one, other = bench(), bench()
    for n in range(8):
        peer = f"198.51.{n % 3}.{n}"
        made, _ = connect(one, 40000 + n, peer)
        other.core.replays.answers.clear()
        alone, _ = connect(other, 40000 + n, peer)
        assert returning(made).match == returning(alone).match
        assert returning(made).actions == returning(alone).actions


def test_siblings_flows_go_when_a_row_changes() -> None:
    one = bench()
    for n in range(4):
        connect(one, 40000 + n)
    b = one.b
    one.change(b.router("r", up=False))
    assert len(one.core.flows) == 0
    assert one.core.replays.answers == {}


def test_classic_hosts_make_none() -> None:
    made, _ = connect(bench(gateway_return="classic"))
    assert len(made) == 1


def test_an_answer_without_a_flow_is_taken_in_by_its_uplink() -> None:
    one = bench()
    made, record = connect(one)
    back = returning(made)
    key = back.match.values[-1]
    port = record.translations[0].port
    frame = one.reply(dport=port, eth_dst=OTHER_UPLINK_MAC)
    effects = one.do(
        PacketIn(GRE, frame, tunnel_key=key, tunnel_source=parse_ip("172.31.0.2"))
    )
    assert len(effects.packet_outs) == 1
    assert record.phase is Phase.TCP_ESTABLISHED
    assert one.counters["packet-ins handed on by gateways"] == 1


@pytest.mark.parametrize(
    ("packets", "phase"), [(0, Phase.TCP_TRANSITORY), (3, Phase.TCP_ESTABLISHED)]
)
def test_a_flow_that_had_packets_makes_the_connection_an_answered_one(
    packets: int, phase: Phase
) -> None:
    one = bench()
    made, record = connect(one)
    one.now += 90.0
    one.do(removed(returning(made), packets))
    assert record.phase is phase


def test_a_flow_that_ended_with_a_fin_leaves_a_closing_connection() -> None:
    one = bench()
    made, record = connect(one)
    one.do(removed(returning(made), 5, idle_s=2))
    assert record.phase is Phase.TCP_CLOSING


@pytest.mark.parametrize(
    ("waited_s", "phase"), [(40.0, Phase.TCP_TRANSITORY), (80.0, Phase.TCP_ESTABLISHED)]
)
def test_a_flow_that_stands_for_longer_than_it_could_unused_is_proof(
    waited_s: float, phase: Phase
) -> None:
    # node2 is silent in this test, and shall not be held for dead.
    one = bench(beat_interval_s=1000.0)
    _, record = connect(one)
    one.wait(waited_s)
    assert record.phase is phase


@pytest.mark.parametrize(
    ("stands", "phase"), [(True, Phase.TCP_TRANSITORY), (False, Phase.TCP_ESTABLISHED)]
)
def test_a_switch_that_lost_its_flows_leaves_the_benefit_of_the_doubt(
    stands: bool, phase: Phase
) -> None:
    one = bench()
    made, record = connect(one)
    one.connect(*(made if stands else ()))
    assert record.phase is phase


def test_nothing_is_kept_of_flows_that_this_host_removed() -> None:
    one = bench()
    connect(one)
    one.change(one.b.router("r", up=False))
    one.wait(21.0)
    one.wait(21.0)
    assert one.core.blocks.unproven == {}
