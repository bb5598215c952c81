# SPDX-License-Identifier: Apache-2.0
"""Everything that the lanes of the engine share, and the small things they all do.

`engine` makes one `Core`; `packet_lane`, `state_lane` and `change_lane` work on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from midoryu.engine.config import EngineConfig
from midoryu.engine.effect import Effects
from midoryu.engine.flow_index import Entry, FlowIndex
from midoryu.engine.waiting import WaitingRoom, Wanted
from midoryu.openflow import pipeline
from midoryu.openflow.flow import Flow, Match, RemoveFlow
from midoryu.replication.session import Replicator
from midoryu.simulation.walk import World
from midoryu.state.nat import NatTable
from midoryu.state.table import ConnectionTable
from midoryu.topology.rendezvous import mix
from midoryu.topology.snapshot import Topology
from midoryu.topology.tag import Tag
from midoryu.translation.places import Places


class Core:
    """What one engine knows. Lanes change it; nobody else does."""

    def __init__(self, config: EngineConfig, now: float) -> None:
        self.config = config
        self.topology = Topology()
        self.places = Places(self.topology)
        self.connections = ConnectionTable(
            max_connections=config.max_connections, lifetimes_s=config.lifetimes_s
        )
        self.nat = NatTable()
        self.world = World(self.topology, self.connections, self.nat)
        self.flows = FlowIndex()
        self.waiting = WaitingRoom(config.max_waiting, config.max_waiting_per_vport)
        self.replicator: Replicator | None = None
        """None until the NSDB told this host's key."""
        self.counters: Counter[str] = Counter()
        self.switch_connected = False
        self.interfaces: dict[str, int] = {}
        """iface-id -> ofport, as the bridge has them."""
        self.asked: dict[Wanted, float] = {}
        """When what packets wait for was asked for last."""
        self.orphans: dict[Match, Flow] = {}
        """Flows of an earlier agent that are not adopted yet."""
        self.adopt_at = now
        """When to try next."""
        self.started = now
        self._serial = 0

    @property
    def host(self) -> int:
        """Key of this host, 0 until the NSDB told."""
        return self.places.host

    def new_cookie(self) -> int:
        """Return a cookie that no flow of this agent, or of an earlier start, has."""
        self._serial += 1
        number = (self.config.epoch & 0xFF_FFFF) << 24 | self._serial & 0xFF_FFFF
        return pipeline.cookie(pipeline.COOKIE_REACTIVE, number)

    def new_connection_id(self) -> int:
        """Return an id that no other host, start or connection has; never 0."""
        self._serial += 1
        return mix(self.config.seed ^ mix(self._serial)) or 1

    def invalidate(self, tags: Iterable[Tag], effects: Effects, now: float) -> int:
        """Remove every flow that depends on any of these tags; return how many."""
        removed = self.flows.remove_tagged(tags)
        for entry in removed:
            effects.flow_mods.append(RemoveFlow(entry.flow))
            self.release(entry, now)
        self.counters["flows invalidated"] += len(removed)
        return len(removed)

    def release(self, entry: Entry, last_used: float) -> None:
        """Let go of the record that a removed flow served."""
        if entry.connection:
            self.connections.release(entry.connection, last_used)
