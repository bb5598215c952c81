# SPDX-License-Identifier: Apache-2.0
"""The ports of one NAT address of one router, in leased blocks of 64.

`nat` decides which pool to ask; this finds a port with bit masks, one 64-bit integer
for each block, so that no choice looks at single ports.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, TypeVar

BLOCK_PORTS: Final = 64
# Ports below 1024 are never given out (RFC 6056, section 3.2 leaves them to services).
FIRST_BLOCK: Final = 16
LAST_BLOCK: Final = 1023
IDLE_S: Final = 300.0
# The last block of an address stays longer, or the next connection must wait for one.
IDLE_LAST_S: Final = 3600.0

# A pool asks for its next block when fewer than one in this many ports is free.
LOW_FRACTION: Final = 4

NOTHING: Final[Mapping[int, int]] = MappingProxyType({})

_Key = TypeVar("_Key")

_SHIFT: Final = 6
_ALL: Final = (1 << BLOCK_PORTS) - 1
# Bits of even and of odd ports (a block starts at an even port).
_PARITY: Final = (0x5555_5555_5555_5555, 0xAAAA_AAAA_AAAA_AAAA)


class PortPool:
    """Ports of one NAT address: leased, used, and used for which destination.

    A port is *used* while at least one internal endpoint is mapped to it. Ports of
    blocks that other hosts lease may be used too (imported records): they count when
    such a block comes to this host later.
    """

    __slots__ = (
        "_destinations",
        "_idle_since",
        "_leased",
        "_open",
        "_shared",
        "_used",
        "_used_counts",
        "blocks",
    )

    def __init__(self) -> None:
        self.blocks: list[int] = []
        """Leased blocks, ascending."""
        self._leased: set[int] = set()
        # protocol -> leased blocks with a port that no endpoint uses
        self._open: dict[int, list[int]] = {}
        self._idle_since: dict[int, float] = {}
        # (protocol, block) -> bits of used ports
        self._used: dict[tuple[int, int], int] = {}
        # protocol -> number of used ports in leased blocks
        self._used_counts: dict[int, int] = {}
        # (protocol, port) -> number of endpoints, where more than one
        self._shared: dict[tuple[int, int], int] = {}
        # (protocol, block, destination, port) -> bits of ports used for it
        self._destinations: dict[tuple[int, int, int, int], int] = {}

    @property
    def can_grow(self) -> bool:
        """Tell whether there are blocks that this host does not lease."""
        return len(self.blocks) <= LAST_BLOCK - FIRST_BLOCK

    def add_block(self, block: int) -> None:
        """Lease a block."""
        if block not in self._leased:
            insort(self.blocks, block)
            self._leased.add(block)
            self._count_block(block, 1)
            for ip_proto, blocks in self._open.items():
                if self._used.get((ip_proto, block)) != _ALL:
                    blocks.append(block)

    def remove_block(self, block: int) -> None:
        """End the lease of a block."""
        if block in self._leased:
            self.blocks.remove(block)
            self._leased.remove(block)
            self._count_block(block, -1)
            for blocks in self._open.values():
                if block in blocks:
                    blocks.remove(block)
        self._idle_since.pop(block, None)

    def is_leased(self, port: int) -> bool:
        """Tell whether this host may give out a port."""
        return port >> _SHIFT in self._leased

    def is_free_for(
        self, ip_proto: int, port: int, destination: int, destination_port: int
    ) -> bool:
        """Tell whether no connection to this destination uses a port."""
        key = (ip_proto, port >> _SHIFT, destination, destination_port)
        return not self._destinations.get(key, 0) >> (port & 63) & 1

    def pick_unused(
        self,
        ip_proto: int,
        wanted: int,
        seed: int,
        reserved: Mapping[int, int] = NOTHING,
    ) -> int | None:
        """Find a port that no endpoint uses.

        Args:
            ip_proto: IP protocol number.
            wanted: the original port: taken itself if possible, else its parity.
            seed: 64 bits; where to start, so that ports are hard to guess
                (RFC 6056, section 3.3.3).
            reserved: block -> bits of ports that are not for masquerade.
        """
        block = wanted >> _SHIFT
        taken = self._used
        if block in self._leased:
            used = taken.get((ip_proto, block), 0)
            if reserved:
                used |= reserved.get(block, 0)
            if not used >> (wanted & 63) & 1:
                return wanted
        parity = _PARITY[wanted & 1]
        odd_one = None
        blocks = self._open.get(ip_proto)
        if blocks is None:
            blocks = self._open[ip_proto] = [
                one for one in self.blocks if taken.get((ip_proto, one)) != _ALL
            ]
        count = len(blocks)
        start = (seed >> 8) % count if count else 0
        for index in range(start - count, start):
            block = blocks[index]
            used = taken.get((ip_proto, block), 0)
            if reserved:
                used |= reserved.get(block, 0)
            free = _ALL ^ used
            if free & parity:
                return block << _SHIFT | _some_bit(free & parity, seed)
            if free and odd_one is None:
                odd_one = block << _SHIFT | _some_bit(free, seed)
        return odd_one

    def pick_shared(
        self,
        ip_proto: int,
        destination: int,
        destination_port: int,
        seed: int,
        reserved: Mapping[int, int] = NOTHING,
    ) -> int | None:
        """Find a port that no connection to this destination uses."""
        for block in self._blocks_from(seed):
            key = (ip_proto, block, destination, destination_port)
            free = _ALL ^ (self._destinations.get(key, 0) | reserved.get(block, 0))
            if free:
                return block << _SHIFT | _some_bit(free, seed)
        return None

    def take(
        self,
        ip_proto: int,
        port: int,
        destination: int,
        destination_port: int,
        *,
        is_new_endpoint: bool,
    ) -> None:
        """Mark a port as used for a destination."""
        block, bit = port >> _SHIFT, 1 << (port & 63)
        self._idle_since.pop(block, None)
        key = (ip_proto, block, destination, destination_port)
        self._destinations[key] = self._destinations.get(key, 0) | bit
        if not is_new_endpoint:
            return
        used = self._used.get((ip_proto, block), 0)
        if used & bit:
            shared = (ip_proto, port)
            self._shared[shared] = self._shared.get(shared, 1) + 1
            return
        used |= bit
        self._used[(ip_proto, block)] = used
        if block in self._leased:
            self._used_counts[ip_proto] = self._used_counts.get(ip_proto, 0) + 1
            if used == _ALL and ip_proto in self._open:
                self._open[ip_proto].remove(block)

    def give_back(
        self,
        ip_proto: int,
        port: int,
        destination: int,
        destination_port: int,
        *,
        is_last_of_endpoint: bool,
    ) -> None:
        """Undo `take`."""
        block, bit = port >> _SHIFT, 1 << (port & 63)
        key = (ip_proto, block, destination, destination_port)
        _clear(self._destinations, key, bit)
        if not is_last_of_endpoint:
            return
        shared = self._shared.pop((ip_proto, port), 1)
        if shared > 1:
            if shared > 2:
                self._shared[(ip_proto, port)] = shared - 1
            return
        was_full = self._used.get((ip_proto, block)) == _ALL
        _clear(self._used, (ip_proto, block), bit)
        if block in self._leased:
            self._used_counts[ip_proto] -= 1
            if was_full and ip_proto in self._open:
                self._open[ip_proto].append(block)

    def is_low(self, ip_proto: int) -> bool:
        """Tell whether fewer than one in four ports is free for a protocol."""
        ports = len(self.blocks) * BLOCK_PORTS
        return (ports - self._used_counts.get(ip_proto, 0)) * LOW_FRACTION < ports

    def lowest_free(self) -> int:
        """Count the free ports of the protocol that has fewest."""
        most_used = max(self._used_counts.values(), default=0)
        return len(self.blocks) * BLOCK_PORTS - most_used

    def idle_blocks(
        self, now: float, idle_s: float = IDLE_S, last_s: float = IDLE_LAST_S
    ) -> list[int]:
        """List leased blocks without use for 5 minutes (the last one: an hour)."""
        busy = {block for _, block in self._used}
        idle: list[int] = []
        for block in self.blocks:
            if block in busy:
                self._idle_since.pop(block, None)
                continue
            since = self._idle_since.setdefault(block, now)
            limit = last_s if len(self.blocks) - len(idle) == 1 else idle_s
            if now - since >= limit:
                idle.append(block)
        return idle

    def _count_block(self, block: int, sign: int) -> None:
        """Add or subtract the used ports of a block that came or went."""
        for (ip_proto, other), used in self._used.items():
            if other == block:
                count = self._used_counts.get(ip_proto, 0)
                self._used_counts[ip_proto] = count + sign * bin(used).count("1")

    def _blocks_from(self, seed: int) -> Iterator[int]:
        """Go through the leased blocks, from a place that the seed names."""
        blocks = self.blocks
        count = len(blocks)
        if count:
            start = (seed >> 8) % count
            for index in range(start - count, start):
                yield blocks[index]


def _some_bit(bits: int, seed: int) -> int:
    """Return the number of a set bit: the first one from where the seed says."""
    start = seed & 63
    above = bits >> start
    if above:
        return start + (above & -above).bit_length() - 1
    return (bits & -bits).bit_length() - 1


def _clear(bits_by_key: dict[_Key, int], key: _Key, bit: int) -> None:
    left = bits_by_key.get(key, 0) & ~bit
    if left:
        bits_by_key[key] = left
    else:
        bits_by_key.pop(key, None)
