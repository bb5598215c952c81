# SPDX-License-Identifier: Apache-2.0
"""Router advertisements, read by scapy."""

from __future__ import annotations

from scapy.layers.inet6 import (
    ICMPv6ND_RA,
    ICMPv6NDOptDNSSL,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptRDNSS,
    ICMPv6NDOptRouteInfo,
    IPv6,
)
from scapy.layers.l2 import Ether

from midoryu.packet import router_advert
from midoryu.packet.address import parse_ip, parse_prefix
from midoryu.packet.codec import decode


def test_another_maker_reads_everything_that_is_said() -> None:
    prefix = router_advert.AdvertisedPrefix(
        parse_prefix("fd00:1::/64"),
        on_link=True,
        autonomous=False,
        valid_s=100,
        preferred_s=50,
    )
    says = router_advert.Advertisement(
        mac=0x02_00_00_00_00_01,
        lifetime_s=1800,
        managed=True,
        preference=router_advert.HIGH,
        mtu=1400,
        prefixes=(prefix,),
        routes=(parse_prefix("fd00:9::/48"),),
        route_s=60,
        dns=(parse_ip("fd00:1::2"),),
        search=("web.example",),
        dns_s=90,
    )

    frame = router_advert.frame(
        says, mac_dst=0x3333_0000_0001, ip_dst=0xFF02 << 112 | 1
    )

    decode(frame)
    read = Ether(frame)
    head = read[ICMPv6ND_RA]
    assert (read[IPv6].src, read[IPv6].hlim) == ("fe80::ff:fe00:1", 255)
    assert (head.M, head.O, head.prf, head.routerlifetime) == (1, 0, 1, 1800)
    assert read[ICMPv6NDOptMTU].mtu == 1400
    option = read[ICMPv6NDOptPrefixInfo]
    assert (option.prefix, option.L, option.A) == ("fd00:1::", 1, 0)
    assert (option.validlifetime, option.preferredlifetime) == (100, 50)
    assert read[ICMPv6NDOptRouteInfo].prefix == "fd00:9::"
    assert read[ICMPv6NDOptRDNSS].dns == ["fd00:1::2"]
    assert read[ICMPv6NDOptDNSSL].searchlist == ["web.example."]
    del read[ICMPv6ND_RA].cksum
    assert bytes(read) == frame


def test_who_is_no_default_router_has_no_preference() -> None:
    says = router_advert.Advertisement(
        mac=2, lifetime_s=0, preference=router_advert.HIGH
    )

    frame = router_advert.frame(says, mac_dst=1, ip_dst=0xFF02 << 112 | 1)

    assert Ether(frame)[ICMPv6ND_RA].prf == 0
