# SPDX-License-Identifier: Apache-2.0
"""Rows of layer 2 services: QoS policies, mirrors, members of multicast groups.

`model` has the devices; these refer to them by key. All directions here are Neutron's,
seen from the machine: *ingress* goes to it, *egress* comes from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from midoryu.compat import SLOTS

# `MulticastMember.group` of a vport that has a multicast router behind it.
ROUTERS: Final = 0


@dataclass(frozen=True, **SLOTS)
class Qos:
    """A policy that vports, or all vports of a network, keep to."""

    key: str
    name: str
    ingress_kbps: int = 0
    """Kilobits per second to the machine at most; 0 for no limit."""
    ingress_burst_kb: int = 0
    """Kilobits above that at once; 0 for 80 % of the rate."""
    egress_kbps: int = 0
    """Kilobits per second from the machine at most; 0 for no limit."""
    egress_burst_kb: int = 0
    dscp: int = -1
    """Mark of IP packets from the machine, 0..63 (RFC 2474); -1 leaves theirs."""


class MirrorDirection(Enum):
    """Which packets of a mirrored vport are copied, seen from its machine."""

    INGRESS = "ingress"
    EGRESS = "egress"
    BOTH = "both"


@dataclass(frozen=True, **SLOTS)
class Mirror:
    """Copies of what passes some vports go to another one."""

    key: int
    """Tunnel key of the copies."""
    name: str
    vports: frozenset[int]
    """Whose packets are copied."""
    target: int
    """Where the copies go; what comes out there is not copied again."""
    direction: MirrorDirection = MirrorDirection.BOTH


@dataclass(frozen=True, **SLOTS)
class MulticastMember:
    """A vport wants a multicast group, as its host heard (IGMP, MLD)."""

    key: str
    network: int
    group: int
    """128-bit multicast address; `ROUTERS`: wants every group."""
    vport: int
