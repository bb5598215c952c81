# SPDX-License-Identifier: Apache-2.0
"""What the simulation of one packet says about its siblings.

`replay` makes templates, and knows which packets are siblings.
"""

from __future__ import annotations

from typing import NamedTuple, Union

from midoryu.packet.packet import Headers, Packet
from midoryu.simulation.bounds import Bounds
from midoryu.simulation.outcome import Simulation
from midoryu.simulation.world import World
from midoryu.state.connection import Connection, Translation, TranslationKind
from midoryu.state.nat import Picked
from midoryu.topology.model import Masquerade
from midoryu.topology.tag import Tag

_Actions = tuple[tuple[int, ...], ...]


class Lookup(NamedTuple):
    """A place where the record was looked for, and not found."""

    device: int
    translated: bool
    """With the source as the translation made it."""


class Template:
    """What the simulation of one packet says about its siblings."""

    __slots__ = (
        "destinations",
        "is_live",
        "lookups",
        "masquerade",
        "outputs",
        "plan",
        "rewrites",
        "simulation",
        "sources",
        "tags",
    )

    def __init__(
        self,
        simulation: Simulation,
        lookups: tuple[Lookup, ...],
        tags: frozenset[Tag],
        sources: Bounds,
        destinations: Bounds,
    ) -> None:
        assert simulation.walk is not None
        self.simulation = simulation
        self.masquerade: Union[Masquerade, None] = simulation.walk.masquerade
        simulation.walk = None
        self.lookups = lookups
        self.tags = tags
        """Without those of the records looked up."""
        self.sources = sources
        self.destinations = destinations
        self.outputs: object = None
        """Where the packet goes physically, noted by the engine."""
        self.rewrites: Union[tuple[_Actions, _Actions], None] = None
        """How it changes before and behind its source, noted by the engine."""
        self.plan: object = None
        """How siblings are carried out, noted by the engine; False where that differs
        from one to the next."""
        self.is_live = True
        """No row that it depends on has changed."""

    def replay(
        self, packet: Packet, world: World, now: float
    ) -> Union[Simulation, None]:
        """Give what the full simulation would, None where that has to be asked."""
        model = self.simulation
        headers, proto = packet.headers, packet.ip_proto
        source, destination = headers.ip_src, headers.ip_dst
        source_port, port = headers.l4_src, headers.l4_dst
        if source in world.connections.targets:
            # It may be an answer: routers with VIPs look for its record.
            return None
        after = model.headers
        new_source, new_port = source, source_port
        translations: tuple[Translation, ...] = ()
        if self.masquerade is not None:
            rule = self.masquerade
            picked = world.nat.pick(
                rule.router, rule.addresses, proto, source, source_port, destination,
                port,
            )  # fmt: skip
            if not isinstance(picked, Picked):
                return None
            new_source, new_port = picked
            translations = (
                Translation(rule.router, TranslationKind.SOURCE, new_source, new_port),
            )
        find = world.connections.find
        tags: set[Tag] = set()
        for device, translated in self.lookups:
            key = (
                (device, proto, new_source, destination, new_port, port)
                if translated
                else (device, proto, source, destination, source_port, port)
            )
            if find(key) is not None:
                return None
            tags.add(key)
        record = model.connection
        if record is not None:
            if not world.connections.admit(now):
                return None
            record = Connection(
                0,
                proto,
                (source, destination, source_port, port),
                record.ingress_device,
                record.ingress_vport,
                record.egress_device,
                record.egress_vport,
                translations,
                0,
                record.phase,
            )
        return Simulation(
            model.outcome,
            packet,
            Headers(
                after.eth_dst,
                after.eth_src,
                new_source,
                destination,
                new_port,
                port,
                0,
                after.ip_ttl,
                after.ip_tos,
            ),
            None,
            model.hops,
            model.fields,
            tags,
            model.vports,
            None,
            record,
            limit=model.limit,
            template=self,
        )
