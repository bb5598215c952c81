# SPDX-License-Identifier: Apache-2.0
"""`tools/fabric`: play many seeds of the fabric simulation and print figures.

Exit codes: 0 all invariants held, 1 one did not, 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections import Counter

from tests.fabric.disturbance import KINDS
from tests.fabric.run import Figures, play

_LOG_LINES = 40


def main() -> int:
    """Play the seeds that the command line asks for."""
    options = _parser().parse_args()
    all_figures: list[Figures] = []
    began = time.monotonic()
    for seed in range(options.seed, options.seed + options.seeds):
        figures = play(seed, options.hosts, options.minutes * 60, only=options.only)
        all_figures.append(figures)
        if options.format == "text":
            spent = time.monotonic() - began
            said = figures.violation or "fine"
            print(f"[fabric] {spent:6.1f} s  seed {seed}: {said}", flush=True)
        if figures.violation:
            break
    total = _total(all_figures)
    if options.format == "json":
        print(json.dumps(total, indent=2))
    else:
        _show(total)
    return 1 if all_figures[-1].violation else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/fabric",
        description="Simulate a cloud in which everything goes wrong, and judge it.",
    )
    parser.add_argument("--hosts", type=_hosts, default=4, help="4 or more (default 4)")
    parser.add_argument("--seeds", type=int, default=10, help="how many runs")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument(
        "--minutes", type=float, default=1.0, help="simulated minutes of each run"
    )
    parser.add_argument(
        "--only", default="", choices=["", *KINDS], help="one kind of disturbance"
    )
    parser.add_argument("--format", default="text", choices=["text", "json"])
    return parser


def _hosts(text: str) -> int:
    hosts = int(text)
    if hosts < 4:
        raise argparse.ArgumentTypeError("two gateways and two VM hosts at least")
    return hosts


def _total(runs: list[Figures]) -> dict[str, object]:
    counts: Counter[str] = Counter()
    disturbances: Counter[str] = Counter()
    engines: Counter[str] = Counter()
    longest: dict[str, float] = {}
    for figures in runs:
        counts.update(figures.counts)
        disturbances.update(figures.disturbances)
        engines.update(figures.engines)
        for label, gap in figures.longest_ms.items():
            longest[label] = max(gap, longest.get(label, 0.0))
    last = runs[-1]
    return {
        "runs": len(runs),
        "simulated_s": round(sum(figures.simulated_s for figures in runs), 1),
        "runs_with_a_violation": sum(bool(figures.violation) for figures in runs),
        "connections_lost": sum(figures.lost for figures in runs),
        "counts": dict(sorted(counts.items())),
        "disturbances": dict(sorted(disturbances.items())),
        "engines": dict(sorted(engines.items())),
        "longest_gap_ms": dict(sorted(longest.items())),
        "slowest_agreement_s": max(figures.slowest_agreement_s for figures in runs),
        "violation": {**dataclasses.asdict(last), "log": last.log[-_LOG_LINES:]}
        if last.violation
        else None,
    }


def _show(total: dict[str, object]) -> None:
    for name, value in total.items():
        if name == "violation":
            continue
        if not isinstance(value, dict):
            print(f"{name.replace('_', ' ')}: {value}")
            continue
        print(f"{name.replace('_', ' ')}:")
        for inner, number in value.items():
            print(f"  {inner:32} {number}")
    violation = total["violation"]
    if isinstance(violation, dict):
        print(f"VIOLATION with seed {violation['seed']} {violation['violation']}")
        print("what happened before:")
        for line in violation["log"]:
            print(f"  {line}")


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets of texts have an order of their own in each process otherwise.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.fabric", *sys.argv[1:]])
    sys.exit(main())
