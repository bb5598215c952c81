# SPDX-License-Identifier: Apache-2.0
"""Any bytes from a switch give a value or `DecodeError`; any flow comes back equal."""

from __future__ import annotations

import contextlib
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from midoryu.errors import DecodeError
from midoryu.openflow import flow, wire, wire_decode
from midoryu.openflow.flow import Flow, InstallFlow, Match
from midoryu.openflow.wire_action import decode_instructions
from midoryu.openflow.wire_match import decode_match, encode_match
from midoryu.packet import field
from midoryu.packet.address import V4_MAPPED

DECODERS = (
    wire_decode.decode_packet_in,
    wire_decode.decode_flow_removed,
    wire_decode.decode_flow_stats,
    wire_decode.decode_error,
    decode_instructions,
    lambda data: decode_match(data, 0),
)
V4 = st.integers(0, 2**32 - 1).map(lambda value: V4_MAPPED | value)
V6 = st.integers(2**64, 2**128 - 1)
BIT, OCTET, SHORT, MAC = (st.integers(0, 2**bits - 1) for bits in (1, 8, 16, 48))


LOWER = {
    field.IN_PORT: st.integers(1, 2**32 - 1),
    field.ETH_DST: MAC,
    field.ETH_SRC: MAC,
    field.VLAN: st.just(0) | st.integers(0x1000, 0x1FFF),
    field.TUNNEL_KEY: st.integers(0, 2**32 - 1),
}
IP_HEADER = {
    field.IP_TOS: OCTET,
    field.IP_TTL: OCTET,
    field.IP_FRAG: st.integers(0, 2),
}


def _some(strategies: dict[int, st.SearchStrategy[int]]):
    return st.fixed_dictionaries({}, optional=strategies)


@st.composite
def matches(draw: st.DrawFn) -> Match:
    """Draw a match whose prerequisites hold."""
    values: dict[int, int] = draw(_some(LOWER))
    eth_type = draw(st.sampled_from([None, 0x0800, 0x86DD, 0x0806]))
    if eth_type is None:
        return _match(values)
    values[field.ETH_TYPE] = eth_type
    address = V6 if eth_type == 0x86DD else V4
    values |= draw(_some({field.IP_SRC: address, field.IP_DST: address}))
    if eth_type == 0x0806:
        return _match(values)
    values |= draw(_some(IP_HEADER))
    proto = draw(st.sampled_from([None, 1, 6, 17, 58, 132]))
    if proto is not None:
        values[field.IP_PROTO] = proto
        ports = OCTET if proto in (1, 58) else SHORT
        values |= draw(_some({field.L4_SRC: ports, field.L4_DST: ports}))
    if proto == 6:
        flags = {field.TCP_FLAGS: st.integers(0, 0xFFF), field.TCP_SYN: BIT}
        bit = draw(st.sampled_from(sorted(flags)))
        values |= draw(_some({bit: flags[bit]}))
    return _match(values)


def _match(values: dict[int, int]) -> Match:
    bits = sorted(values)
    return Match(sum(bits), tuple(values[bit] for bit in bits))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_decode_or_raise_decode_error(data: bytes) -> None:
    for decode in DECODERS:
        with contextlib.suppress(DecodeError):
            decode(data)


@settings(max_examples=300, deadline=None)
@given(matches())
def test_any_match_comes_back_equal(match: Match) -> None:
    assert decode_match(encode_match(match), 0)[0] == match


@settings(max_examples=300, deadline=None)
@given(matches(), st.data())
def test_a_damaged_message_decodes_or_raises_decode_error(
    match: Match, data: st.DataObject
) -> None:
    value = Flow(10, 1000, match, ((flow.DEC_TTL,), (flow.OUTPUT, 1)), 5)
    mod = wire.encode_flow_mod(InstallFlow(value), 1)
    entry = struct.pack(">HBx", 48 + len(mod) - 48, 10) + mod[4:48] + mod[48:]
    message = bytearray(struct.pack(">BBHIHH4x", 4, 19, 0, 1, 1, 0) + entry)
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(message) - 1))
        message[where] = data.draw(st.integers(0, 255))
    cut = bytes(message[: data.draw(st.integers(0, len(message)))])

    for decode in DECODERS:
        with contextlib.suppress(DecodeError):
            decode(cut)
