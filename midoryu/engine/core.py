# SPDX-License-Identifier: Apache-2.0
"""Everything that the lanes of the engine share, and the small things they all do.

`engine` makes one `Core`; `packet_lane`, `state_lane` and `change_lane` work on it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from midoryu.compat import SLOTS
from midoryu.engine.block_book import PortBlocks
from midoryu.engine.config import EngineConfig
from midoryu.engine.effect import Effects
from midoryu.engine.event import PacketIn
from midoryu.engine.express_book import Express
from midoryu.engine.flow_index import AnyEntry, FlowIndex
from midoryu.engine.fragments import FragmentTable
from midoryu.engine.health_book import Health
from midoryu.engine.held import HeldPackets
from midoryu.engine.minded import Snooping
from midoryu.engine.refusal_book import RefusalBook
from midoryu.engine.share_book import ShareBook
from midoryu.engine.unsaid import Unsaid
from midoryu.engine.unsolicited import UnsolicitedSyns
from midoryu.engine.waiting import WaitingRoom
from midoryu.openflow import pipeline
from midoryu.openflow.flow import Flow, Match, RemoveFlow, SetMeter
from midoryu.replication.liveness import Liveness
from midoryu.replication.session import Replicator
from midoryu.simulation.outcome import Lookup, StateWanted, Wanted
from midoryu.simulation.replay import Replays
from midoryu.simulation.world import World
from midoryu.state.affinity import AffinityTable
from midoryu.state.connection import Connection
from midoryu.state.nat import NatTable
from midoryu.state.table import ConnectionTable
from midoryu.topology.model import Host, Lease
from midoryu.topology.rendezvous import mix
from midoryu.topology.snapshot import Topology
from midoryu.topology.tag import Tag
from midoryu.translation.places import Places

# Peers get this long to send what an earlier agent of this host knew.
SYNC_LIMIT_S: Final = 2.0


class Due(NamedTuple):
    """When a vport hears its routers next."""

    at: float
    sent: int
    """How often it has heard them."""


@dataclass(**SLOTS)
class Question:
    """One question to peers under way."""

    wanted: StateWanted
    open_peers: set[int]
    """Who has not answered yet."""
    asked_at: float


class Core:
    """What one engine knows. Lanes change it; nobody else does."""

    def __init__(self, config: EngineConfig, now: float) -> None:
        self.config = config
        self.topology = Topology()
        self.topology.default_mtu = config.mtu_bytes - config.tunnel_overhead_bytes
        self.topology.assumed_mtu = config.assumed_mtu_bytes
        self.places = Places(self.topology)
        self.connections = ConnectionTable(
            max_connections=config.max_connections,
            lifetimes_s=config.lifetimes_s,
            max_unreplied_per_vport=config.max_unreplied_per_vport,
        )
        self.nat = NatTable(
            config.nat_block_idle_s,
            config.nat_last_block_idle_s,
            config.max_nat_ports_per_source,
        )
        self.affinity = AffinityTable()
        self.health = Health()
        """What health monitors of this host are at."""
        self.world = World(self.topology, self.connections, self.nat, self.affinity)
        self.made: dict[frozenset[int], list[Connection]] = {}
        """New and changed records by the peers that they still have to go to."""
        self.replays = Replays()
        """What the simulation of new connections said, for their siblings."""
        self.express = Express()
        """How these are carried out, for the next of them."""
        self.peers: dict[tuple[int, ...], frozenset[int]] = {}
        """Where records come in and leave -> who is interested, until a row changes."""
        self.peers_version = 0
        self.flows = FlowIndex()
        self.waiting = WaitingRoom(config.max_waiting, config.max_waiting_per_vport)
        self.fragments = FragmentTable(
            config.max_fragmented,
            config.max_fragment_bytes,
            config.fragment_timeout_s,
        )
        self.refusals = RefusalBook(config.refused_rate_pps)
        """Who is refused how often."""
        self.packet_ins: Counter[int] = Counter()
        """Packet-ins by vport."""
        self.shares = ShareBook(config.flood_rate_pps, now)
        """Whose packet-ins are more than its share."""
        self.replicator: Replicator | None = None
        """None until the NSDB told this host's key."""
        self.counters: Counter[str] = Counter()
        self.switch_connected = False
        self.interfaces: dict[str, int] = {}
        """iface-id -> ofport, as the bridge has them."""
        self.unsaid = Unsaid()
        """What devices say once they know their next hop."""
        self.asked: dict[Wanted, float] = {}
        """When what packets wait for was asked for last."""
        self.orphans: dict[Match, Flow] = {}
        """Flows of an earlier agent that are not adopted yet."""
        self.recalled: set[int] = set()
        """Records from flows of an earlier agent that peers were not told of yet."""
        self.adopt_at = now
        """When to try next."""
        self.learned_macs: dict[tuple[int, int], float] = {}
        """(network, MAC) that this host learned -> when it was seen last."""
        self.neighbors_asked: dict[tuple[int, int], float] = {}
        """(router, address) in use -> when it was asked for last, or first used."""
        self.mac_moves: dict[tuple[int, int], tuple[float, int]] = {}
        """(network, MAC) -> since when, and how often it has moved since."""
        self.old_leases: dict[str, Lease] = {}
        """Leases of an earlier agent of this host, not in use yet."""
        self.lost_leases: dict[str, Lease] = {}
        """Leases whose rows went though this host did not give them back."""
        self.lease_at: dict[tuple[int, int], Lease] = {}
        """(NAT address, block) -> who holds it."""
        self.awaited: dict[int, int] = {}
        """Ofport of an interface that is kept shut -> vport that migrates here."""
        self.taken: set[int] = set()
        """Vports that this host took over before they were bound to it."""
        self.given_up: set[int] = set()
        """Vports with an interface here that another host carries now."""
        self.arrivals: list[PacketIn] = []
        """Announcements of machines that have just arrived."""
        self.moved_from: dict[int, int] = {}
        """Local vport -> host that had it before."""
        self.moved_at: dict[int, float] = {}
        """Local vport -> when it came from another host."""
        self.held = HeldPackets(lambda cookie: self.flows.get(cookie) is not None)
        """First packets that wait for their state to be confirmed."""
        self.found_base: tuple[Flow, ...] = ()
        """Base flows that stood when the switch connected, until they are judged."""
        self.blocks = PortBlocks()
        """Blocks of NAT ports whose packets gateways hand on."""
        self.snooping = Snooping()
        """Members of multicast groups behind local vports."""
        self.standing_flows: dict[tuple[int, int, Match], Flow] = {}
        """What stands for local vports, floods and mirrors, by slot."""
        self.standing_meters: dict[int, SetMeter] = {}
        """Their meters, by id."""
        self.storms: frozenset[int] = frozenset()
        """Local vports whose floods are metered."""
        self.tidy_at = now
        """When to judge them."""
        self.to_touch: list[int] = []
        """Records in use that peers are still to be told of, in this sweep."""
        self.unheld: set[int] = set()
        """Records that packets used without a flow, since peers were told last."""
        self.touch_step = 0
        """How many of them are told of at once."""
        self.sweep = 0
        """Counts the looks at records in use."""
        self.questions: dict[int, Question] = {}
        """Questions to peers that are under way, by number."""
        self.lookups: dict[int, tuple[Lookup, float]] = {}
        """DNS queries that the rim carries out, by number, and since when."""
        self.lookup_serial = 0
        self.advertise_at: dict[int, Due] = {}
        """Local vport -> when it hears its routers next."""
        self.liveness = Liveness(config.beat_interval_s, config.beat_multiplier)
        """Hosts that share an ingress set with this one, and their silence."""
        self.told_dead: dict[int, float] = {}
        """Hosts that gateways hold for dead -> until when that is believed."""
        self.accusers: dict[int, int] = {}
        """Who said so."""
        self.repeat_deaths_at = now
        self.rerouting: deque[int] = deque()
        """Cookies of flows that have to lead elsewhere (`rerouting`)."""
        interval_s, multiplier = 2 * config.beat_interval_s, config.beat_multiplier
        self.paths = Liveness(interval_s, multiplier, 2 * interval_s * multiplier)
        """Hosts that flows of this host lead to as gateways, and the way there."""
        self.paths_at = now
        """When to see which these are."""
        self.far_uplinks: tuple[tuple[Tag, int], ...] = ()
        """Tags of other hosts' vports in ingress sets, with their hosts."""
        self.designated: frozenset[int] = frozenset()
        """Local vports that stand for all ways to an outside segment."""
        self.announced_deaths: frozenset[int] = frozenset()
        """Dead hosts when that was looked at last."""
        self.unsolicited = UnsolicitedSyns(config.unsolicited_syn_wait_s)
        """SYNs from outside that may be told later that nobody is there."""
        self.rule_log_since = now
        """When the second began whose log lines are counted."""
        self.rule_log_count = 0
        self.started = now
        """When this agent could first ask its peers; before, when it began."""
        self._has_memory = False
        self._serial = 0
        number = (config.epoch & 0xFF_FFFF) << 24
        self._cookies = pipeline.cookie(pipeline.COOKIE_REACTIVE, number)

    @property
    def host(self) -> int:
        """Key of this host, 0 until the NSDB told."""
        return self.places.host

    def has_memory(self, now: float) -> bool:
        """Tell whether peers have sent what an earlier agent of this host knew.

        Who does not answer in time is not waited for.
        """
        if self._has_memory or self.replicator is None or not self.switch_connected:
            return self._has_memory
        self._has_memory = now - self.started >= SYNC_LIMIT_S or all(
            self.replicator.synced_with(host.key)
            for host in self.topology.rows(Host)
            if host.underlay and host.key != self.host
        )
        return self._has_memory

    def new_cookie(self) -> int:
        """Return a cookie that no flow of this agent, or of an earlier start, has."""
        self._serial += 1
        return self._cookies | self._serial & 0xFF_FFFF

    def new_connection_id(self) -> int:
        """Return an id that no other host, start or connection has; never 0."""
        self._serial += 1
        return mix(self.config.seed ^ mix(self._serial)) or 1

    def invalidate(self, tags: Iterable[Tag], effects: Effects, now: float) -> int:
        """Remove every flow that depends on any of these tags; return how many."""
        tags = tuple(tags)
        self.replays.forget(tags)
        return self.remove_flows(self.flows.tagged(tags), effects, now)

    def remove_flows(
        self, entries: Collection[AnyEntry], effects: Effects, now: float
    ) -> int:
        """Remove flows that stand; return how many."""
        for entry in entries:
            self.flows.remove(entry.cookie)
            effects.flow_mods.append(RemoveFlow(entry.flow))
            self.release(entry, now)
        self.counters["flows invalidated"] += len(entries)
        return len(entries)

    def begin_to_learn(self, now: float) -> None:
        """Note that peers can be asked only now; the time for answers begins anew."""
        if not self._has_memory:
            self.started = now

    def release(self, entry: AnyEntry, last_used: float) -> None:
        """Let go of the record that a removed flow served."""
        if entry.connection:
            self.connections.release(entry.connection, last_used)
