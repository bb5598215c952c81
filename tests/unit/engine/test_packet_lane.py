# SPDX-License-Identifier: Apache-2.0
"""What becomes of frames from local vports: flows, packets, waiting, counters."""

from __future__ import annotations

import pytest

from midoryu.engine.effect import LeaseBlock
from midoryu.engine.event import InterfacesChanged, PacketIn
from midoryu.openflow import flow, pipeline
from midoryu.packet import protocol
from midoryu.packet.address import parse_ip
from midoryu.packet.codec import decode
from midoryu.state.connection import Phase
from tests.helpers import frames
from tests.helpers.bench import (
    GRE,
    NAT,
    OFPORTS,
    Bench,
    installed,
    learn_gateway,
    office,
    removed,
)


def arp_targets(bench: Bench) -> list[int]:
    """List what the engine asked for by ARP, in order."""
    sent = [out for effects in bench.done for out in effects.packet_outs]
    packets = [decode(out.frame) for out in sent]
    return [p.headers.ip_dst for p in packets if p.eth_type == protocol.ETH_ARP]


def test_a_packet_to_a_neighbour_makes_one_flow_and_goes_out_of_its_ofport() -> None:
    bench = Bench(office())
    effects = bench.send("web/vm1", bench.beside())
    (made,) = installed(effects)
    assert made.actions == ((flow.OUTPUT, OFPORTS["web/vm2"]),)
    assert made.notify_removed
    assert (made.idle_timeout_s, made.hard_timeout_s) == (60, 0)
    (out,) = effects.packet_outs
    assert out.frame == bench.beside()
    assert out.actions == made.actions


def test_a_packet_to_another_host_goes_into_the_tunnel_with_the_vports_key() -> None:
    bench = Bench(office())
    (out,) = bench.send("web/vm1", bench.beside(to=3)).packet_outs
    assert out.actions == (
        (flow.SET_TUNNEL, bench.b.key("web/vm3"), parse_ip("172.31.0.2")),
        (flow.OUTPUT, GRE),
    )


def test_a_frame_of_an_unknown_port_is_counted_and_nothing_else() -> None:
    bench = Bench(office())
    effects = bench.do(PacketIn(99, bench.beside()))
    assert (effects.flow_mods, effects.packet_outs) == ([], [])
    assert bench.counters["packets from an unknown port"] == 1


@pytest.mark.parametrize("length", range(14))
def test_a_malformed_frame_is_counted_and_the_next_one_passes(length: int) -> None:
    bench = Bench(office())
    effects = bench.send("web/vm1", bench.beside()[:length])
    assert (effects.flow_mods, effects.packet_outs) == ([], [])
    assert bench.counters["malformed frames"] == 1
    assert "web/vm1" in effects.log[0][1]
    assert len(bench.send("web/vm1", bench.beside()).packet_outs) == 1


def test_a_packet_waits_for_the_next_hop_and_goes_when_it_is_known() -> None:
    bench = Bench(office(neighbor=False))
    effects = bench.send("web/vm1", bench.frame())
    assert installed(effects) == []
    assert arp_targets(bench) == [parse_ip("192.0.2.1")]
    assert len(bench.core.waiting) == 1
    effects = bench.change(learn_gateway(bench.b))
    assert len(installed(effects)) == 1
    (out,) = effects.packet_outs
    assert out.actions[-1] == (flow.OUTPUT, OFPORTS["r/up"])
    assert len(bench.core.waiting) == 0


def test_a_next_hop_is_asked_for_once_a_second_whoever_waits() -> None:
    bench = Bench(office(neighbor=False))
    for sport in (1, 2, 3):
        bench.send("web/vm1", bench.frame(sport=sport))
    assert len(arp_targets(bench)) == 1
    bench.wait(0.5)
    assert len(arp_targets(bench)) == 1
    bench.wait(0.6)
    assert len(arp_targets(bench)) == 2


def test_a_sender_is_told_when_the_next_hop_stays_silent() -> None:
    bench = Bench(office(neighbor=False))
    bench.send("web/vm1", bench.frame())
    effects = bench.wait(3.1)
    (out,) = [out for out in effects.packet_outs if decode(out.frame).ip_proto == 1]
    answer = decode(out.frame)
    assert out.actions == ((flow.OUTPUT, OFPORTS["web/vm1"]),)
    assert answer.headers.l4_src == 3  # destination unreachable
    assert len(bench.core.waiting) == 0
    assert bench.counters["no_neighbor"] == 1


def test_a_full_waiting_room_drops_what_comes_and_keeps_what_waits() -> None:
    bench = Bench(office(neighbor=False), max_waiting=3, max_waiting_per_vport=2)
    for sport in range(1, 6):
        bench.send("web/vm1", bench.frame(sport=sport))
        bench.send("web/vm2", bench.frame(2, sport=sport))
    assert len(bench.core.waiting) == 3
    assert bench.counters["no room to wait"] == 7
    effects = bench.change(learn_gateway(bench.b))
    assert len(effects.packet_outs) == 3
    assert len(bench.core.waiting) == 0


def test_a_masqueraded_connection_waits_for_its_first_block() -> None:
    bench = Bench(office(masquerade=True))
    writes = [w for effects in bench.done for w in effects.nsdb_writes]
    assert writes.count(LeaseBlock(bench.b.key("r"), parse_ip(NAT))) == 1
    effects = bench.send("web/vm1", bench.frame())
    assert effects.packet_outs == []
    assert LeaseBlock(bench.b.key("r"), parse_ip(NAT)) not in effects.nsdb_writes
    effects = bench.lease()
    (made,) = installed(effects)
    (out,) = effects.packet_outs
    assert (flow.SET_IP_SRC, parse_ip(NAT)) in out.actions
    (port,) = [a[1] for a in made.actions if a[0] == flow.SET_L4_SRC]
    assert port // 64 == 100
    assert made.fin_timeout_s == 2


def test_the_answer_is_translated_back_and_completes_the_handshake() -> None:
    bench = Bench(office(masquerade=True))
    bench.lease()
    (made,) = installed(bench.send("web/vm1", bench.frame()))
    (port,) = [a[1] for a in made.actions if a[0] == flow.SET_L4_SRC]
    (connection,) = bench.core.connections
    assert connection.phase is Phase.TCP_TRANSITORY
    effects = bench.send("r/up", bench.reply(dport=port))
    (back,) = installed(effects)
    assert (flow.SET_IP_DST, parse_ip("10.0.1.1")) in back.actions
    assert (flow.SET_L4_DST, 40000, 6) in back.actions
    assert connection.phase is Phase.TCP_ESTABLISHED
    assert bench.core.connections.is_held(connection.id)


def test_a_table_full_of_connections_refuses_new_ones_and_counts() -> None:
    bench = Bench(office(masquerade=True), max_connections=2)
    bench.lease()
    for sport in (1, 2):
        (made,) = installed(bench.send("web/vm1", bench.frame(sport=sport)))
        (port,) = [a[1] for a in made.actions if a[0] == flow.SET_L4_SRC]
        bench.send("r/up", bench.reply(dport=port, dst=NAT))
        answer = bench.reply(dport=port)
        bench.send("r/up", answer)
    before = len(bench.core.connections)
    effects = bench.send("web/vm1", bench.frame(sport=3))
    assert before == 2 == len(bench.core.connections)
    out = [o for o in effects.packet_outs if (flow.OUTPUT, 13) in o.actions]
    assert out == []
    assert bench.counters["table_full"] == 1


def test_a_connection_that_a_full_table_drops_takes_its_flows_along() -> None:
    bench = Bench(office(masquerade=True), max_connections=2)
    bench.lease()
    first = installed(bench.send("web/vm1", bench.frame(sport=1)))
    bench.send("web/vm1", bench.frame(sport=2))
    third = bench.send("web/vm1", bench.frame(sport=3))
    assert len(third.packet_outs) == 1
    gone = removed(third) + removed(bench.wait(0.01))
    assert [f.cookie for f in gone] == [f.cookie for f in first]
    assert len(bench.core.connections) == 2


def test_a_packet_whose_ttl_ran_out_in_the_switch_is_answered_by_its_router() -> None:
    bench = Bench(office())
    frame = bench.frame(ttl=1)
    effects = bench.send("web/vm1", frame, reason=pipeline.REASON_INVALID_TTL, hops=0)
    (out,) = effects.packet_outs
    answer = decode(out.frame)
    assert (answer.ip_proto, answer.headers.l4_src) == (protocol.ICMP, 11)
    assert answer.headers.ip_src == parse_ip("10.0.1.254")


def test_arp_for_the_router_is_answered_from_the_topology() -> None:
    bench = Bench(office())
    ask = frames.arp("10.0.1.1", "10.0.1.254", eth_src="02:00:00:00:00:01")
    (out,) = bench.send("web/vm1", ask).packet_outs
    assert out.actions == ((flow.OUTPUT, OFPORTS["web/vm1"]),)
    assert decode(out.frame).headers.ip_src == parse_ip("10.0.1.254")


def test_a_waiting_packet_whose_vport_left_is_counted() -> None:
    bench = Bench(office(neighbor=False))
    bench.send("web/vm1", bench.frame())
    bench.do(InterfacesChanged({"web/vm2": 12, "r/up": 13}))
    effects = bench.change(learn_gateway(bench.b))
    assert effects.packet_outs == []
    assert bench.counters["waiting packets lost their vport"] == 1


def test_a_vport_that_moves_takes_replays_along() -> None:
    bench = Bench(office())
    for number in range(1, 5):
        bench.send("web/vm1", bench.frame(dst=f"198.51.100.{number}"))
    assert bench.core.replays.replayed

    bench.do(InterfacesChanged({**OFPORTS, "r/up": 14}))
    effects = bench.send("web/vm1", bench.frame(dst="198.51.100.8"))

    assert effects.packet_outs[0].actions[-1] == (flow.OUTPUT, 14)
