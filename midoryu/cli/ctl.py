# SPDX-License-Identifier: Apache-2.0
"""`midoryu-ctl`: the operator's command.

Each subcommand lives in a module of its own that has `register(subparsers)`; what it
registers sets `run`, which gets the parsed arguments and returns the exit code: 0 done,
1 refused or a bad file, 2 wrong usage, 3 no answer.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import Final

from midoryu.cli import flow_state, ingress_set, port, show, topology, trace
from midoryu.cli.exit_code import REFUSED, UNREACHABLE
from midoryu.errors import MidoryuError
from midoryu.nsdb.session import UnreachableError

DEFAULT_DB: Final = "unix:/run/midoryu/nsdb.sock"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = make_parser().parse_args(arguments)
    # Package ovs logs each failed attempt to connect; the last line says it once.
    logging.getLogger("ovs").addHandler(logging.NullHandler())
    try:
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except UnreachableError as problem:
        _complain(f"{problem}; --db or MIDORYU_DB names another database")
        return UNREACHABLE
    except MidoryuError as problem:
        _complain(str(problem))
        return REFUSED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as problem:
        _complain(str(problem))
        return REFUSED
    except KeyboardInterrupt:
        return 130


def make_parser() -> argparse.ArgumentParser:
    """Return the parser with all subcommands."""
    parser = argparse.ArgumentParser(
        prog="midoryu-ctl",
        description="Look at and change the virtual topology.",
        epilog="exit codes: 0 done, 1 refused or bad file, 2 wrong usage, 3 no answer",
    )
    parser.add_argument(
        "--db",
        default=os.environ.get("MIDORYU_DB") or DEFAULT_DB,
        metavar="REMOTES",
        help="the NSDB: unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT, several with commas "
        "(default: $MIDORYU_DB, else %(default)s)",
    )
    for name in ("--private-key", "--certificate", "--ca-cert"):
        parser.add_argument(name, default="", metavar="PEM", help="for ssl: remotes")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="how long to wait for an answer (%(default)s)",
    )
    parser.add_argument(
        "--format", choices=("table", "json"), default="table", help="of what is shown"
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (topology, show, port, ingress_set, flow_state, trace):
        module.register(subparsers)
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _complain(text: str) -> None:
    for line in text.splitlines():
        print(f"midoryu-ctl: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
