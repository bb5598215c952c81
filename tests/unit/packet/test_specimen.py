# SPDX-License-Identifier: Apache-2.0
"""Specimens decode to the fields that they were made from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midoryu.packet import field, protocol
from midoryu.packet.address import V4_MAPPED, parse_ip
from midoryu.packet.codec import decode
from midoryu.packet.packet import Packet
from midoryu.packet.specimen import specimen

PORTED = (protocol.TCP, protocol.UDP, protocol.SCTP)
OCTET = st.integers(0, 255)
PORT = st.integers(0, 0xFFFF)
MAC = st.integers(0, (1 << 48) - 1)
# Sources of other classes must not be on the wire.
V4 = st.integers(1 << 24, (224 << 24) - 1).map(lambda word: V4_MAPPED | word)
V6 = st.integers(1 << 64, (0xFF << 120) - 1)


def values_of(packet: Packet) -> dict[int, int]:
    headers = packet.headers
    return {
        field.ETH_DST: headers.eth_dst,
        field.ETH_SRC: headers.eth_src,
        field.ETH_TYPE: packet.eth_type,
        field.VLAN: packet.vlan,
        field.IP_TOS: headers.ip_tos,
        field.IP_PROTO: packet.ip_proto,
        field.IP_SRC: headers.ip_src,
        field.IP_DST: headers.ip_dst,
        field.IP_FRAG: packet.ip_frag,
        field.L4_SRC: headers.l4_src,
        field.L4_DST: headers.l4_dst,
        field.TCP_FLAGS: packet.tcp_flags,
        field.IP_TTL: headers.ip_ttl,
    }


def ip_fields(
    eth_type: int, address: st.SearchStrategy[int]
) -> st.SearchStrategy[dict[int, int]]:
    return st.fixed_dictionaries(
        {
            field.ETH_TYPE: st.just(eth_type),
            field.IP_SRC: address,
            field.IP_DST: address,
            field.IP_PROTO: st.sampled_from(PORTED),
        },
        optional={
            field.ETH_DST: MAC,
            field.ETH_SRC: MAC,
            field.IP_TOS: OCTET,
            field.IP_TTL: st.integers(1, 255),
            field.L4_SRC: PORT,
            field.L4_DST: PORT,
        },
    )


@given(
    ip_fields(protocol.ETH_IPV4, V4) | ip_fields(protocol.ETH_IPV6, V6),
    st.integers(0, 0x3F),
)
def test_what_was_given_comes_back(values: dict[int, int], flags: int) -> None:
    if values[field.IP_PROTO] == protocol.TCP:
        values[field.TCP_FLAGS] = flags
    found = values_of(decode(specimen(values)))
    assert {bit: found[bit] for bit in values} == values


def test_tcp_is_in_the_middle_of_a_connection_unless_said_otherwise() -> None:
    values = {field.ETH_TYPE: protocol.ETH_IPV4, field.IP_PROTO: protocol.TCP}
    assert decode(specimen(values)).tcp_flags == protocol.TCP_ACK


@pytest.mark.parametrize(
    ("eth_type", "proto"),
    [(protocol.ETH_IPV4, protocol.ICMP), (protocol.ETH_IPV6, protocol.ICMPV6)],
)
def test_icmp_has_its_type_and_code(eth_type: int, proto: int) -> None:
    values = {
        field.ETH_TYPE: eth_type,
        field.IP_PROTO: proto,
        field.L4_SRC: 3,
        field.L4_DST: 1,
    }
    headers = decode(specimen(values)).headers
    assert (headers.l4_src, headers.l4_dst) == (3, 1)


def test_a_tag_and_an_unknown_ethertype_come_back() -> None:
    values = {field.ETH_TYPE: 0x88B5, field.VLAN: field_vlan(7)}
    packet = decode(specimen(values))
    assert (packet.eth_type, packet.vlan) == (0x88B5, values[field.VLAN])
    assert decode(specimen({field.ETH_TYPE: 0x88B5})).vlan == 0


def field_vlan(vid: int) -> int:
    """Return the VLAN field of a tagged frame, as the codec reads it."""
    frame = bytes(12) + bytes.fromhex("8100") + vid.to_bytes(2, "big")
    return decode(frame + bytes.fromhex("88b5") + bytes(46)).vlan


def test_another_protocol_has_its_number() -> None:
    values = {field.ETH_TYPE: protocol.ETH_IPV4, field.IP_PROTO: 47}
    assert decode(specimen(values)).ip_proto == 47


@pytest.mark.parametrize(
    "values",
    [
        {field.ETH_TYPE: protocol.ETH_ARP},
        {field.ETH_TYPE: protocol.ETH_IPV4, field.IP_FRAG: 1},
        {field.ETH_TYPE: protocol.ETH_IPV6, field.IP_FRAG: 1},
        {field.ETH_TYPE: protocol.ETH_IPV4, field.IP_SRC: parse_ip("fd00::1")},
        {field.ETH_TYPE: protocol.ETH_IPV6, field.IP_DST: parse_ip("10.0.0.1")},
    ],
)
def test_what_makes_no_frame_is_refused(values: dict[int, int]) -> None:
    with pytest.raises(ValueError, match="no specimen|other addresses"):
        specimen(values)
