# SPDX-License-Identifier: Apache-2.0
"""What can go wrong: each kind is a generator that breaks something and mends it.

It yields how many seconds to wait, or `CALM` when traffic must flow again although the
disturbance lasts. When it ends, everything is whole, and traffic must flow again within
its bound (design, section 9).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from midoryu.topology import model
from tests.fabric.frame import QUERY
from tests.fabric.machine import InvariantError
from tests.fabric.net import AGENT, Cloud
from tests.fabric.silence import SLACK_S, fall_silent, not_quiet
from tests.fabric.talk import Traffic
from tests.fabric.world import member_rows

CALM: Final = -1.0
# How long the upstream router takes to notice a dead gateway.
_UPSTREAM_S: Final = 0.3


class Scene(NamedTuple):
    """What a disturbance works on."""

    cloud: Cloud
    traffic: Traffic
    rng: random.Random

    def any_host(self) -> str:
        return self.rng.choice(sorted(self.cloud.hosts))


Steps = Iterator[float]


def state_loss(scene: Scene) -> Steps:
    """30 % of all state packets are lost, some come late or twice."""
    cloud = scene.cloud
    before = cloud.state_loss, cloud.slow, cloud.duplicates
    cloud.state_loss, cloud.slow, cloud.duplicates = 0.3, 0.2, 0.15
    yield 1.0 + 2.0 * scene.rng.random()
    yield CALM
    cloud.state_loss, cloud.slow, cloud.duplicates = before


def data_loss(scene: Scene) -> Steps:
    """A tenth of everything is lost."""
    cloud = scene.cloud
    before = cloud.data_loss
    cloud.data_loss = 0.1
    yield 1.0 + scene.rng.random()
    cloud.data_loss = before


def agent_restart(scene: Scene) -> Steps:
    """An agent is killed and comes back with its journal or without."""
    name = scene.any_host()
    scene.cloud.stop_agent(name)
    yield 0.05 + scene.rng.random()
    scene.cloud.start_agent(name, journal=_has_journal(scene))


def agent_loop(scene: Scene) -> Steps:
    """An agent is killed again and again."""
    name = scene.any_host()
    for _ in range(scene.rng.randrange(3, 6)):
        scene.cloud.stop_agent(name)
        yield 0.02 + 0.1 * scene.rng.random()
        scene.cloud.start_agent(name, journal=_has_journal(scene))
        yield 0.05 + 0.5 * scene.rng.random()


def _has_journal(scene: Scene) -> bool:
    """Tell whether an agent's journal survives.

    Where rows change at the same time, flows go by which a connection within one host
    is remembered: it may not lose both.
    """
    has = scene.rng.random() < 0.5
    return has or scene.traffic.label == "several at once"


def amnesia(scene: Scene) -> Steps:
    """All agents are killed at once, no journal is left: only flows know anything."""
    cloud, traffic, rng = scene.cloud, scene.traffic, scene.rng
    traffic.is_paused = True
    for talk in traffic.live:
        if talk.ip_proto in QUERY:
            # No flow stands for a masqueraded ping.
            traffic.expire(talk)
        elif not talk.is_closing:
            traffic.say(talk, returns=False)
    yield 0.3
    for name in cloud.hosts:
        cloud.stop_agent(name)
    for name in sorted(cloud.hosts):
        yield 0.05 * rng.random()
        cloud.start_agent(name, journal=False)
    yield 2.5
    traffic.is_paused = False


def switch_restart(scene: Scene) -> Steps:
    """A switch loses all its flows; its agent lives on."""
    name = scene.any_host()
    scene.cloud.stop_switch(name)
    yield 0.05 + 0.4 * scene.rng.random()
    scene.cloud.start_switch(name)


def gateway_death(scene: Scene) -> Steps:
    """A gateway falls silent as a whole, and comes back with nothing."""
    cloud, traffic = scene.cloud, scene.traffic
    if len(traffic.upstream) < 2:
        return
    name = scene.rng.choice(traffic.upstream)
    host = cloud.hosts[name]
    host.is_up = False
    cloud.stop_agent(name)
    yield _UPSTREAM_S
    traffic.upstream.remove(name)
    yield 0.2
    yield CALM
    yield scene.rng.random()
    cloud.stop_switch(name)
    host.is_up = True
    host.is_switch_up = True
    cloud.start_agent(name, journal=scene.rng.random() < 0.5)
    yield 0.5 * scene.rng.random()
    traffic.upstream.append(name)


def gateway_freeze(scene: Scene) -> Steps:
    """A gateway's links are cut for a while; its agent does not notice."""
    cloud, traffic = scene.cloud, scene.traffic
    if len(traffic.upstream) < 2:
        return
    name = scene.rng.choice(traffic.upstream)
    cut = {frozenset((name, other)) for other in cloud.hosts if other != name}
    cloud.cut |= cut
    yield _UPSTREAM_S
    traffic.upstream.remove(name)
    yield 0.2
    yield CALM
    yield scene.rng.random()
    cloud.cut -= cut
    yield 0.3
    traffic.upstream.append(name)


def state_partition(scene: Scene) -> Steps:
    """State packets between two hosts are lost, data gets through."""
    one, other = scene.rng.sample(sorted(scene.cloud.hosts), 2)
    scene.cloud.cut_state.add(frozenset((one, other)))
    yield 0.2 + 2.0 * scene.rng.random()
    scene.cloud.cut_state.discard(frozenset((one, other)))


def partition(scene: Scene) -> Steps:
    """Two hosts cannot reach each other."""
    one, other = scene.rng.sample(sorted(scene.cloud.hosts), 2)
    scene.cloud.cut.add(frozenset((one, other)))
    yield 0.2 + 2.0 * scene.rng.random()
    scene.cloud.cut.discard(frozenset((one, other)))


def migration(scene: Scene) -> Steps:
    """A VM moves to another host; for a moment both hosts have its interface."""
    cloud, rng = scene.cloud, scene.rng
    if not cloud.nsdb.is_up:
        return
    vm = rng.choice(cloud.world.vms)
    old = cloud.place[vm.vport]
    candidates = [
        name
        for name in cloud.world.vm_hosts
        if name != old and vm.vport not in cloud.hosts[name].ofports
    ]
    if not old or not candidates:
        return
    new = rng.choice(candidates)
    row = cloud.nsdb.rows[(model.Vport, cloud.world.builder.key(vm.vport))]
    moved = model.Put(replace(row, host=cloud.hosts[new].key))
    early = rng.random() < 0.5
    if early:
        cloud.plug(new, vm.vport)
        yield 0.05 * rng.random()
    cloud.place[vm.vport] = ""
    yield 0.02 * rng.random()
    cloud.nsdb.change(moved)
    if not early:
        yield 0.05 * rng.random()
        cloud.plug(new, vm.vport)
    cloud.place[vm.vport] = new
    yield 0.1 * rng.random()
    cloud.unplug(old, vm.vport)


def drain(scene: Scene) -> Steps:
    """A gateway leaves the ingress set and loses its routes, then joins again.

    On a router of its own it stays in the set: or would take its connections along.
    """
    cloud, traffic, rng = scene.cloud, scene.traffic, scene.rng
    world, b = cloud.world, cloud.world.builder
    if len(traffic.upstream) < 2:
        return
    name = rng.choice(traffic.upstream)
    traffic.upstream.remove(name)
    others = [world.uplink(g) for g in world.gateways if g != name]
    cloud.nsdb.change(*(model.Gone(model.Route, r.key) for r in world.routes[name]))
    if len(world.providers) == 1:
        cloud.nsdb.change(model.Put(b.ingress_set("uplinks", *others)))
    yield 0.15
    yield CALM
    yield rng.random()
    every = [world.uplink(g) for g in world.gateways]
    cloud.nsdb.change(model.Put(b.ingress_set("uplinks", *every)))
    yield 0.1
    cloud.nsdb.change(*(model.Put(r) for r in world.routes[name]))
    yield 0.1
    traffic.upstream.append(name)


def pool_change(scene: Scene) -> Steps:
    """Members of the pool come, go, are drained and are taken down."""
    cloud, traffic, rng = scene.cloud, scene.traffic, scene.rng
    if not cloud.nsdb.is_up:
        return
    for _ in range(rng.randrange(1, 4)):
        vms = cloud.world.vms
        members = [vm for vm in vms if vm.vport not in traffic.left_pool]
        vm = rng.choice(vms if len(members) > 2 else [vms[1]])
        rows = member_rows(cloud.world, vm)
        if vm.vport in traffic.left_pool:
            del traffic.left_pool[vm.vport]
            cloud.nsdb.change(*map(model.Put, rows))
        else:
            traffic.left_pool[vm.vport] = cloud.loop.now
            cloud.nsdb.change(*_without(rng, rows))
        yield 0.2 * rng.random()
    yield CALM


def _without(rng: random.Random, rows: list[model.PoolMember]) -> list[model.Change]:
    """Take members out of their pool in one of three ways."""
    way = rng.randrange(3)
    if way == 0:
        return [model.Gone(model.PoolMember, row.key) for row in rows]
    if way == 1:
        return [model.Put(replace(row, weight=0)) for row in rows]
    return [model.Put(replace(row, up=False)) for row in rows]


def silence(scene: Scene) -> Steps:
    """Connections idle past their lifetime, or nearly; a few go on."""
    cloud, traffic, rng = scene.cloud, scene.traffic, scene.rng
    talks = [talk for talk in traffic.live if not talk.is_closing]
    asleep = rng.sample(talks, max(0, len(talks) - 8))
    ending = set()
    for talk in asleep:
        ends = rng.random() < 0.6
        fall_silent(cloud, traffic, talk, ends=ends)
        if ends:
            ending.add(talk.number)
    while any(n in traffic.talks and not traffic.talks[n].is_over for n in ending):
        yield 1.0
    yield SLACK_S


def quiet(scene: Scene) -> Steps:
    """All connections end by idling; then nothing is left, not even leases."""
    cloud, traffic = scene.cloud, scene.traffic
    for talk in traffic.live:
        if not talk.is_closing:
            fall_silent(cloud, traffic, talk, ends=True)
    while any(not talk.is_over for talk in traffic.talks.values()):
        yield 1.0
    yield max(AGENT["lifetimes_s"]) + SLACK_S
    _expect(not_quiet(cloud, leases=False))
    while not cloud.nsdb.is_up:
        yield 1.0
    yield AGENT["nat_last_block_idle_s"] + 2 * AGENT["touch_interval_s"] + 1.0
    _expect(not_quiet(cloud, leases=True))


def _expect(text: str) -> None:
    if text:
        raise InvariantError(f"not quiet: {text}")


def nsdb_outage(scene: Scene) -> Steps:
    """The NSDB is away; what is written waits."""
    scene.cloud.nsdb.stop()
    yield 0.5
    yield CALM
    yield 2.0 * scene.rng.random()
    scene.cloud.nsdb.start()


class Kind(NamedTuple):
    """One kind of disturbance."""

    run: Callable[[Scene], Steps]
    bound_s: float
    """Established connections go on after this time (design, section 9)."""
    forgets: bool = False
    """Destroys memory: one of these at a time."""
    often: float = 1.0
    """How often it comes; below 1 it takes long, and needs rest at its end."""


KINDS: Final = {
    "state loss": Kind(state_loss, 0.15),
    "data loss": Kind(data_loss, 0.1),
    "agent restart": Kind(agent_restart, 1.0, forgets=True),
    "agent loop": Kind(agent_loop, 1.0, forgets=True),
    # Only asked for by name: flows tell all, but not while they have just been removed,
    # nor of members that have left their pool.
    "amnesia": Kind(amnesia, 0.1, forgets=True, often=0.0),
    "switch restart": Kind(switch_restart, 0.2, forgets=True),
    "gateway death": Kind(gateway_death, 0.5, forgets=True),
    "gateway freeze": Kind(gateway_freeze, 0.5, forgets=True),
    "state partition": Kind(state_partition, 0.5),
    "partition": Kind(partition, 0.5),
    "migration": Kind(migration, 0.3),
    "drain": Kind(drain, 0.3, forgets=True),
    "pool change": Kind(pool_change, 0.1),
    "silence": Kind(silence, 0.1, often=0.3),
    "quiet": Kind(quiet, 0.1, often=0.2),
    "NSDB outage": Kind(nsdb_outage, 0.3),
}
