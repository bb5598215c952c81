# SPDX-License-Identifier: Apache-2.0
"""Lines of the log about packets that met a rule with `log`, so many a second at most.

`packet_lane` calls it; the rim writes the lines. A flow that stands for several packets
logs the first one.
"""

from __future__ import annotations

from midoryu.engine.core import Core
from midoryu.engine.effect import Effects
from midoryu.packet.address import format_ip
from midoryu.simulation.outcome import RuleLog, Simulation

_INFO = 20
_WINDOW_S = 1.0


def write(
    core: Core, vport: int, simulation: Simulation, effects: Effects, now: float
) -> None:
    """Log what rules decided about a packet, or count what is one too many."""
    for one in simulation.logs:
        if now - core.rule_log_since >= _WINDOW_S:
            core.rule_log_since, core.rule_log_count = now, 0
        core.rule_log_count += 1
        if core.rule_log_count > core.config.rule_log_per_s:
            core.counters["rule log lines left out"] += 1
            continue
        core.counters["rule log lines"] += 1
        name = core.topology.vport_name(vport)
        effects.log.append((_INFO, f"rule {one.name}: {_show(one)} from vport {name}"))


def _show(one: RuleLog) -> str:
    ends = "no IP"
    if one.source:
        source, destination = format_ip(one.source), format_ip(one.destination)
        ends = (
            f"protocol {one.ip_proto} {source} port {one.source_port} -> "
            f"{destination} port {one.destination_port}"
        )
    return f"{one.verdict} by chain {one.chain}: {ends}"
