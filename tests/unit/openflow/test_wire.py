# SPDX-License-Identifier: Apache-2.0
"""Our bytes, judged by Ryu's own parser."""

from __future__ import annotations

import pytest
from ryu.ofproto import ofproto_v1_3 as ofp
from ryu.ofproto import ofproto_v1_3_parser as parser
from ryu.ofproto.ofproto_parser import msg as parse_message
from ryu.ofproto.ofproto_protocol import ProtocolDesc

from midoryu.openflow import flow, pipeline, wire
from midoryu.openflow.flow import (
    Flow,
    InstallFlow,
    Match,
    PacketOut,
    RemoveFlow,
    RemoveMeter,
    SetMeter,
)
from midoryu.packet import field
from midoryu.packet.address import parse_ip, parse_mac

_DATAPATH = ProtocolDesc(version=ofp.OFP_VERSION)
# Ryu registers parsers only for what a switch sends.
parser._MSG_PARSERS.setdefault(ofp.OFPT_FLOW_MOD, parser.OFPFlowMod.parser)

MAC_1, MAC_2 = parse_mac("02:00:00:00:00:01"), parse_mac("02:00:00:00:00:02")
IP_1, IP_2 = parse_ip("10.0.0.1"), parse_ip("10.0.0.2")
NINE_FIELDS = Match(
    field.IN_PORT
    | field.ETH_DST
    | field.ETH_SRC
    | field.ETH_TYPE
    | field.IP_PROTO
    | field.IP_SRC
    | field.IP_DST
    | field.L4_SRC
    | field.L4_DST,
    (3, MAC_1, MAC_2, 0x0800, 6, IP_1, IP_2, 1234, 80),
)


def ryu_reads(data: bytes) -> object:
    """Let Ryu parse a whole message."""
    version, kind, length, xid = data[0], data[1], int.from_bytes(data[2:4], "big"), 0
    assert length == len(data)
    return parse_message(_DATAPATH, version, kind, length, xid, data)


def test_a_flow_with_nine_fields_and_every_timeout_is_what_ryu_reads() -> None:
    value = Flow(
        pipeline.VPORT,
        1000,
        NINE_FIELDS,
        ((flow.DEC_TTL,), (flow.OUTPUT, 7)),
        pipeline.cookie(pipeline.COOKIE_REACTIVE, 5),
        idle_timeout_s=60,
        hard_timeout_s=300,
        fin_timeout_s=2,
        notify_removed=True,
    )

    read = ryu_reads(wire.encode_flow_mod(InstallFlow(value), 9))

    assert (read.table_id, read.priority, read.cookie) == (10, 1000, value.cookie)
    assert (read.idle_timeout, read.hard_timeout) == (60, 300)
    assert (read.command, read.flags) == (ofp.OFPFC_ADD, ofp.OFPFF_SEND_FLOW_REM)
    assert dict(read.match.items()) == {
        "in_port": 3,
        "eth_dst": "02:00:00:00:00:01",
        "eth_src": "02:00:00:00:00:02",
        "eth_type": 0x0800,
        "ip_proto": 6,
        "ipv4_src": "10.0.0.1",
        "ipv4_dst": "10.0.0.2",
        "tcp_src": 1234,
        "tcp_dst": 80,
    }
    (instruction,) = read.instructions
    fin, ttl, output = instruction.actions
    assert (fin.fin_idle_timeout, fin.fin_hard_timeout) == (2, 2)
    assert isinstance(ttl, parser.OFPActionDecNwTtl)
    assert output.port == 7


def test_a_removal_is_strict_and_names_the_same_match() -> None:
    value = Flow(10, 77, NINE_FIELDS, ((flow.OUTPUT, 7),), 5)

    read = ryu_reads(wire.encode_flow_mod(RemoveFlow(value), 1))

    assert read.command == ofp.OFPFC_DELETE_STRICT
    assert (read.table_id, read.priority) == (10, 77)
    assert read.match["tcp_dst"] == 80
    assert (read.out_port, read.out_group) == (ofp.OFPP_ANY, ofp.OFPG_ANY)
    assert read.instructions == []


def test_a_packet_out_carries_actions_and_frame() -> None:
    value = PacketOut(b"frame", ((flow.SET_TUNNEL, 0xFFFFFF, IP_1), (flow.OUTPUT, 2)))

    wanted = parser.OFPPacketOut(
        _DATAPATH,
        ofp.OFP_NO_BUFFER,
        ofp.OFPP_CONTROLLER,
        [
            parser.OFPActionSetField(tunnel_id=0xFFFFFF),
            parser.OFPActionSetField(tun_ipv4_dst="10.0.0.1"),
            parser.OFPActionOutput(2, 0),
        ],
        b"frame",
    )
    wanted.set_xid(1)
    wanted.serialize()
    assert wire.encode_packet_out(value, 1) == bytes(wanted.buf)


def test_deletion_by_cookie_names_cookie_mask_and_every_table() -> None:
    read = ryu_reads(wire.encode_delete_by_cookie(0x6D << 56, 0xFF << 56, xid=1))

    assert read.command == ofp.OFPFC_DELETE
    assert (read.cookie, read.cookie_mask) == (0x6D << 56, 0xFF << 56)
    assert read.table_id == ofp.OFPTT_ALL
    assert dict(read.match.items()) == {}


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (
            wire.encode_flow_mod(SetMeter(3, 4000, 1000), 1),
            parser.OFPMeterMod(
                _DATAPATH,
                ofp.OFPMC_ADD,
                ofp.OFPMF_PKTPS | ofp.OFPMF_BURST,
                3,
                [parser.OFPMeterBandDrop(4000, 1000)],
            ),
        ),
        (
            wire.encode_meter_change(SetMeter(3, 4000, 1000), 1),
            parser.OFPMeterMod(
                _DATAPATH,
                ofp.OFPMC_MODIFY,
                ofp.OFPMF_PKTPS | ofp.OFPMF_BURST,
                3,
                [parser.OFPMeterBandDrop(4000, 1000)],
            ),
        ),
        (
            wire.encode_flow_mod(RemoveMeter(3), 1),
            parser.OFPMeterMod(_DATAPATH, ofp.OFPMC_DELETE, 0, 3, []),
        ),
        (
            wire.encode_flow_stats_request(0x6D << 56, 0xFF << 56, 1),
            parser.OFPFlowStatsRequest(
                _DATAPATH, cookie=0x6D << 56, cookie_mask=0xFF << 56
            ),
        ),
        (wire.encode_barrier(1), parser.OFPBarrierRequest(_DATAPATH)),
        (
            wire.encode_set_async(1),
            parser.OFPSetAsync(_DATAPATH, [7, 0], [7, 0], [15, 0]),
        ),
    ],
    ids=["add meter", "change meter", "remove meter", "stats", "barrier", "async"],
)
def test_a_request_has_the_bytes_that_ryu_would_send(data: bytes, wanted) -> None:
    wanted.set_xid(1)
    wanted.serialize()

    assert data == bytes(wanted.buf)
