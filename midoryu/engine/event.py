# SPDX-License-Identifier: Apache-2.0
"""What can happen to an agent: the closed set of inputs to `Engine.handle`.

Rims make these values; nothing here knows sockets, Ryu or the clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Union

from midoryu.compat import SLOTS
from midoryu.openflow.flow import Flow
from midoryu.topology.model import Change


class PacketIn(NamedTuple):
    """The switch sent a frame."""

    in_port: int
    """Ofport where it came in."""
    frame: bytes
    """The whole frame."""
    table: int = 0
    """Table that sent it."""
    reason: int = 0
    """`pipeline.REASON_*`."""
    cookie: int = 0
    """Cookie of the flow that sent it."""
    tunnel_key: int = 0
    """Tunnel key it came with, 0 for none."""
    tunnel_source: int = 0
    """Underlay address of the sender, 128-bit, 0 for none."""
    hops: int = 0
    """`pipeline.REG_HOPS`: TTL decrements tried."""


@dataclass(frozen=True, **SLOTS)
class SwitchConnected:
    """The local bridge connected; `flows` is what stands in its tables."""

    gre_ofport: int
    """Ofport of the tunnel port."""
    state_ofport: int
    """Ofport of the flow-state port."""
    flows: tuple[Flow, ...] = ()
    """Every flow with our cookie mark."""


@dataclass(frozen=True, **SLOTS)
class SwitchDisconnected:
    """The OpenFlow connection ended. Flows in the switch go on."""


@dataclass(frozen=True, **SLOTS)
class JournalRead:
    """Records that the journal on disk kept; comes before the switch connects."""

    entries: tuple[tuple[bytes, float], ...]
    """(RECORD entry, seconds since it was written), at most 5,000 in one event."""


@dataclass(frozen=True, **SLOTS)
class InterfacesChanged:
    """The whole map of the bridge's interfaces that carry an iface-id."""

    ofport_by_iface_id: Mapping[str, int]
    """iface-id -> ofport (> 0)."""


@dataclass(frozen=True, **SLOTS)
class TopologyChanged:
    """Rows of the NSDB changed; the first one after a start holds all rows."""

    changes: tuple[Change, ...]
    """In no particular order; at most one change for each row."""


@dataclass(frozen=True, **SLOTS)
class NsdbDisconnected:
    """The NSDB cannot be reached; what is known stays in force."""


@dataclass(frozen=True, **SLOTS)
class WriteRefused:
    """A write to the NSDB failed for good (a lease was taken by another host)."""

    write: object
    """The `effect.NsdbWrite` that failed."""
    reason: str
    """What the server said."""


@dataclass(frozen=True, **SLOTS)
class PacketsShed:
    """Packet-ins of a port were left out: more came than this host can handle."""

    ofport: int
    """Where they came in."""
    count: int
    """How many."""


@dataclass(frozen=True, **SLOTS)
class FlowRemoved:
    """The switch removed a flow that had asked to be told."""

    cookie: int
    reason: int
    """`pipeline.REMOVED_*`."""
    idle_timeout_s: int
    """The idle timeout in force at the end (shorter after a FIN)."""
    duration_s: float
    """How long it stood."""
    packets: int
    """How many packets it saw."""


@dataclass(frozen=True, **SLOTS)
class FlowRefused:
    """The switch refused a flow or meter."""

    cookie: int
    """Cookie of the refused flow, 0 for something else."""
    reason: str
    """The error in words."""


@dataclass(frozen=True, **SLOTS)
class KeysChanged:
    """The keys that authenticate flow state are other ones from now on."""

    keys: tuple[bytes, ...]
    """At least one; the first is to sign, all verify."""


class Resolved(NamedTuple):
    """A DNS query that the rim carried out has ended."""

    number: int
    """Of the `effect.Resolve`."""
    answer: bytes
    """What the server said, with the client's id; empty for nothing in time."""


@dataclass(frozen=True, **SLOTS)
class Tick:
    """The time that `Effects.deadline` named has come."""


Event = Union[
    PacketIn,
    SwitchConnected,
    SwitchDisconnected,
    JournalRead,
    InterfacesChanged,
    TopologyChanged,
    NsdbDisconnected,
    WriteRefused,
    PacketsShed,
    FlowRemoved,
    FlowRefused,
    KeysChanged,
    Resolved,
    Tick,
]
