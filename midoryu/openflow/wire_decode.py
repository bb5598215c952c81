# SPDX-License-Identifier: Apache-2.0
"""What the switch sends, as plain values: packet-in, flow-removed, flows, errors.

The counterpart of `wire`. Every function takes one whole message and gives a value or
`DecodeError`, whatever the bytes.

Source: OpenFlow 1.3.5, sections 7.3.5, 7.4.1, 7.4.2 and 7.4.4.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

from midoryu.errors import DecodeError
from midoryu.openflow import wire_match as oxm
from midoryu.openflow.flow import Flow
from midoryu.openflow.wire import MULTIPART_FLOW
from midoryu.openflow.wire_action import decode_instructions
from midoryu.openflow.wire_match import decode_match, oxm_fields
from midoryu.packet.address import V4_MAPPED

# version type length xid | buffer_id total_len reason table cookie | match type, length
_PACKET_IN: Final = struct.Struct(">8xIHBBQHH")
_FLOW_REMOVED: Final = struct.Struct(">8xQHBBIIHHQQ")
_ERROR: Final = struct.Struct(">4xIHH")
_MULTIPART: Final = struct.Struct(">8xHH4x")
_FLOW_STATS: Final = struct.Struct(">HBxIIHHHH4xQQQ")
_MPF_MORE: Final = 1
_FF_SEND_FLOW_REM: Final = 1


_T = TypeVar("_T")


class PacketInFields(NamedTuple):
    """A packet-in; same order and meaning as the engine's `PacketIn`."""

    in_port: int
    frame: bytes
    table: int
    reason: int
    cookie: int
    tunnel_key: int
    tunnel_source: int
    hops: int


class FlowRemovedFields(NamedTuple):
    """A flow-removed; same order and meaning as the engine's `FlowRemoved`."""

    cookie: int
    reason: int
    idle_timeout_s: int
    duration_s: float
    packets: int


class ErrorFields(NamedTuple):
    """An error message."""

    type: int
    """OFPET_*."""
    code: int
    """Code within the type."""
    xid: int
    """Of the message that was refused."""
    data: bytes
    """At least the first 64 bytes of that message."""


def decode_packet_in(
    message: bytes,
    make: Callable[..., _T] = PacketInFields,  # type: ignore[assignment]
) -> _T:
    """Decode a packet-in message.

    Args:
        message: all of it.
        make: makes a value of what `PacketInFields` has, in that order.

    Raises:
        DecodeError: the message is cut short or malformed.
    """
    if len(message) < 34:
        raise DecodeError(f"packet-in of {len(message)} bytes")
    _, _, reason, table, cookie, kind, length = _PACKET_IN.unpack_from(message)
    start = 24 + (length + 7) // 8 * 8 + 2
    if kind != 1 or length < 4 or start > len(message):
        raise DecodeError(f"packet-in with a match of type {kind}, {length} bytes")
    in_port, key, source, hops = _metadata(message[28 : 24 + length])
    return make(in_port, message[start:], table, reason, cookie, key, source, hops)


# Packets of one port carry the same metadata, so most calls are answered from here.
@lru_cache(maxsize=4096)
def _metadata(fields: bytes) -> tuple[int, int, int, int]:
    """Read (in_port, tunnel key, tunnel source, hops) from a packet-in's match."""
    in_port = tunnel_key = tunnel_source = hops = 0
    for header, value, _ in oxm_fields(fields, 0, len(fields)):
        if header == oxm.IN_PORT:
            in_port = value
        elif header == oxm.TUNNEL_ID:
            tunnel_key = value
        elif header == oxm.TUN_IPV4_SRC:
            tunnel_source = V4_MAPPED | value
        elif header == oxm.TUN_IPV6_SRC:
            tunnel_source = value
        elif header == oxm.REG0:
            hops = value
    return in_port, tunnel_key, tunnel_source, hops


def decode_flow_removed(message: bytes) -> FlowRemovedFields:
    """Decode a flow-removed message.

    Raises:
        DecodeError: the message is cut short.
    """
    # The match, which is two thirds of it, is not read: the cookie tells the flow.
    if len(message) < 56:
        raise DecodeError(f"flow-removed of {len(message)} bytes")
    cookie, _, reason, _, seconds, nanoseconds, idle, _, packets, _ = (
        _FLOW_REMOVED.unpack_from(message)
    )
    duration_s = seconds + nanoseconds / 1e9
    return FlowRemovedFields(cookie, reason, idle, duration_s, packets)


def decode_flow_stats(message: bytes) -> tuple[list[Flow], bool]:
    """Decode one reply to `wire.encode_flow_stats_request`.

    Returns:
        The flows, and whether more replies follow.

    Raises:
        DecodeError: malformed, no flow statistics, or a flow that we never install.
    """
    if len(message) < 16:
        raise DecodeError(f"multipart reply of {len(message)} bytes")
    kind, flags = _MULTIPART.unpack_from(message)
    if kind != MULTIPART_FLOW:
        raise DecodeError(f"multipart reply of type {kind}, wanted flows")
    flows: list[Flow] = []
    start = 16
    while start < len(message):
        length = int.from_bytes(message[start : start + 2], "big")
        if length < 56 or start + length > len(message):
            raise DecodeError(f"flow statistics with a length of {length} bytes")
        flows.append(_flow(message[start : start + length]))
        start += length
    return flows, bool(flags & _MPF_MORE)


def _flow(data: bytes) -> Flow:
    _, table, _, _, priority, idle, hard, flags, cookie, _, _ = _FLOW_STATS.unpack_from(
        data
    )
    match, end = decode_match(data, 48)
    actions, fin_timeout_s, note = decode_instructions(data[end:])
    return Flow(
        table,
        priority,
        match,
        actions,
        cookie,
        idle_timeout_s=idle,
        hard_timeout_s=hard,
        fin_timeout_s=fin_timeout_s,
        notify_removed=bool(flags & _FF_SEND_FLOW_REM),
        note=note,
    )


def decode_error(message: bytes) -> ErrorFields:
    """Decode an error message.

    Raises:
        DecodeError: the message is cut short.
    """
    if len(message) < 12:
        raise DecodeError(f"error message of {len(message)} bytes")
    xid, kind, code = _ERROR.unpack_from(message)
    return ErrorFields(kind, code, xid, message[12:])
