# SPDX-License-Identifier: Apache-2.0
"""The change lane: rows, interfaces and the switch itself come, change and go.

Keeps `Places`, the base flows and the tags of installed flows in step with the world.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from midoryu.engine import (
    adoption,
    advertiser,
    balancing,
    gateways,
    learning,
    leases,
    membership,
    moving,
    packet_lane,
    port_blocks,
    returning,
    segments,
    snooping,
    standing,
    state_lane,
)
from midoryu.engine.advertiser import Told
from midoryu.engine.core import Core
from midoryu.engine.effect import Effects, LeaseBlock, SetVportStatus
from midoryu.engine.event import (
    FlowRefused,
    FlowRemoved,
    InterfacesChanged,
    KeysChanged,
    SwitchConnected,
    TopologyChanged,
    WriteRefused,
)
from midoryu.openflow import pipeline
from midoryu.openflow.base_flows import base_flows
from midoryu.openflow.flow import (
    InstallFlow,
    RemoveFlow,
)
from midoryu.replication.session import Delivery, Replicator
from midoryu.state.connection import Phase
from midoryu.topology.balancer import Balancer, HealthMonitor, Pool, Vip
from midoryu.topology.model import (
    Filtering,
    Gone,
    Host,
    IngressSet,
    Masquerade,
    Mirror,
    Neighbor,
    Network,
    Put,
    Qos,
    Vport,
    VportReady,
    VportStatus,
)
from midoryu.topology.snapshot import Topology
from midoryu.topology.tag import vport_tag

# An earlier agent's base flows are left alone for so long after a connection.
TIDY_S = 10.0
# Rows that decide who has to watch whom for health monitors.
WATCH_ROWS = (Balancer, Vip, Pool, HealthMonitor)
_INFO = 20
_WARNING = 30
_ERROR = 40


def topology_changed(
    core: Core, event: TopologyChanged, effects: Effects, now: float
) -> None:
    """Take over changed rows; flows that they touch go, packets that waited go on."""
    places = membership.before(core, event.changes)
    old_leases = leases.standing(core, event.changes)
    balanced = balancing.before(core, event.changes)
    told = advertiser.before(core, event.changes)
    tags = core.topology.apply(event.changes)
    core.invalidate(tags, effects, now)
    kinds = {
        type(change.row) if isinstance(change, Put) else change.kind
        for change in event.changes
    }
    if Host in kinds:
        _hosts_changed(core, effects, now)
    if Masquerade in kinds:
        core.nat.watch(open_routers(core.topology), core.connections, now)
    for wanted in leases.changed(core, event.changes, old_leases):
        packet_lane.resume_all(core, wanted, effects, now)
    leases.claim_lost(core, effects)
    port_blocks.changed(core, event.changes, places.was_at, effects)
    if kinds & {Network, Qos, Mirror} and not kinds & {Vport, VportStatus, Host}:
        standing.refresh(core, effects, now)
        snooping.watch(core, now)
    if kinds & {Vport, VportStatus, VportReady, Host}:
        _bind_all(core, effects, now)
        _say_again(core, event, effects)
    _watch(core, kinds, effects, now)
    for change in event.changes:
        if isinstance(change, Put) and isinstance(change.row, Neighbor):
            row = change.row
            for asked in learning.waiting_for(core, row.router, row.address):
                packet_lane.resume_all(core, asked, effects, now)
    balancing.changed(core, event.changes, balanced, effects, now)
    membership.follow(core, places, effects, now)
    _advertise(core, told, effects, now)


def _watch(core: Core, kinds: set[type], effects: Effects, now: float) -> None:
    """Watch the hosts that share an ingress set or a health monitor with this one."""
    if kinds & {VportStatus, IngressSet, Host, *WATCH_ROWS}:
        gateways.watch(core, now)
    if kinds & {Vport, VportStatus, IngressSet, Network}:
        for emission in segments.follow(core):
            packet_lane.emit(core, emission, effects, now)


def _advertise(
    core: Core, told: Mapping[int, Told], effects: Effects, now: float
) -> None:
    """Let routers of changed networks say what is so now, and what is no longer."""
    advertiser.follow(core, now, changed=told)
    for emission in advertiser.cease(core, told):
        packet_lane.emit(core, emission, effects, now)


def open_routers(topology: Topology) -> frozenset[int]:
    """List the routers where the outside may speak first to a masqueraded endpoint."""
    closed = Filtering.ADDRESS_AND_PORT_DEPENDENT
    return frozenset(
        rule.router
        for rule in topology.rows(Masquerade)
        if rule.filtering is not closed
    )


def keys_changed(core: Core, event: KeysChanged, effects: Effects, now: float) -> None:
    """Authenticate flow state by other keys, without a gap."""
    core.config = replace(core.config, state_keys=event.keys)
    if core.replicator is not None:
        core.replicator.change_keys(event.keys, now)
    core.counters["state keys changed"] += 1
    effects.log.append((_INFO, f"flow state has other keys: {len(event.keys)}"))


def _hosts_changed(core: Core, effects: Effects, now: float) -> None:
    core.replays.clear()
    own = core.topology.host_named(core.config.host)
    if own is not None and own.key != core.places.host:
        core.places.host = own.key
        core.replicator = Replicator(
            host=own.key,
            epoch=core.config.epoch,
            keys=core.config.state_keys,
            mtu_bytes=core.config.mtu_bytes,
            now=now,
            lifetimes_s=core.config.lifetimes_s,
            delivery=Delivery(core.config.delivery),
            confirm_interval_s=core.config.confirm_interval_s,
            confirm_tries=core.config.confirm_tries,
        )
        core.begin_to_learn(now)
        effects.log.append((_INFO, f"this is host {own.name!r}, key {own.key}"))
        leases.set_aside(core)
    if core.replicator is not None:
        peers = {
            host.key
            for host in core.topology.rows(Host)
            if host.underlay and host.key != core.host
        }
        core.replicator.set_peers(peers, now)
        state_lane.send(core, core.replicator.tick(now), effects)


def write_refused(
    core: Core, event: WriteRefused, effects: Effects, now: float
) -> None:
    """Note that the NSDB refused a write; a lease can then be asked for again."""
    core.counters["NSDB writes refused"] += 1
    effects.log.append((_WARNING, f"NSDB refused {event.write}: {event.reason}"))
    if isinstance(event.write, LeaseBlock) and not event.write.block:
        core.nat.lease_failed(event.write.router, event.write.address, now)


# Local vports.


def interfaces_changed(
    core: Core, event: InterfacesChanged, effects: Effects, now: float
) -> None:
    """Take over which interfaces the bridge has."""
    core.interfaces = dict(event.ofport_by_iface_id)
    _bind_all(core, effects, now)


def _bind_all(core: Core, effects: Effects, now: float) -> None:
    """Bring vports up that have an interface here, and down those that lost it."""
    if not core.host or not core.switch_connected:
        return
    wanted = _wanted_places(core)
    before = dict(core.places.ofport_by_vport)
    for key in [k for k in core.places.ofport_by_vport if k not in wanted]:
        core.given_up.add(key)
        _take_down(core, key, effects, now)
    for key, (ofport, vlan) in wanted.items():
        if core.places.at(key) != (ofport, vlan):
            if key in core.places.ofport_by_vport:
                _take_down(core, key, effects, now)
            _bring_up(core, key, ofport, vlan, effects=effects, now=now)
        elif not _is_said_up(core, key):
            _say(core, key, effects, up=True)
    moving.refresh(core, effects)
    standing.refresh(core, effects, now)
    moved = before.items() ^ core.places.ofport_by_vport.items()
    port_blocks.bound(core, {key for key, _ in moved}, effects)
    snooping.watch(core, now)
    gateways.watch(core, now)


def _wanted_places(core: Core) -> dict[int, tuple[int, int]]:
    """Return ofport and VLAN of every vport that has an interface here."""
    wanted: dict[int, tuple[int, int]] = {}
    for iface_id, ofport in core.interfaces.items():
        vport = core.topology.vport_by_iface_id(iface_id)
        if vport is not None and moving.carries(core, vport):
            wanted[vport.key] = (ofport, 0)
            # A trunk that is down has no sub-ports.
            subports = core.topology.l2.subports(vport.key) if vport.up else ()
            for key in subports:
                subport = core.topology.vport(key)
                if subport is not None:
                    wanted[key] = (ofport, subport.vlan)
    return wanted


def _say_again(core: Core, event: TopologyChanged, effects: Effects) -> None:
    """Say that vports are up whose rows went: the NSDB was lost and filled again."""
    said = {w.vport for w in effects.nsdb_writes if isinstance(w, SetVportStatus)}
    for change in event.changes:
        if isinstance(change, Gone) and change.kind is VportStatus:
            key = int(change.key)
            if key in core.places.ofport_by_vport and key not in said:
                _say(core, key, effects, up=True)


def _say(core: Core, key: int, effects: Effects, *, up: bool) -> None:
    """Say where a vport is; one that is on every host is nowhere in particular."""
    vport = core.topology.vport(key)
    if vport is None or not vport.metadata:
        early = up and moving.is_early(core, key)
        effects.nsdb_writes.append(SetVportStatus(key, up, early))


def _bring_up(
    core: Core, key: int, ofport: int, vlan: int, *, effects: Effects, now: float
) -> None:
    core.places.bind(key, ofport, vlan)
    core.replays.clear()
    _say(core, key, effects, up=True)
    name = core.topology.vport_name(key)
    effects.log.append((_INFO, f"vport {name} (key {key}) is ofport {ofport}"))
    core.invalidate((vport_tag(key),), effects, now)
    leases.prefetch_for(core, key, effects)


def _is_said_up(core: Core, key: int) -> bool:
    status = core.topology.row(VportStatus, key)
    # Until our own write comes back the row is missing or another host's.
    if status is None or not status.up:
        return True
    early = moving.is_early(core, key)
    return bool(status.host == core.host and status.early == early)


def _take_down(core: Core, key: int, effects: Effects, now: float) -> None:
    ofport = core.places.unbind(key)
    core.replays.clear()
    _say(core, key, effects, up=False)
    effects.log.append((_INFO, f"vport {core.topology.vport_name(key)} went away"))
    if ofport is None:
        return
    gone = [entry for entry in core.flows if entry.in_port == ofport]
    for entry in gone:
        core.flows.remove(entry.cookie)
        core.release(entry, now)
        effects.flow_mods.append(RemoveFlow(entry.flow))


def arrive(core: Core, effects: Effects, now: float) -> None:
    """Take over vports whose machines have announced themselves here."""
    events, core.arrivals = core.arrivals, []
    _bind_all(core, effects, now)
    for event in events:
        core.counters["vports taken over"] += 1
        packet_lane.handle(core, event, effects, now)


# The switch.


def switch_connected(
    core: Core, event: SwitchConnected, effects: Effects, now: float
) -> None:
    """Put the base flows in, and compare what stands with what is known to stand."""
    if not core.switch_connected:
        core.begin_to_learn(now)
    core.switch_connected = True
    core.places.gre_ofport = event.gre_ofport
    core.places.state_ofport = event.state_ofport
    core.replays.clear()
    found = {flow.cookie for flow in event.flows}
    returning.lost(core, found, effects, now)
    for entry in list(core.flows):
        if entry.cookie not in found:
            core.flows.remove(entry.cookie)
            core.release(entry, now)
    for flow in base_flows(event.gre_ofport, event.state_ofport):
        effects.flow_mods.append(InstallFlow(flow))
    standing.refresh(core, effects, now, again=True)
    port_blocks.refresh(core, effects, again=True)
    base = (pipeline.COOKIE_BASE, pipeline.COOKIE_TUNNEL, pipeline.COOKIE_BLOCK)
    core.found_base = tuple(
        flow for flow in event.flows if pipeline.cookie_kind(flow.cookie) in base
    )
    core.tidy_at = now + TIDY_S
    reactive = pipeline.COOKIE_REACTIVE
    adoption.collect(
        core,
        tuple(f for f in event.flows if pipeline.cookie_kind(f.cookie) == reactive),
        effects,
        now,
    )
    _bind_all(core, effects, now)
    if core.replicator is not None:
        state_lane.send(core, core.replicator.tick(now), effects)


def tidy(core: Core, effects: Effects, now: float) -> None:
    """Remove an earlier agent's flows of vports that are no longer here.

    Not before topology and interfaces have had time to be read: until then the flows of
    vports that are still to be bound would look like strangers, and they forward.
    """
    if not core.found_base or now < core.tidy_at or not core.has_memory(now):
        return
    places = core.places
    wanted = set(base_flows(places.gre_ofport, places.state_ofport))
    wanted.update(standing.flows(core))
    wanted.update(port_blocks.flows(core))
    slots = {(flow.table, flow.priority, flow.match) for flow in wanted}
    for flow in core.found_base:
        if (flow.table, flow.priority, flow.match) not in slots:
            effects.flow_mods.append(RemoveFlow(flow))
            core.counters["strange flows removed"] += 1
    core.found_base = ()


def flow_removed(core: Core, event: FlowRemoved, effects: Effects, now: float) -> None:
    """Forget a flow that the switch removed; its record was used until it went idle."""
    if core.blocks.unproven:
        returning.removed(core, event, effects, now)
    entry = core.flows.remove(event.cookie)
    if entry is None:
        return
    core.counters["flows gone idle"] += 1
    idle = event.reason == pipeline.REMOVED_IDLE
    last_used = now - (event.idle_timeout_s if idle else 0)
    core.release(entry, last_used)
    ended = (
        idle
        and entry.flow.fin_timeout_s
        and event.idle_timeout_s <= entry.flow.fin_timeout_s
    )
    connection = core.connections.get(entry.connection) if entry.connection else None
    if connection is None or core.replicator is None:
        return
    if ended and connection.phase is Phase.TCP_ESTABLISHED:
        core.connections.touch(connection.id, last_used, Phase.TCP_CLOSING)
    peers = state_lane.interested_peers(core, connection)
    core.replicator.touch((connection,), peers, now)


def flow_refused(core: Core, event: FlowRefused, effects: Effects, now: float) -> None:
    """Forget a flow that the switch refused; packets go on without it."""
    core.counters["flows refused"] += 1
    entry = core.flows.remove(event.cookie) if event.cookie else None
    if entry is not None:
        core.release(entry, now)
    what = f"cookie {event.cookie:#x}" if event.cookie else "a message"
    effects.log.append((_ERROR, f"the switch refused {what}: {event.reason}"))
