# SPDX-License-Identifier: Apache-2.0
"""Actions and instructions as OpenFlow 1.3 bytes and back.

Used by `wire` (encode) and `wire_decode`. One of our actions may be several on the
wire (a tunnel is its key and its far end); decoding puts these together again.

Source: OpenFlow 1.3.5, sections 7.2.4 and 7.2.5; ovs-actions(7) (fin_timeout, note).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from midoryu.errors import DecodeError
from midoryu.openflow import flow, pipeline, wire_deliver, wire_reflect, wire_size
from midoryu.openflow import wire_match as oxm
from midoryu.openflow.flow import Action
from midoryu.packet import protocol
from midoryu.packet.address import V4_MAPPED, is_v4

# OpenFlow 1.3.5, section 7.2.5.
_AT_OUTPUT: Final = 0
_AT_PUSH_VLAN: Final = 17
_AT_POP_VLAN: Final = 18
_AT_DEC_TTL: Final = 24
_AT_SET_FIELD: Final = 25
_AT_EXPERIMENTER: Final = 0xFFFF
# OpenFlow 1.3.5, section 7.2.4.
_IT_GOTO: Final = 1
_IT_APPLY: Final = 4
_IT_METER: Final = 6
# OVS, ovs-actions(7) and its wire form: vendor id, subtypes.
_NICIRA: Final = 0x0000_2320
_NX_REG_LOAD: Final = 7
_NX_NOTE: Final = 8
_NX_FIN_TIMEOUT: Final = 19
# ovs-fields(7), in_port: Nicira's 16-bit field.
_NXM_IN_PORT: Final = 0x0000_0002
_WHOLE_PACKET: Final = 0xFFFF
_VLAN_PRESENT: Final = 0x1000

_OUTPUT: Final = struct.Struct(">HHIH6x")
_PLAIN: Final = struct.Struct(">HH4x")
_LOAD: Final = struct.Struct(">HHIHHIQ")
_PUSH: Final = struct.Struct(">HHH2x")
_FIN: Final = struct.Struct(">HHIHHH2x")
_NOTE: Final = struct.Struct(">HHIH")
_HEADER: Final = struct.Struct(">HH4x")
_INSTRUCTION_8: Final = struct.Struct(">HHI")
_GOTO: Final = struct.Struct(">HHB3x")


def _set_field(header: int, value: int) -> bytes:
    length = header & 0xFF
    size = (8 + length + 7) // 8 * 8
    head = struct.pack(">HHI", _AT_SET_FIELD, size, header)
    masked = value & ((1 << length * 8) - 1)
    return (head + masked.to_bytes(length, "big")).ljust(size, b"\0")


def _output(action: Action) -> bytes:
    return _OUTPUT.pack(_AT_OUTPUT, 16, action[1], 0)


def _controller(action: Action) -> bytes:
    return _OUTPUT.pack(_AT_OUTPUT, 16, pipeline.PORT_CONTROLLER, _WHOLE_PACKET)


def _set_tunnel(action: Action) -> bytes:
    remote = action[2]
    header = oxm.TUN_IPV4_DST if is_v4(remote) else oxm.TUN_IPV6_DST
    return _set_field(oxm.TUNNEL_ID, action[1]) + _set_field(header, remote)


def _set_ip(v4_header: int, v6_header: int) -> Callable[[Action], bytes]:
    def encode(action: Action) -> bytes:
        return _set_field(v4_header if is_v4(action[1]) else v6_header, action[1])

    return encode


def _set_l4(headers: dict[int, int]) -> Callable[[Action], bytes]:
    def encode(action: Action) -> bytes:
        header = headers.get(action[2])
        if header is None:
            raise ValueError(f"cannot set a port of IP protocol {action[2]}")
        return _set_field(header, action[1])

    return encode


def _set(header: int) -> Callable[[Action], bytes]:
    return lambda action: _set_field(header, action[1])


def _set_tos(action: Action) -> bytes:
    dscp = _set_field(oxm.IP_DSCP, action[1] >> 2)
    return dscp + _set_field(oxm.IP_ECN, action[1] & 3)


def _set_dscp(action: Action) -> bytes:
    return _set_field(oxm.IP_DSCP, action[1])


def _clear_in_port(_: Action) -> bytes:
    # OVS takes its own 16-bit field only, and not with set-field.
    length_bits = 16
    return _LOAD.pack(
        _AT_EXPERIMENTER, 24, _NICIRA, _NX_REG_LOAD, length_bits - 1, _NXM_IN_PORT, 0
    )


def _push_vlan(action: Action) -> bytes:
    push = _PUSH.pack(_AT_PUSH_VLAN, 8, protocol.ETH_VLAN)
    return push + _set_field(oxm.VLAN_VID, _VLAN_PRESENT | action[1])


_ENCODER: Final[dict[int, Callable[[Action], bytes]]] = {
    flow.OUTPUT: _output,
    flow.SET_TUNNEL: _set_tunnel,
    flow.DEC_TTL: lambda action: _PLAIN.pack(_AT_DEC_TTL, 8),
    flow.SET_ETH_SRC: _set(oxm.ETH_SRC),
    flow.SET_ETH_DST: _set(oxm.ETH_DST),
    flow.SET_IP_SRC: _set_ip(oxm.IPV4_SRC, oxm.IPV6_SRC),
    flow.SET_IP_DST: _set_ip(oxm.IPV4_DST, oxm.IPV6_DST),
    flow.SET_L4_SRC: _set_l4(oxm.L4_SRC),
    flow.SET_L4_DST: _set_l4(oxm.L4_DST),
    flow.SET_TOS: _set_tos,
    flow.LOAD_HOPS: _set(oxm.REG0),
    flow.PUSH_VLAN: _push_vlan,
    flow.POP_VLAN: lambda action: _PLAIN.pack(_AT_POP_VLAN, 8),
    flow.CONTROLLER: _controller,
    flow.SET_DSCP: _set_dscp,
    flow.DELIVER: lambda action: wire_deliver.deliver(action[1]),
    flow.CLEAR_IN_PORT: _clear_in_port,
    flow.REFLECT: lambda action: wire_reflect.REFLECT,
    flow.CHECK_SIZE: lambda action: wire_size.check_size(action[1]),
    flow.EXIT: lambda action: wire_size.exit_actions(),
}


# The same few actions return in many flows; what is not among them costs 1 us each.
@lru_cache(maxsize=16384)
def encode_action(action: Action) -> bytes:
    """Encode one action (not GOTO or METER, which are instructions).

    Raises:
        ValueError: an action that is none, or one with impossible operands.
    """
    encoder = _ENCODER.get(action[0])
    if encoder is None:
        raise ValueError(f"action {action} cannot stand here")
    return encoder(action)


def encode_actions(actions: tuple[Action, ...]) -> bytes:
    """Encode a list of actions, as a packet-out carries them.

    Raises:
        ValueError: see `encode_action`.
    """
    return b"".join(map(encode_action, actions))


@lru_cache(maxsize=64)
def _fin_timeout(fin_timeout_s: int) -> bytes:
    return _FIN.pack(
        _AT_EXPERIMENTER, 16, _NICIRA, _NX_FIN_TIMEOUT, fin_timeout_s, fin_timeout_s
    )


def _note(note: bytes) -> bytes:
    size = (_NOTE.size + len(note) + 7) // 8 * 8
    head = _NOTE.pack(_AT_EXPERIMENTER, size, _NICIRA, _NX_NOTE)
    return (head + note).ljust(size, b"\0")


def encode_instructions(
    actions: tuple[Action, ...], fin_timeout_s: int, note: bytes = b""
) -> bytes:
    """Encode the instructions of a flow; nothing at all where it drops.

    Raises:
        ValueError: see `encode_action`; METER not first or GOTO not last.
    """
    before = after = b""
    if actions and actions[0][0] == flow.METER:
        before = _INSTRUCTION_8.pack(_IT_METER, 8, actions[0][1])
        actions = actions[1:]
    if actions and actions[-1][0] == flow.GOTO:
        after = _GOTO.pack(_IT_GOTO, 8, actions[-1][1])
        actions = actions[:-1]
    body = b"".join(map(encode_action, actions))
    if fin_timeout_s:
        body = _fin_timeout(fin_timeout_s) + body
    if note:
        body = _note(note) + body
    if body:
        body = _HEADER.pack(_IT_APPLY, 8 + len(body)) + body
    return before + body + after


# ---------------------------------------------------------------- decoding

_SET_SIMPLE: Final[dict[int, int]] = {
    oxm.ETH_SRC: flow.SET_ETH_SRC,
    oxm.ETH_DST: flow.SET_ETH_DST,
    oxm.IPV6_SRC: flow.SET_IP_SRC,
    oxm.IPV6_DST: flow.SET_IP_DST,
    oxm.REG0: flow.LOAD_HOPS,
}
_SET_V4: Final[dict[int, int]] = {
    oxm.IPV4_SRC: flow.SET_IP_SRC,
    oxm.IPV4_DST: flow.SET_IP_DST,
}
_SET_L4: Final[dict[int, tuple[int, int]]] = {
    **{header: (flow.SET_L4_SRC, proto) for proto, header in oxm.L4_SRC.items()},
    **{header: (flow.SET_L4_DST, proto) for proto, header in oxm.L4_DST.items()},
}


class _ActionReader:
    """Puts wire actions together to our actions, one after the other."""

    def __init__(self) -> None:
        self.actions: list[Action] = []
        self.fin_timeout_s = 0
        self.note = b""
        self._tunnel_key: int | None = None
        self._dscp: int | None = None
        self._pushed = False
        self._size: int | None = None

    def read(self, data: bytes) -> None:
        """Take a list of wire actions.

        Raises:
            DecodeError: malformed, or an action that we never send.
        """
        start = 0
        while start < len(data):
            if data.startswith(wire_reflect.REFLECT, start):
                self.actions.append((flow.REFLECT,))
                start += len(wire_reflect.REFLECT)
                continue
            kind, length = _type_length(data, start)
            self._action(kind, data[start : start + length])
            start += length
        self._flush_dscp()
        halves = self._tunnel_key, self._size
        if self._pushed or any(half is not None for half in halves):
            raise DecodeError("half of a pair of actions is missing")

    def _flush_dscp(self) -> None:
        """Take a DSCP without its ECN for what it is."""
        if self._dscp is not None:
            self.actions.append((flow.SET_DSCP, self._dscp))
            self._dscp = None

    def _action(self, kind: int, body: bytes) -> None:
        if kind not in (_AT_SET_FIELD, _AT_EXPERIMENTER):
            self._flush_dscp()
        if kind == _AT_OUTPUT and len(body) == 16:
            port = int.from_bytes(body[4:8], "big")
            controller = port == pipeline.PORT_CONTROLLER
            self.actions.append((flow.CONTROLLER,) if controller else (0, port))
        elif kind == _AT_DEC_TTL:
            self.actions.append((flow.DEC_TTL,))
        elif kind == _AT_POP_VLAN:
            self.actions.append((flow.POP_VLAN,))
        elif kind == _AT_PUSH_VLAN:
            self._pushed = True
        elif kind == _AT_SET_FIELD:
            self._set_field(body)
        elif kind == _AT_EXPERIMENTER:
            self._experimenter(body)
        else:
            raise DecodeError(f"unknown action type {kind}")

    def _set_field(self, body: bytes) -> None:
        header = int.from_bytes(body[4:8], "big")
        end = 8 + (header & 0xFF)
        if end > len(body) or header & oxm.HAS_MASK:
            raise DecodeError(f"set-field of {header:#010x} is cut short or masked")
        self._set(header, int.from_bytes(body[8:end], "big"))

    def _set(self, header: int, value: int) -> None:
        if header != oxm.IP_ECN:
            self._flush_dscp()
        if header in _SET_SIMPLE:
            self.actions.append((_SET_SIMPLE[header], value))
        elif header in _SET_V4:
            self.actions.append((_SET_V4[header], V4_MAPPED | value))
        elif header in _SET_L4:
            kind, proto = _SET_L4[header]
            self.actions.append((kind, value, proto))
        else:
            self._set_half(header, value)

    def _set_half(self, header: int, value: int) -> None:
        if header == oxm.TUNNEL_ID:
            self._tunnel_key = value
        elif header == oxm.IP_DSCP:
            self._dscp = value
        elif header == oxm.IP_ECN and self._dscp is not None:
            self.actions.append((flow.SET_TOS, self._dscp << 2 | value & 3))
            self._dscp = None
        elif header == oxm.VLAN_VID and self._pushed:
            self.actions.append((flow.PUSH_VLAN, value & 0xFFF))
            self._pushed = False
        elif header in (oxm.TUN_IPV4_DST, oxm.TUN_IPV6_DST) and (
            self._tunnel_key is not None
        ):
            offset = V4_MAPPED if header == oxm.TUN_IPV4_DST else 0
            self.actions.append((flow.SET_TUNNEL, self._tunnel_key, offset | value))
            self._tunnel_key = None
        else:
            raise DecodeError(f"set-field of {header:#010x} cannot stand here")

    def _experimenter(self, body: bytes) -> None:
        if len(body) < 16 or int.from_bytes(body[4:8], "big") != _NICIRA:
            raise DecodeError("unknown experimenter action")
        subtype = int.from_bytes(body[8:10], "big")
        if subtype == _NX_FIN_TIMEOUT:
            self.fin_timeout_s = int.from_bytes(body[10:12], "big")
        elif subtype == _NX_REG_LOAD and len(body) == 24:
            self._reg_load(body)
        elif subtype == wire_deliver.CLONE:
            self._flush_dscp()
            self.actions.append((flow.DELIVER, wire_deliver.delivered_key(body)))
        elif subtype == wire_size.CHECK:
            self._size = wire_size.checked_size(body)
        elif subtype == wire_size.RESUBMIT and self._size is not None:
            if not wire_size.is_size_table(body):
                raise DecodeError("resubmit to another table than SIZE")
            self.actions.append((flow.CHECK_SIZE, self._size))
            self._size = None
        elif subtype == wire_size.EXIT:
            self.actions.append((flow.EXIT,))
        elif subtype == _NX_NOTE:
            self.note = body[_NOTE.size :]
        else:
            raise DecodeError(f"unknown Nicira action {subtype}")

    def _reg_load(self, body: bytes) -> None:
        if body == _clear_in_port(()):
            self._flush_dscp()
            self.actions.append((flow.CLEAR_IN_PORT,))
            return
        # Offset (10 bits) and number of bits less one (6 bits): the whole field only.
        offset_bits = int.from_bytes(body[10:12], "big")
        header = int.from_bytes(body[12:16], "big")
        if offset_bits != (header & 0xFF) * 8 - 1:
            raise DecodeError(f"load into a part of {header:#010x}")
        self._set(header, int.from_bytes(body[16:24], "big"))


def _type_length(data: bytes, start: int) -> tuple[int, int]:
    """Read type and length of an action or instruction, both multiples of 8 bytes."""
    kind = int.from_bytes(data[start : start + 2], "big")
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    if length < 8 or length % 8 or start + length > len(data):
        raise DecodeError(f"action or instruction with a length of {length} bytes")
    return kind, length


def decode_instructions(data: bytes) -> tuple[tuple[Action, ...], int, bytes]:
    """Decode the instructions of a flow.

    Returns:
        (actions, fin timeout in seconds or 0, note with zeros at its end).

    Raises:
        DecodeError: malformed, or something that `encode_instructions` never makes.
    """
    reader = _ActionReader()
    start = 0
    while start < len(data):
        kind, length = _type_length(data, start)
        body = data[start : start + length]
        start += length
        if kind == _IT_APPLY:
            reader.read(body[8:])
        elif kind == _IT_METER:
            reader.actions.insert(0, (flow.METER, int.from_bytes(body[4:8], "big")))
        elif kind == _IT_GOTO:
            reader.actions.append((flow.GOTO, body[4]))
        else:
            raise DecodeError(f"unknown instruction type {kind}")
    return tuple(reader.actions), reader.fin_timeout_s, reader.note
