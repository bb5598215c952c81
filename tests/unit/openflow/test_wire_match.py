# SPDX-License-Identifier: Apache-2.0
"""Every field on the wire, judged by Ryu, and back."""

from __future__ import annotations

import pytest
from ryu.ofproto import ofproto_v1_3_parser as parser

from midoryu.errors import DecodeError
from midoryu.openflow.flow import Match
from midoryu.openflow.wire_match import decode_match, encode_match
from midoryu.packet import field, protocol
from midoryu.packet.address import parse_ip, parse_mac

IP_4, IP_6 = parse_ip("192.0.2.9"), parse_ip("2001:db8::9")
ETH, PROTO = field.ETH_TYPE, field.IP_PROTO
L4 = ETH | PROTO | field.L4_SRC | field.L4_DST

CASES = {
    "nothing": (Match(0, ()), {}),
    "in_port": (Match(field.IN_PORT, (9,)), {"in_port": 9}),
    "macs": (
        Match(field.ETH_DST | field.ETH_SRC, (1, parse_mac("ff:ff:ff:ff:ff:ff"))),
        {"eth_dst": "00:00:00:00:00:01", "eth_src": "ff:ff:ff:ff:ff:ff"},
    ),
    "untagged": (Match(field.VLAN, (0,)), {"vlan_vid": 0}),
    "vlan": (Match(field.VLAN, (0x1000 | 7,)), {"vlan_vid": 0x1007}),
    "arp": (
        Match(
            ETH | PROTO | field.IP_SRC | field.IP_DST,
            (protocol.ETH_ARP, 1, IP_4, IP_4 + 1),
        ),
        {
            "eth_type": 0x0806,
            "arp_op": 1,
            "arp_spa": "192.0.2.9",
            "arp_tpa": "192.0.2.10",
        },
    ),
    "ipv6 addresses": (
        Match(ETH | field.IP_SRC | field.IP_DST, (protocol.ETH_IPV6, IP_6, IP_6 + 1)),
        {"eth_type": 0x86DD, "ipv6_src": "2001:db8::9", "ipv6_dst": "2001:db8::a"},
    ),
    "tos": (
        Match(ETH | field.IP_TOS, (protocol.ETH_IPV4, 0xB9)),
        {"eth_type": 0x0800, "ip_dscp": 46, "ip_ecn": 1},
    ),
    "udp over ipv6": (
        Match(L4, (protocol.ETH_IPV6, protocol.UDP, 53, 54)),
        {"eth_type": 0x86DD, "ip_proto": 17, "udp_src": 53, "udp_dst": 54},
    ),
    "sctp": (
        Match(L4, (protocol.ETH_IPV4, protocol.SCTP, 1, 2)),
        {"eth_type": 0x0800, "ip_proto": 132, "sctp_src": 1, "sctp_dst": 2},
    ),
    "icmp": (
        Match(L4, (protocol.ETH_IPV4, protocol.ICMP, 8, 0)),
        {"eth_type": 0x0800, "ip_proto": 1, "icmpv4_type": 8, "icmpv4_code": 0},
    ),
    "neighbour solicitation": (
        Match(L4 | field.ND_TARGET, (protocol.ETH_IPV6, 58, 135, 0, IP_6)),
        {
            "eth_type": 0x86DD,
            "ip_proto": 58,
            "icmpv6_type": 135,
            "icmpv6_code": 0,
            "ipv6_nd_target": "2001:db8::9",
        },
    ),
    "ttl": (
        Match(ETH | field.IP_TTL, (protocol.ETH_IPV4, 64)),
        {"eth_type": 0x0800, "nw_ttl": 64},
    ),
    "block of ports": (
        Match(ETH | PROTO | field.PORT_BLOCK, (protocol.ETH_IPV4, protocol.TCP, 17)),
        {"eth_type": 0x0800, "ip_proto": 6, "tcp_dst": (17 * 64, 0xFFC0)},
    ),
    "what opens no connection": (
        Match(ETH | PROTO | field.TCP_SYN, (protocol.ETH_IPV4, protocol.TCP, 0)),
        {"eth_type": 0x0800, "ip_proto": 6, "tcp_flags_nxm": (0, 2)},
    ),
    "loopback": (
        Match(ETH | field.SOURCE_OCTET, (protocol.ETH_IPV4, 127)),
        {"eth_type": 0x0800, "ipv4_src": ("127.0.0.0", "255.0.0.0")},
    ),
    "IPv6 multicast": (
        Match(ETH | field.SOURCE_OCTET, (protocol.ETH_IPV6, 255)),
        {"eth_type": 0x86DD, "ipv6_src": ("ff00::", "ff00::")},
    ),
    "one station": (
        Match(field.ETH_GROUP, (0,)),
        {"eth_dst": ("00:00:00:00:00:00", "01:00:00:00:00:00")},
    ),
    "a group": (
        Match(field.ETH_GROUP, (1,)),
        {"eth_dst": ("01:00:00:00:00:00", "01:00:00:00:00:00")},
    ),
    "tunnel key": (Match(field.TUNNEL_KEY, (0xFFFFFF,)), {"tunnel_id": 0xFFFFFF}),
}


@pytest.mark.parametrize(("match", "wanted"), CASES.values(), ids=CASES.keys())
def test_a_match_is_what_ryu_reads(match: Match, wanted: dict[str, object]) -> None:
    data = encode_match(match)

    assert len(data) % 8 == 0
    assert dict(parser.OFPMatch.parser(data, 0).items()) == wanted


@pytest.mark.parametrize("match", [match for match, _ in CASES.values()], ids=CASES)
def test_a_match_comes_back_equal(match: Match) -> None:
    data = encode_match(match)

    assert decode_match(data, 0) == (match, len(data))


@pytest.mark.parametrize(
    ("ours", "on_the_wire"), [(0, 0), (1, 1), (2, 3)], ids=["none", "first", "later"]
)
def test_a_fragment_class_is_a_nicira_field(ours: int, on_the_wire: int) -> None:
    match = Match(ETH | field.IP_FRAG, (protocol.ETH_IPV4, ours))

    data = encode_match(match)

    assert bytes((0x00, 0x01, 0x34, 0x01, on_the_wire)) in data
    assert decode_match(data, 0)[0] == match


def test_tcp_flags_come_back_in_the_form_that_ovs_answers_with() -> None:
    match = Match(ETH | PROTO | field.TCP_FLAGS, (protocol.ETH_IPV4, 6, 0x12))
    ours = encode_match(match)
    head, nicira = ours[:15], ours[15:21]
    assert nicira == bytes.fromhex("000144020012")
    # ONF experimenter field 42 with a mask over the twelve flags.
    onf = bytes.fromhex("ffff55084f4e460000120fff")
    answered = bytearray((head + onf).ljust(32, b"\0"))
    answered[2:4] = (15 + len(onf)).to_bytes(2, "big")

    assert decode_match(bytes(answered), 0)[0] == match


@pytest.mark.parametrize(
    "match",
    [
        Match(field.IP_SRC, (IP_4,)),
        Match(ETH | field.L4_SRC, (protocol.ETH_IPV4, 5)),
        Match(field.ICMP_ID, (5,)),
        Match(L4, (protocol.ETH_IPV4, 47, 1, 2)),
    ],
    ids=["no eth_type", "no ip_proto", "icmp id", "gre has no ports"],
)
def test_a_field_without_its_prerequisite_is_refused(match: Match) -> None:
    with pytest.raises(ValueError, match="cannot match"):
        encode_match(match)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0001",
        "00010003",
        "0001000880000004",
        "0000000400000000",
        "00010008ffff0000",
    ],
)
def test_a_malformed_match_is_a_decode_error(text: str) -> None:
    with pytest.raises(DecodeError):
        decode_match(bytes.fromhex(text), 0)


def test_a_partly_masked_field_is_a_decode_error() -> None:
    # Of eth_dst, the group bit alone is matched, or all of it.
    data = bytes.fromhex("000100148000070c010000000000030000000000") + bytes(4)

    with pytest.raises(DecodeError, match="mask"):
        decode_match(data, 0)
