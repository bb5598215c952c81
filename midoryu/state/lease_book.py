# SPDX-License-Identifier: Apache-2.0
"""Which blocks of NAT ports this host has, needs, and no longer needs.

`nat` gives their ports out; the engine leases blocks in the NSDB as this says.
"""

from __future__ import annotations

from typing import Final

from midoryu.state.portpool import (
    BLOCK_PORTS,
    IDLE_LAST_S,
    IDLE_S,
    LOW_FRACTION,
    PortPool,
)

# A lease request that failed is repeated after this time.
_RETRY_S: Final = 10.0

# (router, address)
PoolKey = tuple[int, int]


class LeaseBook:
    """The leased blocks of every NAT address.

    Args:
        idle_s: seconds without use after which a block is given back.
        last_idle_s: the same for the last block of an address.
    """

    def __init__(
        self, idle_s: float = IDLE_S, last_idle_s: float = IDLE_LAST_S
    ) -> None:
        self._idle_s = idle_s, last_idle_s
        self._pools: dict[PoolKey, PortPool] = {}
        self._changed: set[PoolKey] = set()
        self._pending: set[PoolKey] = set()
        self._failed_until: dict[PoolKey, float] = {}

    def add_lease(self, router: int, address: int, block: int) -> None:
        """Take a block of 64 ports that this host may give out from now on."""
        self._pool((router, address)).add_block(block)
        self._changed.add((router, address))
        self._pending.discard((router, address))
        self._failed_until.pop((router, address), None)

    def remove_lease(self, router: int, address: int, block: int) -> None:
        """Give out no more ports of a block; its live connections go on."""
        self._pool((router, address)).remove_block(block)

    def lease_pending(self, router: int, address: int) -> None:
        """Note that one more block was asked for."""
        self._pending.add((router, address))

    def is_pending(self, router: int, address: int) -> bool:
        """Tell whether a block was asked for and has not come yet."""
        return (router, address) in self._pending

    def count_leases(self, router: int, address: int) -> int:
        """Count the leased blocks of an address."""
        pool = self._pools.get((router, address))
        return 0 if pool is None else len(pool.blocks)

    def has_lease(self, router: int, address: int) -> bool:
        """Tell whether any block of an address is leased."""
        pool = self._pools.get((router, address))
        return pool is not None and bool(pool.blocks)

    def holds(self, router: int, address: int, block: int) -> bool:
        """Tell whether this host may give out the ports of a block."""
        pool = self._pools.get((router, address))
        return pool is not None and block in pool.blocks

    def lease_failed(self, router: int, address: int, now: float) -> None:
        """Note that no more blocks can be had now: none is left, or no NSDB answers.

        Until a block comes or 10 s pass, ports are shared per destination.
        """
        self._pending.discard((router, address))
        self._failed_until[(router, address)] = now + _RETRY_S

    def lease_possible(self, router: int) -> None:
        """Note that blocks of a router can be had again: ask when they are needed."""
        for key in [key for key in self._failed_until if key[0] == router]:
            del self._failed_until[key]
            self._changed.update({key} & self._pools.keys())

    @property
    def may_run_low(self) -> bool:
        """Whether `wanted_leases` has anything to look at."""
        return bool(self._changed or self._failed_until)

    def wanted_leases(self, now: float) -> tuple[PoolKey, ...]:
        """List (router, address) of pools that run low and have asked for nothing."""
        for key in [key for key, end in self._failed_until.items() if end <= now]:
            del self._failed_until[key]
            self._changed.update({key} & self._pools.keys())
        wanted = tuple(key for key in self._changed if self._runs_low(key))
        self._changed.clear()
        self._changed.update(wanted)
        return wanted

    def idle_leases(self, now: float) -> tuple[tuple[int, int, int], ...]:
        """List (router, address, block) of leases without use for 5 minutes.

        The last block of an address is kept for an hour. To be asked now and then (once
        a minute): a block counts as idle from the first time it is seen unused.
        """
        return tuple(
            (*key, block)
            for key, pool in self._pools.items()
            for block in pool.idle_blocks(now, *self._idle_s)
        )

    def _runs_low(self, key: PoolKey) -> bool:
        pool = self._pools[key]
        return (
            bool(pool.blocks)
            and pool.can_grow
            and key not in self._pending
            and key not in self._failed_until
            and pool.lowest_free() * LOW_FRACTION < len(pool.blocks) * BLOCK_PORTS
        )

    def _pool(self, key: PoolKey) -> PortPool:
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = PortPool()
        return pool
