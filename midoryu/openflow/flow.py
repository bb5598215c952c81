# SPDX-License-Identifier: Apache-2.0
"""Flow values: what is matched, what is done, for how long. Plain data, no Ryu.

`wire` turns these into OpenFlow bytes and back; `pipeline` names tables and priorities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, Union

from midoryu.compat import SLOTS
from midoryu.openflow import pipeline


class Match(NamedTuple):
    """Fields to match exactly.

    `values` holds one value for every bit in `fields`, lowest bit first (the order of
    `packet.field`). Prerequisites hold: an IP field comes with ETH_TYPE, an L4 field
    with IP_PROTO.
    """

    fields: int
    """Bits of `packet.field`."""
    values: tuple[int, ...]
    """One value for each bit, lowest bit first."""


# An action is a small tuple: its kind, then its operands.
Action = tuple[int, ...]

OUTPUT: Final = 0  # (OUTPUT, ofport)
SET_TUNNEL: Final = 1  # (SET_TUNNEL, tunnel_key, underlay address of the peer)
DEC_TTL: Final = 2  # (DEC_TTL,)
SET_ETH_SRC: Final = 3  # (SET_ETH_SRC, mac)
SET_ETH_DST: Final = 4
SET_IP_SRC: Final = 5  # (SET_IP_SRC, address): family follows from the address
SET_IP_DST: Final = 6
SET_L4_SRC: Final = 7  # (SET_L4_SRC, port, ip_proto)
SET_L4_DST: Final = 8
SET_TOS: Final = 9  # (SET_TOS, octet): DSCP and ECN
LOAD_HOPS: Final = 10  # (LOAD_HOPS, count): into pipeline.REG_HOPS
PUSH_VLAN: Final = 11  # (PUSH_VLAN, vid)
POP_VLAN: Final = 12  # (POP_VLAN,)
CONTROLLER: Final = 13  # (CONTROLLER,): whole packet to the controller
GOTO: Final = 14  # (GOTO, table): an instruction; last in the list
METER: Final = 15  # (METER, meter id): an instruction; first in the list
SET_DSCP: Final = 16  # (SET_DSCP, dscp): of an IP packet; ECN stays
DELIVER: Final = 17  # (DELIVER, key): a copy goes on in TUNNEL, as if it had the key
CLEAR_IN_PORT: Final = 18  # (CLEAR_IN_PORT,): outputs to where it came from count
REFLECT: Final = 19  # (REFLECT,): back to the far end of the tunnel it came by
CHECK_SIZE: Final = 30  # (CHECK_SIZE, bytes): larger frames go to SIZE and no further
EXIT: Final = 31  # (EXIT,): nothing more happens to the packet


# Not frozen, though nobody changes one: a frozen dataclass takes three times as long to
# make, and each new connection makes some.
@dataclass(unsafe_hash=True, **SLOTS)
class Flow:
    """One flow as it stands, or should stand, in a table."""

    table: int
    """Table id of `pipeline`."""
    priority: int
    """0..65535, higher wins."""
    match: Match
    """Exact fields."""
    actions: tuple[Action, ...]
    """In order; empty drops."""
    cookie: int = 0
    """64 bits, see `pipeline`."""
    idle_timeout_s: int = 0
    """Seconds without a packet until removal; 0 is never."""
    hard_timeout_s: int = 0
    """Seconds until removal; 0 is never."""
    fin_timeout_s: int = 0
    """Idle timeout once a FIN or RST was seen (OVS fin_timeout); 0 is off."""
    notify_removed: bool = False
    """Ask for a flow-removed message."""
    note: bytes = b""
    """What the switch keeps for us; comes back with zeros at its end."""


class HasFlow(Protocol):
    """Something that can make a flow when it is asked for."""

    @property
    def flow(self) -> Flow:
        """The flow."""


class InstallFlow:
    """Add a flow, or replace the one with the same table, priority and match.

    Args:
        flow: the flow; or what can make it, where the message is there already.
        message: the OpenFlow message without its xid; empty where it is not there.
    """

    __slots__ = ("_source", "message")

    def __init__(self, flow: Union[Flow, HasFlow], message: bytes = b"") -> None:
        self._source = flow
        self.message = message

    @property
    def flow(self) -> Flow:
        """The flow."""
        source = self._source
        return source if isinstance(source, Flow) else source.flow

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InstallFlow) and self.flow == other.flow

    def __hash__(self) -> int:
        return hash(self.flow)

    def __repr__(self) -> str:
        return f"InstallFlow({self.flow!r})"


@dataclass(frozen=True, **SLOTS)
class RemoveFlow:
    """Remove exactly one flow (strict delete), found by table, priority and match."""

    flow: Flow
    """The flow as it was installed."""


@dataclass(frozen=True, **SLOTS)
class SetMeter:
    """Add or change a meter that drops above a rate."""

    meter: int
    """Meter id, 1..0xFFFF0000."""
    rate_pps: int
    """Packets (or kilobits) per second."""
    burst: int
    """Packets (or kilobits)."""
    is_kbps: bool = False
    """It counts kilobits rather than packets."""


@dataclass(frozen=True, **SLOTS)
class RemoveMeter:
    """Remove a meter."""

    meter: int
    """Meter id."""


FlowMod = Union[
    InstallFlow,
    RemoveFlow,
    SetMeter,
    RemoveMeter,
]


class PacketOut(NamedTuple):
    """Send one frame through the switch."""

    frame: bytes
    """The frame."""
    actions: tuple[Action, ...]
    """What to do with it."""
    in_port: int = pipeline.PORT_CONTROLLER
    """The ofport that it shall count as come in by."""


class ReadyOut:
    """A `PacketOut` whose actions are bytes already.

    Args:
        frame: the frame.
        encoded: the actions as they are on the wire.
        in_port: the ofport that it shall count as come in by.
        source: has these actions, behind what a flow alone has.
    """

    __slots__ = ("_source", "encoded", "frame", "in_port")

    def __init__(
        self, frame: bytes, encoded: bytes, in_port: int, source: HasFlow
    ) -> None:
        self.frame = frame
        self.encoded = encoded
        self.in_port = in_port
        self._source = source

    @property
    def actions(self) -> tuple[Action, ...]:
        """What to do with it."""
        return self._source.flow.actions

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (PacketOut, ReadyOut)):
            return NotImplemented
        return (self.frame, self.actions, self.in_port) == (
            other.frame,
            other.actions,
            other.in_port,
        )

    def __hash__(self) -> int:
        return hash((self.frame, self.actions, self.in_port))


AnyOut = Union[PacketOut, ReadyOut]
