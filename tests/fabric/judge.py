# SPDX-License-Identifier: Apache-2.0
"""What must hold when nothing is under way: records agree, flows agree with them."""

from __future__ import annotations

from typing import Any

from midoryu.openflow import flow as of
from midoryu.openflow import pipeline
from midoryu.packet import field
from midoryu.packet.address import format_ip
from tests.fabric.frame import QUERY
from tests.fabric.machine import Host, InvariantError
from tests.fabric.net import Cloud
from tests.fabric.opening import Talk
from tests.fabric.talk import Traffic

# What hosts must agree about.
_EQUAL = ("id", "original", "return", "ingress", "egress", "translations", "ip_proto")
_Key = tuple[Any, ...]


def _key(record: dict[str, Any]) -> _Key:
    ends = record["original"]
    return (
        record["ip_proto"],
        ends["source"],
        ends["destination"],
        ends["source_port"],
    )


def _records(host: Host, now: float) -> dict[str, dict[str, Any]]:
    assert host.engine is not None
    found: Any = host.engine.inspect("records", {"limit": "1000000"}, now)
    return {record["id"]: record for record in found}


def disagreement(cloud: Cloud, traffic: Traffic) -> str:
    """Return where hosts disagree about a live connection; "" where they do not."""
    now = cloud.loop.now
    known = {
        name: _records(host, now)
        for name, host in cloud.hosts.items()
        if host.engine is not None and host.is_up
    }
    by_key: dict[_Key, dict[str, dict[str, dict[str, Any]]]] = {}
    for name, records in known.items():
        for id_, record in records.items():
            by_key.setdefault(_key(record), {}).setdefault(id_, {})[name] = record
    for by_id in by_key.values():
        for by_host in by_id.values():
            # A host that is no longer concerned may keep an old state.
            for name, record in list(by_host.items()):
                if name not in record["interested"]:
                    del by_host[name]
    for talk in traffic.live:
        ends = format_ip(talk.ends[0]), format_ip(talk.ends[1])
        found = by_key.get((talk.ip_proto, *ends, talk.ends[2]))
        if found is None and talk.ip_proto in QUERY:
            # Without a port to choose, all echoes between two addresses are one.
            found = by_key.get((talk.ip_proto, *ends, 0))
        found = _used_since(found or {}, now - talk.opened_at)
        text = _compare(talk, found, known.keys())
        if text:
            return f"{text}: {traffic.describe(talk)}"
    return ""


def _used_since(
    found: dict[str, dict[str, Any]], age_s: float
) -> dict[str, dict[str, Any]]:
    """Leave out what the client's earlier use of its port left at some hosts."""
    return {
        id_: by_host
        for id_, by_host in found.items()
        if any(record["idle_s"] <= age_s for record in by_host.values())
    }


def _compare(talk: Talk, found: dict[str, dict[str, Any]], alive: Any) -> str:
    if not found:
        return "" if talk.kind in _STATELESS else "nobody has a record"
    found = {id_: by_host for id_, by_host in found.items() if by_host}
    found = _without_earlier(talk, found)
    ways = {
        repr((record["original"], record["return"]))
        for by_host in found.values()
        for record in by_host.values()
    }
    if len(ways) > 1:
        return f"records {_holders(found)}"
    # Two records may be made of the first packets at two gateways; they say the same.
    for id_, by_host in found.items():
        text = _compare_one(id_, by_host, alive)
        if text:
            return text
    return "" if found else "nobody who should has a record"


def _without_earlier(
    talk: Talk, found: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Leave out what the client's earlier use of its port left behind.

    A VM that moved while its old host had no memory takes its port again without any
    record of its last connection. That one waits for its end where it is known.
    """
    seen = talk.seen
    assert seen is not None
    own = {
        id_: by_host
        for id_, by_host in found.items()
        if any(
            record["return"]["destination"] == format_ip(seen[0])
            and record["return"]["destination_port"] in (seen[2], seen[3])
            for record in by_host.values()
        )
    }
    return own if own and talk.ip_proto not in QUERY else found


def _compare_one(id_: str, by_host: dict[str, dict[str, Any]], alive: Any) -> str:
    shapes = {
        repr([record[name] for name in _EQUAL]): host
        for host, record in by_host.items()
    }
    if len(shapes) > 1:
        return f"record {id_} differs: {shapes}"
    record = next(iter(by_host.values()))
    missing = [
        name for name in record["interested"] if name in alive and name not in by_host
    ]
    return f"record {id_} is missing at {missing}" if missing else ""


def _holders(found: dict[str, dict[str, Any]]) -> str:
    return ", ".join(f"{id_} at {sorted(by_host)}" for id_, by_host in found.items())


# Kinds that may do without records.
_STATELESS: tuple[str, ...] = ()


def contradiction(cloud: Cloud) -> str:
    """Return a flow that stands and is not what its agent and its record say."""
    now = cloud.loop.now
    for host in cloud.hosts.values():
        if host.engine is None or not host.is_up or not host.is_switch_up:
            continue
        records = _records(host, now)
        shown: Any = host.engine.inspect("flows", {"limit": "1000000"}, now)
        flows = {int(one["cookie"], 16): one for one in shown}
        for standing in host.switch.flows(pipeline.VPORT):
            if pipeline.cookie_kind(standing.cookie) != pipeline.COOKIE_REACTIVE:
                continue
            one = flows.get(standing.cookie)
            if one is None:
                return f"{host.name}: a flow that the agent does not know: {standing}"
            text = _against_record(standing, one, records)
            if text:
                return f"{host.name}: {text}: {standing}"
    return ""


def _against_record(
    standing: of.Flow, shown: dict[str, Any], records: dict[str, dict[str, Any]]
) -> str:
    if shown["connection"] is None or not standing.actions:
        return ""
    record = records.get(shown["connection"])
    if record is None:
        return "a flow without its record"
    forward = shown["direction"] == "forward"
    want = record["return"] if forward else record["original"]
    ends = {
        "source": want["destination"],
        "destination": want["source"],
        "source_port": want["destination_port"],
        "destination_port": want["source_port"],
    }
    has = _result(standing)
    for name, value in has.items():
        if name.endswith("port") and record["ip_proto"] in (1, 58):
            continue
        if value != ends[name]:
            return f"{name} becomes {value}, the record says {ends[name]}"
    return ""


_FIELDS = {
    field.IP_SRC: "source",
    field.IP_DST: "destination",
    field.L4_SRC: "source_port",
    field.L4_DST: "destination_port",
}
_ACTIONS = {
    of.SET_IP_SRC: "source",
    of.SET_IP_DST: "destination",
    of.SET_L4_SRC: "source_port",
    of.SET_L4_DST: "destination_port",
}


def _result(standing: of.Flow) -> dict[str, Any]:
    """Return what a flow's packets look like when they leave, as far as it says."""
    has: dict[str, Any] = {}
    bits = [1 << bit for bit in range(standing.match.fields.bit_length())]
    bits = [bit for bit in bits if standing.match.fields & bit]
    for bit, value in zip(bits, standing.match.values):
        if bit in _FIELDS:
            has[_FIELDS[bit]] = value
    for action in standing.actions:
        if action[0] in _ACTIONS:
            has[_ACTIONS[action[0]]] = action[1]
    return {
        name: value if name.endswith("port") else format_ip(value)
        for name, value in has.items()
    }


def check(cloud: Cloud, traffic: Traffic) -> float:
    """Wait until all hosts agree; return how long that took, in seconds.

    Raises:
        InvariantError: they still disagree after a time in which heartbeats must have
            found whatever was lost.
    """
    waited = 0.0
    text = ""
    for step in (0.15, 0.35, 0.5, 1.0, 1.0):
        cloud.loop.run(step)
        waited += step
        text = disagreement(cloud, traffic) or contradiction(cloud)
        if not text:
            return waited
    raise InvariantError(f"no agreement after {waited:.1f} s: {text}")
