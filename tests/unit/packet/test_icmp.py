# SPDX-License-Identifier: Apache-2.0
"""ICMP fields, quoted packets and neighbour discovery, against scapy's frames."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from midoryu.errors import DecodeError
from midoryu.packet.address import parse_ip, parse_mac
from midoryu.packet.codec import decode
from midoryu.packet.packet import Embedded
from midoryu.packet.protocol import ICMP, ICMPV6, TCP
from tests.helpers import frames

MAC_1 = parse_mac(frames.MAC_1)


@pytest.mark.parametrize(
    ("make", "asking", "answer"),
    [(frames.icmp_echo, 8, 0), (frames.icmp6_echo, 128, 129)],
    ids=["ICMP", "ICMPv6"],
)
def test_an_echo_has_type_code_and_identifier(
    make: Callable[..., bytes], asking: int, answer: int
) -> None:
    asked, answered = decode(make(identifier=77)), decode(make(reply=True))
    headers = asked.headers
    assert (headers.l4_src, headers.l4_dst, headers.icmp_id) == (asking, 0, 77)
    assert (answered.headers.l4_src, answered.headers.icmp_id) == (answer, 7)
    assert asked.embedded is None


def quote(src: str, dst: str) -> bytes:
    return frames.tcp(src, dst, 3000, 80)[14:]


def test_an_icmp_error_shows_what_it_quotes() -> None:
    packet = decode(frames.icmp_error(quote("10.0.0.1", "10.9.0.1")))
    assert (packet.headers.l4_src, packet.headers.l4_dst) == (3, 1)
    assert packet.headers.icmp_id == 0
    assert packet.embedded == Embedded(
        parse_ip("10.0.0.1"), parse_ip("10.9.0.1"), TCP, 3000, 80, 0, 42, 62
    )


def test_an_icmpv6_error_shows_what_it_quotes() -> None:
    frame = frames.icmp_error(quote("fd00::1", "fd00::5"), "fd00::9", "fd00::1")
    assert decode(frame).embedded == Embedded(
        parse_ip("fd00::1"), parse_ip("fd00::5"), TCP, 3000, 80, 0, 62, 102
    )


@pytest.mark.parametrize(
    ("extensions", "length"),
    [
        (b"\x06\0\1\4\0\0\0\0", 8),  # destination options, then TCP
        (b"\x06\0\0\1\0\0\0\7", 8),  # the first fragment
        (b"\x33\0\1\4\0\0\0\0\x06\4" + bytes(22), 32),  # options, authentication
    ],
)
def test_a_quote_is_read_behind_its_extension_headers(
    extensions: bytes, length: int
) -> None:
    plain = quote("fd00::1", "fd00::5")
    first = {0x06: b"\x3c", 0x33: b"\x3c"}[extensions[0]]
    first = b"\x2c" if extensions[3] == 1 else first
    quoted = plain[:6] + first + plain[7:40] + extensions + plain[40:]
    embedded = decode(frames.icmp_error(quoted, "fd00::9", "fd00::1")).embedded
    assert embedded is not None
    assert (embedded.ip_proto, embedded.l4_src, embedded.l4_dst) == (TCP, 3000, 80)
    assert (embedded.l3, embedded.l4) == (62, 102 + length)


@pytest.mark.parametrize(
    "extensions",
    [b"\x06\0\0\x09\0\0\0\7", b"\x06\x20\0\0\0\0\0\0", b"\x3c\0\0\0\0\0\0\0" * 9],
    ids=["later fragment", "cut", "too many"],
)
def test_a_quote_without_its_ports_is_none(extensions: bytes) -> None:
    plain = quote("fd00::1", "fd00::5")
    first = b"\x2c" if extensions[3] == 9 else b"\x3c"
    quoted = plain[:6] + first + plain[7:40] + extensions + plain[40:]
    frame = frames.icmp_error(quoted, "fd00::9", "fd00::1")
    assert decode(frame).embedded is None


@pytest.mark.parametrize(
    ("quoted", "ends", "proto", "kind"),
    [
        (frames.icmp_echo(identifier=9), (), ICMP, 8),
        (frames.icmp6_echo(identifier=9), ("fd00::9", "fd00::1"), ICMPV6, 128),
    ],
    ids=["ICMP", "ICMPv6"],
)
def test_a_quoted_query_shows_its_identifier(
    quoted: bytes, ends: tuple[str, ...], proto: int, kind: int
) -> None:
    embedded = decode(frames.icmp_error(quoted[14:], *ends)).embedded
    assert embedded is not None
    assert (embedded.ip_proto, embedded.icmp_type) == (proto, kind)
    assert (embedded.l4_src, embedded.l4_dst) == (9, 9)


@pytest.mark.parametrize(
    "quoted",
    [
        quote("10.0.0.1", "10.9.0.1")[:27],
        quote("10.0.0.1", "10.9.0.1")[:10],
        quote("fd00::1", "fd00::2"),
        b"\x44" + quote("10.0.0.1", "10.9.0.1")[1:],
        quote("10.0.0.1", "10.9.0.1")[:6] + b"\0\7" + quote("10.0.0.1", "10.0.0.2")[8:],
    ],
    ids=["ports cut", "header cut", "other family", "short header", "later fragment"],
)
def test_a_quote_that_says_too_little_is_none(quoted: bytes) -> None:
    assert decode(frames.icmp_error(quoted)).embedded is None


@pytest.mark.parametrize(
    "quoted",
    [
        quote("fd00::1", "fd00::2")[:39],
        quote("fd00::1", "fd00::2")[:47],
        quote("10.0.0.1", "10.0.0.2"),
        quote("::ffff:10.0.0.1", "fd00::2"),
    ],
    ids=["header cut", "ports cut", "other family", "IPv4-mapped"],
)
def test_an_ipv6_quote_that_says_too_little_is_none(quoted: bytes) -> None:
    frame = frames.icmp_error(quoted, "fd00::9", "fd00::1")
    assert decode(frame).embedded is None


def test_a_quoted_first_fragment_shows_its_ports() -> None:
    whole = quote("10.0.0.1", "10.9.0.1")
    embedded = decode(frames.icmp_error(whole[:6] + b"\x20\0" + whole[8:])).embedded
    assert embedded is not None
    assert (embedded.l4_src, embedded.l4_dst) == (3000, 80)


def test_a_quoted_icmp_error_has_neither_type_nor_identifier() -> None:
    inner = frames.icmp_error(quote("10.0.0.1", "10.9.0.1"))[14:]
    embedded = decode(frames.icmp_error(inner)).embedded
    assert embedded is not None
    assert (embedded.icmp_type, embedded.l4_src, embedded.l4_dst) == (0, 0, 0)


def test_a_solicitation_shows_target_and_source_address_option() -> None:
    packet = decode(frames.neighbor_solicitation())
    assert packet.headers.l4_src == 135
    assert (packet.nd_target, packet.nd_mac) == (parse_ip("fd00::2"), MAC_1)


def test_a_duplicate_address_probe_has_no_option() -> None:
    packet = decode(frames.neighbor_solicitation("::"))
    assert (packet.headers.ip_src, packet.nd_mac) == (0, 0)
    assert packet.nd_target == parse_ip("fd00::2")


def test_an_advertisement_shows_target_and_target_address_option() -> None:
    packet = decode(frames.neighbor_advertisement())
    assert packet.headers.l4_src == 136
    assert (packet.nd_target, packet.nd_mac) == (parse_ip("fd00::1"), MAC_1)


def discovery(body: bytes, *, src: str = "fd00::1", dst: str = "fd00::2") -> bytes:
    """Make a neighbour discovery frame from raw bytes, with a right checksum."""
    checksum = frames.icmp6_checksum(src, dst, body)
    body = body[:2] + checksum.to_bytes(2, "big") + body[4:]
    return frames.ethernet(frames.ip(src, dst, ttl=255, proto=58) / frames.Raw(body))


TARGET = bytes.fromhex("fd000000000000000000000000000002")
NS = bytes((135, 0, 0, 0, 0, 0, 0, 0))
BAD = {
    "hop limit 64 is not 255": frames.neighbor_solicitation(hop_limit=64),
    "hop limit 254": frames.neighbor_advertisement(hop_limit=254),
    "wrong checksum": frames.neighbor_solicitation()[:-1] + b"\x55",
    "code is not 0": discovery(b"\x87\1" + NS[2:] + TARGET),
    "only 23 bytes": discovery(NS + TARGET[:-1]),
    "target is multicast": discovery(NS + b"\xff" + TARGET[1:]),
    "IPv4-mapped": discovery(NS + bytes(10) + b"\xff\xff\n\0\0\1"),
    "option at byte 78: length": discovery(NS + TARGET + bytes(8)),
    "option at byte 78: len": discovery(NS + TARGET + b"\1\2" + bytes(6)),
    "without a source": discovery(NS + TARGET + b"\1\1" + b"\2" * 6, src="::"),
    "sent to a group": frames.neighbor_advertisement(dst="ff02::1"),
}


@pytest.mark.parametrize(("reason", "frame"), BAD.items(), ids=BAD)
def test_bad_neighbour_discovery_is_refused(reason: str, frame: bytes) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode(frame)


def test_options_of_other_kinds_or_lengths_are_passed_over() -> None:
    own = b"\1\1" + bytes.fromhex("020000000001")
    options = b"\x0e\2" + bytes(14) + own + b"\1\2" + bytes(14)
    assert decode(discovery(NS + TARGET + options)).nd_mac == MAC_1
