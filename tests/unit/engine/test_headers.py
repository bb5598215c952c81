# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midoryu.engine.event import PacketIn
from midoryu.engine.headers import read_headers
from midoryu.errors import DecodeError
from midoryu.packet.address import parse_ip
from midoryu.packet.codec import decode
from tests.helpers import frames

V4 = {"src": "10.0.0.1", "dst": "198.51.100.9"}
V6 = {"src": "fd00::1", "dst": "2001:db8::9"}


@pytest.mark.parametrize("ends", [V4, V6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("udp", [False, True], ids=["TCP", "UDP"])
def test_what_is_read_is_what_the_codec_reads(ends: dict[str, str], udp: bool) -> None:
    make = frames.udp if udp else frames.tcp
    frame = make(**ends, sport=1234, dport=80)
    read = read_headers(PacketIn(7, frame))
    headers = decode(frame).headers
    assert read is not None
    assert read[1:4] == (headers.ip_src, headers.ip_dst, headers.l4_src)
    width = 32 if ends is V4 else 64
    mask = (1 << width) - 1
    parts = [parse_ip(ends[name]) for name in ("src", "dst")]
    if ends is V4:
        assert read[4] == (*(one & mask for one in parts), 1234)
    else:
        halves = [half for one in parts for half in (one >> 64, one & mask)]
        assert read[4] == (*halves, 1234)


@pytest.mark.parametrize(
    ("field", "value"),
    [("dport", 81), ("ttl", 63), ("flags", "SA"), ("tos", 4), ("eth_src", "02::1")],
)
def test_packets_that_filters_may_tell_apart_have_other_keys(
    field: str, value: object
) -> None:
    value = "02:00:00:00:00:77" if field == "eth_src" else value
    plain = read_headers(PacketIn(7, frames.tcp(**V4)))
    other = read_headers(PacketIn(7, frames.tcp(**{**V4, field: value})))
    assert plain is not None
    assert other is not None
    assert plain[0] != other[0]


@pytest.mark.parametrize(
    "source", ["224.0.0.1", "255.255.255.255", "ff02::1", "::ffff:10.0.0.1"]
)
def test_sources_that_the_codec_refuses_are_not_read(source: str) -> None:
    ends = V4 if "." in source and ":" not in source else V6
    frame = frames.tcp(**{**ends, "src": source})
    assert read_headers(PacketIn(7, frame)) is None


@pytest.mark.parametrize("ends", [V4, V6], ids=["IPv4", "IPv6"])
@given(data=st.data(), udp=st.booleans())
def test_whatever_is_read_is_well_formed(
    ends: dict[str, str], data: st.DataObject, udp: bool
) -> None:
    frame = bytearray((frames.udp if udp else frames.tcp)(**ends))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(12, len(frame) - 1))
        frame[at] = data.draw(st.integers(0, 255))
    cut = bytes(frame[: data.draw(st.integers(10, len(frame)))])
    if read_headers(PacketIn(7, cut)) is None:
        return
    try:
        packet = decode(cut)
    except DecodeError as error:
        raise AssertionError(f"read what is malformed: {error}") from error
    assert not packet.ip_frag
    assert not packet.vlan
