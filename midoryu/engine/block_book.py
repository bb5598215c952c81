# SPDX-License-Identifier: Apache-2.0
"""What a host knows, and has in its switch, about blocks of NAT ports.

`port_blocks` and `returning` keep it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from midoryu.openflow.block_flows import WayIn
from midoryu.openflow.flow import Flow, Match
from midoryu.topology.uplinks import Uplink

# (router, NAT address)
Pair = tuple[int, int]


class Plan(NamedTuple):
    """What stands for the leases of one address of a router, at an uplink's host."""

    ways: tuple[tuple[WayIn, Uplink], ...]
    closed: frozenset[int]
    """Blocks with ports that lead elsewhere."""


class PortBlocks:
    """What a host knows, and has in its switch, about blocks of NAT ports."""

    def __init__(self) -> None:
        self.uplinks: dict[Pair, tuple[Uplink, ...]] = {}
        """(router, NAT address) -> where packets to it come in."""
        self.mine: dict[str, Pair] = {}
        """This host's leases -> what they are of."""
        self.mine_counts: Counter[Pair] = Counter()
        """How many it has of each."""
        self.devices: set[int] = set()
        """Devices whose rows decide that."""
        self.vports: set[int] = set()
        """Vports of these, by key."""
        self.plans: dict[Pair, Plan] = {}
        self.standing: dict[str, tuple[object, tuple[Flow, ...]]] = {}
        """Lease -> what its flows were made from, and the flows."""
        self.entries: dict[int, tuple[Uplink, ...]] = {}
        """Tunnel key -> uplinks that other hosts hand packets on from to here."""
        self.entry_flows: dict[int, tuple[Flow, ...]] = {}
        self.ways: dict[tuple[int, int, int], int] = {}
        """(uplink, router, NAT address) -> tunnel key that the answers to this host's
        connections come with."""
        self.exceptions: dict[int, tuple[Flow, ...]] = {}
        """Connection -> flows that keep its packets from its block's holder."""
        self.scan: Iterator[int] = iter(())
        self.scanning = False
        """Records are looked at one by one, as a vport moved."""
        self.exception_counts: Counter[Match] = Counter()
        """How many connections an exception is for."""
        self.unproven: dict[int, tuple[int, float]] = {}
        """Cookie of a return flow made ahead -> (connection, when it was made)."""
        self.unproven_before: frozenset[int] = frozenset()
        """Those that were gone at the sweep before."""
