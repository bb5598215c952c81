# SPDX-License-Identifier: Apache-2.0
"""A rewritten frame is the frame that scapy makes from the new fields."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from midoryu.packet.address import parse_ip
from midoryu.packet.codec import decode
from midoryu.packet.packet import Headers
from midoryu.packet.rewrite import EmbeddedRewrite, rewrite, set_ttl
from tests.helpers import frames

V4 = ("10.0.0.1", "10.0.0.2", "192.0.2.7", "198.51.100.9")
V6 = ("fd00::1", "fd00::2", "2001:db8::7", "2001:db8:1::9")
FAMILIES = pytest.mark.parametrize("ips", [V4, V6], ids=["IPv4", "IPv6"])
Ips = tuple[str, str, str, str]


def changed(frame: bytes, **changes: int) -> bytes:
    """Rewrite some fields of a frame."""
    packet = decode(frame)
    headers = packet.headers.copy()
    for name, value in changes.items():
        setattr(headers, name, value)
    return rewrite(packet, headers)


@FAMILIES
@pytest.mark.parametrize("make", [frames.tcp, frames.udp])
@pytest.mark.parametrize("vlan", [0, 9], ids=["untagged", "tagged"])
def test_all_fields_of_tcp_and_udp(
    make: Callable[..., bytes], ips: Ips, vlan: int
) -> None:
    before = make(*ips[:2], 1000, 80, payload=b"hello", vlan=vlan)
    after = changed(
        before,
        eth_src=0x02AA,
        eth_dst=0x02BB,
        ip_src=parse_ip(ips[2]),
        ip_dst=parse_ip(ips[3]),
        l4_src=40000,
        l4_dst=8080,
        ip_ttl=9,
        ip_tos=0xB9,
    )
    assert after == make(
        *ips[2:],
        40000,
        8080,
        payload=b"hello",
        ttl=9,
        tos=0xB9,
        eth_src="00:00:00:00:02:aa",
        eth_dst="00:00:00:00:02:bb",
        vlan=vlan,
    )


@FAMILIES
def test_sctp_ports_with_their_crc(ips: Ips) -> None:
    new_ip = parse_ip(ips[2])
    after = changed(frames.sctp(*ips[:2], 1, 2), ip_src=new_ip, l4_src=3, l4_dst=4)
    assert after == frames.sctp(ips[2], ips[1], 3, 4)


def test_an_sctp_address_alone_leaves_the_crc() -> None:
    after = changed(frames.sctp(), ip_dst=parse_ip("192.0.2.7"))
    assert after == frames.sctp("10.0.0.1", "192.0.2.7")


@pytest.mark.parametrize(
    ("make", "ips"), [(frames.icmp_echo, V4), (frames.icmp6_echo, V6)]
)
def test_an_icmp_query_identifier(make: Callable[..., bytes], ips: Ips) -> None:
    new_ip = parse_ip(ips[2])
    after = changed(make(*ips[:2], identifier=7), ip_src=new_ip, icmp_id=40000)
    assert after == make(ips[2], ips[1], identifier=40000)


def test_an_icmp_type() -> None:
    after = changed(frames.icmp_echo(), l4_src=0)
    assert after == frames.icmp_echo(reply=True)


def test_arp_addresses() -> None:
    after = changed(
        frames.arp(), ip_src=parse_ip("192.0.2.1"), ip_dst=parse_ip("192.0.2.2")
    )
    assert after == frames.arp("192.0.2.1", "192.0.2.2")


@pytest.mark.parametrize(
    "frame",
    [
        frames.tcp(),
        frames.udp("fd00::1", "fd00::2"),
        frames.icmp_echo(),
        frames.arp(),
        frames.sctp(),
        frames.neighbor_solicitation(),
        frames.tcp()[:12] + b"\x88\xcc12345",
    ],
)
def test_same_headers_make_the_same_frame(frame: bytes) -> None:
    packet = decode(frame)
    assert rewrite(packet, packet.headers.copy()) == frame


def test_padding_stays() -> None:
    after = changed(frames.udp() + b"\x5a" * 18, ip_ttl=3)
    assert after == frames.udp(ttl=3) + b"\x5a" * 18


def test_a_wrong_checksum_stays_wrong() -> None:
    frame = bytearray(frames.udp(payload=b"abcd"))
    frame[-1] ^= 1
    after = changed(bytes(frame), l4_src=5)
    assert after[:-1] == frames.udp(sport=5, payload=b"abcd")[:-1]


def test_a_wrong_sctp_crc_stays_wrong_by_the_same_bits() -> None:
    frame, wanted = bytearray(frames.sctp()), bytearray(frames.sctp(sport=9))
    frame[42] ^= 0x10
    wanted[42] ^= 0x10
    assert changed(bytes(frame), l4_src=9) == bytes(wanted)


def test_udp_without_checksum_stays_without() -> None:
    header = frames.UDP(sport=1, dport=2, chksum=0)
    after = changed(frames.ethernet(frames.ip() / header / b"x"), l4_src=3)
    assert after[40:42] == b"\0\0"


def test_udp_whose_checksum_becomes_zero_says_all_ones() -> None:
    frame = frames.udp(sport=0)
    checksum = int.from_bytes(frame[40:42], "big")
    after = changed(frame, l4_src=checksum)
    assert after[40:42] == b"\xff\xff"
    assert after == frames.recomputed(after)


@pytest.mark.parametrize("which", [0, 1], ids=["first", "later"])
def test_fragments_are_rewritten_so_that_the_whole_is_right(which: int) -> None:
    ends, new = ("10.0.0.1", "10.0.0.2"), parse_ip("192.0.2.7")
    pieces = _pieces(*ends)
    wanted = _pieces("192.0.2.7", "10.0.0.2")
    assert changed(pieces[which], ip_src=new) == wanted[which]


def _pieces(src: str, dst: str) -> list[bytes]:
    body = frames.ip(src, dst) / frames.UDP(sport=5, dport=53) / (b"x" * 150)
    return [frames.ethernet(piece) for piece in frames.fragment(body, fragsize=104)]


def test_an_sctp_first_fragment_becomes_what_ovs_makes_of_it() -> None:
    # Both frames went through Open vSwitch 3.1 (userspace datapath, dummy ports):
    # actions=set_field:192.0.2.7->ip_src,set_field:4000->sctp_src,dec_ttl,output:2
    before = bytes.fromhex(
        "02000000000202000000000108004500002400012000408446530a0000010a00000203e8"
        "07d000000000661e967361626364"
    )
    after = bytes.fromhex(
        "020000000002020000000001080045000024000120003f848f4cc00002070a0000020fa0"
        "07d0000000009800c39961626364"
    )
    new_ip = parse_ip("192.0.2.7")
    assert changed(before, ip_src=new_ip, l4_src=4000, ip_ttl=63) == after


QUOTED = {
    "TCP": lambda ips, a, b: frames.tcp(*ips, a, b, payload=b"data"),
    "UDP": lambda ips, a, b: frames.udp(*ips, a, b, payload=b"data"),
    "odd": lambda ips, a, b: frames.udp(*ips, a, b, payload=b"dat"),
    "TCP ports only": lambda ips, a, b: frames.tcp(*ips, a, b)[:-12],
    "TCP to its checksum": lambda ips, a, b: frames.tcp(*ips, a, b)[:-2],
}


@FAMILIES
@pytest.mark.parametrize("make", QUOTED.values(), ids=QUOTED)
def test_an_icmp_error_is_translated_outside_and_inside(
    make: Callable[[tuple[str, str], int, int], bytes], ips: Ips
) -> None:
    router = "fd00::9" if ips is V6 else "10.0.0.254"
    kind = 1 if ips is V6 else 3
    before = make((ips[2], ips[1]), 40000, 80)[14:]
    wanted = make((ips[0], ips[1]), 1000, 80)[14:]
    packet = decode(frames.icmp_error(before, router, ips[2], kind=kind))
    headers = packet.headers.copy()
    headers.ip_dst = parse_ip(ips[0])
    new = EmbeddedRewrite(parse_ip(ips[0]), parse_ip(ips[1]), 1000, 80)
    assert rewrite(packet, headers, new) == frames.icmp_error(
        wanted, router, ips[0], kind=kind
    )


@pytest.mark.parametrize(
    ("make", "ips"), [(frames.icmp_echo, V4), (frames.icmp6_echo, V6)]
)
def test_a_quoted_query_is_translated(make: Callable[..., bytes], ips: Ips) -> None:
    router = "fd00::9" if ips is V6 else "10.0.0.254"
    before = make(ips[2], ips[1], identifier=40000)[14:]
    packet = decode(frames.icmp_error(before, router, ips[2]))
    headers = packet.headers.copy()
    headers.ip_dst = parse_ip(ips[0])
    new = EmbeddedRewrite(parse_ip(ips[0]), parse_ip(ips[1]), 7, 7)
    wanted = make(ips[0], ips[1], identifier=7)[14:]
    assert rewrite(packet, headers, new) == frames.icmp_error(wanted, router, ips[0])


def test_a_quoted_udp_without_checksum_stays_without() -> None:
    udp = frames.UDP(sport=1, dport=2, chksum=0)
    before = frames.ethernet(frames.ip("192.0.2.7", "10.0.0.2") / udp / b"x")[14:]
    packet = decode(frames.icmp_error(before))
    new = EmbeddedRewrite(parse_ip("10.0.0.1"), parse_ip("10.0.0.2"), 3, 2)
    after = rewrite(packet, packet.headers.copy(), new)
    wanted = frames.UDP(sport=3, dport=2, chksum=0)
    body = frames.ethernet(frames.ip("10.0.0.1", "10.0.0.2") / wanted / b"x")[14:]
    assert after == frames.icmp_error(body)


def test_a_new_quote_needs_an_old_one() -> None:
    packet = decode(frames.tcp())
    with pytest.raises(ValueError, match="quotes no other"):
        rewrite(packet, packet.headers, EmbeddedRewrite(1, 2, 3, 4))


@FAMILIES
def test_set_ttl_changes_the_ttl_alone(ips: Ips) -> None:
    assert set_ttl(frames.tcp(*ips[:2]), 1) == frames.tcp(*ips[:2], ttl=1)


def test_set_ttl_leaves_arp_alone() -> None:
    assert set_ttl(frames.arp(), 1) == frames.arp()


def test_the_packet_is_not_changed() -> None:
    packet = decode(frames.tcp())
    rewrite(packet, Headers(1, 2, *(packet.headers.ip_src,) * 2))
    assert packet == decode(frames.tcp())
