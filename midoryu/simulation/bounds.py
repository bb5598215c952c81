# SPDX-License-Identifier: Apache-2.0
"""Between which addresses nothing is that some rows tell apart.

`replay` takes packets whose addresses lie between the same ones for alike.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import fields as fields_of
from dataclasses import is_dataclass
from typing import Any, Final

from midoryu.packet.address import V4_MAPPED, Prefix
from midoryu.topology.model import Chain
from midoryu.topology.snapshot import Topology
from midoryu.topology.tag import Tag, keys_of

# (first, last) address
Bounds = tuple[int, int]
# Addresses that the code itself treats in its own ways, as (first, last): packets to or
# from these are simulated one by one.
_SPECIAL: Final = (
    (0, 0xFF),
    (V4_MAPPED, V4_MAPPED | 0xFF_FFFF),
    (V4_MAPPED | 127 << 24, V4_MAPPED | 127 << 24 | 0xFF_FFFF),
    (V4_MAPPED | 0xA9FE_0000, V4_MAPPED | 0xA9FE_FFFF),
    (V4_MAPPED | 0xE000_0000, V4_MAPPED | 0xFFFF_FFFF),
    (0xFE80 << 112, (0xFEC0 << 112) - 1),
    (0xFF00 << 112, (1 << 128) - 1),
)

_ADDRESS_MAX: Final = (1 << 128) - 1


class AddressBounds:
    """The addresses that rows name, as far as they were asked for."""

    def __init__(self) -> None:
        self._edges: dict[int, list[int]] = {}
        self._chain_edges: dict[str, list[int]] = {}

    def forget(self) -> None:
        """Look at all rows again: some have changed."""
        self._edges.clear()
        self._chain_edges.clear()

    def around(self, topology: Topology, tags: frozenset[Tag], address: int) -> Bounds:
        """Return the bounds around an address that no row behind tags divides."""
        devices, chains, vports = keys_of(tags)
        named = {part for tag in tags for part in tag}
        if address in named or any(a <= address <= b for a, b in _SPECIAL):
            return address, address
        first, last = _narrow(_SPECIAL_EDGES, address, (0, _ADDRESS_MAX))
        for device in devices:
            edges = self._edges_of(topology, device)
            first, last = _narrow(edges, address, (first, last))
        for chain in chains:
            edges = self._chain_edges_of(topology, chain)
            first, last = _narrow(edges, address, (first, last))
        for vport in vports:
            edges = _edges(_addresses(topology.vport(vport)))
            first, last = _narrow(edges, address, (first, last))
        return first, last

    def _edges_of(self, topology: Topology, device: int) -> list[int]:
        edges = self._edges.get(device)
        if edges is None:
            parts: list[Any] = list(topology.rows_about(device))
            router = topology.router(device)
            if router is not None:
                # VIPs and their members have rows of their own.
                parts += [router.nat.addresses, router.nat.dnat_targets]
            edges = self._edges[device] = _edges(_addresses(tuple(parts)))
        return edges

    def _chain_edges_of(self, topology: Topology, key: str) -> list[int]:
        edges = self._chain_edges.get(key)
        if edges is None:
            chain = topology.row(Chain, key)
            rules = chain.rules if chain is not None else ()
            found = ((rule.source, rule.destination) for rule in rules)
            edges = self._chain_edges[key] = _edges(_addresses(tuple(found)))
        return edges


def _addresses(value: Any) -> Iterator[Bounds]:
    """Yield (first, last) of everything in a row that may be an address or prefix."""
    if isinstance(value, Prefix):
        first = value.value & value.mask
        last = first | _ADDRESS_MAX ^ value.mask
        yield first, last
        # Its broadcast address.
        yield last, last
        # An address with the length of its subnet keeps its host bits.
        yield value.value, value.value
    elif isinstance(value, int):
        if value > 0xFFFF:
            yield value, value
    elif is_dataclass(value):
        for one in fields_of(value):
            yield from _addresses(getattr(value, one.name))
    elif isinstance(value, (tuple, list, frozenset, set)):
        for part in value:
            yield from _addresses(part)


def _edges(found: Iterable[Bounds]) -> list[int]:
    """Return the addresses where something begins or has just ended, ascending."""
    return sorted({edge for first, last in found for edge in (first, last + 1)})


_SPECIAL_EDGES: Final = _edges(_SPECIAL)


def _narrow(edges: list[int], address: int, bounds: Bounds) -> Bounds:
    """Narrow bounds around an address so that no edge divides them."""
    first, last = bounds
    at = bisect_right(edges, address)
    if at:
        first = max(first, edges[at - 1])
    if at < len(edges):
        last = min(last, edges[at] - 1)
    return first, last
