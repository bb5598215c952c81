# SPDX-License-Identifier: Apache-2.0
"""Plans for further connections of known kinds; `express` makes and follows them."""

from __future__ import annotations

from typing import Final

from midoryu.engine.flow_shape import FlowShape
from midoryu.packet import protocol
from midoryu.simulation.outcome import Forward
from midoryu.simulation.replay import Template

_LOW_64: Final = (1 << 64) - 1

# (ofport, headers, TTL and protocol, destination port, TCP flags[, traffic class])
Key = tuple[object, ...]
# (tunnel key, source, NAT address, keeps its port) -> shape of the flows for answers,
# first and last peer that they are right for
Answers = dict[tuple[int, ...], tuple[FlowShape, int, int]]


class Plan:
    """What siblings of one template share."""

    __slots__ = (
        "answers",
        "answers_at",
        "destinations",
        "egress",
        "is_v4",
        "lookups",
        "outward",
        "peers",
        "port",
        "proto",
        "record",
        "simulation",
        "sources",
        "template",
        "version",
        "vport",
    )

    def __init__(self, template: Template) -> None:
        model = template.simulation
        self.template = template
        self.simulation = model
        self.vport = model.vports[0]
        self.proto = model.packet.ip_proto
        self.port = model.packet.headers.l4_dst
        self.egress = model.outcome.vport if isinstance(model.outcome, Forward) else 0
        self.is_v4 = model.packet.eth_type == protocol.ETH_IPV4
        self.record = model.connection
        self.sources = template.sources
        self.destinations = template.destinations
        self.lookups = template.lookups
        self.outward: dict[bool, FlowShape] = {}
        """Shapes of forward flows: of those that keep their source port, of others."""
        self.answers: Answers = {}
        self.answers_at = -1
        """Which answers these are (`Replays.generation`)."""
        self.peers: frozenset[int] = frozenset()
        """Who is told of new records."""
        self.version = -1
        """When that was asked (`Topology.interest_version`)."""

    def numbers_of(self, address: int) -> tuple[int, ...]:
        """Return an address as the numbers that messages have holes for."""
        if self.is_v4:
            return (address & 0xFFFF_FFFF,)
        return address >> 64, address & _LOW_64


class Express:
    """All plans of one engine."""

    def __init__(self) -> None:
        self.is_on = True
        self.taken = 0
        """Packets that were carried out by plans."""
        self.counted = 0
        """How many of them the counters have."""
        self.records = 0
        self.answers = 0
        """Records, and flows for answers, that the counters do not have yet."""
        self.plans: dict[Key, list[Plan]] = {}
