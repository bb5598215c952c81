# SPDX-License-Identifier: Apache-2.0
"""Gateways that die and come back: noticed by their fellows, told to everybody.

Hosts that share an ingress set beat each other through the state port. Who falls
silent is dead: its vports count as down, flows through it are computed anew with the
same records, and every other host is told. No database is on that way.

Who is late is asked for an echo at once and often: packets get lost, and an agent may
be busy. Its switch answers for it, but for no longer than a second. What a gateway says
of others is believed as long as it can be reached itself (`paths`).
`replication.liveness` measures the silence; the engine's tick calls `step`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from midoryu.engine import health, paths, port_blocks, rerouting, state_lane
from midoryu.engine.core import Core
from midoryu.engine.effect import Effects
from midoryu.packet import build
from midoryu.packet.address import is_v4
from midoryu.replication.entry import Notice
from midoryu.simulation.outcome import Emission
from midoryu.topology.model import Host, Vport, VportStatus
from midoryu.topology.snapshot import RouterView, subnets

# A death is told again at this pace while it lasts ...
_REPEAT_S: Final = 1.0
# ... and believed for this long after it was told last.
_BELIEVE_S: Final = 3.5
_WARNING: Final = 30


def watch(core: Core, now: float) -> None:
    """Watch the hosts that share an ingress set with a vport of this host."""
    hosts: set[int] = set()
    for vport in core.places.ofport_by_vport:
        for ingress_set in core.topology.ingress_sets(vport):
            hosts.update(
                status.host
                for member in ingress_set.vports
                if (status := core.topology.row(VportStatus, member)) is not None
                and status.up
            )
    hosts |= health.fellows(core)
    core.liveness.watch(hosts - {core.host, 0}, now)
    paths.find(core)


def heard(core: Core, host: int, effects: Effects, now: float) -> None:
    """Note that a peer said something: it lives."""
    core.liveness.heard(host, now)
    if core.told_dead.pop(host, None) is not None:
        _apply(core, effects, now)


def step(core: Core, effects: Effects, now: float) -> tuple[Emission, ...]:
    """Beat, judge who is silent, and tell.

    Returns:
        Announcements of addresses that this gateway answers for now.
    """
    rerouting.step(core, effects, now)
    if core.replicator is None:
        return ()
    changes = core.liveness.tick(now)
    if changes.beat:
        beats = core.replicator.beat(core.liveness.watched, now)
        state_lane.send(core, beats, effects)
    paths.ask(core, changes.suspects, effects, now)
    notices = [Notice(host, False) for host in changes.died]
    notices += [Notice(host, True) for host in changes.revived]
    if core.liveness.dead and now >= core.repeat_deaths_at:
        notices += [
            Notice(host, False) for host in core.liveness.dead - set(changes.died)
        ]
        core.repeat_deaths_at = now + _REPEAT_S
    if notices:
        state_lane.send(
            core, core.replicator.notify(notices, _others(core), now), effects
        )
    for host in changes.died:
        effects.log.append((_WARNING, f"host {_name(core, host)} fell silent"))
        core.counters["hosts fallen silent"] += 1
    for host in changes.revived:
        effects.log.append((_WARNING, f"host {_name(core, host)} is back"))
    expired = [host for host, end in core.told_dead.items() if end <= now]
    for host in expired:
        del core.told_dead[host]
    if paths.step(core, effects, now) or changes.died or changes.revived or expired:
        _apply(core, effects, now)
    return announcements(core) if changes.died else ()


def told(
    core: Core, sender: int, notices: Iterable[Notice], effects: Effects, now: float
) -> None:
    """Believe what gateways say about a fellow, for a while."""
    changed = False
    for notice in notices:
        if notice.host == core.host:
            continue
        if notice.alive:
            changed |= core.told_dead.pop(notice.host, None) is not None
        elif notice.host not in core.liveness.watched:
            # Who watches that host itself knows better.
            changed |= notice.host not in core.told_dead
            core.told_dead[notice.host] = now + _BELIEVE_S
            core.accusers[notice.host] = sender
    if changed:
        _apply(core, effects, now)


def _apply(core: Core, effects: Effects, now: float) -> None:
    lost = core.paths.dead
    # Who hears nobody takes everybody for dead.
    told = {host for host in core.told_dead if core.accusers.get(host) not in lost}
    dead = core.liveness.dead | told | lost
    if dead != core.topology.dead_hosts:
        tags = core.topology.set_dead_hosts(frozenset(dead))
        rerouting.begin(core, tags, effects, now)
        port_blocks.refresh(core, effects)


def _others(core: Core) -> frozenset[int]:
    return frozenset(
        host.key
        for host in core.topology.rows(Host)
        if host.underlay and host.key != core.host
    )


def _name(core: Core, host: int) -> str:
    row = core.topology.host(host)
    return row.name if row is not None else str(host)


def announcements(core: Core) -> tuple[Emission, ...]:
    """Announce the NAT addresses that this host's uplinks answer ARP and ND for.

    The upstream may still send them to a dead gateway's MAC address.

    Source: RFC 5227, section 3; RFC 4861, section 7.2.6.
    """
    found: list[Emission] = []
    for key in core.places.ofport_by_vport:
        vport = core.topology.vport(key)
        router = core.topology.router(vport.device) if vport is not None else None
        if vport is not None and router is not None:
            found.extend(_of_uplink(vport, router))
    return tuple(found)


def _of_uplink(vport: Vport, router: RouterView) -> Iterable[Emission]:
    for address in sorted(router.nat.addresses):
        if any(subnet.contains(address) for subnet in subnets(vport)):
            make = build.gratuitous_arp if is_v4(address) else _advertisement
            yield Emission(vport.key, make(vport.mac, address))


def _advertisement(mac: int, address: int) -> bytes:
    return build.unsolicited_advertisement(mac, address)
