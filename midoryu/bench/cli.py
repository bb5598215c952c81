# SPDX-License-Identifier: Apache-2.0
"""`tools/bench`: options in, table or JSON out, progress on standard error."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from midoryu.bench import gate, memory, micro, network, packet_in, scale
from midoryu.bench.report import Figure, to_json, to_table
from midoryu.errors import MidoryuError

_ABOUT: Final = """\
Measure midoryu on this machine. Every figure is a ratio to a reference of the same run.

  micro      each step of the packet path, per call, in one process
  gate       micro, and fail where a step takes twice as long as it did (for CI)
  packet-in  a switch without packets drives real ryu-manager processes: midoryu's agent
             (real NSDB, 2 routers, 50 stateful rules, masquerade, state to 3 hosts),
             Ryu's simple_switch_13, and an application that does nothing
  network    four real hosts (as root): round trips, connections, throughput, failover;
             against static flows, and against OVN where it is installed
  memory     100,000 and 1,000,000 connection records: bytes, rates, worst pauses
  scale      an NSDB of 1,000 hosts and 50,000 vports: start, memory, one changed row
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 failed, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    figures: list[Figure] = []
    try:
        if options.suite == "gate":
            return _too_slow(gate.run(_tell))
        if options.suite in ("micro", "all"):
            figures += micro.run(options.repeat, _tell, is_profiled=options.profile)
        if options.suite in ("packet-in", "all"):
            figures += packet_in.run(options.repeat, options.seconds, _tell)
        if options.suite in ("network", "all"):
            figures += network.run(options.repeat, options.seconds, _tell)
        if options.suite in ("memory", "all"):
            figures += memory.run(options.repeat, _tell)
        if options.suite in ("scale", "all"):
            figures += scale.run(options.repeat, _tell)
    except (MidoryuError, OSError) as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    _write(figures, options.format, options.output)
    return 0


def _write(figures: list[Figure], form: str | None, output: Path | None) -> None:
    """Print figures, or write them to a file whose name may say in which form."""
    if form is None:
        form = "json" if output and output.suffix == ".json" else "table"
    text = (to_json if form == "json" else to_table)(figures)
    if output is None:
        print(text)
        return
    output.write_text(text + "\n", encoding="utf-8")
    if form == "json":
        print(to_table(figures))


def _too_slow(found: list[gate.Loss]) -> int:
    for loss in found:
        print(f"bench: too slow: {loss}", file=sys.stderr)
    return 1 if found else 0


def _tell(line: str) -> None:
    print(f"[bench] {line}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/bench",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "suite",
        nargs="?",
        choices=("micro", "packet-in", "network", "memory", "scale", "gate", "all"),
        default="all",
    )
    parser.add_argument(
        "--format",
        choices=("table", "json"),
        help="(table; json for a FILE.json)",
    )
    parser.add_argument(
        "--repeat", type=_positive, default=3, metavar="N", help="repetitions (3)"
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=1.0,
        metavar="S",
        help="length of one packet-in run (1.0)",
    )
    parser.add_argument(
        "--profile", action="store_true", help="micro: show where the time goes"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write there; of JSON in a file, a table is printed, too",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0.05 <= number <= 60:
        raise ValueError
    return number
