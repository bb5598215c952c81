# SPDX-License-Identifier: Apache-2.0
"""The model switch with a clock: flows go idle, and FIN shortens their time."""

from __future__ import annotations

from dataclasses import dataclass

from midoryu.engine.event import FlowRemoved
from midoryu.openflow import flow as of
from midoryu.openflow import pipeline
from midoryu.packet.protocol import TCP_FIN, TCP_RST
from tests.helpers.fake_switch import FakeSwitch


@dataclass
class _Clock:
    since: float
    used: float
    idle_s: int
    packets: int = 0


class TimedSwitch(FakeSwitch):
    """A switch whose `now` somebody else moves."""

    now = 0.0

    def __init__(self, ports: set[int], now: float) -> None:
        super().__init__(ports)
        self.now = now
        self._clocks: dict[int, _Clock] = {}
        self.deleted: list[FlowRemoved] = []
        """What it has to say about flows that the agent removed."""

    def expire(self) -> list[FlowRemoved]:
        """Remove flows whose time is over; say so for those that asked for it."""
        gone: list[FlowRemoved] = []
        for one in self.flows(pipeline.VPORT):
            clock = self._clocks.get(one.cookie)
            if clock is None:
                continue
            age = self.now - clock.since
            idle = clock.idle_s and self.now - clock.used >= clock.idle_s
            hard = one.hard_timeout_s and age >= one.hard_timeout_s
            if not idle and not hard:
                continue
            super()._remove(one)
            reason = pipeline.REMOVED_IDLE if idle else pipeline.REMOVED_HARD
            gone.append(
                FlowRemoved(one.cookie, reason, clock.idle_s, age, clock.packets)
            )
        return gone

    def _remove(self, flow: of.Flow) -> None:
        clock = self._clocks.get(flow.cookie)
        if clock is not None and flow in self.flows(flow.table):
            age, reason = self.now - clock.since, pipeline.REMOVED_DELETE
            self.deleted.append(
                FlowRemoved(flow.cookie, reason, clock.idle_s, age, clock.packets)
            )
        super()._remove(flow)

    def _install(self, flow: of.Flow) -> None:
        super()._install(flow)
        if flow.table == pipeline.VPORT:
            clock = _Clock(self.now, self.now, flow.idle_timeout_s)
            self._clocks[flow.cookie] = clock

    def _lookup(self, passage, table):  # type: ignore[no-untyped-def]
        found = super()._lookup(passage, table)
        clock = self._clocks.get(found.cookie) if found is not None else None
        if found is not None and clock is not None:
            clock.used = self.now
            clock.packets += 1
            if found.fin_timeout_s and passage.packet.tcp_flags & (TCP_FIN | TCP_RST):
                clock.idle_s = min(clock.idle_s, found.fin_timeout_s)
        return found
