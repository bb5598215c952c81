# SPDX-License-Identifier: Apache-2.0
"""Health monitors: one host looks at each member, and tells everybody what it found.

Who: of the hosts that have ports of the device with the VIP, or of the networks around
it, the first that lives, in the order of a hash of pool and host; three of them watch
one another's beats (`gateways`). How: frames that the device itself sends, with a
record that is pushed to the member's host: so the answer passes that host's filters,
and finds the way back to the prober as a message (`replication.entry.ProbeAnswer`).

`probe` is one look; here is when, by whom, and what follows from it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final, NamedTuple, Union

from midoryu.engine import balancing, probe, state_lane
from midoryu.engine.core import Core
from midoryu.engine.effect import Effects, SetMemberStatus
from midoryu.engine.health_book import Watch
from midoryu.packet import build, protocol
from midoryu.packet.address import format_ip, is_v4
from midoryu.packet.segment import Ends, Segment, echo_request, read_segment, tcp_frame
from midoryu.replication.entry import ProbeAnswer
from midoryu.simulation.outcome import Emission, Forward, NeighborWanted, Simulation
from midoryu.simulation.probe import ProbeWay, find_way
from midoryu.simulation.simulator import simulate_emission
from midoryu.state.connection import Connection
from midoryu.state.lifetime import first_phase
from midoryu.topology.balancer import (
    CompiledPool,
    HealthMonitor,
    MemberStatus,
    PoolMember,
    Probe,
)
from midoryu.topology.model import Put, VportStatus
from midoryu.topology.rendezvous import digest, mix

_INFO: Final = 20
_WARNING: Final = 30
# Hosts that may have to take a pool over watch one another.
_FELLOWS: Final = 3
# After a change of the topology, who looks at what is thought over at this pace.
_REFRESH_S: Final = 0.2


class Wishes(NamedTuple):
    """What a step asks for."""

    emissions: tuple[Emission, ...] = ()
    neighbors: tuple[NeighborWanted, ...] = ()


def rank(core: Core, device: int, pool: str) -> list[int]:
    """Order the hosts that may look at a pool's members, whoever asks."""
    topology = core.topology
    devices = {device}
    if topology.router(device) is not None:
        for vport in topology.vports_of(device):
            peer = topology.vport(vport.peer) if vport.peer else None
            if peer is not None:
                devices.add(peer.device)
    hosts = {
        status.host
        for one in devices
        for vport in topology.vports_of(one)
        if (status := topology.row(VportStatus, vport.key)) is not None and status.up
    }
    seed = zlib.crc32(pool.encode())
    return sorted(hosts, key=lambda host: (mix(digest((seed, host))), host))


def fellows(core: Core) -> set[int]:
    """Return the hosts to be watched: they look at members, or may have to."""
    found: set[int] = set()
    for pool in core.topology.balancers.pools() if core.topology.balancers else ():
        device = _device_of(core, pool)
        if pool.monitor is not None and device:
            first = rank(core, device, pool.row.key)[:_FELLOWS]
            if core.host in first:
                found.update(first)
    return found


def _device_of(core: Core, pool: CompiledPool) -> int:
    for balancer, _ in core.topology.balancers.vips_of_pool(pool.row.key):
        return balancer.device
    return 0


def step(core: Core, effects: Effects, now: float) -> Wishes:
    """Look at what is due, judge who was silent."""
    health = core.health
    if not core.topology.balancers and not health.watches:
        return Wishes()
    _refresh(core, now)
    emissions: list[Emission] = []
    neighbors: list[NeighborWanted] = []
    for watch in list(health.watches.values()):
        attempt = watch.attempt
        if attempt is None:
            if now >= watch.next_at:
                wanted = _begin(core, watch, emissions, effects, now)
                neighbors += [wanted] if wanted is not None else []
        elif now >= attempt.deadline:
            _judge(core, watch, probe.silence(attempt), effects, now)
        elif now >= attempt.resend_at:
            attempt.resend_at = attempt.deadline
            if not attempt.is_open:
                emissions.append(_first(watch))
    state_lane.push_made(core, effects, now)
    return Wishes(tuple(emissions), tuple(neighbors))


def deadline(core: Core, now: float) -> Union[float, None]:
    """Return when `step` has something to do, None for never."""
    health = core.health
    due = [
        min(one.attempt.deadline, one.attempt.resend_at) if one.attempt else one.next_at
        for one in health.watches.values()
    ]
    if core.topology.balancers and health.seen != _version(core):
        due.append(max(health.refresh_at, now))
    return min(due, default=None)


def _version(core: Core) -> tuple[int, frozenset[int]]:
    return core.topology.version, core.topology.dead_hosts


def _refresh(core: Core, now: float) -> None:
    """Think over what this host looks at, when something changed."""
    health, version = core.health, _version(core)
    if health.seen == version or now < health.refresh_at or not core.host:
        return
    health.seen, health.refresh_at = version, now + _REFRESH_S
    wanted: dict[str, Watch] = {}
    for pool in core.topology.balancers.pools():
        monitor = pool.monitor
        if monitor is None:
            continue
        for member in pool.members:
            watch = _watch(core, pool, monitor, member, now)
            if watch is not None:
                wanted[member.key] = watch
    for watch in health.watches.values():
        if watch.member.key not in wanted:
            for record in watch.records.values():
                health.by_record.pop(record.id, None)
    health.watches = wanted


def _watch(
    core: Core,
    pool: CompiledPool,
    monitor: HealthMonitor,
    member: PoolMember,
    now: float,
) -> Union[Watch, None]:
    for balancer, vip in core.topology.balancers.vips_of_pool(pool.row.key):
        if is_v4(vip.address) != is_v4(member.address) or not member.up:
            continue
        hosts = rank(core, balancer.device, pool.row.key)
        alive = [host for host in hosts if host not in core.topology.dead_hosts]
        if alive[:1] != [core.host]:
            return None
        old = core.health.watches.get(member.key)
        if old is not None and old.device == balancer.device and old.member == member:
            old.pool, old.monitor, old.vip = pool, monitor, vip
            return old
        return Watch(pool, monitor, member, vip, balancer.device, now)
    return None


def _begin(
    core: Core, watch: Watch, emissions: list[Emission], effects: Effects, now: float
) -> Union[NeighborWanted, None]:
    watch.count += 1
    sequence = mix(watch.count ^ zlib.crc32(watch.member.key.encode()) ^ int(now))
    address = watch.member.address
    watch.attempt = probe.begin(watch.monitor, address, sequence & 0xFFFF_FFFF, now)
    way = find_way(core.topology, watch.device, watch.vip, address)
    watch.way = way if isinstance(way, ProbeWay) else None
    if isinstance(way, NeighborWanted):
        # The attempt fails; the next one knows the neighbour, if it lives.
        return way
    if watch.way is not None:
        emission = _first(watch)
        _expect(core, watch, emission, effects, now)
        emissions.append(emission)
    return None


def _ends(watch: Watch) -> Ends:
    assert watch.way is not None
    _, mac_src, mac_dst, source = watch.way
    ports = watch.source_port, watch.port
    return Ends(mac_src, mac_dst, source, watch.member.address, *ports)


def _first(watch: Watch) -> Emission:
    """Make the first frame of a look."""
    assert watch.attempt is not None
    if watch.way is None:
        return Emission(0, b"")
    ends, kind = _ends(watch), watch.monitor.kind
    if kind is Probe.ICMP:
        count = watch.count & 0xFFFF
        frame = echo_request(ends, watch.source_port, count)
    elif kind is Probe.UDP:
        frame = build.udp_frame(**ends._asdict(), payload=probe.DATAGRAM)
    else:
        frame = tcp_frame(ends, probe.opening(watch.attempt))
    return Emission(watch.way.vport, frame)


def _expect(
    core: Core, watch: Watch, emission: Emission, effects: Effects, now: float
) -> None:
    """Make the record by which the answer comes back; push it to where it enters."""
    outcome = simulate_emission(emission, core.world).outcome
    if not isinstance(outcome, Forward):
        return
    egress = core.topology.vport(outcome.vport)
    assert egress is not None
    ends, kind = _ends(watch), watch.monitor.kind
    proto, ports = protocol.TCP, (ends.port_src, ends.port_dst)
    if kind is Probe.UDP:
        proto = protocol.UDP
    elif kind is Probe.ICMP and is_v4(ends.ip_dst):
        proto, ports = protocol.ICMP, (0, protocol.ICMP_ECHO_REQUEST)
    elif kind is Probe.ICMP:
        proto, ports = protocol.ICMPV6, (0, protocol.ICMPV6_ECHO_REQUEST)
    old = watch.records.get(ends.port_src)
    record = Connection(
        id=old.id if old is not None else 0,
        ip_proto=proto,
        original=(ends.ip_src, ends.ip_dst, *ports),
        ingress_device=watch.device,
        ingress_vport=0,
        egress_device=egress.device,
        egress_vport=egress.key,
        translations=(),
        owner=core.host,
        phase=first_phase(proto),
        version=old.version if old is not None else 0,
    )
    made = state_lane.commit(core, record, (), effects, now)
    watch.records[ends.port_src] = made
    core.health.by_record[made.id] = watch


def arrived(
    core: Core, simulation: Simulation, effects: Effects, now: float
) -> tuple[Emission, ...]:
    """Take a member's answer that came in here; pass it on to who asked."""
    found, packet = simulation.found, simulation.packet
    if found is None:
        return ()
    connection = found.connection
    if packet.embedded is not None:
        answer = ProbeAnswer(connection.id, probe.ERROR)
    elif packet.ip_proto == protocol.TCP:
        answer = ProbeAnswer(connection.id, probe.SEGMENT, *read_segment(packet))
    else:
        answer = ProbeAnswer(connection.id, probe.ANSWER)
    if connection.owner == core.host:
        return hear(core, (answer,), effects, now)
    core.counters["probe answers passed on"] += 1
    if core.replicator is not None:
        datagrams = core.replicator.pass_on(answer, connection.owner, now)
        state_lane.send(core, datagrams, effects)
    return ()


def hear(
    core: Core, answers: Iterable[ProbeAnswer], effects: Effects, now: float
) -> tuple[Emission, ...]:
    """Take answers to own looks; return what the device says to them."""
    emissions: list[Emission] = []
    for answer in answers:
        watch = _watch_of(core, answer.id)
        attempt = watch.attempt if watch is not None else None
        if watch is None or attempt is None or watch.way is None:
            continue
        verdict = probe.hear(attempt, answer)
        emissions += [_say(watch, segment) for segment in verdict.segments]
        if verdict.healthy is not None:
            _judge(core, watch, verdict.healthy, effects, now)
    return tuple(emissions)


def _watch_of(core: Core, record_id: int) -> Union[Watch, None]:
    """Return whose look an answer belongs to, by the record that it came back by.

    The member's host may still have the record of this host's agent before its restart,
    for the same addresses and ports.
    """
    watch = core.health.by_record.get(record_id)
    if watch is not None:
        current = watch.records.get(watch.source_port)
        return watch if current is not None and current.id == record_id else None
    old = core.connections.get(record_id)
    if old is None or old.owner != core.host:
        return None
    for watch in core.health.watches.values():
        current = watch.records.get(watch.source_port)
        if current is not None and current.original == old.original:
            return watch
    return None


def _say(watch: Watch, segment: Segment) -> Emission:
    assert watch.way is not None
    return Emission(watch.way.vport, tcp_frame(_ends(watch), segment))


def _judge(
    core: Core, watch: Watch, healthy: bool, effects: Effects, now: float
) -> None:
    """Count a result; enough of one kind in a row change what is said of a member.

    The first result of a member that nobody has looked at yet counts at once.
    """
    assert watch.attempt is not None
    started = watch.attempt.deadline - watch.monitor.timeout_s
    watch.attempt = None
    watch.next_at = max(now, started + watch.monitor.interval_s)
    watch.good = watch.good + 1 if healthy else 0
    watch.bad = 0 if healthy else watch.bad + 1
    core.counters["healthy probes" if healthy else "failed probes"] += 1
    known = core.topology.row(MemberStatus, watch.member.key)
    enough = (
        known is None
        or (known.up and watch.bad >= watch.monitor.fall)
        or (not known.up and watch.good >= watch.monitor.rise)
    )
    if enough and (known is None or known.up is not healthy):
        _tell(core, watch, healthy, effects, now)


def _tell(core: Core, watch: Watch, up: bool, effects: Effects, now: float) -> None:
    change = Put(MemberStatus(watch.member.key, core.host, up))
    core.invalidate(core.topology.apply((change,)), effects, now)
    balancing.changed(core, (change,), frozenset(), effects, now)
    effects.nsdb_writes.append(SetMemberStatus(watch.member.key, up))
    name = f"{watch.pool.row.name} {_name(watch)}"
    level, word = (_INFO, "up") if up else (_WARNING, "down")
    effects.log.append((level, f"pool member {name} is {word}"))


def _name(watch: Watch) -> str:
    return f"{format_ip(watch.member.address)} port {watch.port}"
