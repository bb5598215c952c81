# SPDX-License-Identifier: Apache-2.0
"""Answers for people: what an engine knows, as JSON-able values.

`midoryu-ctl` asks them through the agent's control socket; tests and the demo too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from midoryu.engine import port_blocks
from midoryu.engine.core import Core
from midoryu.engine.flow_index import AnyEntry
from midoryu.engine.refusal_book import Tally
from midoryu.engine.share_book import Share
from midoryu.engine.tracing import trace
from midoryu.packet import field
from midoryu.packet.address import format_ip, parse_ip
from midoryu.state.connection import Connection, FourTuple, reverse, translate
from midoryu.topology.tag import describe


def answer(core: Core, query: str, arguments: Mapping[str, str], now: float) -> object:
    """Answer one query.

    Raises:
        ValueError: the query is unknown, or an argument is missing or wrong.
    """
    if query not in _QUERIES:
        known = ", ".join(sorted(_QUERIES))
        raise ValueError(f"unknown query {query!r}; known are {known}")
    return _QUERIES[query](core, arguments, now)


def _stats(core: Core, _: Mapping[str, str], now: float) -> object:
    return {
        "host": core.config.host,
        "host_key": core.host,
        "uptime_s": round(now - core.started, 3),
        "switch_connected": core.switch_connected,
        "topology_version": core.topology.version,
        "flows": len(core.flows),
        "records": len(core.connections),
        "waiting": len(core.waiting),
        "state_refused": _refused(core),
        "port_blocks": dict(port_blocks.counts(core)),
        "counters": dict(sorted(core.counters.items())),
    }


def _refused(core: Core) -> dict[str, int]:
    """Return why and how many state packets were refused, whoever sent them."""
    if core.replicator is None:
        return {}
    refusals = core.replicator.refusals.items()
    return {refusal.value: count for refusal, count in refusals}


def _records(core: Core, arguments: Mapping[str, str], now: float) -> object:
    limit = _number(arguments, "limit", 1000)
    wanted = arguments.get("address")
    address = _address(wanted) if wanted else 0
    found = []
    for connection in core.connections:
        if address and address not in _addresses(connection):
            continue
        found.append(describe_record(core, connection, now))
        if len(found) >= limit:
            break
    return found


def _record(core: Core, arguments: Mapping[str, str], now: float) -> object:
    try:
        connection_id = int(arguments.get("id", ""), 16)
    except ValueError:
        raise ValueError("argument id: a record's id in hexadecimal") from None
    connection = core.connections.get(connection_id)
    if connection is None:
        raise ValueError(f"no record {connection_id:016x}")
    return describe_record(core, connection, now)


def describe_record(
    core: Core, connection: Connection, now: float
) -> dict[str, object]:
    """Show a connection record with names instead of keys."""
    topology = core.topology
    final = connection.original
    for translation in connection.translations:
        final = translate(final, translation)
    owner = topology.host(connection.owner)
    hosts = topology.interested_hosts(
        {connection.ingress_vport, connection.egress_vport}
    )
    return {
        "id": f"{connection.id:016x}",
        "ip_proto": connection.ip_proto,
        "original": _tuple(connection.original),
        "return": _tuple(reverse(final)),
        "ingress": topology.vport_name(connection.ingress_vport),
        "egress": topology.vport_name(connection.egress_vport),
        "translations": [
            {
                "device": topology.device_name(translation.device),
                "kind": translation.kind.name.lower(),
                "address": format_ip(translation.address),
                "port": translation.port,
            }
            for translation in connection.translations
        ],
        "phase": connection.phase.name.lower(),
        "owner": owner.name if owner is not None else str(connection.owner),
        "interested": sorted(
            host.name for host in map(topology.host, hosts) if host is not None
        ),
        "idle_s": round(now - connection.last_used, 3),
        "held_by_flow": core.connections.is_held(connection.id),
    }


def _addresses(connection: Connection) -> set[int]:
    found = set(connection.original[:2])
    found.update(translation.address for translation in connection.translations)
    return found


def _tuple(tuple4: FourTuple) -> dict[str, object]:
    source, destination, source_port, destination_port = tuple4
    return {
        "source": format_ip(source),
        "source_port": source_port,
        "destination": format_ip(destination),
        "destination_port": destination_port,
    }


def _peers(core: Core, _: Mapping[str, str], now: float) -> object:
    if core.replicator is None:
        return {}
    named = {}
    for key, stats in core.replicator.stats().items():
        host = core.topology.host(key) if isinstance(key, int) else None
        shown: dict[str, object] = dict(stats)
        heard = stats["last_heard"]
        del shown["last_heard"]
        shown["silent_s"] = None if heard is None else round(now - heard, 3)
        named[host.name if host is not None else str(key)] = shown
    return named


def _flows(core: Core, arguments: Mapping[str, str], _: float) -> object:
    limit = _number(arguments, "limit", 1000)
    return [_flow(entry) for entry in list(core.flows)[:limit]]


def _flow(entry: AnyEntry) -> dict[str, object]:
    names = field.names(entry.flow.match.fields)
    return {
        "cookie": f"{entry.flow.cookie:#018x}",
        "match": dict(zip(names, entry.flow.match.values)),
        "actions": [list(action) for action in entry.flow.actions],
        "connection": f"{entry.connection:016x}" if entry.connection else None,
        "direction": "return" if entry.returns else "forward",
        "tags": sorted(describe(tag) for tag in entry.tags | entry.shared),
    }


def _vports(core: Core, _: Mapping[str, str], __: float) -> object:
    return [
        {
            "vport": core.topology.vport_name(key),
            "key": key,
            "ofport": ofport,
            "packet_ins": core.packet_ins[key],
            "limited": key in core.shares.limited,
            "limited_times": share.times,
            "flooded": [format_ip(one) for one in core.shares.flooded.get(key, ())],
            "refused": tally.total,
            "refused_by_wide_flows": tally.flows,
            "unreplied": core.connections.unreplied_of(key),
            "waiting": core.waiting.count(key),
        }
        for key, ofport in sorted(core.places.ofport_by_vport.items())
        for tally in (core.refusals.tallies.get(key, Tally()),)
        for share in (core.shares.shares.get(key, Share()),)
    ]


def _number(arguments: Mapping[str, str], name: str, default: int) -> int:
    text = arguments.get(name, str(default))
    if not str(text).isdigit():
        raise ValueError(f"argument {name}: a whole number, not {text!r}")
    return int(text)


def _address(text: str) -> int:
    try:
        return parse_ip(text)
    except ValueError:
        raise ValueError(f"argument address: {text!r} is no IP address") from None


_QUERIES: Final[dict[str, Callable[[Core, Mapping[str, str], float], object]]] = {
    "stats": _stats,
    "records": _records,
    "record": _record,
    "peers": _peers,
    "flows": _flows,
    "vports": _vports,
    "trace": trace,
}
