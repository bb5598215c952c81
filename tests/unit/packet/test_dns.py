# SPDX-License-Identifier: Apache-2.0
"""DNS messages, with scapy as the other opinion."""

from __future__ import annotations

import pytest
from scapy.layers.dns import DNS, DNSQR, DNSRROPT

from midoryu.errors import DecodeError
from midoryu.packet import dns
from midoryu.packet.address import parse_ip


def query(name: str = "VM.Example.", kind: str = "A", *, edns: bool = False) -> bytes:
    extra = [DNSRROPT(rclass=4096)] if edns else []
    return bytes(DNS(id=5, rd=1, qd=[DNSQR(qname=name, qtype=kind)], ar=extra))


def test_query_of_another_maker_is_read() -> None:
    asked = dns.decode_query(query(edns=True))

    assert (asked.id, asked.name, asked.kind) == (5, "vm.example", dns.A)
    assert (asked.edns, asked.udp_bytes) == (0, dns.MAX_UDP_BYTES)


def test_answer_repeats_the_question_as_it_was_spelt() -> None:
    asked = dns.decode_query(query())
    record = dns.address_record(parse_ip("10.0.0.1"))

    read = DNS(dns.respond(asked, [record], recursive=True, ttl_s=9))

    assert (read.qr, read.aa, read.rd, read.ra, read.rcode) == (1, 1, 1, 1, 0)
    assert (read.qd[0].qname, read.an[0].rdata, read.an[0].ttl) == (
        b"VM.Example.",
        "10.0.0.1",
        9,
    )


def test_what_does_not_fit_is_cut_and_said_so() -> None:
    asked = dns.decode_query(query(kind="AAAA"))
    records = [dns.address_record(parse_ip(f"fd00::{n}")) for n in range(1, 90)]

    data = dns.respond(asked, records)

    assert len(data) <= dns.MIN_UDP_BYTES
    assert DNS(data).tc == 1


def test_unknown_edns_version_is_told_by_a_long_code() -> None:
    asked = dns.decode_query(query(edns=True))

    read = DNS(dns.respond(asked, code=dns.BAD_VERSION))

    assert (read.rcode, read.ar[0].extrcode) == (0, 1)


@pytest.mark.parametrize(
    "data",
    [b"", query()[:20], b"\0\5\x80" + query()[3:], query()[:4] + b"\0\2" + query()[6:]],
    ids=["nothing", "cut", "response", "two questions"],
)
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        dns.decode_query(data)


def test_garbage_with_a_header_gets_a_format_error() -> None:
    assert DNS(dns.refuse_garbage(query()[:14])).rcode == dns.FORMAT_ERROR
    assert dns.refuse_garbage(b"\0") == b""
    assert dns.refuse_garbage(b"\0\5\x80" + bytes(9)) == b""


def test_only_the_answer_to_this_question_fits() -> None:
    asked = dns.decode_query(query())
    answer = dns.respond(asked)

    assert dns.fits(answer, asked) == answer
    for wrong in (b"", b"\0\6" + answer[2:], query(), query("other.", "A")):
        with pytest.raises(DecodeError):
            dns.fits(wrong, asked)
    assert DNS(dns.fits(answer + bytes(600), asked)).tc == 1


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("4.3.2.1.in-addr.arpa", "1.2.3.4"),
        ("1." + "0." * 27 + "0.0.d.f.ip6.arpa", "fd00::1"),
    ],
)
def test_reverse_name_is_an_address(name: str, address: str) -> None:
    assert dns.reverse_address(name) == parse_ip(address)


@pytest.mark.parametrize(
    "name",
    [
        "x.3.2.1.in-addr.arpa",
        "300.3.2.1.in-addr.arpa",
        "000300.3.2.1.in-addr.arpa",
        "a",
    ],
)
def test_other_names_are_no_addresses(name: str) -> None:
    assert dns.reverse_address(name) == 0
