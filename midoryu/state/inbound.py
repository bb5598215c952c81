# SPDX-License-Identifier: Apache-2.0
"""What a record uses of a NAT's ports, and which endpoint an outside port leads to.

`nat` counts uses; it asks `Inbound` where others may speak to an endpoint first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from midoryu.compat import SLOTS
from midoryu.state.connection import Connection, TranslationKind, translate

# (router, ip_proto, NAT address, port)
Outside = tuple[int, int, int, int]
# (source, source port)
Inside = tuple[int, int]


@dataclass(**SLOTS)
class PortMapping:
    """One internal endpoint's external address and port, and how many use it."""

    address: int
    port: int
    count: int


@dataclass(**SLOTS)
class PairedAddress:
    """The NAT address that a source has, and how many connections use it."""

    address: int
    count: int


class Use(NamedTuple):
    """One SOURCE translation of one connection, taken apart."""

    router: int
    ip_proto: int
    source: int
    source_port: int
    address: int
    port: int
    destination: int
    destination_port: int
    outbound: bool = True
    """The endpoint spoke first."""


class Inbound:
    """Which endpoint an outside port leads to, and to whom that has spoken.

    Args:
        routers: keys of the routers that it is kept for.
    """

    def __init__(self, routers: frozenset[int] = frozenset()) -> None:
        self.routers = routers
        # (router, protocol, address, port) -> endpoint -> destination -> connections
        self._endpoints: dict[Outside, dict[Inside, dict[int, int]]] = {}

    def find(self, outside: Outside, sender: int = 0) -> Inside | None:
        """Return the (address, port) inside that has a port outside.

        Args:
            outside: (router, protocol, NAT address, port).
            sender: only where the endpoint has spoken to this address; 0 for any.

        Returns:
            None where there is none, or several that share the port.
        """
        endpoints = self._endpoints.get(outside, {})
        found = [
            inside
            for inside, peers in endpoints.items()
            if not sender or sender in peers
        ]
        return found[0] if len(found) == 1 else None

    def take(self, use: Use) -> None:
        """Count one more connection."""
        if use.router in self.routers:
            endpoints = self._endpoints.setdefault(outside_of(use), {})
            peers = endpoints.setdefault((use.source, use.source_port), {})
            peers[use.destination] = peers.get(use.destination, 0) + 1

    def give_back(self, use: Use) -> None:
        """Count one connection less."""
        if use.router not in self.routers:
            return
        endpoints = self._endpoints[outside_of(use)]
        peers = endpoints[(use.source, use.source_port)]
        peers[use.destination] -= 1
        if not peers[use.destination]:
            del peers[use.destination]
        if not peers:
            del endpoints[(use.source, use.source_port)]
        if not endpoints:
            del self._endpoints[outside_of(use)]


def outside_of(use: Use) -> Outside:
    """Return where a use is seen outside."""
    return use.router, use.ip_proto, use.address, use.port


def uses_of(connection: Connection, watched: frozenset[int]) -> Iterator[Use]:
    """List the (address, port) pairs that a connection uses, with its destination.

    Of connections that came in by an endpoint's mapping too, where that is watched.
    """
    before = connection.original
    for translation in connection.translations:
        device, kind, address, port = translation
        after = translate(before, translation)
        if kind is TranslationKind.SOURCE:
            yield Use(
                device,
                connection.ip_proto,
                before[0],
                before[2],
                address,
                port,
                after[1],
                after[3],
            )
        elif device in watched and kind is TranslationKind.DESTINATION:
            yield Use(
                device,
                connection.ip_proto,
                address,
                port,
                before[1],
                before[3],
                before[0],
                before[2],
                outbound=False,
            )
        before = after


def find_mapping(
    mappings: Iterable[PortMapping], address: int, port: int
) -> PortMapping | None:
    """Return the mapping to an address and port, None for none."""
    for mapping in mappings:
        if mapping.address == address and mapping.port == port:
            return mapping
    return None
