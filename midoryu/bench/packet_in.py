# SPDX-License-Identifier: Apache-2.0
"""Suite `packet-in`: whole controllers, from packet-in to packet-out.

Real processes, a real NSDB; only the switch is not real (`switch`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from midoryu.bench import world
from midoryu.bench.report import Figure
from midoryu.bench.stage import Controller, Stage
from midoryu.topology.model import Change, Host, Network, Put, Router, Vport

_OUTSTANDING: Final = (1, 64)
_REFERENCE: Final = "simple_switch_13"
_NOTHING: Final = "idle_app"
# More than the fastest of them can take in a second.
_MAX_RATE: Final = {1: 12_000, 64: 30_000}
_IMPORTED: Final = 32_000
# What is loaded with half and twice of what can be done.
_LOADED: Final = "l3+ct+snat"
_LATENCIES: Final = ("p50", "p99", "p99.9")


def run(repeat: int, seconds: float, tell: Callable[[str], None]) -> list[Figure]:
    """Measure; `repeat` times so many seconds for each kind and number outstanding."""
    figures: dict[str, Figure] = {}
    with Stage() as stage:
        tell("starting databases and controllers")
        rows = stage.start_nsdb()
        agent = stage.start_agent()
        agent.keys = _keys(rows)
        switch = stage.start_ryu("ryu.app.simple_switch_13")
        nothing = stage.start_ryu("midoryu.bench.idle_app")
        switch.load("teach", 1, 10.0, world.REMOTE_VMS)
        for kind in world.KINDS:
            agent.load(kind, 1, 0.3, 300)  # what is learned and leased once
        for turn in range(repeat):
            for outstanding in _OUTSTANDING:
                limit = int(_MAX_RATE[outstanding] * seconds)
                load = (outstanding, seconds, limit)
                reference = switch.load("l2", *load)
                _add(
                    figures, _NOTHING, outstanding, nothing.load("l2", *load), reference
                )
                for kind in world.KINDS:
                    tell(f"{turn + 1}/{repeat} {kind}, {outstanding} outstanding")
                    result = agent.load(kind, *load)
                    _add(figures, kind, outstanding, result, reference)
                result = agent.load("return", outstanding, seconds, limit // 2)
                _add(figures, "return", outstanding, result, reference)
            tell(f"{turn + 1}/{repeat} state-import, overload")
            result = agent.load("state-import", 0, seconds, _IMPORTED)
            _add(figures, "state-import", 64, result, reference)
            _overload(figures, agent, seconds, reference)
    return list(figures.values())


def _keys(rows: tuple[Change, ...]) -> dict[str, int]:
    """List the names of hosts, devices and vports with their keys."""
    keys: dict[str, int] = {}
    devices: dict[int, str] = {}
    found = [change.row for change in rows if isinstance(change, Put)]
    for row in found:
        if isinstance(row, (Host, Network, Router)):
            keys[row.name] = row.key
            devices[row.key] = row.name
    for row in found:
        if isinstance(row, Vport):
            keys[f"{devices[row.device]}/{row.name}"] = row.key
    return keys


def _overload(
    figures: dict[str, Figure],
    agent: Controller,
    seconds: float,
    reference: dict[str, Any],
) -> None:
    """Measure half of the most that the agent takes, and twice as much as that."""
    kind = _LOADED
    peak = agent.load(kind, 64, seconds, int(_MAX_RATE[64] * seconds))["rate"]
    for name, factor in (("half load", 0.5), ("overload", 2.0)):
        rate = max(int(peak * factor), 1)
        result = agent.load(kind, 0, seconds, rate, is_flood=True)
        values = [
            (f"{kind} {name} rate", "packet-ins/s", result["rate"], min(rate, peak)),
            (f"{kind} {name} drained", "ms", result["drained"] * 1e3, 1000.0),
        ]
        for key, unit, value, other in values:
            figure = figures.setdefault(
                key, Figure("packet-in", key, unit, "what was sent, at most the peak")
            )
            figure.samples.append(value)
            figure.reference_samples.append(other)
            lost = result["lost"] - result["refused"]
            figure.note = f"switch dropped {result['refused']}, agent {lost}"


def _add(
    figures: dict[str, Figure],
    kind: str,
    outstanding: int,
    result: dict[str, Any],
    reference: dict[str, Any],
) -> None:
    """Add one run's samples to the figures."""
    done = max(result["done"], 1)
    note = (
        f"flow-mods {result['flow_mods'] / done:.2f}, "
        f"state packets {result['states'] / done:.2f} with "
        f"{result['records'] / done:.2f} records each; lost {result['lost']}"
    )
    name = f"{kind} x{outstanding}"
    values = [("rate", "packet-ins/s", result["rate"], reference["rate"], note)]
    values += [("cpu each", "us", result["cpu"] * 1e6, reference["cpu"] * 1e6, "")]
    values += [(p, "ms", result[p] * 1e3, reference[p] * 1e3, "") for p in _LATENCIES]
    for what, unit, value, other, remark in values:
        key = f"{name} {what}"
        figure = figures.setdefault(
            key, Figure("packet-in", key, unit, f"{_REFERENCE} l2 x{outstanding}")
        )
        figure.samples.append(value)
        figure.reference_samples.append(other)
        figure.note = remark
