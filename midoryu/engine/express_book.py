# SPDX-License-Identifier: Apache-2.0
"""Plans for further connections of known kinds; `express` makes and follows them."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from midoryu.engine.flow_index import match_code
from midoryu.engine.flow_shape import FlowShape
from midoryu.openflow import wire
from midoryu.openflow.flow import Action, Flow, InstallFlow, Match
from midoryu.openflow.stencil import Stencil
from midoryu.packet import protocol
from midoryu.simulation.outcome import Forward
from midoryu.simulation.template import Template
from midoryu.topology.model import Vport
from midoryu.topology.tag import Tag

_LOW_64: Final = (1 << 64) - 1

# (ofport, headers, TTL and protocol, destination port, TCP flags[, traffic class])
Key = tuple[object, ...]
# How records may differ (`answering`) -> a plan for answers, which that knows
Answered = dict[tuple[object, ...], Any]
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


class Way(NamedTuple):
    """Where frames to one MAC address of a network go."""

    vport: int
    mac: int
    kind: Vport
    """The vport without its names and its place."""
    actions: tuple[Action, ...]
    encoded: bytes
    """These on the wire, for a packet ..."""
    instructions: bytes
    """... and for a flow."""
    tags: frozenset[Tag]


# Numbers of a message: cookie, the destination's MAC address in two parts.
_PAIR_WIDTHS: Final = (8, 2, 4)
# Where a flow's destination MAC address stands among its match's values.
_ETH_DST_AT: Final = 1


class Pairs:
    """Frames from one MAC address at a vport, to any others on its network.

    Args:
        vport: where they come in.
        network: its network.
        kind: vports that it holds for, without their names and places.
        model: the flow for one of them.
        tags: why all of these flows could become wrong.
    """

    __slots__ = ("_model", "_stencils", "in_port", "kind", "network", "tags", "vport")

    def __init__(
        self, vport: int, network: int, kind: Vport, model: Flow, tags: frozenset[Tag]
    ) -> None:
        self.vport = vport
        self.network = network
        self.kind = kind
        self.tags = tags
        self.in_port = model.match.values[0]
        self._model = model
        # Length of the instructions -> what stands before them.
        self._stencils: dict[int, Stencil] = {}

    def code(self, mac: int) -> int:
        """Return what the flow to a MAC address is found by."""
        in_port, _, *others = self._model.match.values
        return match_code((in_port, mac, *others))

    def flow_of(self, way: Way, cookie: int) -> Flow:
        """Make the flow to a MAC address."""
        return self._flow(way.mac, way.actions, cookie)

    def message(self, way: Way, cookie: int) -> bytes:
        """Make the message that installs it."""
        size = len(way.instructions)
        stencil = self._stencils.get(size)
        if stencil is None:
            stencil = self._stencils[size] = self._cut(way)
        mac = way.mac
        return stencil.fill(cookie, mac >> 32, mac & 0xFFFF_FFFF) + way.instructions

    def _cut(self, way: Way) -> Stencil:
        size = len(way.instructions)

        def render(numbers: tuple[int, ...]) -> bytes:
            cookie, high, low = numbers
            made = self._flow(high << 32 | low, way.actions, cookie)
            return wire.encode_flow_mod(InstallFlow(made), 0)[:-size]

        return Stencil(render, _PAIR_WIDTHS)

    def _flow(self, mac: int, actions: tuple[Action, ...], cookie: int) -> Flow:
        model = self._model
        values = list(model.match.values)
        values[_ETH_DST_AT] = mac
        return Flow(
            model.table,
            model.priority,
            Match(model.match.fields, tuple(values)),
            actions,
            cookie,
            model.idle_timeout_s,
            model.hard_timeout_s,
            notify_removed=model.notify_removed,
        )


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
        self.pairs: dict[tuple[int, bytes], Pairs] = {}
        """(ofport, source MAC address and ethertype) -> to whom frames may go."""
        self.ways: dict[tuple[int, bytes], Way] = {}
        """(network, MAC address) -> where frames to it go."""
        self.kinds: dict[Vport, Vport] = {}
        """Vports without their names and places, one for all alike."""
        self.pairs_at = -1
        """When these were right (`Replays.generation`)."""
        self.answered: dict[Key, Answered] = {}
        """What is known of an answer before its record is -> its plans."""
        self.homeward = 0
        """How many plans these are."""
        self.answered_at = -1
        """When these were right (`Replays.generation`)."""
