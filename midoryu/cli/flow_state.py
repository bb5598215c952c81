# SPDX-License-Identifier: Apache-2.0
"""`midoryu-ctl flow-state`: what one agent knows about connections and peers.

Asks the agent's control socket (`midoryu.agent.control` is the other end); the engine
makes the answers.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from midoryu.cli.exit_code import DONE, REFUSED, UNREACHABLE
from midoryu.errors import MidoryuError

DEFAULT_SOCKET: Final = "/run/midoryu/agent.sock"
_TIMEOUT_S: Final = 10.0
PROTOCOLS: Final = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}


class AgentError(MidoryuError):
    """The agent cannot be reached, or did not like the question."""

    exit_code = REFUSED


class NoAgentError(AgentError):
    """The agent cannot be reached."""

    exit_code = UNREACHABLE


def register(subparsers: Any) -> None:
    """Add the command to a parser's subcommands; `args.run(args)` gives the status."""
    parser = subparsers.add_parser(
        "flow-state", help="show what this host's agent knows about connections"
    )
    parser.set_defaults(run=run)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--agent",
        metavar="SOCKET",
        default=DEFAULT_SOCKET,
        help="the agent's control socket (%(default)s)",
    )
    # Not to overrule `midoryu-ctl --format json flow-state`.
    formats = ("table", "json")
    common.add_argument("--format", choices=formats, default=argparse.SUPPRESS)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser(
        "list", parents=[common], help="list connection records"
    )
    listing.add_argument("--address", help="only records with this address")
    listing.add_argument(
        "--limit", type=_positive, default=1000, help="at most so many"
    )
    show = actions.add_parser("show", parents=[common], help="show one record")
    show.add_argument("id", metavar="ID", help="the record's id in hexadecimal")
    actions.add_parser("peers", parents=[common], help="show what passed to each peer")
    actions.add_parser(
        "ports", parents=[common], help="show what each local vport asks of the agent"
    )
    actions.add_parser("stats", parents=[common], help="show the agent's counters")


def run(args: argparse.Namespace) -> int:
    """Carry out the command; returns one of `exit_code`."""
    try:
        result = _query(args)
    except AgentError as error:
        print(f"midoryu-ctl: {error}", file=sys.stderr)
        return error.exit_code
    if args.format == "json":
        print(json.dumps(result, indent=2))
    elif args.action == "list":
        print(records_table(result))
    elif args.action == "peers":
        print(peers_table(result))
    elif args.action == "ports":
        print(ports_table(result))
    else:
        print("\n".join(lines_of(result)))
    return DONE


def _query(args: argparse.Namespace) -> Any:
    if args.action == "list":
        arguments = {"limit": str(args.limit)}
        if args.address:
            arguments["address"] = args.address
        return ask(args.agent, "records", arguments)
    if args.action == "show":
        return ask(args.agent, "record", {"id": args.id})
    if args.action == "peers":
        return ask(args.agent, "peers", {})
    if args.action == "ports":
        return ask(args.agent, "vports", {})
    return {
        "engine": ask(args.agent, "stats", {}),
        "agent": ask(args.agent, "agent", {}),
    }


def ask(path: str, query: str, arguments: Mapping[str, str]) -> Any:
    """Ask an agent one question.

    Raises:
        NoAgentError: it cannot be reached.
        AgentError: it answers with an error.
    """
    line = json.dumps({"query": query, "arguments": dict(arguments)}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_TIMEOUT_S)
            client.connect(path)
            client.sendall(line)
            with client.makefile("rb") as lines:
                answer = json.loads(lines.readline())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise NoAgentError(
            f"no answer from the agent at {path}: {reason}; --agent names another"
        ) from None
    if not isinstance(answer, dict) or "result" not in answer:
        said = answer.get("error") if isinstance(answer, dict) else None
        raise AgentError(f"the agent says: {said or answer}")
    return answer["result"]


def records_table(records: Sequence[Mapping[str, Any]]) -> str:
    """Show records as a table, one line for each."""
    rows = [
        (
            record["id"],
            PROTOCOLS.get(record["ip_proto"], str(record["ip_proto"])),
            _ends(record["original"]),
            _ends(record["return"]),
            record["phase"],
            record["owner"],
            ",".join(record["interested"]),
            f"{record['idle_s']:.0f}s",
        )
        for record in records
    ]
    head = ("ID", "PROTO", "ORIGINAL", "RETURN", "PHASE", "OWNER", "HOSTS", "IDLE")
    return table(head, rows)


def peers_table(peers: Mapping[str, Any]) -> str:
    """Show each peer's counters as a table."""
    names = sorted({name for stats in peers.values() for name in stats})
    rows = [
        (peer, *(str(stats.get(name, "")) for name in names))
        for peer, stats in sorted(peers.items())
    ]
    return table(("PEER", *(name.upper() for name in names)), rows)


def ports_table(ports: Sequence[Mapping[str, Any]]) -> str:
    """Show what each local vport asked of the agent, and what it was denied."""
    names = [name for name in (ports[0] if ports else ()) if name != "vport"]
    rows = [
        (str(port["vport"]), *(str(port[name]) for name in names)) for port in ports
    ]
    head = ("PORT", *(name.upper().replace("_", " ") for name in names))
    return table(head, rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Put columns below each other."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width)
            for cell, width in zip(line, widths)  # noqa: B905
        ).rstrip()
        for line in lines
    )


def lines_of(value: Any, indent: str = "") -> list[str]:
    """Show nested objects as indented lines."""
    if isinstance(value, list):
        return [line for item in value for line in _item(item, indent)]
    lines: list[str] = []
    for name, item in value.items():
        if isinstance(item, (dict, list)) and item and not _is_plain(item):
            lines += [f"{indent}{name}:", *lines_of(item, indent + "  ")]
        else:
            lines.append(f"{indent}{name}: {_plain(item)}")
    return lines


def _item(item: Any, indent: str) -> list[str]:
    if not isinstance(item, (dict, list)):
        return [f"{indent}- {item}"]
    first, *rest = lines_of(item, indent + "  ") or [""]
    return [f"{indent}- {first.strip()}", *rest]


def _is_plain(item: Any) -> bool:
    values = item if isinstance(item, list) else ()
    return bool(values) and not any(isinstance(one, (dict, list)) for one in values)


def _plain(item: Any) -> str:
    if isinstance(item, list):
        return ", ".join(map(str, item))
    return "none" if item in (None, {}) else str(item)


def _ends(ends: Mapping[str, Any]) -> str:
    return (
        f"{end(ends['source'], ends['source_port'])}->"
        f"{end(ends['destination'], ends['destination_port'])}"
    )


def end(address: str, port: int) -> str:
    """Write an address and a port."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _positive(text: str) -> int:
    if not text.isdecimal() or not 0 < len(text) < 10 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)
