# SPDX-License-Identifier: Apache-2.0
"""Every action on the wire, judged by Ryu, and back."""

from __future__ import annotations

import pytest
from ryu.ofproto import ofproto_v1_3_parser as parser

from midoryu.errors import DecodeError
from midoryu.openflow import flow
from midoryu.openflow.flow import Action
from midoryu.openflow.wire_action import (
    decode_instructions,
    encode_actions,
    encode_instructions,
)
from midoryu.packet.address import parse_ip

IP_4, IP_6 = parse_ip("192.0.2.9"), parse_ip("2001:db8::9")


def ryu_reads(data: bytes) -> list[tuple[object, ...]]:
    """Let Ryu parse actions; show each as a small tuple."""
    shown: list[tuple[object, ...]] = []
    offset = 0
    while offset < len(data):
        action = parser.OFPAction.parser(data, offset)
        offset += action.len
        if isinstance(action, parser.OFPActionSetField):
            shown.append((action.key, action.value))
        elif isinstance(action, parser.OFPActionOutput):
            shown.append(("output", action.port, action.max_len))
        else:
            shown.append((type(action).__name__,))
    return shown


CASES: dict[str, tuple[tuple[Action, ...], list[tuple[object, ...]]]] = {
    "output": (((flow.OUTPUT, 5),), [("output", 5, 0)]),
    "controller": (((flow.CONTROLLER,),), [("output", 0xFFFFFFFD, 0xFFFF)]),
    "tunnel over ipv4": (
        ((flow.SET_TUNNEL, 7, IP_4),),
        [("tunnel_id", 7), ("tun_ipv4_dst", "192.0.2.9")],
    ),
    "ttl": (((flow.DEC_TTL,),), [("OFPActionDecNwTtl",)]),
    "macs": (
        ((flow.SET_ETH_SRC, 1), (flow.SET_ETH_DST, 2)),
        [("eth_src", "00:00:00:00:00:01"), ("eth_dst", "00:00:00:00:00:02")],
    ),
    "ipv4": (
        ((flow.SET_IP_SRC, IP_4), (flow.SET_IP_DST, IP_4)),
        [("ipv4_src", "192.0.2.9"), ("ipv4_dst", "192.0.2.9")],
    ),
    "ipv6": (
        ((flow.SET_IP_SRC, IP_6), (flow.SET_IP_DST, IP_6)),
        [("ipv6_src", "2001:db8::9"), ("ipv6_dst", "2001:db8::9")],
    ),
    "tcp ports": (
        ((flow.SET_L4_SRC, 80, 6), (flow.SET_L4_DST, 81, 6)),
        [("tcp_src", 80), ("tcp_dst", 81)],
    ),
    "udp ports": (
        ((flow.SET_L4_SRC, 80, 17), (flow.SET_L4_DST, 81, 17)),
        [("udp_src", 80), ("udp_dst", 81)],
    ),
    "tos": (((flow.SET_TOS, 0xB9),), [("ip_dscp", 46), ("ip_ecn", 1)]),
    "dscp": (((flow.SET_DSCP, 46),), [("ip_dscp", 46)]),
    "hops": (((flow.LOAD_HOPS, 3),), [("reg0", 3)]),
    "push vlan": (
        ((flow.PUSH_VLAN, 9),),
        [("OFPActionPushVlan",), ("vlan_vid", 0x1009)],
    ),
    "pop vlan": (((flow.POP_VLAN,),), [("OFPActionPopVlan",)]),
}


@pytest.mark.parametrize(("actions", "wanted"), CASES.values(), ids=CASES.keys())
def test_an_action_is_what_ryu_reads(
    actions: tuple[Action, ...], wanted: list[tuple[object, ...]]
) -> None:
    assert ryu_reads(encode_actions(actions)) == wanted


@pytest.mark.parametrize(
    "actions",
    [
        *(actions for actions, _ in CASES.values()),
        ((flow.SET_TUNNEL, 7, IP_6), (flow.OUTPUT, 1)),
        ((flow.METER, 3), (flow.CONTROLLER,)),
        ((flow.GOTO, 20),),
        ((flow.SET_DSCP, 10), (flow.SET_TOS, 0xB9), (flow.SET_DSCP, 11)),
        ((flow.METER, 3), (flow.SET_DSCP, 10), (flow.GOTO, 10)),
        ((flow.SET_DSCP, 10), (flow.DELIVER, 77), (flow.DELIVER, 78)),
        ((flow.SET_DSCP, 10), (flow.CLEAR_IN_PORT,), (flow.OUTPUT, 1)),
        ((flow.METER, 3), (flow.DEC_TTL,), (flow.GOTO, 20)),
        ((flow.SET_ETH_DST, 7), (flow.REFLECT,)),
        (),
    ],
    ids=[
        *CASES,
        "tunnel over ipv6",
        "meter",
        "goto",
        "dscp and tos",
        "dscp in an instruction",
        "two deliveries",
        "clear in port",
        "all three",
        "reflect",
        "drop",
    ],
)
def test_actions_come_back_equal(actions: tuple[Action, ...]) -> None:
    assert decode_instructions(encode_instructions(actions, 0)) == (actions, 0, b"")


def test_the_fin_timeout_comes_back_beside_the_actions() -> None:
    data = encode_instructions(((flow.OUTPUT, 1),), 2)

    assert decode_instructions(data) == (((flow.OUTPUT, 1),), 2, b"")


def test_a_note_stands_beside_actions_and_comes_back_with_zeros() -> None:
    data = encode_instructions(((flow.OUTPUT, 1),), 2, b"what we know")

    # NXAST_NOTE (8) of vendor 0x2320, padded to a multiple of 8 bytes.
    assert bytes.fromhex("ffff 0018 00002320 0008") + b"what we know" in data
    actions, fin_timeout_s, note = decode_instructions(data)
    assert actions == ((flow.OUTPUT, 1),)
    assert fin_timeout_s == 2
    assert note.rstrip(b"\0") == b"what we know"


def test_a_tunnel_over_ipv6_names_the_far_end() -> None:
    data = encode_actions(((flow.SET_TUNNEL, 7, IP_6),))

    # NXM_NX_TUN_IPV6_DST, ovs-fields(7).
    assert bytes.fromhex("0001dc10") + IP_6.to_bytes(16, "big") in data


@pytest.mark.parametrize(
    "action",
    [(flow.GOTO, 20), (flow.METER, 1), (99,), (flow.SET_L4_SRC, 1, 1)],
    ids=["goto", "meter", "unknown", "port of icmp"],
)
def test_what_is_no_action_is_refused(action: Action) -> None:
    with pytest.raises(ValueError, match="cannot"):
        encode_actions((action,))


@pytest.mark.parametrize(
    "text",
    [
        "0001",
        "0001000000000000",
        "0009000800000000",
        "00040010000000000000000800000000",
        "000400100000000000180004",
        "00040018000000000019001080004c080000000000000007",
        "0004001800000000ffff00100000232000630000000000ff",
    ],
    ids=["short", "length", "type", "output", "action", "half a pair", "subtype"],
)
def test_malformed_instructions_are_a_decode_error(text: str) -> None:
    with pytest.raises(DecodeError):
        decode_instructions(bytes.fromhex(text))
