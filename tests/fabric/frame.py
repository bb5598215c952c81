# SPDX-License-Identifier: Apache-2.0
"""Frames of the simulated traffic, made by hand because there are many.

Each carries the number of its connection, so that a receiver knows whose packet it got.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from midoryu.packet.address import is_v4
from midoryu.packet.codec import decode
from midoryu.packet.protocol import ETH_IPV4, ETH_IPV6, ICMP, ICMPV6, TCP, UDP
from midoryu.state.connection import FourTuple

_MARK = struct.Struct(">4sIBI")
_MAGIC = b"mdry"
FIN, SYN, PSH, ACK = 1, 2, 8, 16
# Query types by protocol; a reply's type follows from it.
QUERY = {ICMP: 8, ICMPV6: 128}
REPLY = {ICMP: 0, ICMPV6: 129}


class Mark(NamedTuple):
    """What a payload says."""

    connection: int
    returns: bool
    serial: int


class Seen(NamedTuple):
    """A frame as its receiver sees it."""

    ip_proto: int
    ends: FourTuple
    mark: Mark


class SeenError(NamedTuple):
    """An ICMP error as its receiver sees it."""

    source: int
    destination: int
    ip_proto: int
    """Of the quoted packet, as are the ends."""
    ends: FourTuple
    mark: Mark
    sound: bool
    """Its checksums are right (IPv6: nobody looked)."""


def make(
    ip_proto: int,
    ends: FourTuple,
    mark: Mark,
    *,
    flags: int = 0,
    eth_src: int,
    eth_dst: int,
) -> bytes:
    """Make a frame; an echo has its identifier as source and destination port."""
    packet = make_packet(ip_proto, ends, mark, flags=flags)
    return _framed(packet, ends[0], eth_src, eth_dst)


def make_packet(ip_proto: int, ends: FourTuple, mark: Mark, *, flags: int = 0) -> bytes:
    """Make what is in a frame."""
    source, destination, source_port, destination_port = ends
    payload = _MARK.pack(_MAGIC, mark.connection, mark.returns, mark.serial)
    if ip_proto == TCP:
        head = struct.pack(
            ">HHIIBBHHH",
            source_port,
            destination_port,
            mark.serial,
            mark.serial,
            0x50,
            flags,
            0x4000,
            0,
            0,
        )
        at = 16
    elif ip_proto == UDP:
        length = 8 + len(payload)
        head = struct.pack(">HHHH", source_port, destination_port, length, 0)
        at = 6
    else:
        kind = (REPLY if mark.returns else QUERY)[ip_proto]
        head = struct.pack(">BBHHH", kind, 0, 0, source_port, mark.serial & 0xFFFF)
        at = 2
    return _packet(ip_proto, source, destination, head + payload, at)


def make_error(
    quoted: bytes, source: int, destination: int, *, eth_src: int, eth_dst: int
) -> bytes:
    """Make an ICMP error (port unreachable) that quotes a whole packet."""
    v4 = is_v4(source)
    proto, kind, code = (ICMP, 3, 3) if v4 else (ICMPV6, 1, 4)
    body = struct.pack(">BBHI", kind, code, 0, 0) + quoted
    packet = _packet(proto, source, destination, body, 2)
    return _framed(packet, source, eth_src, eth_dst)


def _packet(
    ip_proto: int, source: int, destination: int, body: bytes, at: int
) -> bytes:
    """Put an IP header before a body, and a checksum into it at an offset."""
    v4 = is_v4(source)
    width = 4 if v4 else 16
    mask = (1 << (8 * width)) - 1
    addresses = (source & mask).to_bytes(width, "big")
    addresses += (destination & mask).to_bytes(width, "big")
    pseudo = b"" if ip_proto == ICMP else addresses
    pseudo += struct.pack(">II", len(body), ip_proto) if pseudo else b""
    checksum = _checksum(pseudo + body) or 0xFFFF
    body = body[:at] + checksum.to_bytes(2, "big") + body[at + 2 :]
    if v4:
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, ip_proto, 0)
        checksum = _checksum(ip + addresses)
        ip = ip[:10] + checksum.to_bytes(2, "big") + addresses
    else:
        ip = struct.pack(">IHBB", 6 << 28, len(body), ip_proto, 64) + addresses
    return ip + body


def _framed(packet: bytes, source: int, eth_src: int, eth_dst: int) -> bytes:
    ethernet = eth_dst.to_bytes(6, "big") + eth_src.to_bytes(6, "big")
    eth_type = ETH_IPV4 if is_v4(source) else ETH_IPV6
    return ethernet + eth_type.to_bytes(2, "big") + packet


def read(frame: bytes) -> Seen | None:
    """Read a frame of this traffic; None for any other one."""
    if len(frame) < _MARK.size or frame[-_MARK.size :][:4] != _MAGIC:
        return None
    _, connection, returns, serial = _MARK.unpack(frame[-_MARK.size :])
    packet = decode(frame)
    headers = packet.headers
    ports = headers.l4_src, headers.l4_dst
    if packet.ip_proto in QUERY:
        kind = packet.frame[packet.l4]
        if kind not in (QUERY[packet.ip_proto], REPLY[packet.ip_proto]):
            # An error that quotes our packet.
            return None
        identifier = int.from_bytes(packet.frame[packet.l4 + 4 : packet.l4 + 6], "big")
        ports = identifier, identifier
    ends = (headers.ip_src, headers.ip_dst, *ports)
    return Seen(packet.ip_proto, ends, Mark(connection, bool(returns), serial))


def read_error(frame: bytes) -> SeenError | None:
    """Read an ICMP error that quotes a packet of this traffic; None for others."""
    if len(frame) < _MARK.size or frame[-_MARK.size :][:4] != _MAGIC:
        return None
    _, connection, returns, serial = _MARK.unpack(frame[-_MARK.size :])
    packet = decode(frame)
    quoted = packet.embedded
    if quoted is None:
        return None
    ends = (quoted.ip_src, quoted.ip_dst, quoted.l4_src, quoted.l4_dst)
    headers = packet.headers
    mark = Mark(connection, bool(returns), serial)
    sound = not is_v4(headers.ip_src) or not (
        _checksum(frame[packet.l4 :]) or _checksum(frame[quoted.l3 : quoted.l4])
    )
    return SeenError(headers.ip_src, headers.ip_dst, quoted.ip_proto, ends, mark, sound)


def _checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)
