# SPDX-License-Identifier: Apache-2.0
"""Built frames are what scapy builds, or what it reads back with right checksums."""

from __future__ import annotations

from typing import Any

import pytest

from midoryu.packet import build
from midoryu.packet.address import parse_ip, parse_mac
from midoryu.packet.codec import decode
from midoryu.packet.packet import Packet
from midoryu.packet.protocol import TCP_ACK, TCP_RST
from tests.helpers import frames

MAC_1, MAC_2 = parse_mac(frames.MAC_1), parse_mac(frames.MAC_2)
IP_1, IP_2 = parse_ip("10.0.0.1"), parse_ip("10.0.0.2")
IP6_1, IP6_2 = parse_ip("fd00::1"), parse_ip("fd00::2")
MACS: dict[str, int] = {"mac_src": MAC_2, "mac_dst": MAC_1}


def test_an_arp_request_is_broadcast() -> None:
    made = build.arp_request(sender_mac=MAC_1, sender_ip=IP_1, target_ip=IP_2)
    assert made == frames.arp()


def test_an_arp_request_to_a_known_neighbour_is_unicast() -> None:
    made = build.arp_request(
        sender_mac=MAC_1, sender_ip=IP_1, target_ip=IP_2, target_mac=MAC_2
    )
    assert made == frames.arp(eth_dst=frames.MAC_2, target_mac=frames.MAC_2)


@pytest.mark.parametrize("vlan", [0, 7], ids=["untagged", "tagged"])
def test_an_arp_reply_goes_to_the_asker(vlan: int) -> None:
    made = build.arp_reply(decode(frames.arp(vlan=vlan)), MAC_2)
    assert made == frames.arp(
        "10.0.0.2",
        "10.0.0.1",
        operation=2,
        eth_src=frames.MAC_2,
        eth_dst=frames.MAC_1,
        target_mac=frames.MAC_1,
        vlan=vlan,
    )


def test_a_gratuitous_arp_names_its_sender_twice() -> None:
    assert build.gratuitous_arp(MAC_1, IP_1) == frames.arp("10.0.0.1", "10.0.0.1")


def test_a_neighbour_solicitation() -> None:
    made = build.neighbor_solicitation(
        sender_mac=MAC_1, sender_ip=IP6_1, target_ip=IP6_2
    )
    assert made == frames.neighbor_solicitation()


def test_a_probe_for_a_duplicate_address_has_no_option() -> None:
    made = build.neighbor_solicitation(sender_mac=MAC_1, sender_ip=0, target_ip=IP6_2)
    assert made == frames.neighbor_solicitation("::")


def test_a_neighbour_advertisement() -> None:
    made = build.neighbor_advertisement(
        source_mac=MAC_1,
        source_ip=IP6_1,
        target_ip=IP6_1,
        destination_mac=MAC_2,
        destination_ip=IP6_2,
        router=False,
        solicited=True,
    )
    assert made == frames.neighbor_advertisement()


def test_an_unsolicited_advertisement_goes_to_all_nodes_from_a_router() -> None:
    packet = decode(build.unsolicited_advertisement(MAC_1, IP6_1))
    assert packet.headers.eth_dst == 0x3333_0000_0001
    assert packet.headers.ip_dst == parse_ip("ff02::1")
    assert (packet.nd_target, packet.nd_mac) == (IP6_1, MAC_1)
    assert packet.frame[packet.l4 + 4] == 0xA0  # router and override


def error(frame: bytes, ip_src: str = "10.0.0.254", **more: Any) -> Packet:
    """Make an error about a frame, checked by scapy and decoded."""
    arguments = {"icmp_type": 3, "code": 1, **MACS, **more}
    made = build.icmp_error(decode(frame), ip_src=parse_ip(ip_src), **arguments)
    assert made == frames.recomputed(made)
    return decode(made)


def test_an_icmp_error_quotes_the_packet_as_it_came() -> None:
    frame = frames.udp(payload=b"abcde", vlan=5)
    packet = error(frame + b"padding")
    headers = packet.headers
    assert (headers.ip_src, headers.ip_dst) == (parse_ip("10.0.0.254"), IP_1)
    assert (headers.eth_src, headers.eth_dst) == (MAC_2, MAC_1)
    assert (headers.l4_src, headers.l4_dst, packet.vlan) == (3, 1, 0x1005)
    assert packet.frame[packet.l4 + 8 :] == frame[18:]
    assert packet.embedded is not None


def test_an_icmp_error_has_at_most_576_bytes() -> None:
    frame = frames.udp(payload=bytes(1400))
    packet = error(frame)
    assert packet.l3_length == 576
    assert packet.frame[packet.l4 + 8 :] == frame[14 : 14 + 548]


def test_an_icmpv6_error_has_at_most_1280_bytes() -> None:
    frame = frames.udp("fd00::1", "fd00::2", payload=bytes(1400))
    packet = error(frame, "fd00::9", icmp_type=1, code=0)
    assert packet.l3_length == 1280
    assert packet.frame[packet.l4 + 8 :] == frame[14 : 14 + 1232]
    assert packet.headers.ip_dst == IP6_1


def test_the_mtu_stands_where_it_belongs() -> None:
    packet = error(frames.udp(), icmp_type=3, code=4, mtu=1400)
    assert packet.frame[packet.l4 + 4 : packet.l4 + 8] == b"\0\0\x05\x78"
    frame = frames.udp("fd00::1", "fd00::2")
    packet = error(frame, "fd00::9", icmp_type=2, code=0, mtu=70000)
    assert packet.frame[packet.l4 + 4 : packet.l4 + 8] == (70000).to_bytes(4, "big")


def later_fragment() -> bytes:
    body = frames.ip() / frames.UDP() / bytes(200)
    return frames.ethernet(frames.fragment(body, fragsize=104)[1])


def later_ipv6_fragment(proto: int) -> bytes:
    header = frames.IPv6ExtHdrFragment(nh=proto, offset=20, m=0, id=7)
    body = frames.IPv6(src="fd00::1", dst="fd00::2") / header / frames.Raw(bytes(64))
    return frames.ethernet(body)


QUOTE = frames.tcp()[14:]
SILENT = {
    "an ICMP error": frames.icmp_error(QUOTE),
    "an ICMP redirect": frames.icmp_error(QUOTE, kind=5),
    "an ICMPv6 error": frames.icmp_error(QUOTE, "fd00::9", "fd00::1", kind=1),
    "an unknown ICMPv6 error": frames.icmp_error(QUOTE, "fd00::9", "fd00::1", kind=99),
    "a broadcast frame": frames.udp(eth_dst="ff:ff:ff:ff:ff:ff"),
    "a multicast frame": frames.udp(eth_dst="01:00:5e:00:00:01"),
    "a broadcast packet": frames.udp(dst="255.255.255.255"),
    "a multicast packet": frames.udp(dst="224.0.0.5"),
    "an IPv6 multicast packet": frames.udp("fd00::1", "ff02::5"),
    "a later fragment": later_fragment(),
    "a later fragment of ICMPv6": later_ipv6_fragment(58),
    "source zero": frames.udp("0.0.0.0"),
    "source loopback": frames.udp("127.0.0.1"),
    "source class E": frames.udp("240.0.0.1"),
    "no IPv6 source": frames.udp("::", "fd00::1"),
    "source ::1": frames.udp("::1", "fd00::1"),
    "ARP": frames.arp(eth_dst=frames.MAC_2),
}


@pytest.mark.parametrize("frame", SILENT.values(), ids=SILENT)
def test_no_error_is_sent_about(frame: bytes) -> None:
    assert build.may_send_error(decode(frame)) is False


@pytest.mark.parametrize(
    "frame",
    [
        frames.tcp(),
        frames.tcp("fd00::1", "fd00::2"),
        frames.icmp_echo(),
        frames.icmp6_echo(),
        later_ipv6_fragment(17),
    ],
    ids=["IPv4", "IPv6", "echo", "IPv6 echo", "a later IPv6 fragment"],
)
def test_an_error_may_be_sent_about_ordinary_packets(frame: bytes) -> None:
    assert build.may_send_error(decode(frame)) is True


@pytest.mark.parametrize("vlan", [0, 7], ids=["untagged", "tagged"])
def test_an_echo_reply_mirrors_the_request(vlan: int) -> None:
    request = frames.icmp_echo(payload=b"odd", ttl=1, vlan=vlan)
    assert build.echo_reply(decode(request + b"pad"), **MACS) == _reflagged(
        frames.icmp_echo(
            "10.0.0.2",
            "10.0.0.1",
            reply=True,
            payload=b"odd",
            eth_src=frames.MAC_2,
            eth_dst=frames.MAC_1,
            vlan=vlan,
        )
    )


def _reflagged(frame: bytes) -> bytes:
    """Return scapy's frame with the id and flags that ours has: 0, don't fragment."""
    parsed = frames.Ether(frame)
    parsed[frames.IP].id, parsed[frames.IP].flags = 0, "DF"
    return frames.recomputed(bytes(parsed))


def test_an_icmpv6_echo_reply_mirrors_the_request() -> None:
    made = build.echo_reply(decode(frames.icmp6_echo(payload=b"odd")), **MACS)
    assert made == frames.icmp6_echo(
        "fd00::2",
        "fd00::1",
        reply=True,
        payload=b"odd",
        eth_src=frames.MAC_2,
        eth_dst=frames.MAC_1,
    )


@pytest.mark.parametrize(
    "frame", [frames.tcp(), frames.icmp_echo(reply=True), frames.arp()]
)
def test_only_an_echo_request_is_answered(frame: bytes) -> None:
    with pytest.raises(ValueError, match="echo request"):
        build.echo_reply(decode(frame), **MACS)


@pytest.mark.parametrize(
    "ips",
    [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")],
    ids=["IPv4", "IPv6"],
)
@pytest.mark.parametrize(
    ("flags", "payload", "numbers"),
    [
        ("S", b"", (0, 1001, TCP_RST | TCP_ACK)),
        ("SF", b"abc", (0, 1005, TCP_RST | TCP_ACK)),
        ("A", b"abc", (5000, 0, TCP_RST)),
        ("", b"abc", (0, 1003, TCP_RST | TCP_ACK)),
    ],
    ids=["SYN", "SYN and FIN with data", "ACK", "no flags"],
)
def test_a_reset_follows_rfc_9293(
    ips: tuple[str, str], flags: str, payload: bytes, numbers: tuple[int, int, int]
) -> None:
    segment = frames.tcp(*ips, flags=flags, seq=1000, ack=5000, payload=payload)
    made = build.tcp_reset(decode(segment), **MACS)
    assert made == frames.recomputed(made)
    reset = frames.Ether(made)[frames.TCP]
    assert (reset.sport, reset.dport, reset.dataofs) == (80, 1000, 5)
    assert (reset.seq, reset.ack, int(reset.flags)) == numbers
    headers = decode(made).headers
    assert (headers.ip_src, headers.ip_dst) == (parse_ip(ips[1]), parse_ip(ips[0]))
    assert (headers.eth_src, headers.eth_dst) == (MAC_2, MAC_1)


def test_the_acknowledgment_of_a_reset_wraps_around() -> None:
    made = build.tcp_reset(decode(frames.tcp(seq=0xFFFF_FFFF)), **MACS)
    assert frames.Ether(made)[frames.TCP].ack == 0


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (frames.tcp(flags="R"), "never answered"),
        (frames.tcp(flags="RA"), "never answered"),
        (frames.udp(), "no TCP header"),
    ],
)
def test_no_reset_for(frame: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        build.tcp_reset(decode(frame), **MACS)


def datagram(**more: Any) -> bytes:
    return build.udp_frame(
        mac_src=MAC_1,
        mac_dst=MAC_2,
        ip_src=IP_1,
        ip_dst=IP_2,
        port_src=1000,
        port_dst=53,
        payload=b"hello",
        **more,
    )


def test_a_udp_frame() -> None:
    assert datagram(ttl=3) == _reflagged(frames.udp(payload=b"hello", ttl=3))


def test_a_udp_frame_without_checksum() -> None:
    made = datagram(checksum=False)
    assert made[40:42] == b"\0\0"
    assert made[:40] + made[42:] == datagram()[:40] + datagram()[42:]
