# SPDX-License-Identifier: Apache-2.0
"""IGMP and MLD as scapy writes and reads them."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import (
    ICMPv6MLDMultAddrRec,
    ICMPv6MLDone,
    ICMPv6MLQuery,
    ICMPv6MLQuery2,
    ICMPv6MLReport,
    ICMPv6MLReport2,
    IPv6,
)
from scapy.layers.l2 import Ether

from midoryu.packet.address import parse_ip
from midoryu.packet.checksum import ones_sum
from midoryu.packet.codec import decode
from midoryu.packet.multicast import (
    RouterHello,
    Talk,
    Wish,
    is_always_flooded,
    is_talk,
    query,
    read_talk,
)
from tests.helpers.groups import igmp, mld


def ip_bytes(text: str) -> bytes:
    return (parse_ip(text) & 0xFFFF_FFFF).to_bytes(4, "big")


G4, G6 = "239.1.2.3", "ff0e::123"


def v3(kind: int, *sources: str) -> bytes:
    return igmp(0x22, records=((kind, G4, *sources),))


def mld2(kind: int, *sources: str) -> bytes:
    record = ICMPv6MLDMultAddrRec(rtype=kind, dst=G6, sources=list(sources))
    return mld(ICMPv6MLReport2(records=[record]))


JOINS = {
    "IGMPv1": igmp(0x12, G4),
    "IGMPv2": igmp(0x16, G4),
    "IGMPv3 is exclude": v3(2),
    "IGMPv3 to exclude": v3(4),
    "IGMPv3 with a source": v3(3, "192.0.2.1"),
    "IGMPv3 allow": v3(5, "192.0.2.1"),
    "MLDv1": mld(ICMPv6MLReport(mladdr=G6)),
    "MLDv2 to exclude": mld2(4),
    "MLDv2 with a source": mld2(1, "2001:db8::1"),
}
LEAVES = {
    "IGMPv2": igmp(0x17, G4),
    "IGMPv3": v3(3),
    "MLDv1": mld(ICMPv6MLDone(mladdr=G6)),
    "MLDv2": mld2(3),
}


@pytest.mark.parametrize("name", JOINS)
def test_a_join_names_its_group(name: str) -> None:
    packet = decode(JOINS[name])
    group = parse_ip(G6 if "MLD" in name else G4)

    assert is_talk(packet)
    assert read_talk(packet) == Talk((Wish(group, joins=True),), is_query=False)


@pytest.mark.parametrize("name", LEAVES)
def test_a_leave_names_its_group(name: str) -> None:
    group = parse_ip(G6 if "MLD" in name else G4)

    talk = read_talk(decode(LEAVES[name]))

    assert talk == Talk((Wish(group, joins=False),), is_query=False)


def test_several_records_are_all_read_and_a_block_says_nothing() -> None:
    records = (
        (4, "239.0.0.1"),
        (6, "239.0.0.2", "192.0.2.1"),
        (2, "224.0.0.251"),
        (1, "239.0.0.3"),
    )
    talk = read_talk(decode(igmp(0x22, records=records)))

    assert talk.says == (
        Wish(parse_ip("239.0.0.1"), joins=True),
        Wish(parse_ip("239.0.0.3"), joins=False),
    )


def test_a_router_is_known_by_its_query_but_not_a_switch_that_asks() -> None:
    mld_asks = mld(ICMPv6MLQuery())

    assert read_talk(decode(igmp(0x11))) == Talk((RouterHello(),), is_query=True)
    assert read_talk(decode(igmp(0x11, src="0.0.0.0"))) == Talk((), is_query=True)
    assert read_talk(decode(mld_asks)) == Talk((RouterHello(),), is_query=True)


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_cut_report_says_nothing_and_breaks_nothing(cut: int) -> None:
    frame = JOINS["IGMPv3 to exclude"]
    packet = decode(frame)
    packet.l3_length -= cut

    assert read_talk(packet).says == ()


@pytest.mark.parametrize("group", [None, G4], ids=["general", "one group"])
def test_an_igmp_query_is_what_scapy_reads(group: str | None) -> None:
    frame = query(0x024D52000001, v4=True, group=parse_ip(group) if group else 0)
    ip, body = Ether(frame)[IP], frame[-12:]

    assert (ip.src, ip.dst, ip.ttl) == ("0.0.0.0", group or "224.0.0.1", 1)
    wait = 10 if group else 100
    assert body[:2] == bytes((0x11, wait))
    assert body[4:] == ip_bytes(group or "0.0.0.0") + bytes((2, 125, 0, 0))
    assert ones_sum(body) == 0
    expected = "01:00:5e:01:02:03" if group else "01:00:5e:00:00:01"
    assert Ether(frame).dst == expected
    packet = decode(frame)
    assert read_talk(packet) == Talk((), is_query=True)
    again = Ether(frame)
    del again[IP].chksum
    assert bytes(again) == frame


@pytest.mark.parametrize("group", [None, G6], ids=["general", "one group"])
def test_an_mld_query_is_what_scapy_reads(group: str | None) -> None:
    frame = query(0x024D52000001, v4=False, group=parse_ip(group) if group else 0)
    ip, body = Ether(frame)[IPv6], Ether(frame)[ICMPv6MLQuery2]

    assert (ip.dst, ip.hlim) == (group or "ff02::1", 1)
    assert ip.src == "fe80::4d:52ff:fe00:1"
    assert body.mladdr == (group or "::")
    again = Ether(frame)
    del again[ICMPv6MLQuery2].cksum
    assert bytes(again) == frame


@pytest.mark.parametrize(
    ("group", "always"),
    [("224.0.0.251", True), ("224.0.1.1", False), ("ff02::1", True), (G6, False)],
)
def test_groups_of_the_link_go_to_everybody(group: str, always: bool) -> None:
    assert is_always_flooded(parse_ip(group)) is always
