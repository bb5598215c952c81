# SPDX-License-Identifier: Apache-2.0
"""Flows and OpenFlow errors in words, for the log."""

from __future__ import annotations

from typing import Final, Union

from midoryu.openflow import flow, pipeline
from midoryu.openflow.flow import Action, AnyOut, Flow, FlowMod
from midoryu.packet import address, field

# OpenFlow 1.3.5, section 7.4.4.
_TYPES: Final = {
    0: "hello failed",
    1: "bad request",
    2: "bad action",
    3: "bad instruction",
    4: "bad match",
    5: "flow mod failed",
    6: "group mod failed",
    7: "port mod failed",
    8: "table mod failed",
    9: "queue operation failed",
    10: "switch config failed",
    11: "role request failed",
    12: "meter mod failed",
    13: "table features failed",
}
_CODES: Final = {
    (1, 0): "bad version",
    (1, 1): "bad type",
    (1, 2): "bad multipart type",
    (1, 5): "no permission",
    (1, 6): "bad length",
    (1, 11): "bad port",
    (2, 0): "unknown action type",
    (2, 1): "bad length",
    (2, 4): "bad output port",
    (2, 5): "bad argument",
    (2, 10): "inconsistent with the match",
    (2, 13): "bad set-field type",
    (2, 14): "bad set-field length",
    (2, 15): "bad set-field argument",
    (3, 0): "unknown instruction",
    (3, 2): "bad table",
    (4, 0): "bad match type",
    (4, 1): "bad length",
    (4, 6): "bad field",
    (4, 7): "bad value",
    (4, 8): "bad mask",
    (4, 9): "bad prerequisite",
    (4, 10): "field twice",
    (5, 1): "table full",
    (5, 2): "bad table",
    (5, 3): "overlap",
    (5, 4): "no permission",
    (5, 5): "bad timeout",
    (12, 1): "the meter exists",
    (12, 2): "invalid meter",
    (12, 3): "unknown meter",
    (12, 12): "out of meters",
}
_ACTIONS: Final = {
    flow.OUTPUT: "output",
    flow.SET_TUNNEL: "set_tunnel",
    flow.DEC_TTL: "dec_ttl",
    flow.SET_ETH_SRC: "set_eth_src",
    flow.SET_ETH_DST: "set_eth_dst",
    flow.SET_IP_SRC: "set_ip_src",
    flow.SET_IP_DST: "set_ip_dst",
    flow.SET_L4_SRC: "set_l4_src",
    flow.SET_L4_DST: "set_l4_dst",
    flow.SET_TOS: "set_tos",
    flow.LOAD_HOPS: "load_hops",
    flow.PUSH_VLAN: "push_vlan",
    flow.POP_VLAN: "pop_vlan",
    flow.CONTROLLER: "controller",
    flow.GOTO: "goto",
    flow.METER: "meter",
    flow.SET_DSCP: "set_dscp",
    flow.DELIVER: "deliver",
    flow.CLEAR_IN_PORT: "clear_in_port",
    flow.REFLECT: "reflect",
    flow.CHECK_SIZE: "check_size",
    flow.EXIT: "exit",
}
_MACS: Final = (flow.SET_ETH_SRC, flow.SET_ETH_DST)
_IPS: Final = (flow.SET_IP_SRC, flow.SET_IP_DST)


def error_words(kind: int, code: int) -> str:
    """Name an OpenFlow error."""
    type_words = _TYPES.get(kind, f"error type {kind}")
    return f"{type_words}: {_CODES.get((kind, code), f'code {code}')}"


def flow_mod_words(value: Union[FlowMod, AnyOut]) -> str:
    """Describe something that was sent to the switch."""
    if isinstance(value, flow.InstallFlow):
        return f"flow {flow_words(value.flow)}"
    if isinstance(value, flow.RemoveFlow):
        return f"removal of flow {flow_words(value.flow)}"
    if isinstance(value, flow.SetMeter):
        unit = "kbit/s" if value.is_kbps else "packets/s"
        return f"meter {value.meter} of {value.rate_pps} {unit}"
    if isinstance(value, flow.RemoveMeter):
        return f"removal of meter {value.meter}"
    actions = " ".join(map(action_words, value.actions))
    return f"packet of {len(value.frame)} bytes with {actions or 'no action'}"


def flow_words(value: Flow) -> str:
    """Describe a flow in one line."""
    table = pipeline.TABLE_NAMES.get(value.table, str(value.table))
    names = field.names(value.match.fields)
    bits = [bit for bit, _ in field.NAMES if value.match.fields & bit]
    match = ",".join(
        f"{name}={_value_words(bit, number)}"
        for name, bit, number in zip(names, bits, value.match.values)  # noqa: B905
    )
    actions = " ".join(map(action_words, value.actions)) or "drop"
    return (
        f"{value.cookie:#x} table {table} priority {value.priority} "
        f"match [{match}] do [{actions}]"
    )


def _value_words(bit: int, number: int) -> str:
    if bit in (field.ETH_SRC, field.ETH_DST):
        return address.format_mac(number)
    if bit in (field.IP_SRC, field.IP_DST, field.ND_TARGET):
        return address.format_ip(number)
    return hex(number) if bit in (field.ETH_TYPE, field.TUNNEL_KEY) else str(number)


def action_words(action: Action) -> str:
    """Describe an action."""
    kind, *operands = action
    name = _ACTIONS.get(kind, f"action{kind}")
    if kind in _MACS:
        return f"{name}:{address.format_mac(operands[0])}"
    if kind in _IPS:
        return f"{name}:{address.format_ip(operands[0])}"
    if kind == flow.SET_TUNNEL:
        return f"{name}:{operands[0]:#x}->{address.format_ip(operands[1])}"
    return ":".join([name, *map(str, operands[:1])])
