# SPDX-License-Identifier: Apache-2.0
"""Runs the real agent around an engine that decides nothing: the test decides.

The control query "do" takes the `Effects` (as Python's `repr` shows them) for the next
tick, "events" gives what has happened so far in the same form.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from midoryu.engine import config, effect, event
from midoryu.engine.effect import Effects
from midoryu.openflow import flow
from midoryu.openflow.base_flows import base_flows, vport_flows

NAMES: dict[str, Any] = {
    name: value
    for module in (config, effect, event, flow)
    for name, value in vars(module).items()
    if not name.startswith("_")
}
TICK_S = 0.02


class StubEngine:
    """Installs base flows and vports (key 100 + ofport); else does as it is told."""

    def __init__(self, _config: Any, _now: float) -> None:
        self.events: list[str] = []
        self.next = Effects()
        self.vports: dict[int, int] = {}

    def handle(self, happened: Any, now: float) -> Effects:
        """Note the event; hand over what the test asked for."""
        effects = Effects(deadline=now + TICK_S)
        if isinstance(happened, event.Tick):
            effects, self.next = self.next, Effects()
            effects.deadline = now + TICK_S
            return effects
        self.events.append(repr(happened))
        if isinstance(happened, event.SwitchConnected):
            flows = base_flows(happened.gre_ofport, happened.state_ofport)
            effects.flow_mods += map(flow.InstallFlow, flows)
        if isinstance(happened, event.InterfacesChanged):
            for ofport in happened.ofport_by_iface_id.values():
                self.vports[100 + ofport] = ofport
                effects.nsdb_writes.append(effect.SetVportStatus(100 + ofport, True))
                effects.flow_mods += vport_flows(
                    100 + ofport, ofport, meter=ofport, rate_pps=1000, burst=100
                )
        return effects

    def take(self, happened: Any, _effects: Effects, _now: float) -> None:
        """Note a packet-in, one of those that came at once."""
        self.events.append(repr(happened))
        if b"explode" in happened.frame:
            raise RuntimeError("asked for")

    def finish(self, effects: Effects, now: float) -> None:
        """End the packet-ins that came at once."""
        effects.deadline = now + TICK_S

    def inspect(self, query: str, arguments: dict[str, str], _now: float) -> object:
        """Answer the test."""
        if query == "do":
            self.next = eval(arguments["effects"], dict(NAMES))  # noqa: S307
            return True
        if query == "vports":
            return [{"key": key, "ofport": port} for key, port in self.vports.items()]
        if query == "events":
            return self.events
        raise ValueError(f"unknown query {query!r}")


if __name__ == "__main__":
    stub: Any = types.ModuleType("midoryu.engine.engine")
    stub.Engine = StubEngine
    sys.modules["midoryu.engine.engine"] = stub
    from midoryu.cmd.ryu_manager import main

    main()
