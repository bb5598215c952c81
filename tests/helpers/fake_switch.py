# SPDX-License-Identifier: Apache-2.0
"""A model of the switch: tables of flows, frames in, frames out, all in memory.

The oracle for "what was simulated is what the installed flows do". It follows OVS where
OpenFlow leaves a choice, and is strict where OVS would hide a mistake: a flow that
lacks a prerequisite, or two flows of one priority that match one frame and disagree,
are errors here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from midoryu.compat import SLOTS
from midoryu.errors import DecodeError
from midoryu.openflow import flow as of
from midoryu.openflow import pipeline
from midoryu.packet import field
from midoryu.packet.address import is_v4
from midoryu.packet.codec import decode
from midoryu.packet.packet import Headers, Packet
from midoryu.packet.protocol import ETH_ARP, ETH_IPV4, ETH_IPV6, ETH_VLAN, ICMPV6, TCP
from midoryu.packet.rewrite import rewrite

_PORT: Final = "port"
_CONTROLLER: Final = "controller"
_IP_FIELDS: Final = (
    field.IP_TOS
    | field.IP_PROTO
    | field.IP_SRC
    | field.SOURCE_OCTET
    | field.IP_DST
    | field.IP_FRAG
    | field.IP_TTL
)
_TCP_FIELDS: Final = field.TCP_FLAGS | field.TCP_SYN
_NEEDS_PROTO: Final = field.L4 | field.PORT_BLOCK | _TCP_FIELDS | field.ND_TARGET
# A table behind a packet-out: none.
_NO_TABLE: Final = -1


@dataclass(frozen=True, **SLOTS)
class Output:
    """One frame that left the switch, or a packet-in."""

    kind: str
    """"port" or "controller"."""
    ofport: int
    """Where it left; for a packet-in, where the frame had come in."""
    frame: bytes
    """As it left."""
    tunnel_key: int = 0
    """Key set or come with, 0 for none."""
    tunnel_destination: int = 0
    """Underlay address set, 128-bit, 0 for none."""
    reason: int = 0
    """Of a packet-in: `pipeline.REASON_*`."""
    hops: int = 0
    """`pipeline.REG_HOPS`."""
    cookie: int = 0
    """Of the flow that did it, 0 from a packet-out."""
    table: int = 0
    """Of the flow that did it, 0 from a packet-out."""
    tunnel_source: int = 0
    """Underlay address that it came from, 128-bit, 0 for none."""


@dataclass(**SLOTS)
class _Passage:
    """One frame on its way through the tables."""

    packet: Packet
    in_port: int
    tunnel_key: int
    tunnel_source: int
    outputs: list[Output]
    tunnel_destination: int = 0
    hops: int = 0
    too_large: int = 0
    ended: bool = False
    flow: of.Flow | None = None


# (priority, fields) -> values -> flow: equal masks share one dictionary.
_Table = dict[tuple[int, int], dict[tuple[int, ...], of.Flow]]
_FlowKey = tuple[int, int, of.Match]


class FakeSwitch:
    """A switch with ports, tables and meters."""

    def __init__(self, ports: Iterable[int] = ()) -> None:
        self.ports: set[int] = set(ports)
        self.meters: dict[int, of.SetMeter] = {}
        self._tables: dict[int, _Table] = {}
        self._packets: Counter[_FlowKey] = Counter()

    def apply(self, mods: Iterable[of.FlowMod]) -> None:
        """Carry out flow and meter changes in order.

        Raises:
            ValueError: a flow that the switch would refuse.
        """
        for mod in mods:
            if isinstance(mod, of.InstallFlow):
                self._install(mod.flow)
            elif isinstance(mod, of.RemoveFlow):
                self._remove(mod.flow)
            elif isinstance(mod, of.SetMeter):
                self.meters[mod.meter] = mod
            else:
                self.meters.pop(mod.meter, None)

    def send(
        self, frame: bytes, in_port: int, tunnel_key: int = 0, tunnel_source: int = 0
    ) -> list[Output]:
        """Let a frame come in by a port; return all that leaves, in order."""
        passage = _Passage(_parse(frame), in_port, tunnel_key, tunnel_source, [])
        self._run_table(passage, pipeline.CLASSIFY)
        return passage.outputs

    def packet_out(self, message: of.PacketOut | of.ReadyOut) -> list[Output]:
        """Carry out a packet-out; return all that leaves, in order."""
        passage = _Passage(_parse(message.frame), message.in_port, 0, 0, [])
        self._run_actions(passage, message.actions, _NO_TABLE)
        return passage.outputs

    def flows(self, table: int | None = None) -> list[of.Flow]:
        """Return the flows of one table or of all, highest priority first."""
        tables = self._tables if table is None else {table: self._tables.get(table, {})}
        return [
            found
            for number in sorted(tables)
            for key in sorted(tables[number], reverse=True)
            for found in tables[number][key].values()
        ]

    def packets(self, flow: of.Flow) -> int:
        """Return how many packets a flow has seen since it was installed."""
        return self._packets[_flow_key(flow)]

    def _install(self, flow: of.Flow) -> None:
        _check(flow)
        mask = (flow.priority, flow.match.fields)
        table = self._tables.setdefault(flow.table, {})
        table.setdefault(mask, {})[flow.match.values] = flow
        self._packets[_flow_key(flow)] = 0

    def _remove(self, flow: of.Flow) -> None:
        mask = (flow.priority, flow.match.fields)
        table = self._tables.get(flow.table, {})
        group = table.get(mask, {})
        group.pop(flow.match.values, None)
        if not group:
            table.pop(mask, None)
        self._packets.pop(_flow_key(flow), None)

    def _run_table(self, passage: _Passage, table: int) -> None:
        found = self._lookup(passage, table)
        if found is None:
            return
        self._packets[_flow_key(found)] += 1
        passage.flow = found
        self._run_actions(passage, found.actions, table)

    def _lookup(self, passage: _Passage, table: int) -> of.Flow | None:
        """Find the flow of highest priority; equals must agree."""
        best: of.Flow | None = None
        groups = self._tables.get(table, {})
        for priority, fields in sorted(groups, reverse=True):
            if best is not None and priority < best.priority:
                break
            found = groups[priority, fields].get(_values(passage, fields))
            if found is None:
                continue
            if best is not None and best.actions != found.actions:
                raise AssertionError(f"two flows match one frame: {best}, {found}")
            best = best or found
        return best

    def _run_actions(
        self, passage: _Passage, actions: tuple[of.Action, ...], table: int
    ) -> None:
        for action in actions:
            kind = action[0]
            if kind == of.DEC_TTL:
                if not _dec_ttl(passage):
                    self._controller(passage, pipeline.REASON_INVALID_TTL)
                    return
            elif kind == of.OUTPUT:
                self._output(passage, action[1], table)
            elif kind in _MODIFY:
                _MODIFY[kind](passage, action)
            elif kind != of.METER:
                self._steer(passage, action)
            if passage.ended:
                return

    def _steer(self, passage: _Passage, action: of.Action) -> None:
        """Carry out an action that leads to another table, to the agent, or ends."""
        kind = action[0]
        if kind == of.GOTO:
            self._run_table(passage, action[1])
        elif kind == of.DELIVER:
            self._deliver(passage, action[1])
        elif kind == of.CONTROLLER:
            self._controller(passage, _reason(passage))
        elif kind == of.REFLECT:
            passage.tunnel_destination = passage.tunnel_source
            self._output(passage, pipeline.PORT_IN_PORT, _NO_TABLE)
        elif kind == of.CHECK_SIZE:
            passage.too_large = int(len(passage.packet.frame) > action[1])
            self._run_table(passage, pipeline.SIZE)
        elif kind == of.EXIT:
            passage.ended = True
        else:
            raise ValueError(f"no action: {action}")

    def _output(self, passage: _Passage, ofport: int, table: int) -> None:
        if ofport == pipeline.PORT_TABLE:
            if table != _NO_TABLE:
                raise ValueError("PORT_TABLE is for a packet-out only")
            self._run_table(passage, pipeline.CLASSIFY)
            return
        if ofport == pipeline.PORT_CONTROLLER:
            self._controller(passage, _reason(passage))
            return
        # OpenFlow 1.3, section A.2.1: back where it came from only if asked for.
        if ofport == pipeline.PORT_IN_PORT:
            ofport = passage.in_port
        elif ofport == passage.in_port:
            return
        if ofport in self.ports:
            passage.outputs.append(_made(passage, _PORT, ofport, 0))

    def _deliver(self, passage: _Passage, key: int) -> None:
        """Let a copy go on in TUNNEL; nothing of it stays with the packet."""
        self._run_table(replace(passage, tunnel_key=key), pipeline.TUNNEL)

    def _controller(self, passage: _Passage, reason: int) -> None:
        made = _made(passage, _CONTROLLER, passage.in_port, reason)
        passage.outputs.append(made)


def _made(passage: _Passage, kind: str, ofport: int, reason: int) -> Output:
    flow = passage.flow
    return Output(
        kind,
        ofport,
        passage.packet.frame,
        passage.tunnel_key,
        passage.tunnel_destination,
        reason,
        passage.hops,
        flow.cookie if flow else 0,
        flow.table if flow else 0,
        passage.tunnel_source,
    )


def _reason(passage: _Passage) -> int:
    """Tell a table-miss flow from others (OpenFlow 1.3, section 5.4)."""
    flow = passage.flow
    is_miss = flow is not None and flow.priority == 0 and flow.match.fields == 0
    return pipeline.REASON_NO_MATCH if is_miss else pipeline.REASON_ACTION


def _flow_key(flow: of.Flow) -> _FlowKey:
    return flow.table, flow.priority, flow.match


def _parse(frame: bytes) -> Packet:
    """Decode a frame; a malformed one has its Ethernet fields only, as in OVS."""
    try:
        return decode(frame)
    except DecodeError:
        padded = frame.ljust(14, b"\0")
        headers = Headers(
            int.from_bytes(padded[:6], "big"), int.from_bytes(padded[6:12], "big")
        )
        return Packet(frame, headers, int.from_bytes(padded[12:14], "big"))


def _check(flow: of.Flow) -> None:
    """Refuse a flow that lacks a prerequisite (OpenFlow 1.3, section A.2.3.6)."""
    fields, values = flow.match
    if fields & field.UNMATCHABLE:
        raise ValueError(f"no switch can match {field.names(fields)}: {flow}")
    if bin(fields).count("1") != len(values):
        raise ValueError(f"one value for each field: {flow}")
    value = dict(zip(field.names(fields), values))
    eth_type, proto = value.get("eth_type"), value.get("ip_proto")
    if fields & _IP_FIELDS and eth_type not in (ETH_IPV4, ETH_IPV6, ETH_ARP):
        raise ValueError(f"an IP field without its eth_type: {flow}")
    if fields & _NEEDS_PROTO and proto is None:
        raise ValueError(f"a layer 4 field without ip_proto: {flow}")
    if fields & _TCP_FIELDS and proto != TCP:
        raise ValueError(f"TCP flags of no TCP: {flow}")
    if fields & field.ND_TARGET and (eth_type, proto) != (ETH_IPV6, ICMPV6):
        raise ValueError(f"a neighbour target of no ICMPv6: {flow}")
    _check_actions(flow)


def _check_actions(flow: of.Flow) -> None:
    kinds = [action[0] for action in flow.actions]
    if of.METER in kinds[1:] or of.GOTO in kinds[:-1]:
        raise ValueError(f"METER comes first and GOTO last: {flow}")
    if of.GOTO in kinds and flow.actions[-1][1] <= flow.table:
        raise ValueError(f"GOTO leads to a later table only: {flow}")


_READ: Final[dict[int, Callable[[_Passage], int]]] = {
    field.IN_PORT: lambda p: p.in_port,
    field.ETH_DST: lambda p: p.packet.headers.eth_dst,
    field.ETH_SRC: lambda p: p.packet.headers.eth_src,
    field.ETH_TYPE: lambda p: p.packet.eth_type,
    field.VLAN: lambda p: p.packet.vlan,
    field.IP_TOS: lambda p: p.packet.headers.ip_tos,
    field.IP_PROTO: lambda p: p.packet.ip_proto,
    field.IP_SRC: lambda p: p.packet.headers.ip_src,
    field.IP_DST: lambda p: p.packet.headers.ip_dst,
    field.IP_FRAG: lambda p: p.packet.ip_frag,
    field.L4_SRC: lambda p: p.packet.headers.l4_src,
    field.L4_DST: lambda p: p.packet.headers.l4_dst,
    field.TCP_FLAGS: lambda p: p.packet.tcp_flags,
    field.IP_TTL: lambda p: p.packet.headers.ip_ttl,
    field.ND_TARGET: lambda p: p.packet.nd_target,
    field.TUNNEL_KEY: lambda p: p.tunnel_key,
    field.TCP_SYN: lambda p: p.packet.tcp_flags >> field.TCP_SYN_SHIFT & 1,
    field.TOO_LARGE: lambda p: p.too_large,
    field.PORT_BLOCK: lambda p: p.packet.headers.l4_dst >> field.PORT_BLOCK_SHIFT,
    field.SOURCE_OCTET: lambda p: _first_octet(p.packet.headers.ip_src),
    field.ETH_GROUP: lambda p: p.packet.headers.eth_dst >> field.ETH_GROUP_SHIFT & 1,
}


def _first_octet(address: int) -> int:
    return address >> (24 if is_v4(address) else 120) & 0xFF


def _values(passage: _Passage, fields: int) -> tuple[int, ...]:
    return tuple(read(passage) for bit, read in _SORTED_READ if fields & bit)


_SORTED_READ: Final = tuple(sorted(_READ.items()))


def _change(passage: _Passage, **changes: int) -> None:
    packet = passage.packet
    frame = rewrite(packet, replace(packet.headers, **changes))
    passage.packet = _parse(frame)


def _dec_ttl(passage: _Passage) -> bool:
    """Decrement; False where the packet's life ends. Non-IP frames have no TTL."""
    packet = passage.packet
    if packet.eth_type not in (ETH_IPV4, ETH_IPV6) or not packet.l3:
        return True
    if packet.headers.ip_ttl <= 1:
        return False
    _change(passage, ip_ttl=packet.headers.ip_ttl - 1)
    return True


def _set_tunnel(passage: _Passage, action: of.Action) -> None:
    passage.tunnel_key, passage.tunnel_destination = action[1], action[2]


def _load_hops(passage: _Passage, action: of.Action) -> None:
    passage.hops = action[1]


def _clear_in_port(passage: _Passage, _: of.Action) -> None:
    passage.in_port = 0


def _set_dscp(passage: _Passage, action: of.Action) -> None:
    packet = passage.packet
    if packet.l3 and packet.eth_type in (ETH_IPV4, ETH_IPV6):
        _change(passage, ip_tos=action[1] << 2 | packet.headers.ip_tos & 3)


# The header field that an action sets to its first operand.
_FIELD_SET: Final = {
    of.SET_ETH_SRC: "eth_src",
    of.SET_ETH_DST: "eth_dst",
    of.SET_IP_SRC: "ip_src",
    of.SET_IP_DST: "ip_dst",
    of.SET_L4_SRC: "l4_src",
    of.SET_L4_DST: "l4_dst",
    of.SET_TOS: "ip_tos",
}


def _set_field(passage: _Passage, action: of.Action) -> None:
    if _has_field(passage.packet, action):
        _change(passage, **{_FIELD_SET[action[0]]: action[1]})


def _has_field(packet: Packet, action: of.Action) -> bool:
    """Tell whether a field is there to be set; if not, OVS skips the action."""
    kind = action[0]
    if kind in (of.SET_ETH_SRC, of.SET_ETH_DST):
        return True
    if kind in (of.SET_L4_SRC, of.SET_L4_DST):
        return packet.l4 > 0 and packet.ip_proto == action[2]
    families: tuple[int, ...] = (ETH_IPV4, ETH_IPV6)
    if kind in (of.SET_IP_SRC, of.SET_IP_DST):
        families = (ETH_IPV4,) if is_v4(action[1]) else (ETH_IPV6,)
    return packet.l3 > 0 and packet.eth_type in families


def _push_vlan(passage: _Passage, action: of.Action) -> None:
    frame = passage.packet.frame
    tag = (ETH_VLAN << 16 | action[1]).to_bytes(4, "big")
    passage.packet = _parse(frame[:12] + tag + frame[12:])


def _pop_vlan(passage: _Passage, action: of.Action) -> None:
    frame = passage.packet.frame
    if passage.packet.vlan:
        passage.packet = _parse(frame[:12] + frame[16:])


_MODIFY: Final[dict[int, Callable[[_Passage, of.Action], None]]] = {
    of.SET_TUNNEL: _set_tunnel,
    of.LOAD_HOPS: _load_hops,
    **dict.fromkeys(_FIELD_SET, _set_field),
    of.CLEAR_IN_PORT: _clear_in_port,
    of.SET_DSCP: _set_dscp,
    of.PUSH_VLAN: _push_vlan,
    of.POP_VLAN: _pop_vlan,
}
