# SPDX-License-Identifier: Apache-2.0
"""The rows of load balancers as immutable values; `balancer` has what is made of them.

A balancer stands on a router or a network and has VIPs; each VIP leads to a pool of
members, which a monitor may watch.

Source: Octavia and OVN for the terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from midoryu.compat import SLOTS


@dataclass(frozen=True, **SLOTS)
class Balancer:
    """A load balancer of one router or network."""

    key: str
    name: str
    device: int
    """Key of the router or network that answers for its VIPs."""
    up: bool = True
    """Administrative state; one that is down has no VIPs."""


@dataclass(frozen=True, **SLOTS)
class Vip:
    """An address that clients call, or one port of it."""

    key: str
    balancer: str
    address: int
    """128-bit."""
    pool: str
    ip_proto: int = 0
    """0 for any."""
    port: int = 0
    """0 for all ports."""


@dataclass(frozen=True, **SLOTS)
class Pool:
    """Members that can stand for each other, and what holds for their connections."""

    key: str
    name: str
    affinity_s: float = 0.0
    """A source comes back to its member for so long after its last use; 0: never."""
    ends_removed: bool = False
    """Connections end when their member leaves the pool."""
    ends_down: bool = False
    """Connections end when their member is found down."""
    rejects: bool = True
    """Without a usable member clients are told; else their packets are dropped."""


@dataclass(frozen=True, **SLOTS)
class PoolMember:
    """One server."""

    key: str
    pool: str
    address: int
    """128-bit; it serves the VIPs of its address family."""
    port: int = 0
    """0 for the port that the client asked for."""
    weight: int = 1
    """Share of new connections, 0..255; 0: draining."""
    up: bool = True
    """Administrative state; one that is down gets nothing new."""


class Probe(Enum):
    """How a monitor looks at a member."""

    TCP = "tcp"
    HTTP = "http"
    ICMP = "icmp"
    UDP = "udp"


@dataclass(frozen=True, **SLOTS)
class HealthMonitor:
    """How the members of a pool are watched."""

    key: str
    pool: str
    kind: Probe = Probe.TCP
    port: int = 0
    """0 for the member's port."""
    path: str = "/"
    """What HTTP asks for."""
    codes: tuple[tuple[int, int], ...] = ((200, 299),)
    """HTTP status codes of a healthy answer, inclusive ranges."""
    interval_s: float = 5.0
    timeout_s: float = 2.0
    rise: int = 2
    """Good answers in a row that bring a member back."""
    fall: int = 3
    """Failures in a row that take it down."""


@dataclass(frozen=True, **SLOTS)
class MemberStatus:
    """What a monitor found: written by the host that is responsible."""

    key: str
    """The member's key."""
    host: int
    """Key of the host that found it."""
    up: bool
