# SPDX-License-Identifier: Apache-2.0
"""Frames of IGMP and MLD; IGMP bodies by hand, as scapy's names for them change."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

from scapy.layers.inet import IP, IPOption_Router_Alert
from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop, RouterAlert
from scapy.layers.l2 import Ether

from midoryu.packet.checksum import internet_checksum

MAC = "02:00:00:00:00:01"


def _address(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def igmp(
    kind: int,
    group: str = "0.0.0.0",
    *,
    records: tuple[tuple[Any, ...], ...] = (),
    src: str = "10.0.1.1",
    eth_src: str = MAC,
) -> bytes:
    """Make a message: 0x11 query, 0x12, 0x16 report, 0x17 leave, 0x22 with records.

    Args:
        kind: the type.
        group: of all but 0x22.
        records: (record type, group, source, ...) each.
        src: IP source.
        eth_src: Ethernet source.
    """
    if records:
        rest = struct.pack("!HH", 0, len(records))
        for record, address, *sources in records:
            rest += struct.pack("!BBH", record, 0, len(sources)) + _address(address)
            rest += b"".join(map(_address, sources))
    else:
        rest = _address(group)
    body = bytes((kind, 0, 0, 0)) + rest
    body = body[:2] + internet_checksum(body).to_bytes(2, "big") + rest
    head = IP(src=src, dst="224.0.0.22", ttl=1, proto=2)
    head.options = [IPOption_Router_Alert()]
    return bytes(Ether(src=eth_src, dst="01:00:5e:00:00:16") / head / body)


def mld(body: Any, *, src: str = "fe80::9", eth_src: str = MAC) -> bytes:
    """Make a message of MLD around a scapy body."""
    hop = IPv6ExtHdrHopByHop(options=[RouterAlert()])
    head = IPv6(src=src, dst="ff02::16", hlim=1) / hop
    return bytes(Ether(src=eth_src, dst="33:33:00:00:00:16") / head / body)
