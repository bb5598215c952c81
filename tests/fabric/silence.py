# SPDX-License-Identifier: Apache-2.0
"""Lifetimes: who idles past its own must be gone everywhere, who does not must live.

The simulated agents have short ones. `disturbance` lets connections fall silent; `net`
starts agents with these settings; the end of every episode asks for `leak`.
"""

from __future__ import annotations

from typing import Any, Final

from midoryu.packet.address import format_ip
from midoryu.packet.protocol import ICMP, ICMPV6, TCP, UDP
from midoryu.state.connection import Phase
from midoryu.state.portpool import BLOCK_PORTS
from midoryu.topology import model
from tests.fabric.machine import Host
from tests.fabric.net import AGENT, Cloud
from tests.fabric.opening import Talk
from tests.fabric.talk import Traffic
from tests.fabric.world import NAT4, NAT6

# Beyond its lifetime a record may live for as long as a flow idles, a look at records
# in use (touch), a step of the table's timer wheel and the simulation's own sweep take.
SLACK_S: Final = AGENT["flow_idle_timeout_s"] + AGENT["touch_interval_s"] + 4.0
# Who falls silent for this share of its lifetime goes on.
SHORT: Final = 0.75
_PHASE: Final = {
    TCP: Phase.TCP_ESTABLISHED,
    UDP: Phase.UDP,
    ICMP: Phase.ICMP,
    ICMPV6: Phase.ICMP,
}
_Key = tuple[int, str, str, int]


def lifetime_s(talk: Talk) -> float:
    """Return how long a connection may idle, in seconds."""
    seconds: float = AGENT["lifetimes_s"][_PHASE[talk.ip_proto]]
    return seconds


def fall_silent(cloud: Cloud, traffic: Traffic, talk: Talk, *, ends: bool) -> None:
    """Let a connection say nothing until its end, or until shortly before that."""
    talk.turns += 1
    talk.is_asleep = True

    def look() -> None:
        if talk.is_over or not talk.is_asleep:
            return
        now = cloud.loop.now
        is_quiet = talk.under_way is None
        if ends and now >= talk.last_at + lifetime_s(talk) and is_quiet:
            # From now on somebody else may have its translation.
            traffic.expire(talk)
        elif not ends and now >= talk.heard_at + SHORT * lifetime_s(talk) and is_quiet:
            talk.is_asleep = False
            traffic.say(talk, returns=traffic.rng.random() < 0.5)
        else:
            cloud.loop.after(0.1, look)

    look()


def leak(cloud: Cloud, traffic: Traffic) -> str:
    """Return a record, or what is left of one, that should be gone; "" for none."""
    now = cloud.loop.now
    used = _last_uses(traffic)
    for host in cloud.hosts.values():
        if host.engine is None or not host.is_up:
            continue
        records: Any = host.engine.inspect("records", {"limit": "1000000"}, now)
        for record in records:
            last = max(used.get(_key(record), 0.0), cloud.disturbed_at)
            last = max(last, cloud.agent_started_at)
            seconds = AGENT["lifetimes_s"][Phase[record["phase"].upper()]]
            if now - last > seconds + SLACK_S:
                ends = record["original"]
                return f"{host.name} still knows {record['id']} {ends}, {now - last} s"
        ids = {int(one["id"], 16) for one in records}
        text = _left_in_journal(host, ids, cloud.agent_started_at)
        if text:
            return f"{host.name}: {text}"
    return ""


def _left_in_journal(host: Host, known: set[int], since: float) -> str:
    """Look for records that are gone; a killed agent may have left some before."""
    unwritten = {write.connection for _, write in host.unwritten}
    kept = {id_ for id_, (_, at) in host.journal.items() if at > since}
    left = kept - known - unwritten
    return f"the journal keeps {len(left)} records that are gone" if left else ""


def unleased(cloud: Cloud, traffic: Traffic) -> str:
    """Return a translation in use whose port nobody leases, or not who knows of it."""
    leases: dict[tuple[int, int], int] = {
        (row.address, row.block): row.host
        for (kind, _), row in cloud.nsdb.rows.items()
        if kind is model.Lease
    }
    by_key = {host.key: host for host in cloud.hosts.values()}
    for talk in traffic.live:
        if talk.seen is None or format_ip(talk.seen[0]) not in (NAT4, NAT6):
            continue
        holder = leases.get((talk.seen[0], talk.seen[2] // BLOCK_PORTS))
        if holder is None:
            return f"nobody leases the port of {traffic.describe(talk)}"
        host = by_key[holder]
        if host.engine is not None and not _knows(host, talk, cloud.loop.now):
            return f"{host.name} leases it, but has no record: {traffic.describe(talk)}"
    return ""


def _knows(host: Host, talk: Talk, now: float) -> bool:
    assert host.engine is not None
    address = {"address": format_ip(talk.ends[0]), "limit": "1000000"}
    records: Any = host.engine.inspect("records", address, now)
    assert talk.seen is not None
    return any(
        record["return"]["destination_port"] in (talk.seen[2], talk.seen[3])
        and record["original"]["destination"] == format_ip(talk.ends[1])
        for record in records
    )


def not_quiet(cloud: Cloud, *, leases: bool) -> str:
    """Return a record, or with `leases` a block of ports, that anybody still has."""
    now = cloud.loop.now
    for host in cloud.hosts.values():
        known: Any = host.engine.inspect("records", {}, now) if host.engine else ()
        if known:
            return f"{host.name} knows {len(known)} records: {known[0]}"
    if not leases:
        return ""
    rows = [row for (kind, _), row in cloud.nsdb.rows.items() if kind is model.Lease]
    return f"{len(rows)} blocks are leased" if rows else ""


def _last_uses(traffic: Traffic) -> dict[_Key, float]:
    """Return when packets of each tuple were sent last."""
    used: dict[_Key, float] = {}
    for proto, ends, last_at in traffic.uses():
        source, destination, port, _ = ends
        for key_port in {port, 0}:
            key = proto, format_ip(source), format_ip(destination), key_port
            used[key] = max(used.get(key, 0.0), last_at)
    return used


def _key(record: dict[str, Any]) -> _Key:
    ends = record["original"]
    proto = record["ip_proto"]
    return proto, ends["source"], ends["destination"], ends["source_port"]
