# SPDX-License-Identifier: Apache-2.0
"""What hands packets on, and what takes them in, on model switches."""

from __future__ import annotations

from midoryu.openflow import pipeline
from midoryu.openflow.block_flows import WayIn, block_flows, entry_mods, exception_flow
from midoryu.openflow.flow import GOTO, Flow, InstallFlow, Match
from midoryu.openflow.wire import encode_flow_mod
from midoryu.openflow.wire_match import decode_match, encode_match
from midoryu.packet import field
from midoryu.packet.address import parse_ip, parse_mac
from tests.helpers import frames
from tests.helpers.fake_switch import FakeSwitch, Output

MAC = "02:cc:00:00:00:01"
HOLDER = parse_ip("172.31.0.2")
GRE, UPLINK = 1, 10
KEY = 77


def way(address: str = "203.0.113.10", limit: int = 0) -> WayIn:
    return WayIn(UPLINK, KEY, parse_mac(MAC), parse_ip(address), limit)


def flows(made: WayIn, block: int = 100) -> tuple[Flow, ...]:
    return block_flows(made, block, key=KEY, holder=HOLDER, gre_ofport=GRE)


def gateway(made: WayIn) -> FakeSwitch:
    switch = FakeSwitch({GRE, UPLINK})
    to_vport = Flow(
        pipeline.CLASSIFY,
        pipeline.PRIORITY_CLASSIFY,
        Match(field.IN_PORT, (UPLINK,)),
        ((GOTO, int(pipeline.VPORT)),),
    )
    switch.apply([InstallFlow(to_vport), *map(InstallFlow, flows(made))])
    return switch


def answer(port: int, dst: str = "203.0.113.10", **fields: object) -> bytes:
    src = "2001:db8::9" if ":" in dst else "198.51.100.9"
    return frames.tcp(src, dst, sport=80, dport=port, eth_dst=MAC, **fields)  # type: ignore[arg-type]


def test_ports_of_the_block_go_to_its_holder_untouched_and_no_others() -> None:
    switch = gateway(way())
    for port in (6400, 6463):
        frame = answer(port)
        (out,) = switch.send(frame, UPLINK)
        assert (out.ofport, out.tunnel_key, out.tunnel_destination, out.frame) == (
            GRE,
            KEY,
            HOLDER,
            frame,
        )
    assert switch.send(answer(6399), UPLINK) == []
    assert switch.send(answer(6464), UPLINK) == []
    assert switch.send(answer(6400, "203.0.113.11"), UPLINK) == []


def test_ipv6_goes_too() -> None:
    switch = gateway(way("2001:db8::10"))
    (out,) = switch.send(answer(6401, "2001:db8::10"), UPLINK)
    assert out.tunnel_destination == HOLDER


def test_an_exception_goes_to_the_controller() -> None:
    switch = gateway(way())
    switch.apply([InstallFlow(exception_flow(way(), 6, 6401))])
    kinds = [[o.kind for o in switch.send(answer(p), UPLINK)] for p in (6400, 6401)]
    assert kinds == [["port"], ["controller"]]


def test_the_holder_takes_it_as_if_it_had_come_in_by_the_uplink() -> None:
    switch = FakeSwitch({GRE})
    switch.apply(entry_mods(GRE, KEY, 100, 10))
    (out,) = switch.send(answer(6400), GRE, tunnel_key=KEY, tunnel_source=HOLDER)
    assert isinstance(out, Output)
    assert (out.kind, out.ofport, out.tunnel_key) == ("controller", GRE, KEY)
    assert switch.send(answer(6400), GRE, tunnel_key=KEY + 1) == []


def test_matches_come_back_from_the_switch_as_they_were() -> None:
    for flow in (*flows(way(limit=1472)), exception_flow(way(), 17, 6401)):
        assert encode_flow_mod(InstallFlow(flow), 1)
        assert decode_match(encode_match(flow.match), 0)[0] == flow.match
