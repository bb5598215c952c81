# SPDX-License-Identifier: Apache-2.0
"""`tools/lab`: the lab at the terminal.

Parses arguments and prints; everything it does is `lab`'s.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Optional

from midoryu.lab import file
from midoryu.lab.error import LabError
from midoryu.lab.lab import HOST_PARTS, Lab, take_down
from midoryu.lab.shell import environment, inside
from midoryu.lab.store import DEFAULT_DIRECTORY, Store


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run `tools/lab`; return the exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if os.geteuid() != 0:
            raise LabError("needs root (network namespaces); try sudo")
        return int(options.verb(options) or 0)
    except LabError as problem:
        print(f"lab: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1


def _up(options: argparse.Namespace) -> None:
    agents = not options.no_agents
    lab = Lab(options.file, name=options.name, agents=agents, report=_say)
    lab.up(timeout_s=options.timeout)
    flag = f" --name {lab.store.name}" if lab.store.name != "lab" else ""
    node = next(iter([m.name for m in lab.spec.machines] or list(lab.hosts)))
    _say(f"try: tools/lab status{flag}; tools/lab exec{flag} {node} -- ip addr")


def _exec(options: argparse.Namespace) -> NoReturn:
    lab = _attached(options)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise LabError("no command given: tools/lab exec NAME -- CMD...")
    full = inside(lab.namespace(options.node), command)
    if shutil.which(command[0], path=environment()["PATH"]) is None:
        raise LabError(f"no command `{command[0]}`")
    os.execvpe(full[0], full, environment())


def _status(options: argparse.Namespace) -> None:
    status = _attached(options).status()
    if options.format == "json":
        print(json.dumps(status, indent=2))
        return
    print(f"lab {status['name']}: {status['phase']}, files in {status['directory']}")
    nsdb = status["nsdb"]
    print(f"nsdb: {_running(nsdb['running'])}, {nsdb['remote']}")
    for name, host in status["hosts"].items():
        parts = ", ".join(f"{p} {_running(host[p])}" for p in ("ovs", "ovsdb", "agent"))
        up = host["vports"]
        vports = "" if up is None else f", vports up: {', '.join(up) or 'none'}"
        print(f"host {name} ({host['ip']}): {parts}{vports}")
    for name, machine in status["machines"].items():
        interfaces = ", ".join(
            f"{i} {' '.join(ips)}" for i, ips in machine["interfaces"].items()
        )
        print(f"{machine['kind']} {name}: {interfaces}")


def _capture(options: argparse.Namespace) -> None:
    lab = _attached(options)
    if options.output is None:
        command = ["tcpdump", "-n", "-l", "-e"]
        command += ["-c", str(options.count)] if options.count else []
        capture = lab.capture(options.node, options.interface)
        command += [
            "-i",
            capture.interface,
            *([options.filter] if options.filter else []),
        ]
        full = inside(capture.namespace, command)
        if options.seconds:
            full = [
                "timeout",
                "--preserve-status",
                "-s",
                "INT",
                f"{options.seconds}",
                *full,
            ]
        os.execvpe(full[0], full, environment())
    path = Path(options.output).absolute()
    with lab.capture(
        options.node, options.interface, options.filter, path, options.count
    ) as capture:
        _say(f"capturing at {options.node} {capture.interface} into {path}")
        try:
            capture.wait(options.seconds or 1e9)
        except KeyboardInterrupt:
            _say("stopped")
    _say(f"{len(capture.frames())} packets in {path}")


def _kill(options: argparse.Namespace) -> None:
    _attached(options).kill(options.node, options.part)


def _restore(options: argparse.Namespace) -> None:
    _attached(options).restore(options.node, options.part)


def _loss(options: argparse.Namespace) -> None:
    lab = _attached(options)
    lab.loss(options.node, options.percent, state_only=options.state_only)


def _logs(options: argparse.Namespace) -> None:
    node = _attached(options).host(options.node)
    if options.part == "agent":
        print("\n".join(node.log_lines()))
    elif node.ovs_log.exists():
        print(node.ovs_log.read_text(errors="replace"), end="")


def _down(options: argparse.Namespace) -> None:
    # Never somebody else's lab because it happens to be the only one.
    name = options.name or "lab"
    others = [other for other in _names() if other != name]
    if options.name is None and name not in _names() and others:
        flags = " or ".join(f"--name {other}" for other in others)
        raise LabError(f"no lab `lab` is up; others are: add {flags}")
    take_down(Store(name))


def _check(options: argparse.Namespace) -> None:
    spec, name = file.load(options.file)
    hosts, machines = len(spec.hosts), len(spec.machines)
    print(f"{options.file}: lab `{name}`, {hosts} hosts, {machines} machines: fine")


def _attached(options: argparse.Namespace) -> Lab:
    return Lab.attach(options.name or _default_name())


def _default_name() -> str:
    """Return the only lab that is there, else `lab`."""
    names = _names()
    return names[0] if len(names) == 1 else "lab"


def _names() -> list[str]:
    """List the labs that are there."""
    parent = Path(os.environ.get("MIDORYU_LAB_DIR") or DEFAULT_DIRECTORY)
    return sorted(p.name for p in parent.iterdir()) if parent.is_dir() else []


def _say(line: str) -> None:
    print(f"[lab] {line}", file=sys.stderr, flush=True)


def _running(value: bool) -> str:
    return "runs" if value else "stopped"


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    lab_file = (file.__doc__ or "").split("The format:", 1)[1]
    parser = argparse.ArgumentParser(
        prog="tools/lab",
        description="Hosts, VMs and outside machines as network namespaces.",
        epilog="the lab file:"
        + lab_file
        + f"\nState is kept in $MIDORYU_LAB_DIR (default {DEFAULT_DIRECTORY}).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def verb(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        command = verbs.add_parser(name, help=text, description=text)
        defaults = {"up": "the file's, or lab", "down": "lab"}
        default = defaults.get(name, "the only one, or lab")
        command.add_argument("--name", help=f"of the lab (default: {default})")
        command.set_defaults(verb=function)
        return command

    command = verb("up", _up, "bring a lab up")
    command.add_argument("file", metavar="FILE")
    command.add_argument("--no-agents", action="store_true", help="Open vSwitch only")
    command.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS",
                         help="for the agents to be ready (default 60)")  # fmt: skip
    command = verb("check", _check, "read a lab file and make nothing")
    command.add_argument("file", metavar="FILE")
    command = verb("exec", _exec, "run a command at a host or machine")
    command.add_argument("node", metavar="NAME")
    command.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD...")
    command = verb("status", _status, "show what runs")
    command.add_argument("--format", choices=["text", "json"], default="text")
    _add_capture(verb("capture", _capture, "capture packets at a host or machine"))
    for name, function, text in (
        ("kill", _kill, "break a part of a host, or the nsdb"),
        ("restore", _restore, "bring a part of a host back, or the nsdb"),
    ):
        command = verb(name, function, text)
        command.add_argument("node", metavar="HOST")
        command.add_argument("part", nargs="?", choices=HOST_PARTS,
                             default="host")  # fmt: skip
    command = verb("loss", _loss, "drop packets of a host on the underlay at random")
    command.add_argument("node", metavar="HOST")
    command.add_argument("percent", type=float, metavar="PERCENT")
    command.add_argument("--state-only", action="store_true",
                         help="only flow-state packets, found by DSCP")  # fmt: skip
    command = verb("logs", _logs, "print a log of a host")
    command.add_argument("node", metavar="HOST")
    command.add_argument("part", nargs="?", choices=["agent", "ovs"], default="agent")
    verb("down", _down, "remove a lab; also after a crash, also twice")
    return parser


def _add_capture(command: argparse.ArgumentParser) -> None:
    command.add_argument("node", metavar="NAME")
    command.add_argument(
        "--interface", metavar="IF", help="default: underlay, eth0, ..."
    )
    command.add_argument("--filter", metavar="EXPR", default="", help="pcap-filter(7)")
    command.add_argument("-o", dest="output", metavar="FILE", help="write a pcap file")
    command.add_argument("--count", type=int, default=0, metavar="N")
    command.add_argument("--seconds", type=float, default=0.0, metavar="S")
