# SPDX-License-Identifier: Apache-2.0
"""Headers of packets that may be of a known kind, read at once.

As strict as `packet.codec`: what that refuses is nothing for `express`, which asks this
first.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, Optional

from midoryu.engine.event import PacketIn
from midoryu.engine.express_book import Key
from midoryu.openflow import pipeline
from midoryu.packet import protocol
from midoryu.packet.address import V4_MAPPED

# Longer packets may meet an MTU on their way (`simulation.replay`).
_MAX_BYTES: Final = 576

# MACs, ethertype, version and header length, TOS | total length | fragment | TTL and
# protocol | source | destination | ports
_V4: Final = Struct("!16sH2xHH2xIIHH").unpack_from
# MACs, ethertype | version, traffic class, flow label | payload length | protocol and
# hop limit | source | destination | ports
_V6: Final = Struct("!14sIHHQQQQHH").unpack_from
# The least that is looked at: with a UDP header, and with one of TCP.
_LEAST_V4: Final = 14 + 20 + 8
_LEAST_V6: Final = 14 + 40 + 8
_TCP_FLAGS_V4: Final = 14 + 20 + 13
_TCP_FLAGS_V6: Final = 14 + 40 + 13
_IPV4: Final = b"\x08\x00"
_IPV6: Final = b"\x86\xdd"

# (key, source, destination, source port, numbers of the ends for a message)
Read = tuple[Key, int, int, int, tuple[int, ...]]


def read_headers(event: PacketIn) -> Optional[Read]:
    """Read a packet that may be of a known kind; None where it cannot be."""
    frame = event.frame
    if event.tunnel_key or event.reason == pipeline.REASON_INVALID_TTL:
        return None
    kind = frame[12:14]
    if kind == _IPV4:
        return _read_v4(event.in_port, frame)
    return _read_v6(event.in_port, frame) if kind == _IPV6 else None


def _read_v4(in_port: int, frame: bytes) -> Optional[Read]:
    size = len(frame)
    if size < _LEAST_V4:
        return None
    head, length, fragment, hop, source, destination, own, port = _V4(frame)
    if (
        head[14] != 0x45
        or length > size - 14
        or length > _MAX_BYTES
        or fragment & 0x3FFF
        or int.from_bytes(frame[14:34], "big") % 0xFFFF
        # Multicast and broadcast sources: 240/4 is nobody's, and rare.
        or source >= 0xE000_0000
    ):
        return None
    proto = hop & 0xFF
    if proto == protocol.TCP and length >= 40:
        flags = frame[_TCP_FLAGS_V4]
    elif proto == protocol.UDP and length >= 28:
        flags = 0
    else:
        return None
    key = (in_port, head, hop, port, flags)
    ends = (source, destination, own)
    return key, V4_MAPPED | source, V4_MAPPED | destination, own, ends


def _read_v6(in_port: int, frame: bytes) -> Optional[Read]:
    size = len(frame)
    if size < _LEAST_V6:
        return None
    head, first, length, hop, high, low, to_high, to_low, own, port = _V6(frame)
    if first >> 28 != 6 or length > size - 54 or length > _MAX_BYTES - 40:
        return None
    if high >> 56 == 0xFF or not (high and to_high):
        # A multicast source; an address that may be an IPv4-mapped one.
        return None
    proto = hop >> 8
    if proto == protocol.TCP and length >= 20:
        flags = frame[_TCP_FLAGS_V6]
    elif proto == protocol.UDP and length >= 8:
        flags = 0
    else:
        return None
    key = (in_port, head, hop, port, flags, first >> 20)
    ends = (high, low, to_high, to_low, own)
    return key, high << 64 | low, to_high << 64 | to_low, own, ends
