# SPDX-License-Identifier: Apache-2.0
"""The switch's messages become events and effects become bytes, in order."""

from __future__ import annotations

import struct

import pytest

from midoryu.agent.switch import Switch
from midoryu.engine.effect import Effects
from midoryu.engine.event import (
    Event,
    FlowRefused,
    PacketIn,
    PacketsShed,
    SwitchConnected,
    SwitchDisconnected,
)
from midoryu.openflow import flow, wire
from midoryu.openflow.flow import Flow, InstallFlow, Match, PacketOut, SetMeter
from midoryu.ovs.client import BridgeReady
from midoryu.packet import field

BRIDGE = BridgeReady(dpid=0xA, gre_ofport=1, state_ofport=2)
FLOW = Flow(10, 1000, Match(field.IN_PORT, (3,)), ((flow.OUTPUT, 1),), 0x6D03 << 48)


class Line:
    """A connection that notes what is sent."""

    address = ("127.0.0.1", 1)

    def __init__(self, dpid: int) -> None:
        self.id = dpid
        self.sent = b""
        self.closed = False

    def send(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True

    def messages(self) -> list[bytes]:
        """Split what was sent."""
        found, rest = [], self.sent
        while rest:
            length = int.from_bytes(rest[2:4], "big")
            found.append(rest[:length])
            rest = rest[length:]
        return found


def message(kind: int, body: bytes, xid: int) -> bytes:
    return struct.pack(">BBHI", 4, kind, 8 + len(body), xid) + body


def ready_switch() -> tuple[Switch, Line, list[Event]]:
    """Give a switch whose engine has it."""
    events: list[Event] = []
    switch, line = Switch(events.append, events.extend), Line(BRIDGE.dpid)
    switch.bridge_ready(BRIDGE)
    switch.connected(line)  # type: ignore[arg-type]
    xid = int.from_bytes(line.messages()[-1][4:8], "big")
    reply = message(wire.MULTIPART_REPLY, struct.pack(">HH4x", 1, 0), xid)
    switch.receive(line, wire.MULTIPART_REPLY, reply)  # type: ignore[arg-type]
    assert events == [SwitchConnected(1, 2, ())]
    events.clear()
    line.sent = b""
    return switch, line, events


def error(xid: int, kind: int, code: int) -> bytes:
    return message(wire.ERROR, struct.pack(">HH", kind, code), xid)


def test_a_switch_waits_until_the_bridge_is_known() -> None:
    events: list[Event] = []
    switch, line = Switch(events.append, events.extend), Line(BRIDGE.dpid)

    switch.connected(line)  # type: ignore[arg-type]
    assert line.sent == b""
    switch.bridge_ready(BRIDGE)

    assert [data[1] for data in line.messages()] == [28, 18]  # set-async, flow stats


def test_a_foreign_switch_is_turned_away_and_counted() -> None:
    switch, line, events = ready_switch()
    foreign = Line(0xBAD)

    switch.connected(foreign)  # type: ignore[arg-type]

    assert foreign.closed
    assert not line.closed
    assert switch.counters["foreign_switches"] == 1
    assert events == []


def test_state_goes_before_flows_and_flows_before_packets() -> None:
    switch, line, _ = ready_switch()
    effects = Effects(
        packet_outs=[PacketOut(b"data", ((flow.OUTPUT, 3),))],
        flow_mods=[InstallFlow(FLOW)],
        state_pushes=[PacketOut(b"state", ((flow.OUTPUT, 2),))],
    )

    assert switch.perform(effects) == []
    switch.flush()

    first, second, third = line.messages()
    assert first.endswith(b"state")
    assert second[1] == 14
    assert third.endswith(b"data")


def test_an_error_finds_the_flow_that_caused_it() -> None:
    switch, line, events = ready_switch()
    switch.perform(Effects(flow_mods=[InstallFlow(FLOW)]))
    switch.flush()
    xid = int.from_bytes(line.messages()[0][4:8], "big")

    switch.receive(line, wire.ERROR, error(xid, 5, 1))  # type: ignore[arg-type]

    (refused,) = events
    assert isinstance(refused, FlowRefused)
    assert refused.cookie == FLOW.cookie
    assert "table full" in refused.reason


def test_a_meter_that_exists_is_changed_instead() -> None:
    switch, line, events = ready_switch()
    switch.perform(Effects(flow_mods=[SetMeter(3, 100, 10)]))
    switch.flush()
    (add,) = line.messages()
    xid = int.from_bytes(add[4:8], "big")

    switch.receive(line, wire.ERROR, error(xid, 12, 1))  # type: ignore[arg-type]
    switch.flush()

    assert events == []
    change = line.messages()[1]
    assert change[8:10] == b"\0\x01"  # OFPMC_MODIFY
    assert change[10:] == add[10:]


def test_flows_that_cannot_be_read_are_removed() -> None:
    events: list[Event] = []
    switch, line = Switch(events.append, events.extend), Line(BRIDGE.dpid)
    switch.bridge_ready(BRIDGE)
    switch.connected(line)  # type: ignore[arg-type]
    xid = int.from_bytes(line.messages()[-1][4:8], "big")
    broken = message(wire.MULTIPART_REPLY, struct.pack(">HH4xH", 1, 0, 7), xid)

    switch.receive(line, wire.MULTIPART_REPLY, broken)  # type: ignore[arg-type]
    switch.flush()

    assert events == [SwitchConnected(1, 2, ())]
    assert line.messages()[-1][1] == 14
    assert line.messages()[-1][25] == 3  # OFPFC_DELETE


def test_the_end_of_the_connection_is_told_once() -> None:
    switch, line, events = ready_switch()

    switch.disconnected(line)  # type: ignore[arg-type]
    switch.disconnected(line)  # type: ignore[arg-type]

    assert events == [SwitchDisconnected()]
    assert switch.perform(Effects(flow_mods=[InstallFlow(FLOW)])) == []
    assert switch.counters["sent_while_disconnected"] == 1


@pytest.mark.parametrize("kind", [wire.PACKET_IN, wire.FLOW_REMOVED, wire.ERROR])
def test_a_message_cut_short_is_counted(kind: int) -> None:
    switch, line, events = ready_switch()

    switch.receive(line, kind, message(kind, b"", 1))  # type: ignore[arg-type]

    assert events == []
    assert switch.counters["undecodable"] == 1


def test_what_has_no_bytes_is_told_with_its_reason() -> None:
    switch, _, _ = ready_switch()
    wrong = PacketOut(b"", ((flow.GOTO, 3),))

    ((value, reason),) = switch.perform(Effects(packet_outs=[wrong]))

    assert value is wrong
    assert "cannot stand here" in str(reason)


def test_a_packet_in_before_the_engine_has_the_switch_is_counted() -> None:
    events: list[Event] = []
    switch, line = Switch(events.append, events.extend), Line(BRIDGE.dpid)
    switch.bridge_ready(BRIDGE)
    switch.connected(line)  # type: ignore[arg-type]
    match = struct.pack(">HHII4x", 1, 12, 0x80000004, 3)
    head = struct.pack(">IHBBQ", 0xFFFFFFFF, 1, 0, 0, 0)
    data = message(wire.PACKET_IN, head + match + b"\0\0x", 1)

    switch.receive(line, wire.PACKET_IN, data)  # type: ignore[arg-type]

    assert not [event for event in events if isinstance(event, PacketIn)]
    assert switch.counters["packet_ins_before_ready"] == 1


def test_packets_that_come_at_once_are_delivered_at_once_and_in_order() -> None:
    came: list[object] = []
    switch, line, _ = ready_switch()
    switch._deliver, switch._deliver_packets = came.append, came.append
    match = struct.pack(">HHII4x", 1, 12, 0x80000004, 3)
    head = struct.pack(">IHBBQ", 0xFFFFFFFF, 1, 0, 0, 0)

    for frame in (b"a", b"b"):
        data = message(wire.PACKET_IN, head + match + b"\0\0" + frame, 1)
        switch.receive(line, wire.PACKET_IN, data)  # type: ignore[arg-type]
    assert came == []
    switch.receive(line, wire.ERROR, error(1, 5, 1))  # type: ignore[arg-type]
    switch.flush()

    packets, refused = came
    assert packets == [PacketIn(3, b"a"), PacketIn(3, b"b")]
    assert isinstance(refused, FlowRefused)


def test_what_was_left_out_is_counted_and_told_to_the_engine() -> None:
    switch, _, events = ready_switch()

    switch.shed(3, 5)

    assert events[-1] == PacketsShed(3, 5)
    assert switch.counters["packet_ins_shed"] == 5
    assert switch.shed_by_ofport == {3: 5}
