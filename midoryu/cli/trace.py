# SPDX-License-Identifier: Apache-2.0
"""`midoryu-ctl trace`: where a packet would go and why, asked of this host's agent.

The agent runs its own simulation with its own records (`midoryu.engine.tracing`), and
changes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from midoryu.cli.exit_code import DONE
from midoryu.cli.flow_state import (
    DEFAULT_SOCKET,
    PROTOCOLS,
    NoAgentError,
    ask,
    end,
    table,
)
from midoryu.errors import ConfigError


def register(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "trace",
        help="show where a packet would go, and why",
        description="Show where a packet would go that comes in by a vport, and why. "
        "This host's agent simulates it with what it knows, and changes nothing.",
        epilog="midoryu-ctl trace web/vm1 tcp 10.0.1.11:4000 198.51.100.10:80",
    )
    add = parser.add_argument
    add("vport", metavar="VPORT", help="the interface's iface-id, DEVICE/PORT if unset")
    add("proto", metavar="PROTO", help="tcp, udp, sctp, icmp, icmpv6 or a number")
    add("source", metavar="SOURCE", help="ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT")
    add("destination", metavar="DESTINATION", help="the same")
    add("--flags", default="", help="of TCP: syn (default), syn-ack, ack, fin, rst")
    add("--ttl", default="", help="time to live, hop limit (64)")
    add("--source-mac", default="", metavar="MAC", help="default: the vport's")
    add(
        "--destination-mac",
        default="",
        metavar="MAC",
        help="default: who has the address on the network, else the router",
    )
    add("--agent", metavar="SOCKET", default=DEFAULT_SOCKET, help="(%(default)s)")
    add("--verbose", action="store_true", help="what the outcome depends on, too")
    # Not to overrule `midoryu-ctl --format json trace`.
    add("--format", choices=("table", "json"), default=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Ask the agent and show what it says.

    Raises:
        ConfigError: an end is not written as one.
        AgentError: it does not like the question.
    """
    try:
        told = ask(options.agent, "trace", _arguments(options))
    except NoAgentError as problem:
        print(f"midoryu-ctl: {problem}", file=sys.stderr)
        return problem.exit_code
    if options.format == "json":
        print(json.dumps(told, indent=2))
    else:
        print("\n".join(lines_of(told, verbose=options.verbose)))
    return DONE


def _arguments(options: argparse.Namespace) -> dict[str, str]:
    source, source_port = end_of(options.source)
    destination, destination_port = end_of(options.destination)
    arguments = {
        "vport": options.vport,
        "proto": options.proto,
        "source": source,
        "source_port": source_port,
        "destination": destination,
        "destination_port": destination_port,
        "flags": options.flags,
        "ttl": options.ttl,
        "source_mac": options.source_mac,
        "destination_mac": options.destination_mac,
    }
    return {name: text for name, text in arguments.items() if text}


def end_of(text: str) -> tuple[str, str]:
    """Split `ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT`; no port is an empty text.

    Raises:
        ConfigError: it is none of these.
    """
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ConfigError(f"{text!r} is not ADDRESS, ADDRESS:PORT, [ADDRESS]:PORT")
        return address, rest[1:]
    if text.count(":") == 1:
        address, _, port = text.partition(":")
        return address, port
    return text, ""


def lines_of(told: Mapping[str, Any], *, verbose: bool = False) -> list[str]:
    """Show what the agent told, line by line."""
    came, leaves = told["came_as"], told["leaves_as"]
    steps = [(step["device"], step["verb"], step["detail"]) for step in told["steps"]]
    lines = [_ends(came), "", *table(("AT", "STEP", "DETAIL"), steps[:-1]).splitlines()]
    lines += ["", *_outcome(told)]
    if told["leaves_by"]:
        lines.append(f"leaves as   {_ends(leaves)}, ttl {leaves.get('ttl', '-')}")
        lines.append(f"            {leaves['eth_src']} -> {leaves['eth_dst']}")
    lines.append(f"record      {told['record']}")
    if told["answers"]:
        lines.append(f"answers     {told['answers']} from virtual devices")
    if verbose:
        lines.append(f"reads       {' '.join(told['fields'])}")
        lines.append(f"depends on  {' '.join(told['tags'])}")
    return lines


def _outcome(told: Mapping[str, Any]) -> list[str]:
    if told["waits_for"]:
        return [f"outcome     waits for {told['waits_for']}"]
    reason = f": {told['reason']}" if told["reason"] else ""
    lines = [f"outcome     {told['outcome']}{reason}"]
    for place in told["leaves_by"]:
        lines.append(f"leaves by   {place['vport']} at {place['host'] or 'no host'}")
    return lines


def _ends(headers: Mapping[str, Any]) -> str:
    if "source" not in headers:
        return f"{headers['eth_src']} -> {headers['eth_dst']} {headers['eth_type']}"
    proto = PROTOCOLS.get(headers["ip_proto"], str(headers["ip_proto"]))
    if proto.startswith("icmp"):
        kind = f"type {headers['source_port']} code {headers['destination_port']}"
        return f"{proto} {headers['source']} -> {headers['destination']} {kind}"
    source = end(headers["source"], headers["source_port"])
    destination = end(headers["destination"], headers["destination_port"])
    return f"{proto} {source} -> {destination}"
