# SPDX-License-Identifier: Apache-2.0
"""What a simulation can end in: the values that the rest of midoryu works with.

`simulator` makes a `Simulation`, `translation` turns it into flows, `engine` decides
what to do about each `Outcome`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Union

from midoryu.compat import SLOTS
from midoryu.packet.dns import Query
from midoryu.packet.packet import Embedded, Headers, Packet
from midoryu.state.connection import Connection, StateKey
from midoryu.state.table import Hit
from midoryu.topology.tag import Tag

if TYPE_CHECKING:
    from midoryu.simulation.template import Template
    from midoryu.simulation.walk import Walk


class Reason(Enum):
    """Why a packet was dropped or consumed; one counter each."""

    ADMIN_DOWN = "device or vport is administratively down"
    PORT_SECURITY = "source address is not allowed at this vport"
    FILTERED = "a filter dropped it"
    REJECTED = "a filter rejected it"
    BAD_SOURCE_MAC = "source MAC address is a group address"
    SAME_VPORT = "destination is behind the vport it came from"
    NOT_FOR_ROUTER = "destination MAC address is not the router's"
    NOT_IP = "a router handles IP only"
    MARTIAN = "an address that no packet on a link can have"
    NOT_ROUTED = "a router does not forward multicast or broadcast"
    NO_ROUTE = "no route to the destination"
    BLACKHOLE = "a blackhole route"
    ROUTE_REJECT = "a reject route"
    TTL_EXCEEDED = "time to live ran out"
    TOO_BIG = "larger than the next link carries, and not to be fragmented"
    NO_NEIGHBOR = "the next hop did not answer"
    NO_MEMBER = "no member of the pool is usable"
    NO_BINDING = "a NAT address without a binding for this packet"
    NAT_EXHAUSTED = "no NAT port is left"
    NAT_LIMIT = "its sender has as many NAT ports as it may"
    NAT_PROTOCOL = "masquerade needs a protocol with ports"
    FRAGMENT = "a later fragment without its first one"
    REASSEMBLY = "a fragment for a virtual device, which puts it together first"
    TABLE_FULL = "the connection table is full"
    NO_VPORT = "nobody else is on the network"
    LOOP = "too many devices on the way"
    BROKEN = "a row that the way needs is missing"
    TAGGED = "the network takes no frames with a VLAN tag"
    RESERVED_MAC = "a frame of the link itself (STP, LLDP)"
    NO_LISTENER = "nobody wants this multicast group"
    LOCAL = "delivered to a router's own address"
    PROBE = "the answer to a health probe"
    ANSWERED = "answered by a virtual device"
    SCTP_FRAGMENT = "a fragment of SCTP with a new port: the checksum needs the whole"
    COPY = "a copy of what comes by another way to its segment"
    BAD_REQUEST = "a request to a service that makes no sense"


class Forward(NamedTuple):
    """The packet leaves by one vport."""

    vport: int


class Flood(NamedTuple):
    """The packet leaves by several vports (never none)."""

    vports: tuple[int, ...]


class Drop(NamedTuple):
    """Policy or state says no."""

    reason: Reason


class ErrorDrop(NamedTuple):
    """Something failed."""

    reason: Reason


class Consumed(NamedTuple):
    """A virtual device took it; whatever it answers is among the emissions."""

    reason: Reason


class Lookup(NamedTuple):
    """A DNS query that somebody outside the overlay may know the answer to."""

    vport: int
    """Where the answer leaves the network."""
    packet: Packet
    """What asked, as it reached the network."""
    mac: int
    """MAC address of who answers."""
    query: Query
    payload: bytes
    """The query as it came."""
    servers: tuple[int, ...]
    """Whom to ask, in order; empty: whom the agent asks."""


class NeighborWanted(NamedTuple):
    """A router asks for the MAC address of a next hop."""

    router: int
    vport: int
    address: int


class LeaseWanted(NamedTuple):
    """A router has no port left on a NAT address until a block is leased."""

    router: int
    address: int


class StateWanted(NamedTuple):
    """A packet in the middle of a connection whose record another host may have."""

    keys: tuple[StateKey, ...]
    """Where its record was looked for, in order."""
    egress: int = 0
    """Vport where it would leave, 0 for none: hosts there may have the record."""


Wanted = Union[NeighborWanted, LeaseWanted, StateWanted]


class Blocked(NamedTuple):
    """It cannot go on until something is known; then it is simulated again."""

    wanted: Wanted


Outcome = Union[Forward, Flood, Drop, ErrorDrop, Consumed, Blocked]


class Emission(NamedTuple):
    """A frame that a virtual device sends, leaving the device by a vport."""

    vport: int
    frame: bytes


class MacSeen(NamedTuple):
    """A MAC address was seen at a vport of a network."""

    network: int
    mac: int
    vport: int


class NeighborSeen(NamedTuple):
    """A router heard the MAC address of a neighbour."""

    router: int
    address: int
    mac: int


class RuleLog(NamedTuple):
    """A rule that logs held for a packet."""

    name: str
    """What the rule calls it."""
    chain: str
    """Name of the rule's chain."""
    verdict: str
    """What the rule does."""
    ip_proto: int
    source: int
    destination: int
    """Addresses as the rule saw them, 128-bit; 0 for what is not IP."""
    source_port: int
    destination_port: int
    """Ports; ICMP type and code."""


class GroupSeen(NamedTuple):
    """A vport's machine joins or leaves a multicast group."""

    network: int
    group: int
    """128-bit address; `topology.l2.ROUTERS` for a multicast router."""
    vport: int
    joins: bool


class Step(NamedTuple):
    """One line of a trace."""

    device: str
    verb: str
    detail: str


@dataclass(**SLOTS)
class Simulation:
    """The result of one packet's way."""

    outcome: Outcome
    packet: Packet
    """What came in."""
    headers: Headers
    """What goes out."""
    quoted: Union[Embedded, None]
    """What an ICMP error quotes when it goes out; None for other packets."""
    hops: int
    """How often TTL was decremented."""
    fields: int
    """`packet.field` bits that were read."""
    tags: set[Tag]
    """What the outcome depends on."""
    vports: tuple[int, ...] = ()
    """Where it came in."""
    found: Union[Hit, None] = None
    """The record that it belongs to, and its direction; None for no record."""
    connection: Union[Connection, None] = None
    """A new record to be made, or a changed copy of the found one; None for neither."""
    emissions: list[Emission] = field(default_factory=list)
    """What devices say."""
    lookup: Union[Lookup, None] = None
    """A DNS query to pass on; None for none."""
    learned: list[Union[MacSeen, NeighborSeen, GroupSeen]] = field(default_factory=list)
    """What devices learned."""
    logs: tuple[RuleLog, ...] = ()
    """What rules that log decided."""
    limit: int = 0
    """The smallest MTU on the way that routers held it against; 0 for none."""
    mss: int = 0
    """What the MSS option of a TCP SYN is lowered to; 0 leaves it alone."""
    needs_first: bool = False
    """It is a fragment, and the first one's layer 4 header decides what becomes of it:
    no flow can stand for it, as a match does not tell datagrams apart."""
    trace: tuple[Step, ...] = ()
    """Every step, when a trace was asked for."""
    walk: Union[Walk, None] = field(default=None, compare=False, repr=False)
    """How it came about; `replay` looks at it."""
    template: Union[Template, None] = field(default=None, compare=False, repr=False)
    """What it was made from, which has more tags; None where it was simulated."""

    def all_tags(self) -> set[Tag]:
        """Return what the outcome depends on, with what it shares with others."""
        return self.tags if self.template is None else self.tags | self.template.tags
