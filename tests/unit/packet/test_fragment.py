# SPDX-License-Identifier: Apache-2.0
"""Fragments: read, lent to, joined, split; scapy is the judge."""

from __future__ import annotations

from typing import Any

import pytest

from midoryu.errors import DecodeError
from midoryu.packet import protocol
from midoryu.packet.codec import decode
from midoryu.packet.fragment import (
    Fragment,
    join,
    lend,
    may_fragment,
    read_fragment,
    split,
)
from midoryu.packet.packet import Packet
from tests.helpers import frames
from tests.helpers.frames import IP, Ether, IPv6, IPv6ExtHdrFragment, Raw, fragment


def v4_frames(payload: bytes, size: int = 1480) -> list[bytes]:
    whole = Ether(frames.udp(payload=payload))
    return [bytes(whole.__class__(bytes(one))) for one in fragment(whole, size)]  # type: ignore[no-untyped-call]


def raw_v6(start: int, payload: bytes, more: bool, proto: int = 17) -> bytes:
    header = IPv6ExtHdrFragment(nh=proto, offset=start >> 3, m=int(more), id=99)
    layers = IPv6(src=frames.IP6_1, dst=frames.IP6_2) / header / Raw(payload)
    return bytes(Ether(src=frames.MAC_1, dst=frames.MAC_2) / layers)


def raw_v4(start: int, payload: bytes, more: bool, **fields: Any) -> bytes:
    flags = "MF" if more else 0
    layer = IP(src=frames.IP_1, dst=frames.IP_2, proto=17, id=7, flags=flags, **fields)
    layer.frag = start >> 3
    return bytes(Ether(src=frames.MAC_1, dst=frames.MAC_2) / layer / Raw(payload))


def test_an_ipv4_fragment_says_where_it_belongs() -> None:
    frame = raw_v4(1480, bytes(520), True)
    assert read_fragment(decode(frame)) == Fragment(7, 17, 1480, 2000, True, 34)
    last = raw_v4(2000, bytes(3), False)
    assert read_fragment(decode(last)) == Fragment(7, 17, 2000, 2003, False, 34)


def test_an_ipv6_fragment_says_where_it_belongs_and_its_real_protocol() -> None:
    frame = raw_v6(1448, bytes(16), False)
    assert decode(frame).ip_proto == 44
    assert read_fragment(decode(frame)) == Fragment(99, 17, 1448, 1464, False, 62)


def test_the_fragment_header_is_found_behind_other_extension_headers() -> None:
    header = IPv6ExtHdrFragment(nh=17, offset=1, m=0, id=5)
    options = bytes((44, 0, 1, 4, 0, 0, 0, 0))
    packet = IPv6(src=frames.IP6_1, dst=frames.IP6_2, nh=60)
    frame = bytes(Ether() / packet / Raw(options) / Raw(bytes(header)) / Raw(bytes(8)))
    assert read_fragment(decode(frame)) == Fragment(5, 17, 8, 16, False, 70)


def test_a_whole_packet_is_no_fragment() -> None:
    with pytest.raises(ValueError, match="whole"):
        read_fragment(decode(frames.udp()))


def test_an_atomic_fragment_is_a_whole_packet() -> None:
    """RFC 6946."""
    frame = raw_v6(0, bytes(Raw(bytes.fromhex("0001000200080000"))), False)
    packet = decode(frame)
    assert packet.ip_frag == protocol.FRAG_NONE
    assert (packet.ip_proto, packet.headers.l4_dst) == (17, 2)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (raw_v4(8, b"", False), "carries nothing"),
        (raw_v6(8, b"", True), "carries nothing"),
        (raw_v4(8, bytes(9), True), "multiple of 8"),
        (raw_v6(8, bytes(15), True), "multiple of 8"),
        (raw_v4(0xFFF8, bytes(16), False), "largest"),
        (raw_v6(0xFFF8, bytes(16), False), "largest"),
    ],
)
def test_a_fragment_of_no_possible_datagram_is_refused(
    frame: bytes, reason: str
) -> None:
    with pytest.raises(DecodeError, match=reason):
        read_fragment(decode(frame))


def test_a_later_fragment_borrows_what_only_the_first_one_has() -> None:
    first, *later = [decode(one) for one in v4_frames(bytes(4000))]
    lent = lend(later[0], first)
    assert (lent.headers.l4_src, lent.headers.l4_dst) == (
        first.headers.l4_src,
        first.headers.l4_dst,
    )
    assert lent.borrowed
    assert (lent.l4, lent.ip_frag) == (0, protocol.FRAG_LATER)
    assert not later[0].borrowed
    assert later[0].headers.l4_dst == 0


def test_a_later_ipv6_fragment_borrows_the_protocol() -> None:
    ports = bytes.fromhex("0001000200100000")
    first, later = decode(raw_v6(0, ports, True)), decode(raw_v6(8, bytes(8), False))
    assert lend(later, first).ip_proto == 17


def test_joining_gives_the_datagram_back() -> None:
    whole = frames.udp(payload=bytes(range(250)) * 16)
    pieces = [decode(one) for one in v4_frames(bytes(range(250)) * 16)]
    assert len(pieces) == 3
    joined = decode(join(pieces))
    assert joined.ip_frag == protocol.FRAG_NONE
    assert joined.frame[34:] == whole[34:]
    assert IP(joined.frame[14:]).len == len(whole) - 14


def test_joining_ipv6_takes_the_fragment_header_out() -> None:
    whole = frames.udp(src=frames.IP6_1, dst=frames.IP6_2, payload=bytes(4000))
    body = whole[54:]
    parts = [(0, True), (1448, True), (2896, False)]
    pieces = [
        decode(raw_v6(start, body[start : start + 1448], more)) for start, more in parts
    ]
    joined = join(pieces)
    assert joined[54:] == body
    assert IPv6(joined[14:]).nh == 17
    assert IPv6(joined[14:]).plen == len(body)


def test_joining_behind_an_option_header_mends_its_next_header() -> None:
    def piece(start: int, more: bool, payload: bytes) -> Packet:
        header = IPv6ExtHdrFragment(nh=17, offset=start >> 3, m=int(more), id=5)
        packet = IPv6(src=frames.IP6_1, dst=frames.IP6_2, nh=60)
        options = Raw(bytes((44, 0, 1, 4, 0, 0, 0, 0)))
        return decode(
            bytes(Ether() / packet / options / Raw(bytes(header)) / Raw(payload))
        )

    ports = bytes.fromhex("0001000200100000")
    joined = decode(join([piece(0, True, ports), piece(8, False, bytes(8))]))
    assert (joined.ip_proto, joined.headers.l4_dst, joined.l4) == (17, 2, 62)


def test_a_gap_or_a_missing_end_cannot_be_joined() -> None:
    pieces = [decode(one) for one in v4_frames(bytes(4000))]
    for bad in (pieces[:2], [pieces[0], pieces[2]], pieces[1:], []):
        with pytest.raises(ValueError, match=r"gap|missing"):
            join(bad)


def test_splitting_gives_fragments_that_scapy_puts_together() -> None:
    whole = decode(frames.udp(payload=bytes(range(250)) * 16))
    made = split(whole, 1400, identification=77)
    assert [len(one) - 14 for one in made] == [1396, 1396, 1276]
    assert all(IP(one[14:]).id == 77 for one in made)
    for one in made:
        assert frames.recomputed(one)[14:34] == one[14:34]
    assert join([decode(one) for one in made])[34:] == whole.frame[34:]


def test_splitting_a_fragment_again_keeps_its_place() -> None:
    middle = decode(v4_frames(bytes(4000))[1])
    made = [read_fragment(decode(one)) for one in split(middle, 800)]
    assert [(one.start, one.end, one.more) for one in made] == [
        (1480, 2256, True),
        (2256, 2960, True),
    ]


def test_what_fits_is_left_alone() -> None:
    packet = decode(frames.udp())
    assert split(packet, 1400) == [packet.frame]


def test_an_own_ipv6_packet_is_split_with_fragment_headers() -> None:
    whole = frames.udp(src=frames.IP6_1, dst=frames.IP6_2, payload=bytes(4000))
    made = split(decode(whole), 1280, identification=0x12345678)
    assert max(len(one) - 14 for one in made) <= 1280
    assert IPv6(made[0][14:])[IPv6ExtHdrFragment].id == 0x12345678
    assert join([decode(one) for one in made]) == whole


def test_a_router_may_fragment_only_ipv4_that_does_not_forbid_it() -> None:
    assert may_fragment(decode(raw_v4(0, bytes(8), True)))
    assert not may_fragment(decode(raw_v6(0, bytes(8), True)))
    free = IP(src=frames.IP_1, dst=frames.IP_2, flags="DF") / Raw(bytes(8))
    assert not may_fragment(decode(bytes(Ether() / free)))
