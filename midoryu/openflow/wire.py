# SPDX-License-Identifier: Apache-2.0
"""Our flow values as OpenFlow 1.3 messages: what the agent sends to the switch.

`wire_match` and `wire_action` do the parts, `wire_decode` reads what comes back.

Source: OpenFlow 1.3.5, section 7.3.
"""

from __future__ import annotations

import struct
from typing import Final

from midoryu.openflow import flow, pipeline
from midoryu.openflow.flow import AnyOut, Flow, FlowMod, ReadyOut
from midoryu.openflow.wire_action import encode_actions, encode_instructions
from midoryu.openflow.wire_match import encode_match

VERSION: Final = 4
# OpenFlow 1.3.5, section 7.1.
ERROR: Final = 1
PACKET_IN: Final = 10
FLOW_REMOVED: Final = 11
_PACKET_OUT: Final = 13
_FLOW_MOD: Final = 14
_MULTIPART_REQUEST: Final = 18
MULTIPART_REPLY: Final = 19
_BARRIER_REQUEST: Final = 20
BARRIER_REPLY: Final = 21
_SET_ASYNC: Final = 28
_METER_MOD: Final = 29

_NO_BUFFER: Final = 0xFFFF_FFFF
_GROUP_ANY: Final = 0xFFFF_FFFF
_TABLE_ALL: Final = 0xFF
_FC_ADD: Final = 0
_FC_DELETE: Final = 3
_FC_DELETE_STRICT: Final = 4
_FF_SEND_FLOW_REM: Final = 1
_MC_ADD: Final = 0
_MC_MODIFY: Final = 1
_MC_DELETE: Final = 2
_MF_PKTPS_BURST: Final = 2 | 4
_MF_KBPS_BURST: Final = 1 | 4
_MBT_DROP: Final = 1
MULTIPART_FLOW: Final = 1

_HEADER: Final = struct.Struct(">BBHI")
# version type length xid | cookie mask | table command idle hard priority | buffer
# out_port out_group flags pad
_FLOW_MOD_HEAD: Final = struct.Struct(">BBHIQQBBHHHIIIH2x")
_PACKET_OUT_HEAD: Final = struct.Struct(">BBHIIIH6x")
_METER_HEAD: Final = struct.Struct(">BBHIHHI")
_METER_BAND: Final = struct.Struct(">HHII4x")
_STATS_HEAD: Final = struct.Struct(">BBHIHH4xB3xII4xQQ")
_ASYNC: Final = struct.Struct(">BBHIIIIIII")
_EMPTY_MATCH: Final = b"\0\x01\0\x04\0\0\0\0"


def encode_flow_mod(mod: FlowMod, xid: int) -> bytes:
    """Encode one change of the switch's tables or meters.

    Raises:
        ValueError: the match or an action has no form on the wire.
    """
    if isinstance(mod, flow.InstallFlow):
        message = mod.message
        if message:
            return message[:4] + xid.to_bytes(4, "big") + message[8:]
        return _install(mod.flow, xid)
    if isinstance(mod, flow.RemoveFlow):
        return _remove(mod.flow, xid)
    if isinstance(mod, flow.SetMeter):
        return _meter(mod, _MC_ADD, xid)
    return _METER_HEAD.pack(VERSION, _METER_MOD, 16, xid, _MC_DELETE, 0, mod.meter)


def _install(value: Flow, xid: int) -> bytes:
    match = encode_match(value.match)
    instructions = encode_instructions(value.actions, value.fin_timeout_s, value.note)
    head = _FLOW_MOD_HEAD.pack(
        VERSION,
        _FLOW_MOD,
        48 + len(match) + len(instructions),
        xid,
        value.cookie,
        0,
        value.table,
        _FC_ADD,
        value.idle_timeout_s,
        value.hard_timeout_s,
        value.priority,
        _NO_BUFFER,
        pipeline.PORT_ANY,
        _GROUP_ANY,
        _FF_SEND_FLOW_REM if value.notify_removed else 0,
    )
    return head + match + instructions


def _remove(value: Flow, xid: int) -> bytes:
    match = encode_match(value.match)
    return _delete(
        match, table=value.table, priority=value.priority, strict=True, xid=xid
    )


def _delete(
    match: bytes,
    *,
    table: int,
    xid: int,
    priority: int = 0,
    strict: bool = False,
    cookie: int = 0,
    mask: int = 0,
) -> bytes:
    command = _FC_DELETE_STRICT if strict else _FC_DELETE
    head = _FLOW_MOD_HEAD.pack(
        VERSION,
        _FLOW_MOD,
        48 + len(match),
        xid,
        cookie,
        mask,
        table,
        command,
        0,
        0,
        priority,
        _NO_BUFFER,
        pipeline.PORT_ANY,
        _GROUP_ANY,
        0,
    )
    return head + match


def _meter(mod: flow.SetMeter, command: int, xid: int) -> bytes:
    flags = _MF_KBPS_BURST if mod.is_kbps else _MF_PKTPS_BURST
    head = _METER_HEAD.pack(VERSION, _METER_MOD, 32, xid, command, flags, mod.meter)
    return head + _METER_BAND.pack(_MBT_DROP, 16, mod.rate_pps, mod.burst)


def encode_meter_change(mod: flow.SetMeter, xid: int) -> bytes:
    """Encode the change of a meter that the switch has already.

    OpenFlow refuses to add a meter that exists and to change one that does not; the
    agent adds, and changes where it is told that the meter exists.
    """
    return _meter(mod, _MC_MODIFY, xid)


def encode_packet_out(packet_out: AnyOut, xid: int) -> bytes:
    """Encode a frame with what the switch shall do with it.

    Raises:
        ValueError: an action has no form on the wire.
    """
    if isinstance(packet_out, ReadyOut):
        actions = packet_out.encoded
    else:
        actions = encode_actions(packet_out.actions)
    head = _PACKET_OUT_HEAD.pack(
        VERSION,
        _PACKET_OUT,
        24 + len(actions) + len(packet_out.frame),
        xid,
        _NO_BUFFER,
        packet_out.in_port,
        len(actions),
    )
    return head + actions + packet_out.frame


def encode_delete_by_cookie(
    cookie: int, mask: int, *, table: int = _TABLE_ALL, xid: int
) -> bytes:
    """Encode the deletion of every flow whose cookie agrees in the mask's bits."""
    return _delete(_EMPTY_MATCH, table=table, xid=xid, cookie=cookie, mask=mask)


def encode_flow_stats_request(cookie: int, mask: int, xid: int) -> bytes:
    """Ask for every flow whose cookie agrees in the mask's bits."""
    head = _STATS_HEAD.pack(
        VERSION,
        _MULTIPART_REQUEST,
        56,
        xid,
        MULTIPART_FLOW,
        0,
        _TABLE_ALL,
        pipeline.PORT_ANY,
        _GROUP_ANY,
        cookie,
        mask,
    )
    return head + _EMPTY_MATCH


def encode_barrier(xid: int) -> bytes:
    """Ask for an answer once everything before is done."""
    return _HEADER.pack(VERSION, _BARRIER_REQUEST, 8, xid)


def encode_set_async(xid: int) -> bytes:
    """Ask for packet-ins of every reason (invalid TTL is off by default).

    Source: OpenFlow 1.3.5, section 7.3.10.
    """
    packet_in, port_status, flow_removed = 0b111, 0b111, 0b1111
    return _ASYNC.pack(
        VERSION,
        _SET_ASYNC,
        32,
        xid,
        packet_in,
        0,
        port_status,
        0,
        flow_removed,
        0,
    )
