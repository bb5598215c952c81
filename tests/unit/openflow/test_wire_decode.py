# SPDX-License-Identifier: Apache-2.0
"""Messages of a switch, built by Ryu, read by us."""

from __future__ import annotations

import struct

import pytest
from ryu.ofproto import ofproto_v1_3 as ofp
from ryu.ofproto import ofproto_v1_3_parser as parser

from midoryu.errors import DecodeError
from midoryu.openflow import flow, pipeline, wire, wire_decode
from midoryu.openflow.flow import Flow, InstallFlow, Match
from midoryu.packet import field
from midoryu.packet.address import parse_ip


def match_bytes(**fields: object) -> bytes:
    """Let Ryu write a match."""
    data = bytearray()
    parser.OFPMatch(**fields).serialize(data, 0)
    return bytes(data)


def message(kind: int, body: bytes, xid: int = 7) -> bytes:
    """Put a header before a body."""
    return struct.pack(">BBHI", 4, kind, 8 + len(body), xid) + body


def packet_in(frame: bytes, **fields: object) -> bytes:
    """Build a packet-in."""
    head = struct.pack(">IHBBQ", 0xFFFFFFFF, len(frame), 2, 10, 0x6D03 << 48)
    return message(ofp.OFPT_PACKET_IN, head + match_bytes(**fields) + b"\0\0" + frame)


def test_a_packet_in_tells_port_table_reason_cookie_and_frame() -> None:
    read = wire_decode.decode_packet_in(packet_in(b"frame", in_port=3))

    assert read == (3, b"frame", 10, 2, 0x6D03 << 48, 0, 0, 0)


def test_a_packet_in_from_a_tunnel_tells_key_source_and_hops() -> None:
    data = packet_in(
        b"f",
        in_port=2,
        tunnel_id=0xFFFFFF,
        tun_ipv4_src="192.0.2.1",
        tun_ipv4_dst="192.0.2.2",
        reg0=5,
        metadata=1,
    )

    read = wire_decode.decode_packet_in(data)

    assert (read.tunnel_key, read.hops) == (0xFFFFFF, 5)
    assert read.tunnel_source == parse_ip("192.0.2.1")


def test_a_flow_removed_tells_how_long_it_stood() -> None:
    body = struct.pack(">QHBBIIHHQQ", 9, 1000, 0, 10, 12, 500_000_000, 2, 0, 77, 5000)
    body += match_bytes(in_port=3, eth_type=0x0800)

    read = wire_decode.decode_flow_removed(message(ofp.OFPT_FLOW_REMOVED, body))

    assert read == (9, 0, 2, 12.5, 77)


def stats_entry(value: Flow) -> bytes:
    """Make a statistics entry out of the flow-mod that would install the flow."""
    mod = wire.encode_flow_mod(InstallFlow(value), 1)
    rest = mod[48:]
    flags = 1 if value.notify_removed else 0
    head = struct.pack(
        ">HBxIIHHHH4xQQQ",
        48 + len(rest),
        value.table,
        1,
        2,
        value.priority,
        value.idle_timeout_s,
        value.hard_timeout_s,
        flags,
        value.cookie,
        3,
        4,
    )
    return head + rest


FLOWS = [
    Flow(
        pipeline.VPORT,
        1000,
        Match(field.IN_PORT | field.ETH_TYPE | field.IP_TOS, (1, 0x0800, 0xB8)),
        ((flow.DEC_TTL,), (flow.SET_TUNNEL, 7, parse_ip("10.0.0.1")), (flow.OUTPUT, 1)),
        99,
        idle_timeout_s=60,
        hard_timeout_s=5,
        fin_timeout_s=2,
        notify_removed=True,
    ),
    Flow(pipeline.CLASSIFY, 0, Match(0, ()), (), 1),
]


@pytest.mark.parametrize("more", [0, 1], ids=["last", "more follow"])
def test_flow_statistics_give_back_the_flows_that_were_installed(more: int) -> None:
    body = struct.pack(">HH4x", 1, more) + b"".join(map(stats_entry, FLOWS))

    read = wire_decode.decode_flow_stats(message(ofp.OFPT_MULTIPART_REPLY, body))

    assert read == (FLOWS, bool(more))


def test_an_error_tells_its_type_code_and_the_refused_message() -> None:
    data = message(ofp.OFPT_ERROR, struct.pack(">HH", 4, 9) + b"refused", xid=55)

    assert wire_decode.decode_error(data) == (4, 9, 55, b"refused")


@pytest.mark.parametrize(
    ("decode", "data"),
    [
        (wire_decode.decode_packet_in, packet_in(b"", in_port=1)[:33]),
        (wire_decode.decode_packet_in, packet_in(b"", in_port=1)[:-3]),
        (wire_decode.decode_flow_removed, message(11, bytes(47))),
        (wire_decode.decode_flow_removed, message(11, bytes(40))),
        (wire_decode.decode_flow_stats, message(19, struct.pack(">HH4x", 4, 0))),
        (wire_decode.decode_flow_stats, message(19, struct.pack(">HH4xH", 1, 0, 9))),
        (wire_decode.decode_error, message(1, b"")),
    ],
    ids=["cut", "match cut", "no match", "removed cut", "kind", "entry cut", "error"],
)
def test_a_malformed_message_is_a_decode_error(decode, data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(data)
