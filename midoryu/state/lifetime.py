# SPDX-License-Identifier: Apache-2.0
"""How long a connection lives: its phase, and what each packet does to the phase.

`table` asks for the seconds; the simulation asks for the phase of what it saw.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from midoryu.packet import protocol
from midoryu.packet.protocol import TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN
from midoryu.state.connection import Direction, Phase

# Seconds, one for each Phase in its order.
# TCP_TRANSITORY, TCP_ESTABLISHED: RFC 5382, REQ-5 (4 min; 2 h 4 min).
# TCP_CLOSING: the same 4 min, set apart (RFC 7857, sections 2.2 and 2.3).
# UDP_UNREPLIED, UDP: RFC 4787, REQ-5 (never below 2 min; 5 min recommended).
# ICMP: RFC 5508, REQ-2 (60 s). OTHER: no RFC speaks of it; the usual 10 min.
DEFAULT_LIFETIMES_S: Final = (240, 7440, 120, 300, 60, 600, 240)

# Records that a full table may drop: no packet has come back, or nobody knows whether
# one has (ICMP queries, protocols without a phase), or all is over.
UNREPLIED: Final = frozenset(
    {
        Phase.UDP_UNREPLIED,
        Phase.TCP_TRANSITORY,
        Phase.TCP_CLOSING,
        Phase.ICMP,
        Phase.OTHER,
    }
)

_FIRST_PHASE: Final[dict[int, Phase]] = {
    protocol.TCP: Phase.TCP_TRANSITORY,
    protocol.UDP: Phase.UDP_UNREPLIED,
    protocol.ICMP: Phase.ICMP,
    protocol.ICMPV6: Phase.ICMP,
}
_CONTROL: Final = TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK


_BEGINNINGS: Final = frozenset((Phase.TCP_TRANSITORY, Phase.UDP_UNREPLIED))
# Two hosts that see one connection look at it about so often, at least.
_NEWS_S: Final = 0.5


class TcpVerdict(IntEnum):
    """What a TCP packet is that belongs to no known connection."""

    NEW = 0
    """Opens a connection."""
    MIDSTREAM = 1
    """Belongs to a connection that somebody else may know."""
    INVALID = 2
    """Can neither open a connection nor stand in the middle of one."""


_TCP_VERDICT: Final[dict[int, TcpVerdict]] = {
    TCP_SYN: TcpVerdict.NEW,
    TCP_ACK: TcpVerdict.MIDSTREAM,
    TCP_ACK | TCP_FIN: TcpVerdict.MIDSTREAM,
}


def first_phase(ip_proto: int) -> Phase:
    """Return the phase of a connection at its first packet."""
    return _FIRST_PHASE.get(ip_proto, Phase.OTHER)


def next_phase(
    phase: Phase,
    ip_proto: int,
    tcp_flags: int,
    direction: Direction,
    *,
    has_data: bool = False,
) -> Phase:
    """Return the phase after one more packet.

    TCP is established once a packet with ACK came back; FIN or RST from either end
    makes it closing. Data makes a closing one established again: half of it is still
    open, or the RST was none of its own. The bare ACK of a FIN does not, or every
    closed connection would live on. SYN opens it anew. UDP is replied once anything
    came back.

    Source: RFC 5382, section 5; RFC 7857, sections 2.1 to 2.3.
    """
    if ip_proto == protocol.TCP:
        return _next_tcp(phase, tcp_flags, direction, has_data=has_data)
    if phase is Phase.UDP_UNREPLIED and direction is Direction.RETURN:
        return Phase.UDP
    return phase


def _next_tcp(
    phase: Phase, tcp_flags: int, direction: Direction, *, has_data: bool
) -> Phase:
    if tcp_flags & (TCP_FIN | TCP_RST):
        return Phase.TCP_CLOSING
    if phase is Phase.TCP_CLOSING:
        if tcp_flags & TCP_SYN:
            return Phase.TCP_TRANSITORY
        return Phase.TCP_ESTABLISHED if has_data else phase
    if direction is Direction.RETURN and tcp_flags & TCP_ACK:
        return Phase.TCP_ESTABLISHED
    return phase


def told_phase(known: Phase, told: Phase, *, later_s: float) -> Phase:
    """Return the phase after a peer has told its own.

    What a peer tells may be older than what is known here, whatever the time of its
    last packet: it has not heard yet, or its word was long under way. So nobody is
    talked out of having seen a reply; a closing connection is open again only where
    that is clearly news; and all come to the same, in whatever order they hear.

    Args:
        known: the phase here.
        told: the peer's.
        later_s: how much later than what is known here the peer saw a packet, seconds.
    """
    if told in _BEGINNINGS and known is not told:
        return known
    if known is Phase.TCP_CLOSING and told is Phase.TCP_ESTABLISHED:
        return told if later_s >= _NEWS_S else known
    return told


def tcp_verdict(tcp_flags: int) -> TcpVerdict:
    """Say what a TCP packet without a record is, by its flags alone.

    SYN alone is new (RFC 9293, section 3.5; congestion flags do not count). SYN-ACK
    and RST answer something that we should know, and other mixes do not exist.
    """
    return _TCP_VERDICT.get(tcp_flags & _CONTROL, TcpVerdict.INVALID)
