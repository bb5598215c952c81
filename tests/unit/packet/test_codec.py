# SPDX-License-Identifier: Apache-2.0
"""Frames made by scapy decode to the fields that they were made from."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from midoryu.errors import DecodeError
from midoryu.packet.address import parse_ip, parse_mac
from midoryu.packet.codec import decode
from midoryu.packet.packet import Headers
from midoryu.packet.protocol import (
    FRAG_FIRST,
    FRAG_LATER,
    FRAG_NONE,
    ICMP,
    SCTP,
    TCP,
    UDP,
)
from tests.helpers import frames

V4 = {"src": "10.0.0.1", "dst": "10.0.0.2"}
V6 = {"src": "fd00::1", "dst": "fd00::2"}


@pytest.mark.parametrize("ends", [V4, V6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("vlan", [0, 0xABC], ids=["untagged", "tagged"])
def test_tcp_has_all_its_fields(ends: dict[str, str], vlan: int) -> None:
    frame = frames.tcp(**ends, flags="FA", ttl=7, tos=0xB9, vlan=vlan, payload=b"hey")
    packet = decode(frame)
    assert packet.headers == Headers(
        eth_dst=parse_mac(frames.MAC_2),
        eth_src=parse_mac(frames.MAC_1),
        ip_src=parse_ip(ends["src"]),
        ip_dst=parse_ip(ends["dst"]),
        l4_src=1000,
        l4_dst=80,
        ip_ttl=7,
        ip_tos=0xB9,
    )
    assert packet.vlan == (0x1ABC if vlan else 0)
    assert packet.eth_type == (0x0800 if ends is V4 else 0x86DD)
    assert (packet.ip_proto, packet.tcp_flags, packet.ip_frag) == (TCP, 0x11, FRAG_NONE)
    assert packet.l3 == (18 if vlan else 14)
    assert packet.l4 == packet.l3 + (20 if ends is V4 else 40)
    assert packet.l3_length == len(frame) - packet.l3


@pytest.mark.parametrize(("make", "proto"), [(frames.udp, UDP), (frames.sctp, SCTP)])
@pytest.mark.parametrize("ends", [V4, V6], ids=["IPv4", "IPv6"])
def test_ports_of_udp_and_sctp(
    make: Callable[..., bytes], proto: int, ends: dict[str, str]
) -> None:
    packet = decode(make(**ends, sport=11, dport=12))
    assert (packet.ip_proto, packet.headers.l4_src, packet.headers.l4_dst) == (
        proto,
        11,
        12,
    )


def test_padding_is_not_counted() -> None:
    packet = decode(frames.udp() + bytes(18))
    assert packet.l3_length == 28


def test_ip_options_move_layer_4() -> None:
    header = frames.ip()
    header.options = [frames.IPOption(b"\x94\x04\x00\x00")]
    packet = decode(frames.ethernet(header / frames.UDP(sport=9, dport=10)))
    assert (packet.l4, packet.headers.l4_dst) == (38, 10)


def test_arp_addresses_stand_in_the_ip_fields() -> None:
    packet = decode(frames.arp(operation=2, target_mac=frames.MAC_2))
    assert packet.headers.ip_src == parse_ip("10.0.0.1")
    assert packet.headers.ip_dst == parse_ip("10.0.0.2")
    assert (packet.ip_proto, packet.l3, packet.l4) == (2, 14, 0)
    assert packet.arp_sha == parse_mac(frames.MAC_1)
    assert packet.arp_tha == parse_mac(frames.MAC_2)


def test_fragments_are_told_apart_and_later_ones_have_no_ports() -> None:
    body = frames.ip() / frames.UDP(sport=5, dport=53) / (b"x" * 300)
    first, *later = (
        decode(frames.ethernet(piece)) for piece in frames.fragment(body, fragsize=104)
    )
    assert (first.ip_frag, first.headers.l4_dst, first.l4) == (FRAG_FIRST, 53, 34)
    assert len(later) == 2
    for packet in later:
        assert (packet.ip_frag, packet.headers.l4_dst, packet.l4) == (FRAG_LATER, 0, 0)
        assert packet.ip_proto == UDP


@pytest.mark.parametrize(
    ("offset", "more", "frag", "proto", "port"),
    [
        (0, 1, FRAG_FIRST, UDP, 53),
        (1, 1, FRAG_LATER, 44, 0),
        (2, 0, FRAG_LATER, 44, 0),
        (0, 0, FRAG_NONE, UDP, 53),
    ],
    ids=["first", "middle", "last", "atomic"],
)
def test_ipv6_fragments(
    offset: int, more: int, frag: int, proto: int, port: int
) -> None:
    header = frames.IPv6ExtHdrFragment(offset=offset, m=more, nh=17)
    body = frames.ip("fd00::1", "fd00::2") / header / frames.UDP(sport=5, dport=53)
    packet = decode(frames.ethernet(body))
    assert (packet.ip_frag, packet.ip_proto) == (frag, proto)
    assert packet.headers.l4_dst == port
    assert packet.l4 == (62 if port else 0)


def test_ipv6_extension_headers_are_walked_to_the_last() -> None:
    options = bytes((60, 0, 1, 4, 0, 0, 0, 0))
    routing = bytes((44, 0, 4, 0, 0, 0, 0, 0))
    atomic = bytes((51, 0, 0, 0, 0, 0, 0, 1))
    authentication = bytes((17, 1)) + bytes(10)
    destination = bytes((43, 1)) + bytes(14)
    chain = options + destination + routing + atomic + authentication
    udp = bytes(frames.UDP(sport=1, dport=2, chksum=0xFFFF, len=8))
    header = frames.ip("fd00::1", "fd00::2", proto=0)
    packet = decode(frames.ethernet(header / frames.Raw(chain + udp)))
    assert (packet.ip_proto, packet.l4) == (UDP, 54 + len(chain))
    assert packet.headers.l4_dst == 2


def test_an_extension_header_may_end_the_packet() -> None:
    header = frames.ip("fd00::1", "fd00::2", proto=60)
    last = frames.Raw(bytes((59, 0, 1, 4, 0, 0, 0, 0)))
    packet = decode(frames.ethernet(header / last))
    assert (packet.ip_proto, packet.l4) == (59, 62)


def test_a_second_tag_stays_unread() -> None:
    inner = frames.Dot1Q(vlan=6) / frames.ip() / frames.UDP()
    packet = decode(frames.ethernet(inner, vlan=5))
    assert (packet.vlan, packet.eth_type, packet.l3) == (0x1005, 0x8100, 0)


def test_a_service_tag_is_a_tag_as_in_ovs() -> None:
    frame = bytearray(frames.udp(vlan=5))
    frame[12:14] = b"\x88\xa8"
    packet = decode(bytes(frame))
    assert (packet.vlan, packet.eth_type, packet.l3) == (0x1005, 0x0800, 18)


@pytest.mark.parametrize(
    ("ending", "eth_type"),
    [
        (b"\x88\xccabc", 0x88CC),
        (b"\x00\x04\x42\x42\x03\x00", 0x05FF),
        (b"\x00\x08\xaa\xaa\x03\x00\x00\x00\x88\xcc", 0x88CC),
        (b"\x00\x08\xaa\xaa\x03\x00\x00\x00\x00\x08", 0x05FF),
        (b"\x00\x08\xaa\xaa\x03\x00\x00", 0x05FF),
    ],
    ids=["unknown type", "LLC", "SNAP", "SNAP without type", "cut SNAP"],
)
def test_other_ethertypes_have_no_layer_3(ending: bytes, eth_type: int) -> None:
    packet = decode(frames.tcp()[:12] + ending)
    assert (packet.eth_type, packet.l3, packet.headers.ip_src) == (eth_type, 0, 0)


def test_ip_behind_snap_is_read() -> None:
    frame = frames.udp()
    snap = b"\x00\x24\xaa\xaa\x03\x00\x00\x00"
    packet = decode(frame[:12] + snap + frame[12:])
    assert (packet.eth_type, packet.l3, packet.headers.l4_dst) == (0x0800, 22, 53)


def test_other_ip_protocols_have_an_offset_but_no_ports() -> None:
    packet = decode(frames.ethernet(frames.ip(proto=47) / frames.Raw(b"abcd")))
    assert (packet.ip_proto, packet.l4, packet.headers.l4_src) == (47, 34, 0)


@pytest.mark.parametrize("ends", [V4, V6], ids=["IPv4", "IPv6"])
def test_icmp_of_the_other_family_is_opaque(ends: dict[str, str]) -> None:
    other = 58 if ends is V4 else ICMP
    frame = frames.ethernet(frames.ip(**ends, proto=other) / frames.Raw(bytes(8)))
    packet = decode(frame)
    assert (packet.headers.l4_src, packet.l4 > 0) == (0, True)


def patched(frame: bytes, at: int, new: bytes, *, fix: bool = True) -> bytes:
    """Replace bytes, then correct the IPv4 checksum unless told otherwise."""
    changed = bytearray(frame)
    changed[at : at + len(new)] = new
    if fix:
        changed[24:26] = b"\0\0"
        total = int.from_bytes(changed[14:34], "big") % 0xFFFF
        changed[24:26] = (0xFFFF - total).to_bytes(2, "big")
    return bytes(changed)


TCP_V4 = frames.tcp()
TCP_V6 = frames.tcp(**V6)
RAW_V6 = frames.ethernet(frames.ip(**V6, proto=0) / frames.Raw(bytes((0, 0)) * 4 * 12))
BAD = {
    "Ethernet header at byte 0: only 13 bytes": TCP_V4[:13],
    "VLAN tag at byte 14": frames.tcp(vlan=1)[:17],
    "ARP header at byte 14: only 27": frames.arp()[:41],
    "ARP header at byte 14: not for": patched(frames.arp(), 14, b"\0\6", fix=False),
    "IPv4 header at byte 14: only 19": TCP_V4[:33],
    "IPv4 header at byte 14: version 6": patched(TCP_V4, 14, b"\x65"),
    "header length 16 is below 20": patched(TCP_V4, 14, b"\x44"),
    "total length 900 exceeds the frame's 40 bytes": patched(TCP_V4, 16, b"\x03\x84"),
    "total length 19 is below": patched(TCP_V4, 16, b"\x00\x13"),
    "total length 40 is below the header's 60": patched(TCP_V4, 14, b"\x4f"),
    "IPv4 header at byte 14: wrong checksum": patched(TCP_V4, 22, b"\1", fix=False),
    "martian source 224.0.0.1": patched(TCP_V4, 26, bytes((224, 0, 0, 1))),
    "martian source 255.255.255.255": patched(TCP_V4, 26, b"\xff" * 4),
    "TCP fragment at offset 8": patched(TCP_V4, 20, b"\0\1"),
    "TCP header at byte 34: only 19": patched(TCP_V4, 16, b"\0\x27")[:53],
    "IPv6 header at byte 14: only 39": TCP_V6[:53],
    "IPv6 header at byte 14: version 4": patched(TCP_V6, 14, b"\x45", fix=False),
    "packet of 60 bytes exceeds the frame's 59": TCP_V6[:-1],
    "martian source ff02::1": frames.tcp("ff02::1", "fd00::2"),
    "IPv4-mapped": frames.tcp("::ffff:10.0.0.1", "fd00::2"),
    "IPv4-mapped address": frames.tcp("fd00::1", "::ffff:10.0.0.1"),
    "more than 8": RAW_V6,
    "extension header at byte 54: cut": patched(RAW_V6[:60], 18, b"\0\6", fix=False),
    "extension header ends at byte": patched(RAW_V6, 55, b"\xff", fix=False),
    "UDP header at byte 34: only 4": frames.ethernet(
        frames.ip(proto=17) / frames.Raw(bytes(4))
    ),
}


@pytest.mark.parametrize(("reason", "frame"), BAD.items(), ids=BAD)
def test_bad_frames_are_refused_with_reason_and_place(
    reason: str, frame: bytes
) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode(frame)


@pytest.mark.parametrize("source", ["0.0.0.0", "240.0.0.1", "127.0.0.1", "::"])
def test_odd_sources_that_are_no_groups_pass(source: str) -> None:
    destination = "255.255.255.255" if "." in source else "fd00::2"
    assert decode(frames.udp(source, destination)).l4 > 0
