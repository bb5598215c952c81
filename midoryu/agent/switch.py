# SPDX-License-Identifier: Apache-2.0
"""The local switch: its messages as the engine's events, the engine's effects as bytes.

Knows which connection is the local bridge's, reads its flows back before the engine
hears of it, and remembers by xid what was sent so that an error finds its cause.
"""

from __future__ import annotations

import logging
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, Union

from midoryu.agent.connection import Connection
from midoryu.agent.words import error_words, flow_mod_words
from midoryu.engine.effect import Effects
from midoryu.engine.event import (
    Event,
    FlowRefused,
    FlowRemoved,
    PacketIn,
    PacketsShed,
    SwitchConnected,
    SwitchDisconnected,
)
from midoryu.errors import DecodeError
from midoryu.openflow import flow, pipeline, wire, wire_decode
from midoryu.openflow.flow import AnyOut, Flow, FlowMod
from midoryu.ovs.client import BridgeReady

LOG = logging.getLogger(__name__)

Sent = Union[FlowMod, AnyOut]
# As many messages can be in flight before an error no longer finds its cause.
_SENT: Final = 1 << 16
_OUR_COOKIES: Final = pipeline.COOKIE_MARK << 56
_OUR_COOKIES_MASK: Final = 0xFF << 56
# OpenFlow 1.3.5, section 7.4.4.
_METER_MOD_FAILED, _METER_EXISTS = 12, 1


class Switch:
    """The OpenFlow side of the agent; owned by the agent's one thread."""

    def __init__(
        self,
        deliver: Callable[[Event], None],
        deliver_packets: Callable[[list[PacketIn]], None],
    ) -> None:
        self._deliver = deliver
        self._deliver_packets = deliver_packets
        self._packets: list[PacketIn] = []
        self._bridge: BridgeReady | None = None
        self._connection: Connection | None = None
        self._waiting: list[Connection] = []
        self._ready = False
        self._reading_xid = 0
        self._flows: list[Flow] = []
        self._xid = 0x10000
        self._sent: list[tuple[int, Sent] | None] = [None] * _SENT
        self._out: list[bytes] = []
        self.shed_by_ofport: Counter[int] = Counter()
        self.counters: dict[str, int] = dict.fromkeys(
            (
                "packet_ins",
                "packet_ins_before_ready",
                "packet_ins_shed",
                "flow_removed",
                "errors",
                "undecodable",
                "unencodable",
                "foreign_switches",
                "connections",
                "sent_while_disconnected",
            ),
            0,
        )

    # ------------------------------------------------------------ connections

    def bridge_ready(self, bridge: BridgeReady) -> None:
        """Learn who the local bridge is and which numbers its tunnel ports have."""
        if bridge == self._bridge:
            return
        self._bridge = bridge
        if self._connection is not None and self._connection.id != bridge.dpid:
            self._connection.close()
        if self._connection is not None:
            self._read_back()
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            self.connected(connection)

    def connected(self, connection: Connection) -> None:
        """Take a switch whose handshake is done, if it is the local bridge."""
        if self._bridge is None:
            self._waiting.append(connection)
            return
        if connection.id != self._bridge.dpid:
            self.counters["foreign_switches"] += 1
            LOG.warning(
                "switch %016x from %s is not the local bridge %016x: disconnected",
                connection.id,
                connection.address,
                self._bridge.dpid,
            )
            connection.close()
            return
        former, self._connection = self._connection, connection
        if former is not None:
            former.close()
        self.counters["connections"] += 1
        LOG.info("datapath %016x connected", connection.id)
        self._read_back()

    def disconnected(self, connection: Connection) -> None:
        """Forget a connection."""
        if connection in self._waiting:
            self._waiting.remove(connection)
        if connection is not self._connection:
            return
        LOG.info("datapath %016x disconnected", connection.id)
        self._connection = None
        self._out.clear()
        self._packets.clear()
        if self._ready:
            self._ready = False
            self._deliver(SwitchDisconnected())

    def close(self) -> None:
        """End every connection; flows stay in the switch."""
        for connection in (*self._waiting, self._connection):
            if connection is not None:
                connection.close()

    def is_ready(self) -> bool:
        """Tell whether the engine has the switch."""
        return self._ready

    def _read_back(self) -> None:
        """Ask for every flow of ours; the answer makes the engine's switch."""
        self._ready = False
        self._flows = []
        self._out.append(wire.encode_set_async(self._next_xid()))
        self._reading_xid = self._next_xid()
        self._out.append(
            wire.encode_flow_stats_request(
                _OUR_COOKIES, _OUR_COOKIES_MASK, self._reading_xid
            )
        )
        self.flush()

    # ------------------------------------------------------------ receiving

    def receive(self, connection: Connection, kind: int, message: bytes) -> None:
        """Turn one message of the local bridge into an event."""
        if connection is not self._connection:
            return
        try:
            self._receive(kind, message)
        except DecodeError as error:
            self.counters["undecodable"] += 1
            LOG.debug("message of type %d: %s", kind, error)

    def _receive(self, kind: int, message: bytes) -> None:
        if kind == wire.PACKET_IN:
            self.counters["packet_ins"] += 1
            if not self._ready:
                self.counters["packet_ins_before_ready"] += 1
                return
            self._packets.append(wire_decode.decode_packet_in(message, PacketIn))
            return
        self._hand_over()
        if kind == wire.FLOW_REMOVED:
            self.counters["flow_removed"] += 1
            if self._ready:
                self._deliver(FlowRemoved(*wire_decode.decode_flow_removed(message)))
        elif kind == wire.ERROR:
            self._error(wire_decode.decode_error(message))
        elif kind == wire.MULTIPART_REPLY:
            self._flow_stats(message)

    def _hand_over(self) -> None:
        """Deliver the packet-ins that came since the last call, in their order."""
        if self._packets:
            packets, self._packets = self._packets, []
            self._deliver_packets(packets)

    def shed(self, ofport: int, count: int) -> None:
        """Count packet-ins of a port that were left out because too many came."""
        self.counters["packet_ins_shed"] += count
        self.shed_by_ofport[ofport] += count
        if self._ready:
            self._deliver(PacketsShed(ofport, count))

    def _flow_stats(self, message: bytes) -> None:
        bridge = self._bridge
        xid = int.from_bytes(message[4:8], "big")
        if xid != self._reading_xid or self._ready or bridge is None:
            return
        try:
            flows, more = wire_decode.decode_flow_stats(message)
        except DecodeError as error:
            # Flows of another release: nothing of them can be kept.
            LOG.warning("flows in the switch cannot be read (%s): replaced", error)
            self._out.append(
                wire.encode_delete_by_cookie(
                    _OUR_COOKIES, _OUR_COOKIES_MASK, xid=self._next_xid()
                )
            )
            flows, more = [], False
            self._flows = []
        self._flows += flows
        if more:
            return
        self._ready = True
        LOG.info("datapath ready, %d flows stand in it", len(self._flows))
        found, self._flows = tuple(self._flows), []
        self._deliver(SwitchConnected(bridge.gre_ofport, bridge.state_ofport, found))

    def _error(self, error: wire_decode.ErrorFields) -> None:
        sent = self._sent[error.xid % _SENT]
        cause = sent[1] if sent is not None and sent[0] == error.xid else None
        if (error.type, error.code) == (_METER_MOD_FAILED, _METER_EXISTS) and (
            isinstance(cause, flow.SetMeter)
        ):
            self._out.append(wire.encode_meter_change(cause, self._next_xid()))
            return
        self.counters["errors"] += 1
        words = error_words(error.type, error.code)
        what = flow_mod_words(cause) if cause is not None else "a message"
        LOG.error("the switch refused %s: %s", what, words)
        cookie = 0
        if isinstance(cause, (flow.InstallFlow, flow.RemoveFlow)):
            cookie = cause.flow.cookie
        if self._ready:
            self._deliver(FlowRefused(cookie, f"{what}: {words}"))

    # ------------------------------------------------------------ sending

    def perform(self, effects: Effects) -> list[tuple[Sent, Exception]]:
        """Queue everything for the switch, in the order in which it must arrive.

        Returns:
            What could not be put into bytes, and why.
        """
        if self._connection is None:
            self.counters["sent_while_disconnected"] += 1
            return []
        failed: list[tuple[Sent, Exception]] = []
        self._encode(wire.encode_packet_out, effects.state_pushes, failed)
        self._encode(wire.encode_flow_mod, effects.flow_mods, failed)
        self._encode(wire.encode_packet_out, effects.packet_outs, failed)
        return failed

    def _encode(
        self,
        encode: Callable[[Any, int], bytes],
        values: Sequence[Sent],
        failed: list[tuple[Sent, Exception]],
    ) -> None:
        xid, sent, out = self._xid, self._sent, self._out
        for value in values:
            xid = xid + 1 & 0xFFFF_FFFF
            sent[xid % _SENT] = (xid, value)
            try:
                out.append(encode(value, xid))
            except (ValueError, IndexError, OverflowError, struct.error) as error:
                self.counters["unencodable"] += 1
                failed.append((value, error))
        self._xid = xid

    def flush(self) -> None:
        """Deliver what came, and send everything queued with one call."""
        self._hand_over()
        if not self._out or self._connection is None:
            return
        data = b"".join(self._out)
        self._out.clear()
        self._connection.send(data)

    def _next_xid(self) -> int:
        self._xid = self._xid + 1 & 0xFFFF_FFFF
        self._sent[self._xid % _SENT] = None
        return self._xid
