# SPDX-License-Identifier: Apache-2.0
"""The model switch does what an OpenFlow switch does. Uses `frames` from scapy."""

from __future__ import annotations

import pytest

from midoryu.openflow import flow as of
from midoryu.openflow import pipeline
from midoryu.openflow.flow import Flow, InstallFlow, Match, PacketOut, RemoveFlow
from midoryu.packet import field
from midoryu.packet.address import parse_ip
from midoryu.packet.codec import decode
from midoryu.packet.protocol import ETH_ARP, ETH_IPV4, FRAG_LATER, ICMP, TCP, UDP
from tests.helpers import frames
from tests.helpers.fake_switch import FakeSwitch, Output

PEER = parse_ip("192.0.2.2")
ANY = Match(0, ())


def switch(*flows: Flow) -> FakeSwitch:
    """Make a switch with ports 1, 2, 3 and some flows."""
    made = FakeSwitch((1, 2, 3))
    made.apply(InstallFlow(flow) for flow in flows)
    return made


def to_port(match: Match, ofport: int, priority: int = 10) -> Flow:
    return Flow(0, priority, match, ((of.OUTPUT, ofport),))


def ports(outputs: list[Output]) -> list[int]:
    return [output.ofport for output in outputs if output.kind == "port"]


def test_a_frame_that_no_flow_matches_is_dropped() -> None:
    assert switch().send(frames.tcp(), 1) == []


def test_the_highest_priority_wins() -> None:
    model = switch(to_port(ANY, 2), to_port(Match(field.IN_PORT, (1,)), 3, 20))
    assert ports(model.send(frames.tcp(), 1)) == [3]
    assert ports(model.send(frames.tcp(), 3)) == [2]


def test_output_to_the_ingress_port_needs_its_reserved_name() -> None:
    assert switch(to_port(ANY, 1)).send(frames.tcp(), 1) == []
    model = switch(to_port(ANY, pipeline.PORT_IN_PORT))
    assert ports(model.send(frames.tcp(), 1)) == [1]


def test_output_to_a_port_that_is_gone_goes_nowhere() -> None:
    assert switch(to_port(ANY, 9)).send(frames.tcp(), 1) == []


def test_equal_flows_that_disagree_are_an_error() -> None:
    model = switch(
        to_port(Match(field.IN_PORT, (1,)), 2),
        to_port(Match(field.ETH_TYPE, (ETH_IPV4,)), 3),
    )
    with pytest.raises(AssertionError, match="two flows"):
        model.send(frames.tcp(), 1)


def test_install_replaces_and_remove_is_strict() -> None:
    flow = to_port(Match(field.IN_PORT, (1,)), 2)
    model = switch(flow, to_port(flow.match, 3))
    assert ports(model.send(frames.tcp(), 1)) == [3]
    model.apply([RemoveFlow(to_port(flow.match, 2, priority=11))])
    assert len(model.flows()) == 1
    model.apply([RemoveFlow(flow)])
    assert model.flows() == []


def test_packets_are_counted_for_each_flow() -> None:
    flow = to_port(ANY, 2)
    model = switch(flow)
    model.send(frames.tcp(), 1)
    model.send(frames.udp(), 1)
    assert model.packets(flow) == 2


def test_a_tunnel_key_selects_the_port_and_a_set_one_leaves_with_the_frame() -> None:
    model = switch(
        to_port(Match(field.TUNNEL_KEY, (77,)), 2, 20),
        Flow(0, 10, ANY, ((of.SET_TUNNEL, 88, PEER), (of.OUTPUT, 3))),
    )
    assert ports(model.send(frames.tcp(), 1, tunnel_key=77)) == [2]
    (sent,) = model.send(frames.tcp(), 1)
    assert (sent.ofport, sent.tunnel_key, sent.tunnel_destination) == (3, 88, PEER)


def test_goto_goes_on_with_the_rewritten_frame() -> None:
    new = parse_ip("10.9.9.9")
    second = Match(field.ETH_TYPE | field.IP_DST, (ETH_IPV4, new))
    model = switch(
        Flow(0, 1, ANY, ((of.METER, 1), (of.SET_IP_DST, new), (of.GOTO, 10))),
        Flow(10, 1, second, ((of.OUTPUT, 2),)),
    )
    (sent,) = model.send(frames.tcp(), 1)
    assert sent.frame == frames.recomputed(sent.frame)
    assert decode(sent.frame).headers.ip_dst == new


def test_all_rewrites_show_in_the_frame_with_right_checksums() -> None:
    actions = (
        (of.SET_ETH_SRC, 0x02AA),
        (of.SET_ETH_DST, 0x02BB),
        (of.SET_IP_SRC, parse_ip("198.51.100.1")),
        (of.SET_IP_DST, parse_ip("198.51.100.2")),
        (of.SET_L4_SRC, 4000, TCP),
        (of.SET_L4_DST, 4001, TCP),
        (of.SET_TOS, 0xB8),
        (of.DEC_TTL,),
        (of.OUTPUT, 2),
    )
    (sent,) = switch(Flow(0, 1, ANY, actions)).send(frames.tcp(), 1)
    assert sent.frame == frames.tcp(
        "198.51.100.1",
        "198.51.100.2",
        4000,
        4001,
        tos=0xB8,
        ttl=63,
        eth_src="00:00:00:00:02:aa",
        eth_dst="00:00:00:00:02:bb",
    )


def test_a_set_of_ports_leaves_another_protocol_alone() -> None:
    flow = Flow(0, 1, ANY, ((of.SET_L4_DST, 4000, TCP), (of.OUTPUT, 2)))
    (sent,) = switch(flow).send(frames.udp(), 1)
    assert sent.frame == frames.udp()


def test_each_output_sees_the_frame_as_it_is_at_that_point() -> None:
    flow = Flow(0, 1, ANY, ((of.OUTPUT, 2), (of.SET_TOS, 4), (of.OUTPUT, 3)))
    first, second = switch(flow).send(frames.udp(), 1)
    assert first.frame == frames.udp()
    assert second.frame == frames.udp(tos=4)


@pytest.mark.parametrize("ttl", [0, 1])
def test_a_dying_ttl_ends_the_actions_at_the_controller(ttl: int) -> None:
    actions = ((of.LOAD_HOPS, 2), (of.DEC_TTL,), (of.OUTPUT, 2))
    model = switch(Flow(0, 1, ANY, actions, cookie=0xC0))
    (sent,) = model.send(frames.tcp(ttl=ttl), 1, 5, PEER)
    assert sent == Output(
        kind="controller",
        ofport=1,
        frame=frames.tcp(ttl=ttl),
        tunnel_key=5,
        reason=pipeline.REASON_INVALID_TTL,
        hops=2,
        cookie=0xC0,
        table=0,
        tunnel_source=PEER,
    )


def test_the_ttl_dies_at_the_second_router_with_the_first_rewrites_done() -> None:
    actions = (
        (of.DEC_TTL,),
        (of.SET_ETH_SRC, 5),
        (of.LOAD_HOPS, 1),
        (of.DEC_TTL,),
        (of.OUTPUT, 2),
    )
    (sent,) = switch(Flow(0, 1, ANY, actions)).send(frames.tcp(ttl=2), 1)
    died = decode(sent.frame).headers
    assert (sent.kind, sent.hops) == ("controller", 1)
    assert (died.ip_ttl, died.eth_src) == (1, 5)


def test_arp_has_no_ttl_to_decrement() -> None:
    flow = Flow(0, 1, ANY, ((of.DEC_TTL,), (of.OUTPUT, 2)))
    assert ports(switch(flow).send(frames.arp(), 1)) == [2]


@pytest.mark.parametrize(
    ("flow", "reason"),
    [
        (Flow(0, 0, ANY, ((of.CONTROLLER,),)), pipeline.REASON_NO_MATCH),
        (Flow(0, 1, ANY, ((of.CONTROLLER,),)), pipeline.REASON_ACTION),
    ],
    ids=["table miss", "other flow"],
)
def test_a_packet_in_says_why(flow: Flow, reason: int) -> None:
    (sent,) = switch(flow).send(frames.tcp(), 1)
    assert (sent.kind, sent.reason, sent.frame) == ("controller", reason, frames.tcp())


def test_a_later_fragment_has_port_zero() -> None:
    match = Match(
        field.ETH_TYPE | field.IP_PROTO | field.IP_FRAG | field.L4,
        (ETH_IPV4, UDP, FRAG_LATER, 0, 0),
    )
    body = frames.ip() / frames.UDP(dport=53) / (b"x" * 200)
    pieces = [frames.ethernet(piece) for piece in frames.fragment(body, fragsize=104)]
    model = switch(to_port(match, 2))
    assert [ports(model.send(piece, 1)) for piece in pieces] == [[], [2]]


def test_an_icmp_type_is_matched_as_a_port_and_arp_addresses_as_ip() -> None:
    ping = Match(field.ETH_TYPE | field.IP_PROTO | field.L4, (ETH_IPV4, ICMP, 8, 0))
    who_has = Match(
        field.ETH_TYPE | field.IP_PROTO | field.IP_DST,
        (ETH_ARP, 1, parse_ip("10.0.0.2")),
    )
    model = switch(to_port(ping, 2), to_port(who_has, 3))
    assert ports(model.send(frames.icmp_echo(), 1)) == [2]
    assert model.send(frames.icmp_echo(reply=True), 1) == []
    assert ports(model.send(frames.arp(), 1)) == [3]


def test_vlan_tags_are_pushed_popped_and_matched() -> None:
    model = switch(
        Flow(0, 2, Match(field.VLAN, (0,)), ((of.PUSH_VLAN, 9), (of.OUTPUT, 2))),
        Flow(0, 2, Match(field.VLAN, (0x1009,)), ((of.POP_VLAN,), (of.OUTPUT, 3))),
    )
    (tagged,) = model.send(frames.tcp(), 1)
    assert tagged.frame == frames.tcp(vlan=9)
    (untagged,) = model.send(tagged.frame, 1)
    assert untagged.frame == frames.tcp()


def test_a_packet_out_runs_its_actions_or_the_tables() -> None:
    model = switch(to_port(Match(field.IN_PORT, (1,)), 3))
    direct = PacketOut(
        frames.tcp(), ((of.SET_TUNNEL, 5, PEER), (of.OUTPUT, 2)), in_port=1
    )
    (sent,) = model.packet_out(direct)
    assert (sent.ofport, sent.tunnel_key, sent.cookie) == (2, 5, 0)
    tables = PacketOut(frames.tcp(), ((of.OUTPUT, pipeline.PORT_TABLE),), in_port=1)
    assert ports(model.packet_out(tables)) == [3]


def test_a_malformed_frame_still_matches_by_its_ethernet_header() -> None:
    broken = frames.tcp()[:20]
    model = switch(to_port(Match(field.ETH_TYPE, (ETH_IPV4,)), 2))
    assert ports(model.send(broken, 1)) == [2]


@pytest.mark.parametrize(
    ("flow", "reason"),
    [
        (to_port(Match(field.IP_DST, (1,)), 2), "eth_type"),
        (to_port(Match(field.ETH_TYPE | field.L4_DST, (ETH_IPV4, 1)), 2), "ip_proto"),
        (to_port(Match(field.ICMP_ID, (1,)), 2), "no switch"),
        (to_port(Match(field.IN_PORT, ()), 2), "one value"),
        (Flow(10, 1, ANY, ((of.GOTO, 0),)), "later table"),
        (Flow(0, 1, ANY, ((of.OUTPUT, 1), (of.METER, 1))), "METER"),
        (
            to_port(Match(field.ETH_TYPE | field.IP_PROTO | field.TCP_FLAGS,
                          (ETH_IPV4, UDP, 2)), 2),
            "TCP flags",
        ),
    ],
)  # fmt: skip
def test_a_flow_that_a_switch_would_refuse_is_refused(flow: Flow, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        switch(flow)


def test_a_delivery_is_a_copy_that_leaves_nothing_behind() -> None:
    switch = FakeSwitch({1, 2, 3})
    to_vport = ((of.CLEAR_IN_PORT,), (of.PUSH_VLAN, 9), (of.OUTPUT, 1))
    key = of.Match(field.TUNNEL_KEY, (7,))
    switch.apply([of.InstallFlow(of.Flow(pipeline.TUNNEL, 1, key, to_vport))])
    message = of.PacketOut(
        frames.udp(tos=3), ((of.SET_DSCP, 10), (of.DELIVER, 7), (of.OUTPUT, 2)), 1
    )

    out = [
        (one.ofport, one.frame, one.tunnel_key) for one in switch.packet_out(message)
    ]
    marked = 10 << 2 | 3
    assert out == [
        (1, frames.udp(tos=marked, vlan=9), 7),
        (2, frames.udp(tos=marked), 0),
    ]
