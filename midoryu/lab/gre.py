# SPDX-License-Identifier: Apache-2.0
"""What a capture on the underlay holds: GRE packets between hosts, taken apart.

`capture` has the frames; tests and the demo ask here which keys and hosts they had.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple, Optional

from midoryu.packet.address import V4_MAPPED, format_ip

_ETHERTYPE_AT = 12
_IPV4 = 0x0800
_IPV6 = 0x86DD
_GRE = 47
# RFC 2890, section 2: the key-present bit; RFC 2784: the checksum-present bit.
_HAS_KEY = 0x2000
_HAS_CHECKSUM = 0x8000
_HAS_SEQUENCE = 0x1000


class GrePacket(NamedTuple):
    """One packet between two hosts."""

    time: float
    """Seconds since 1970."""
    source: str
    """Underlay address of the sender."""
    destination: str
    """Underlay address of the receiver."""
    tos: int
    """Outer DSCP and ECN octet."""
    key: int
    """GRE key, 0 for none."""
    inner: bytes
    """The frame inside."""


def parse(time: float, frame: bytes) -> Optional[GrePacket]:
    """Take one captured frame apart; None where it is no GRE packet or cut short."""
    try:
        return _parse(time, frame)
    except (struct.error, IndexError):
        return None


def parse_all(frames: Iterable[tuple[float, bytes]]) -> list[GrePacket]:
    """Take (time, frame) pairs apart, in order, leaving out what is not GRE."""
    found = (parse(time, frame) for time, frame in frames)
    return [packet for packet in found if packet is not None]


def _parse(time: float, frame: bytes) -> Optional[GrePacket]:
    (ethertype,) = struct.unpack_from(">H", frame, _ETHERTYPE_AT)
    if ethertype == _IPV4 and frame[23] == _GRE:
        at = 14 + (frame[14] & 0xF) * 4
        tos = frame[15]
        source, destination = (
            V4_MAPPED | int.from_bytes(frame[start : start + 4], "big")
            for start in (26, 30)
        )
    elif ethertype == _IPV6 and frame[20] == _GRE:
        at = 54
        tos = (struct.unpack_from(">H", frame, 14)[0] >> 4) & 0xFF
        source = int.from_bytes(frame[22:38], "big")
        destination = int.from_bytes(frame[38:54], "big")
    else:
        return None
    flags, _ = struct.unpack_from(">HH", frame, at)
    at += 4 + (4 if flags & _HAS_CHECKSUM else 0)
    key = 0
    if flags & _HAS_KEY:
        (key,) = struct.unpack_from(">I", frame, at)
        at += 4
    at += 4 if flags & _HAS_SEQUENCE else 0
    ends = format_ip(source), format_ip(destination)
    return GrePacket(time, *ends, tos, key, frame[at:])
