# SPDX-License-Identifier: Apache-2.0
"""Any bytes decode or are refused; any rewrite leaves checksums that scapy accepts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midoryu.errors import DecodeError
from midoryu.packet import build
from midoryu.packet.checksum import ones_sum
from midoryu.packet.codec import decode
from midoryu.packet.packet import Packet
from midoryu.packet.protocol import ETH_IPV4, ICMP
from midoryu.packet.rewrite import EmbeddedRewrite, rewrite
from tests.helpers import frames
from tests.helpers.fake_switch import FakeSwitch

V6 = ("fd00::1", "fd00::2")
QUOTE_V4, QUOTE_V6 = frames.udp()[14:], frames.tcp(*V6, payload=b"abc")[14:]
FRAGMENT = frames.fragment(frames.ip() / frames.UDP() / bytes(200), fragsize=104)
SEEDS = [
    frames.tcp(payload=b"abc"),
    frames.tcp(*V6, vlan=3),
    frames.udp(),
    frames.udp(*V6, payload=b"odd"),
    frames.sctp(),
    frames.icmp_echo(vlan=4),
    frames.icmp6_echo(),
    frames.arp(),
    frames.neighbor_solicitation(),
    frames.neighbor_advertisement(),
    frames.icmp_error(QUOTE_V4),
    frames.icmp_error(frames.icmp_echo()[14:]),
    frames.icmp_error(QUOTE_V6, "fd00::9", "fd00::1", kind=1),
    frames.icmp_error(frames.icmp6_echo()[14:], "fd00::9", "fd00::1", kind=1),
    *(frames.ethernet(piece) for piece in FRAGMENT),
]
IPV4_SEEDS = [frame for frame in SEEDS if decode(frame).eth_type == ETH_IPV4]
V4_ADDRESS = st.integers(0x0100_0000, 0xDFFF_FFFF).map(lambda low: 0xFFFF << 32 | low)
V6_ADDRESS = st.integers(0x2000 << 112, 0x3FFF << 112)
PORT = st.integers(0, 0xFFFF)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Take a valid frame, overwrite some bytes, cut or lengthen it."""
    frame = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        frame[draw(st.integers(0, len(frame) - 1))] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        frame = frame[: draw(st.integers(0, len(frame)))]
    return bytes(frame) + draw(st.binary(max_size=8))


@st.composite
def mutated_ipv4(draw: st.DrawFn) -> bytes:
    """Mutate an IPv4 frame, but keep the header checksum right."""
    frame = bytearray(draw(st.sampled_from(IPV4_SEEDS)))
    l3 = decode(bytes(frame)).l3
    for _ in range(draw(st.integers(1, 4))):
        frame[draw(st.integers(l3, len(frame) - 1))] = draw(st.integers(0, 255))
    end = l3 + (frame[l3] & 0xF) * 4
    frame[l3 + 10 : l3 + 12] = b"\0\0"
    total = ones_sum(bytes(frame[l3:end]))
    frame[l3 + 10 : l3 + 12] = (0xFFFF - total).to_bytes(2, "big")
    return bytes(frame)


def use(packet: Packet) -> None:
    """Do with a packet all that can be done with any."""
    assert rewrite(packet, packet.headers.copy()) == packet.frame
    assert packet.l3 <= packet.l3 + packet.l3_length <= len(packet.frame)
    assert packet.l4 <= packet.l3 + packet.l3_length
    if packet.embedded is not None:
        quoted = packet.embedded
        same = EmbeddedRewrite(
            quoted.ip_src, quoted.ip_dst, quoted.l4_src, quoted.l4_dst
        )
        assert rewrite(packet, packet.headers, same) == packet.frame
        other = EmbeddedRewrite(quoted.ip_dst, quoted.ip_src, 1, 2)
        assert len(rewrite(packet, packet.headers, other)) == len(packet.frame)
    if build.may_send_error(packet):
        made = build.icmp_error(
            packet, mac_src=1, mac_dst=2, ip_src=packet.headers.ip_src,
            icmp_type=3, code=1,
        )  # fmt: skip
        assert decode(made).headers.ip_dst == packet.headers.ip_src
    for answer in (build.echo_reply, build.tcp_reset):
        try:
            made = answer(packet, mac_src=1, mac_dst=2)
        except ValueError:
            continue
        assert made[6:12] == b"\0\0\0\0\0\1"


def decode_and_use(frame: bytes) -> None:
    try:
        packet = decode(frame)
    except DecodeError as error:
        reason = str(error)
    else:
        reason = ""
        use(packet)
    assert not reason or " at byte " in reason or "extension headers" in reason


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=120))
def test_any_bytes_are_a_packet_or_a_decode_error(frame: bytes) -> None:
    decode_and_use(frame)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([b"\x08\x00\x45", b"\x86\xdd\x60", b"\x08\x06", b"\x81\x00"]),
    st.binary(max_size=100),
)
def test_any_bytes_behind_a_known_ethertype(start: bytes, rest: bytes) -> None:
    decode_and_use(bytes(12) + start + rest)


@settings(max_examples=500, deadline=None)
@given(mutated())
def test_a_mutated_frame_is_a_packet_or_a_decode_error(frame: bytes) -> None:
    decode_and_use(frame)


@settings(max_examples=500, deadline=None)
@given(mutated_ipv4())
def test_a_mutated_packet_with_a_right_header_checksum(frame: bytes) -> None:
    decode_and_use(frame)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SEEDS), st.data())
def test_a_cut_frame_is_a_packet_or_a_decode_error(
    frame: bytes, data: st.DataObject
) -> None:
    cut = frame[: data.draw(st.integers(0, len(frame) - 1))]
    decode_and_use(cut)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS[:7] + SEEDS[10:14]), st.data())
def test_a_rewrite_leaves_checksums_that_scapy_makes_too(
    frame: bytes, data: st.DataObject
) -> None:
    packet = decode(frame)
    headers = packet.headers.copy()
    address = V4_ADDRESS if packet.eth_type == ETH_IPV4 else V6_ADDRESS
    headers.ip_src, headers.ip_dst = data.draw(address), data.draw(address)
    headers.ip_tos, headers.ip_ttl = data.draw(st.tuples(*[st.integers(0, 255)] * 2))
    if packet.headers.icmp_id:
        headers.icmp_id = data.draw(PORT)
    elif packet.embedded is None:
        headers.l4_src, headers.l4_dst = data.draw(PORT), data.draw(PORT)
    after = rewrite(packet, headers, data.draw(quotes(packet, address)))
    assert after == frames.recomputed(after)
    assert decode(after).headers == headers


@st.composite
def quotes(
    draw: st.DrawFn, packet: Packet, address: st.SearchStrategy[int]
) -> EmbeddedRewrite | None:
    """Draw a new quote where there is one."""
    if packet.embedded is None:
        return None
    source, destination = draw(PORT), draw(PORT)
    if packet.embedded.icmp_type:
        destination = source
    return EmbeddedRewrite(draw(address), draw(address), source, destination)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([SEEDS[10], SEEDS[11], SEEDS[12], SEEDS[13]]), st.data())
def test_a_new_quote_reads_back_and_is_right_in_itself(
    frame: bytes, data: st.DataObject
) -> None:
    packet = decode(frame)
    is_v4 = packet.eth_type == ETH_IPV4
    new = data.draw(quotes(packet, V4_ADDRESS if is_v4 else V6_ADDRESS))
    assert new is not None
    after = decode(rewrite(packet, packet.headers, new))
    quoted = after.embedded
    assert quoted is not None
    assert (quoted.ip_src, quoted.ip_dst) == (new.ip_src, new.ip_dst)
    assert (quoted.l4_src, quoted.l4_dst) == (new.l4_src, new.l4_dst)
    inner = frame[:14] + after.frame[quoted.l3 :]
    assert inner == frames.recomputed(inner)


@settings(max_examples=200, deadline=None)
@given(mutated())
def test_the_model_switch_takes_any_frame(frame: bytes) -> None:
    assert FakeSwitch((1, 2)).send(frame, 1) == []


@pytest.mark.parametrize("frame", SEEDS)
def test_the_seeds_are_valid(frame: bytes) -> None:
    packet = decode(frame)
    use(packet)
    assert packet.l4 or packet.ip_frag or packet.eth_type == 0x0806
    assert packet.ip_proto != ICMP or packet.headers.l4_src in (0, 3, 8)
