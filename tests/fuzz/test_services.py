# SPDX-License-Identifier: Apache-2.0
"""Any bytes to a network's services are answered, dropped or passed on."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR, DNSRROPT

from midoryu.errors import DecodeError
from midoryu.packet import dhcp4, dhcp6, dns
from midoryu.packet.codec import decode
from tests.helpers.services import ALL, MAC, NOBODY, enter, served, services_of, udp

DISCOVER = dhcp4.encode(
    dhcp4.Message(1, 7, MAC, options={53: b"\x01", 55: b"\x01\x03", 57: b"\x05\xdc"})
)
IA = dhcp6.encode_association(3, [(1, 1)], lease_s=1, status=0)
SOLICIT = dhcp6.encode(
    dhcp6.Message(1, 9, ((1, dhcp6.link_layer_duid(MAC)), (3, IA), (14, b"")))
)
QUERY = bytes(
    DNS(id=5, rd=1, qd=[DNSQR(qname="b.web.example")], ar=[DNSRROPT(rclass=4096)])
)
BUILDER = served()
RESOLVER_MAC = services_of(BUILDER).mac


@st.composite
def mutated(draw: st.DrawFn, seed: bytes) -> bytes:
    """Overwrite some bytes of a message, cut or lengthen it."""
    data = bytearray(seed)
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        data = data[: draw(st.integers(0, len(data)))]
    return bytes(data) + draw(st.binary(max_size=8))


def come(data: bytes, source: str, to: str, port: int, mac: int) -> None:
    frame = udp(
        data,
        ports=(port ^ 1 if port > 53 else 9, port),
        source=source,
        destination=to,
        mac_dst=mac,
    )
    for emission in enter(BUILDER, frame).emissions:
        decode(emission.frame)


@given(st.binary(max_size=600) | mutated(DISCOVER))
def test_dhcp_server_takes_any_bytes(data: bytes) -> None:
    come(data, NOBODY, ALL, 67, 0xFFFF_FFFF_FFFF)


@given(st.binary(max_size=300) | mutated(SOLICIT))
def test_dhcpv6_server_takes_any_bytes(data: bytes) -> None:
    come(data, "fe80::ff:fe00:111", "ff02::1:2", 547, 0x3333_0001_0002)


@given(st.binary(max_size=300) | mutated(QUERY))
def test_resolver_takes_any_bytes(data: bytes) -> None:
    come(data, "10.0.1.11", "10.0.1.2", 53, RESOLVER_MAC)


@given(st.binary(max_size=300) | mutated(QUERY))
def test_answer_from_outside_fits_or_is_refused(data: bytes) -> None:
    query = dns.decode_query(QUERY)
    with contextlib.suppress(DecodeError):
        assert len(dns.fits(data, query)) <= query.udp_bytes


@pytest.mark.parametrize("reader", [dhcp4.decode, dhcp6.decode, dns.decode_query])
def test_the_seeds_are_valid(reader: object) -> None:
    seed = {dhcp4.decode: DISCOVER, dhcp6.decode: SOLICIT, dns.decode_query: QUERY}
    reader(seed[reader])  # type: ignore[operator,index]
