# SPDX-License-Identifier: Apache-2.0
"""A router's routes, compiled for longest-prefix match.

One table serves both families, as addresses share one 128-bit space. `snapshot` builds
it; `simulation.router` asks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from midoryu.packet.address import V4_MASK, Prefix, is_v4, prefix_mask
from midoryu.topology.model import Route, RouteKind


class RouteTable:
    """Routes by prefix length, longest first. Never changes once made."""

    __slots__ = ("_levels", "_v4_levels", "shared")

    def __init__(self, routes: Iterable[Route]) -> None:
        by_length: dict[int, dict[int, list[Route]]] = {}
        for route in routes:
            prefix = route.destination
            level = by_length.setdefault(prefix.length, {})
            level.setdefault(prefix.value & prefix.mask, []).append(route)
        self._levels: tuple[tuple[int, dict[int, tuple[Route, ...]]], ...] = tuple(
            (prefix_mask(length), {v: _by_metric(r) for v, r in level.items()})
            for length, level in sorted(by_length.items(), reverse=True)
        )
        groups = [group for _, level in self._levels for group in level.values()]
        self.shared: frozenset[int] = frozenset().union(*map(_sharing, groups))
        """Keys of vports that share connections among them (equal-cost routes)."""
        # A short IPv6 prefix (::/0) would hold the IPv4-mapped addresses too.
        self._v4_levels = tuple(
            (mask, level) for mask, level in self._levels if mask >= V4_MASK
        )

    def lookup(self, destination: int) -> Iterator[tuple[Route, ...]]:
        """Yield the routes of every prefix that holds an address, longest first.

        Within one yielded group, lower metrics come first, and among these the routes
        for fewer sources.
        """
        for mask, level in self._v4_levels if is_v4(destination) else self._levels:
            found = level.get(destination & mask)
            if found is not None:
                yield found


def _by_metric(routes: list[Route]) -> tuple[Route, ...]:
    return tuple(
        sorted(routes, key=lambda one: (one.metric, -one.source.length, one.key))
    )


def _sharing(routes: tuple[Route, ...]) -> set[int]:
    """Return the vports of equal routes to one prefix, where there are several."""
    sharing: set[int] = set()
    equals: dict[tuple[int, Prefix], set[int]] = {}
    for route in routes:
        if route.kind is RouteKind.FORWARD:
            vports = equals.setdefault((route.metric, route.source), set())
            vports.add(route.vport)
            if len(vports) > 1:
                sharing |= vports
    return sharing


def connected(router: int, vport: int, address: Prefix) -> Route:
    """Return the route to a vport's own subnet."""
    return Route(
        key=f"connected/{vport}/{address}",
        router=router,
        destination=Prefix(address.value & address.mask, address.length),
        vport=vport,
    )
