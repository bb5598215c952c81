# SPDX-License-Identifier: Apache-2.0
"""IGMP and MLD: what a host or a multicast router says, and the query to ask hosts.

`codec` has decoded the headers; here the bodies are read. All three versions of IGMP
and both of MLD.

Sources: RFC 1112, RFC 2236, RFC 3376 (IGMPv1-3); RFC 2710, RFC 3810 (MLDv1-2).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple, Union

from midoryu.packet import protocol
from midoryu.packet.address import V4_MAPPED, is_multicast_ip, link_local_of
from midoryu.packet.checksum import internet_checksum, transport_checksum
from midoryu.packet.packet import Packet

IGMP: Final = 2
PIM: Final = 103
# RFC 7761, section 4.3.1: ALL-PIM-ROUTERS.
_PIM_ROUTERS: Final = (V4_MAPPED | 0xE000_000D, 0xFF02 << 112 | 0xD)
MLD_TYPES: Final = frozenset((130, 131, 132, 143))

_QUERY: Final = frozenset((0x11, 130))
_REPORT: Final = frozenset((0x12, 0x16, 131))
_LEAVE: Final = frozenset((0x17, 132))
_RECORDS: Final = frozenset((0x22, 143))
# RFC 3376, section 4.2.12: types of group records.
_INCLUDE: Final = (1, 3)
_BLOCK: Final = 6
# RFC 3376, section 8: robustness variable, query interval (s), response interval (s).
ROBUSTNESS: Final = 2
QUERY_INTERVAL_S: Final = 125
RESPONSE_S: Final = 10
# RFC 3376, section 8.4, 8.5 and 8.8.
GROUP_TIMEOUT_S: Final = ROBUSTNESS * QUERY_INTERVAL_S + RESPONSE_S
ROUTER_TIMEOUT_S: Final = ROBUSTNESS * QUERY_INTERVAL_S + RESPONSE_S // 2
LAST_MEMBER_S: Final = 1
_ROUTER_ALERT_4: Final = bytes((0x94, 4, 0, 0))
_ROUTER_ALERT_6: Final = bytes((protocol.ICMPV6, 0, 5, 2, 0, 0, 1, 0))
_ALL_HOSTS_4: Final = V4_MAPPED | 0xE000_0001
_ALL_HOSTS_6: Final = 0xFF02 << 112 | 1


class Wish(NamedTuple):
    """What a host says about one group."""

    group: int
    """128-bit multicast address."""
    joins: bool
    """It wants the group; else it is through with it."""


class RouterHello(NamedTuple):
    """A multicast router made itself known."""


class Talk(NamedTuple):
    """A packet of IGMP, MLD or PIM."""

    says: tuple[Union[Wish, RouterHello], ...]
    is_query: bool
    """It is for hosts; reports are for routers (RFC 4541, section 2.1.1)."""


def is_talk(packet: Packet) -> bool:
    """Tell whether a packet speaks about groups."""
    if packet.ip_frag:
        return False
    if packet.eth_type == protocol.ETH_IPV4:
        return packet.ip_proto in (IGMP, PIM)
    if packet.eth_type != protocol.ETH_IPV6:
        return False
    is_mld = packet.ip_proto == protocol.ICMPV6 and packet.headers.l4_src in MLD_TYPES
    return is_mld or packet.ip_proto == PIM


def read_talk(packet: Packet) -> Talk:
    """Read what a packet (`is_talk`) says; a body that makes no sense says nothing."""
    if packet.ip_proto == PIM:
        hello = packet.headers.ip_dst in _PIM_ROUTERS
        return Talk((RouterHello(),) if hello else (), is_query=True)
    body = packet.frame[packet.l4 : packet.l3 + packet.l3_length]
    if len(body) < 8:
        return Talk((), is_query=False)
    kind = body[0]
    v4 = packet.eth_type == protocol.ETH_IPV4
    if kind in _QUERY:
        # RFC 4541, section 2.1.1: 0.0.0.0 is a switch that asks, and no router.
        is_router = packet.headers.ip_src & 0xFFFF_FFFF != 0 or not v4
        return Talk((RouterHello(),) if is_router else (), is_query=True)
    if kind in _RECORDS:
        return Talk(tuple(_wishes(body, v4=v4)), is_query=False)
    size = 4 if v4 else 16
    at = 4 if v4 else 8
    group = _group(body[at : at + size], v4=v4)
    if group and kind in _REPORT | _LEAVE:
        return Talk((Wish(group, kind in _REPORT),), is_query=False)
    return Talk((), is_query=False)


def _wishes(body: bytes, *, v4: bool) -> Iterator[Wish]:
    """Read the group records of a version 3 report (MLDv2 has the same form)."""
    size = 4 if v4 else 16
    (count,) = struct.unpack_from("!H", body, 6)
    at = 8
    for _ in range(count):
        if at + 4 + size > len(body):
            return
        kind, extra, sources = struct.unpack_from("!BBH", body, at)
        group = _group(body[at + 4 : at + 4 + size], v4=v4)
        if group and kind != _BLOCK and 1 <= kind <= _BLOCK:
            yield Wish(group, bool(sources) or kind not in _INCLUDE)
        at += 4 + size + sources * size + extra * 4


def _group(data: bytes, *, v4: bool) -> int:
    """Read a group address, 0 for none that can be wanted."""
    if len(data) != (4 if v4 else 16):
        return 0
    value = int.from_bytes(data, "big") | (V4_MAPPED if v4 else 0)
    return value if is_multicast_ip(value) and not is_always_flooded(value) else 0


def is_always_flooded(group: int) -> bool:
    """Tell whether a group is of the link and goes to everybody, asked for or not.

    Source: RFC 4541, section 2.1.2 (2) and section 3 (224.0.0.0/24, ff0x::/16 up to
    link-local scope).
    """
    if group >> 32 == 0xFFFF:
        return group & 0xFFFF_FF00 == 0xE000_0000
    return group >> 112 & 0xF <= 2


def query(source_mac: int, *, v4: bool, group: int = 0) -> bytes:
    """Build a query of the network to hosts: a general one, or about one group.

    It is of the newest version, which older hosts understand; its source is 0.0.0.0, so
    that a multicast router that is there stays the querier (RFC 4541, section 2.1.1).
    """
    wait_s = LAST_MEMBER_S if group else RESPONSE_S
    if v4:
        return _igmp_query(source_mac, group, wait_s)
    return _mld_query(source_mac, group, wait_s)


def _igmp_query(source_mac: int, group: int, wait_s: int) -> bytes:
    asked = (group & 0xFFFF_FFFF).to_bytes(4, "big")
    tail = asked + bytes((ROBUSTNESS, QUERY_INTERVAL_S, 0, 0))
    body = bytes((0x11, wait_s * 10, 0, 0)) + tail
    body = body[:2] + internet_checksum(body).to_bytes(2, "big") + tail
    target = group or _ALL_HOSTS_4
    head = struct.pack("!BBHHHBBHI", 0x46, 0xC0, 36, 0, 0, 1, IGMP, 0, 0)
    head += (target & 0xFFFF_FFFF).to_bytes(4, "big") + _ROUTER_ALERT_4
    head = head[:10] + internet_checksum(head).to_bytes(2, "big") + head[12:]
    mac = 0x01_005E_000000 | target & 0x7F_FFFF
    return _ethernet(mac, source_mac, protocol.ETH_IPV4) + head + body


def _mld_query(source_mac: int, group: int, wait_s: int) -> bytes:
    source, target = link_local_of(source_mac), group or _ALL_HOSTS_6
    asked = group.to_bytes(16, "big") + bytes((ROBUSTNESS, QUERY_INTERVAL_S, 0, 0))
    body = struct.pack("!BBHHH", 130, 0, 0, wait_s * 1000, 0) + asked
    checksum = transport_checksum(source, target, protocol.ICMPV6, body)
    body = body[:2] + checksum.to_bytes(2, "big") + body[4:]
    head = struct.pack("!IHBB", 6 << 28, len(_ROUTER_ALERT_6) + len(body), 0, 1)
    head += source.to_bytes(16, "big") + target.to_bytes(16, "big") + _ROUTER_ALERT_6
    mac = 0x3333_0000_0000 | target & 0xFFFF_FFFF
    return _ethernet(mac, source_mac, protocol.ETH_IPV6) + head + body


def _ethernet(target: int, source: int, eth_type: int) -> bytes:
    addresses = target.to_bytes(6, "big") + source.to_bytes(6, "big")
    return addresses + eth_type.to_bytes(2, "big")
