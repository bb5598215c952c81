# SPDX-License-Identifier: Apache-2.0
"""What an agent shall do: the closed set of outputs of `Engine.handle`.

The rim carries out an `Effects` in the order of its fields: state packets leave before
flow mods, flow mods before packets, so that no reply can overtake the state.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Union

from midoryu.compat import SLOTS
from midoryu.openflow.flow import AnyOut, FlowMod, PacketOut


@dataclass(frozen=True, **SLOTS)
class LearnMac:
    """Tell everybody that a MAC address is behind a vport."""

    network: int
    mac: int
    vport: int


@dataclass(frozen=True, **SLOTS)
class ForgetMac:
    """Withdraw a MAC address that this host had learned."""

    network: int
    mac: int
    vport: int


@dataclass(frozen=True, **SLOTS)
class LearnNeighbor:
    """Tell everybody the MAC address of a router's neighbour."""

    router: int
    address: int
    mac: int


@dataclass(frozen=True, **SLOTS)
class LearnGroup:
    """Tell everybody that a vport wants a multicast group (0: has a router)."""

    network: int
    group: int
    vport: int


@dataclass(frozen=True, **SLOTS)
class ForgetGroup:
    """Withdraw a member of a multicast group."""

    network: int
    group: int
    vport: int


@dataclass(frozen=True, **SLOTS)
class LeaseBlock:
    """Lease one more free block of a NAT address."""

    router: int
    address: int
    block: int = 0
    """This one, which this host had before; 0 lets the rim pick."""


@dataclass(frozen=True, **SLOTS)
class ReleaseBlock:
    """Give a block back."""

    router: int
    address: int
    block: int


@dataclass(frozen=True, **SLOTS)
class SetVportStatus:
    """Say that a vport is up, or no longer up, on this host."""

    vport: int
    up: bool
    early: bool = False
    """The vport's machine spoke here before it was bound here."""


@dataclass(frozen=True, **SLOTS)
class SetVportReady:
    """Say that a vport that migrates here has its interface, or no longer so."""

    vport: int
    ready: bool


@dataclass(frozen=True, **SLOTS)
class SetMemberStatus:
    """Say whether a load-balancer member is healthy."""

    member: str
    """Its row's key."""
    up: bool


NsdbWrite = Union[
    LearnMac,
    ForgetMac,
    LearnNeighbor,
    LearnGroup,
    ForgetGroup,
    LeaseBlock,
    ReleaseBlock,
    SetVportStatus,
    SetVportReady,
    SetMemberStatus,
]


class Resolve(NamedTuple):
    """Ask DNS servers outside the overlay; `event.Resolved` says how it ended."""

    number: int
    servers: tuple[int, ...]
    """128-bit addresses, to be asked in this order."""
    payload: bytes
    """The query as the client sent it."""


class JournalWrite(NamedTuple):
    """Have the journal on disk keep a connection record, or forget it."""

    connection: int
    """64-bit id."""
    entry: bytes
    """Encoded RECORD entry with age 0 (`replication.entry`); empty: forget it."""


@dataclass(**SLOTS)
class Effects:
    """Everything that one event asks for, in the order in which it is done."""

    state_pushes: list[PacketOut] = field(default_factory=list)
    """Flow state to peers, through the state port."""
    flow_mods: list[FlowMod] = field(default_factory=list)
    """Changes of the switch's tables and meters."""
    packet_outs: list[AnyOut] = field(default_factory=list)
    """Data packets."""
    nsdb_writes: list[NsdbWrite] = field(default_factory=list)
    """Rows for the NSDB; nobody waits for them."""
    journal: list[JournalWrite] = field(default_factory=list)
    """Records for the journal on disk; nobody waits for them."""
    lookups: list[Resolve] = field(default_factory=list)
    """DNS queries for others; nobody waits for them."""
    log: list[tuple[int, str]] = field(default_factory=list)
    """(level as in the logging module, message) for the rim to log."""
    deadline: float | None = None
    """Instant when a `Tick` is due at the latest, None when nothing waits."""
