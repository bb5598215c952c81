# SPDX-License-Identifier: Apache-2.0
"""Short builders of test frames, made by scapy, an implementation that is not ours.

Defaults: from MAC 02:..:01 / 10.0.0.1 / fd00::1 to MAC 02:..:02 / 10.0.0.2 / fd00::2;
an address with a colon in it makes an IPv6 frame.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any, Final

logging.getLogger("scapy.runtime").setLevel(logging.ERROR)
with warnings.catch_warnings():
    # scapy uses algorithms that its own dependency deprecates.
    warnings.simplefilter("ignore")
    from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption, fragment
    from scapy.layers.inet6 import (
        ICMPv6EchoReply,
        ICMPv6EchoRequest,
        ICMPv6ND_NA,
        ICMPv6ND_NS,
        ICMPv6NDOptDstLLAddr,
        ICMPv6NDOptSrcLLAddr,
        IPv6,
        IPv6ExtHdrFragment,
        in6_chksum,
    )
    from scapy.layers.l2 import ARP, Dot1Q, Ether
    from scapy.layers.sctp import SCTP
    from scapy.packet import Raw

MAC_1: Final = "02:00:00:00:00:01"
MAC_2: Final = "02:00:00:00:00:02"
IP_1: Final = "10.0.0.1"
IP_2: Final = "10.0.0.2"
IP6_1: Final = "fd00::1"
IP6_2: Final = "fd00::2"

__all__ = [
    "ARP",
    "ICMP",
    "IP",
    "IP6_1",
    "IP6_2",
    "IP_1",
    "IP_2",
    "MAC_1",
    "MAC_2",
    "SCTP",
    "TCP",
    "UDP",
    "Dot1Q",
    "Ether",
    "ICMPv6EchoReply",
    "ICMPv6EchoRequest",
    "ICMPv6ND_NA",
    "IPOption",
    "IPv6",
    "IPv6ExtHdrFragment",
    "Raw",
    "arp",
    "ethernet",
    "fragment",
    "icmp6_checksum",
    "icmp6_echo",
    "icmp_echo",
    "icmp_error",
    "ip",
    "neighbor_advertisement",
    "neighbor_solicitation",
    "recomputed",
    "sctp",
    "tcp",
    "udp",
]


def ethernet(
    body: Any, *, eth_src: str = MAC_1, eth_dst: str = MAC_2, vlan: int = 0
) -> bytes:
    """Put a scapy body into an Ethernet frame, tagged if `vlan` is a VID."""
    tag = Dot1Q(vlan=vlan) / body if vlan else body
    return bytes(Ether(src=eth_src, dst=eth_dst) / tag)


def ip(
    src: str = IP_1, dst: str = IP_2, *, ttl: int = 64, tos: int = 0, proto: int = -1
) -> Any:
    """Make a scapy IPv4 or IPv6 header, as the source address tells."""
    more: dict[str, Any] = {}
    if proto >= 0:
        more["nh" if ":" in src else "proto"] = proto
    if ":" in src:
        return IPv6(src=src, dst=dst, hlim=ttl, tc=tos, **more)
    return IP(src=src, dst=dst, ttl=ttl, tos=tos, **more)


def tcp(
    src: str = IP_1,
    dst: str = IP_2,
    sport: int = 1000,
    dport: int = 80,
    *,
    flags: str = "S",
    seq: int = 0,
    ack: int = 0,
    payload: bytes = b"",
    ttl: int = 64,
    tos: int = 0,
    eth_src: str = MAC_1,
    eth_dst: str = MAC_2,
    vlan: int = 0,
) -> bytes:
    """Make a TCP frame."""
    segment = TCP(sport=sport, dport=dport, flags=flags, seq=seq, ack=ack) / payload
    body = ip(src, dst, ttl=ttl, tos=tos) / segment
    return ethernet(body, eth_src=eth_src, eth_dst=eth_dst, vlan=vlan)


def udp(
    src: str = IP_1,
    dst: str = IP_2,
    sport: int = 1000,
    dport: int = 53,
    *,
    payload: bytes = b"",
    ttl: int = 64,
    tos: int = 0,
    eth_src: str = MAC_1,
    eth_dst: str = MAC_2,
    vlan: int = 0,
) -> bytes:
    """Make a UDP frame."""
    body = ip(src, dst, ttl=ttl, tos=tos) / UDP(sport=sport, dport=dport) / payload
    return ethernet(body, eth_src=eth_src, eth_dst=eth_dst, vlan=vlan)


def sctp(
    src: str = IP_1,
    dst: str = IP_2,
    sport: int = 1000,
    dport: int = 2000,
    *,
    payload: bytes = b"abcd",
) -> bytes:
    """Make an SCTP frame with opaque content."""
    body = ip(src, dst, proto=132) / SCTP(sport=sport, dport=dport) / Raw(payload)
    return ethernet(body)


def icmp_echo(
    src: str = IP_1,
    dst: str = IP_2,
    *,
    identifier: int = 7,
    sequence: int = 1,
    reply: bool = False,
    payload: bytes = b"ping",
    ttl: int = 64,
    eth_src: str = MAC_1,
    eth_dst: str = MAC_2,
    vlan: int = 0,
) -> bytes:
    """Make an ICMP echo request or reply."""
    message = ICMP(type=0 if reply else 8, id=identifier, seq=sequence) / payload
    body = ip(src, dst, ttl=ttl) / message
    return ethernet(body, eth_src=eth_src, eth_dst=eth_dst, vlan=vlan)


def icmp6_echo(
    src: str = IP6_1,
    dst: str = IP6_2,
    *,
    identifier: int = 7,
    sequence: int = 1,
    reply: bool = False,
    payload: bytes = b"ping",
    ttl: int = 64,
    eth_src: str = MAC_1,
    eth_dst: str = MAC_2,
    vlan: int = 0,
) -> bytes:
    """Make an ICMPv6 echo request or reply."""
    kind = ICMPv6EchoReply if reply else ICMPv6EchoRequest
    message = kind(id=identifier, seq=sequence, data=payload)
    body = ip(src, dst, ttl=ttl) / message
    return ethernet(body, eth_src=eth_src, eth_dst=eth_dst, vlan=vlan)


def icmp_error(
    quoted: bytes,
    src: str = "10.0.0.254",
    dst: str = IP_1,
    *,
    kind: int = 3,
    code: int = 1,
    eth_src: str = MAC_2,
    eth_dst: str = MAC_1,
) -> bytes:
    """Make an ICMP or ICMPv6 error that quotes the IP packet in `quoted` (bytes)."""
    if ":" in src:
        # Made by hand: scapy would recompute checksums inside of the quote.
        head = bytes((kind, code, 0, 0, 0, 0, 0, 0))
        plain = ip(src, dst, proto=58) / Raw(head + quoted)
        checksum = icmp6_checksum(src, dst, head + quoted)
        plain[Raw].load = head[:2] + checksum.to_bytes(2, "big") + head[4:] + quoted
        return ethernet(plain, eth_src=eth_src, eth_dst=eth_dst)
    body = ip(src, dst) / ICMP(type=kind, code=code) / Raw(quoted)
    return ethernet(body, eth_src=eth_src, eth_dst=eth_dst)


def icmp6_checksum(src: str, dst: str, message: bytes) -> int:
    """Return the checksum of an ICMPv6 message, whatever stands in its field."""
    message = message[:2] + bytes(2) + message[4:]
    checksum: Any = in6_chksum
    return int(checksum(58, IPv6(src=src, dst=dst, nh=58), message))


def arp(
    src: str = IP_1,
    dst: str = IP_2,
    *,
    operation: int = 1,
    eth_src: str = MAC_1,
    eth_dst: str = "ff:ff:ff:ff:ff:ff",
    target_mac: str = "00:00:00:00:00:00",
    vlan: int = 0,
) -> bytes:
    """Make an ARP request (operation 1) or reply (2)."""
    body = ARP(op=operation, hwsrc=eth_src, psrc=src, hwdst=target_mac, pdst=dst)
    return ethernet(body, eth_src=eth_src, eth_dst=eth_dst, vlan=vlan)


def neighbor_solicitation(
    src: str = IP6_1,
    target: str = IP6_2,
    *,
    dst: str = "ff02::1:ff00:2",
    eth_src: str = MAC_1,
    eth_dst: str = "33:33:ff:00:00:02",
    hop_limit: int = 255,
) -> bytes:
    """Make a neighbour solicitation with its source link-layer option."""
    option = ICMPv6NDOptSrcLLAddr(lladdr=eth_src)
    message = ICMPv6ND_NS(tgt=target) / option if src != "::" else ICMPv6ND_NS()
    if src == "::":
        message.tgt = target
    return ethernet(
        ip(src, dst, ttl=hop_limit) / message, eth_src=eth_src, eth_dst=eth_dst
    )


def neighbor_advertisement(
    src: str = IP6_1,
    dst: str = IP6_2,
    target: str = IP6_1,
    *,
    eth_src: str = MAC_1,
    eth_dst: str = MAC_2,
    solicited: bool = True,
    hop_limit: int = 255,
) -> bytes:
    """Make a neighbour advertisement with its target link-layer option."""
    option = ICMPv6NDOptDstLLAddr(lladdr=eth_src)
    message = ICMPv6ND_NA(tgt=target, R=0, S=int(solicited), O=1) / option
    return ethernet(
        ip(src, dst, ttl=hop_limit) / message, eth_src=eth_src, eth_dst=eth_dst
    )


def recomputed(frame: bytes) -> bytes:
    """Return the frame with every outer checksum made anew by scapy.

    A frame whose checksums are right comes back unchanged.
    """
    parsed = Ether(frame)
    layer: Any = parsed
    while layer:
        for name in ("chksum", "cksum"):
            if name in layer.fields and _has_checksum(layer):
                delattr(layer, name)
        if layer.name in ("ICMP", "IP in ICMP") or layer.name.startswith("ICMPv6"):
            break
        layer = layer.payload
    return bytes(parsed)


def _has_checksum(layer: Any) -> bool:
    return not (layer.name == "UDP" and layer.chksum == 0)
