# SPDX-License-Identifier: Apache-2.0
"""Which address and port a masqueraded connection gets, and which are taken.

`table` keeps the records; this keeps the ports that their SOURCE translations use.
`lease_book` has the blocks that this host may give out, `inbound` who is reached by
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, Union

from midoryu.state.connection import Connection, TranslationKind
from midoryu.state.inbound import (
    Inbound,
    PairedAddress,
    PortMapping,
    Use,
    find_mapping,
    uses_of,
)
from midoryu.state.lease_book import LeaseBook
from midoryu.state.portpool import IDLE_LAST_S, IDLE_S, NOTHING
from midoryu.topology.rendezvous import digest, mix


class Picked(NamedTuple):
    """The address and port that a connection may use."""

    address: int
    """NAT address, 128-bit."""
    port: int
    """Port, or identifier of an ICMP query."""


class NeedLease(NamedTuple):
    """No port can be given before a block of this address is leased."""

    router: int
    address: int


class Exhausted(NamedTuple):
    """Every port of every address is taken for this destination."""

    router: int
    is_limit: bool = False
    """There may be ports, but the source has as many as it may."""


PickResult = Union[Picked, NeedLease, Exhausted]

# (router, ip_proto, source, source port)
_Endpoint = tuple[int, int, int, int]
NOTHING_RESERVED: Final[Mapping[int, Mapping[int, int]]] = MappingProxyType({})


class NatTable(LeaseBook):
    """Every NAT address and port in use that this host knows of.

    Args:
        idle_s: seconds without use after which a block is given back.
        last_idle_s: the same for the last block of an address.
        max_ports_per_source: ports that one source address may have at a router; 0 for
            no limit.
    """

    def __init__(
        self,
        idle_s: float = IDLE_S,
        last_idle_s: float = IDLE_LAST_S,
        max_ports_per_source: int = 0,
    ) -> None:
        super().__init__(idle_s, last_idle_s)
        self._max_ports = max_ports_per_source or 1 << 60
        # (router, source) -> ports
        self._ports: dict[tuple[int, int], int] = {}
        self.conflicts = 0
        """Records that claimed an (address, port, destination) already in use."""
        # A tuple of one takes half of what a list does.
        self._mappings: dict[_Endpoint, tuple[PortMapping, ...]] = {}
        self._paired: dict[tuple[int, int], PairedAddress] = {}
        self._committed: set[int] = set()
        self.inbound = Inbound()
        """Endpoints that others may speak to first."""

    def count_ports(self, router: int, source: int) -> int:
        """Count the ports that a source address has at a router."""
        return self._ports.get((router, source), 0)

    # -- choice

    def pick(
        self,
        router: int,
        addresses: tuple[int, ...],
        ip_proto: int,
        source: int,
        source_port: int,
        destination: int,
        destination_port: int,
        reserved: Mapping[int, Mapping[int, int]] = NOTHING_RESERVED,
    ) -> PickResult:
        """Choose an address and a port for a new connection; changes nothing.

        1. The endpoint's mapping is used again, for every destination
           (RFC 4787, REQ-1; RFC 5382, REQ-1; RFC 5508, REQ-1).
        2. A new mapping stays on the address that the source has (REQ-2, "paired"); a
           new source gets one by rendezvous hashing. There, in this order: the original
           port, a free port of the same parity (REQ-4), any free port.
           A source with as many ports as it may have gets none (RFC 6888, REQ-4).
        3. When no more blocks can be had: a port that other endpoints use for other
           destinations, never for this one.

        Args:
            router: key of the translating router.
            addresses: NAT addresses that the rule allows, at least one.
            ip_proto: IP protocol number.
            source: source address before the translation.
            source_port: source port, or identifier of an ICMP query.
            destination: destination address as the packet leaves the translation.
            destination_port: destination port, or ICMP query type.
            reserved: address -> block -> bits of ports that are not given out.
        """
        mappings = self._mappings.get((router, ip_proto, source, source_port))
        if mappings is not None:
            for mapping in mappings:
                use = (ip_proto, mapping.port, destination, destination_port)
                if mapping.address in addresses and self._serves(router, mapping, *use):
                    return Picked(mapping.address, mapping.port)  # 1
        if self._ports.get((router, source), 0) >= self._max_ports:
            return Exhausted(router, is_limit=True)
        # Where to look first need not be equal on all hosts: blocks are not.
        ends = (source, source_port, destination, destination_port, ip_proto)
        seed = hash(ends) & 0xFFFF_FFFF_FFFF_FFFF
        free_at = self._free_port
        own = self._own_address(router, addresses, source)
        if own:
            # Mostly this is it already.
            port = free_at(router, own, ip_proto, source_port, seed, reserved)
            if port is not None:
                return Picked(own, port)  # 2
        for address in self._address_order(router, addresses, source):
            port = free_at(router, address, ip_proto, source_port, seed, reserved)
            if port is not None:
                return Picked(address, port)  # 2
            pool = self._pools.get((router, address))
            if (router, address) not in self._failed_until and (
                pool is None or pool.can_grow
            ):
                return NeedLease(router, address)
        there = (ip_proto, destination, destination_port)
        return self._pick_shared(router, addresses, source, there, seed, reserved)

    def _pick_shared(
        self,
        router: int,
        addresses: tuple[int, ...],
        source: int,
        there: tuple[int, int, int],
        seed: int,
        reserved: Mapping[int, Mapping[int, int]],
    ) -> PickResult:
        """Choose a port that others use, but not for this destination."""
        for address in self._address_order(router, addresses, source):
            pool = self._pools.get((router, address))
            if pool is not None:
                bits = reserved.get(address, NOTHING)
                port = pool.pick_shared(*there, seed, bits)
                if port is not None:
                    return Picked(address, port)  # 3
        return Exhausted(router)

    def _serves(
        self,
        router: int,
        mapping: PortMapping,
        ip_proto: int,
        port: int,
        destination: int,
        destination_port: int,
    ) -> bool:
        """Tell whether an endpoint's mapping can be used for one more destination."""
        pool = self._pools.get((router, mapping.address))
        return (
            pool is not None
            and pool.is_leased(port)
            and pool.is_free_for(ip_proto, port, destination, destination_port)
        )

    def _own_address(self, router: int, addresses: tuple[int, ...], source: int) -> int:
        """Return the NAT address that a source has, 0 for none."""
        paired = self._paired.get((router, source))
        if paired is None or paired.address not in addresses:
            return 0
        return paired.address

    def _free_port(
        self,
        router: int,
        address: int,
        ip_proto: int,
        wanted: int,
        seed: int,
        reserved: Mapping[int, Mapping[int, int]],
    ) -> int | None:
        """Find a port of one address that no endpoint uses."""
        pool = self._pools.get((router, address))
        if pool is None:
            return None
        return pool.pick_unused(ip_proto, wanted, seed, reserved.get(address, NOTHING))

    # -- use

    def commit(self, connection: Connection, now: float) -> None:
        """Mark the ports that a record uses, ours or another host's; twice is once."""
        if connection.id in self._committed:
            return
        if not connection.translations:
            return
        uses = self._uses_of(connection)
        if not uses:
            return
        for use in uses:
            if not self._is_free(use):
                self.conflicts += 1
                return
        self._committed.add(connection.id)
        for use in uses:
            self._take(use)

    def commit_picked(self, connection: Connection) -> None:
        """Mark the port of a record whose one translation was picked right now.

        As `commit`, where nothing has changed since `pick`, and outsiders may not
        speak first.
        """
        ((router, _, address, port),) = connection.translations
        source, destination, source_port, there = connection.original
        ends = source, source_port, address, port, destination, there
        self._committed.add(connection.id)
        self._count(router, connection.ip_proto, *ends)

    def release(self, connection: Connection) -> None:
        """Free the ports of a record that was committed."""
        if connection.id not in self._committed:
            return
        self._committed.remove(connection.id)
        for use in self._uses_of(connection):
            self._give_back(use)

    def watch(
        self, routers: frozenset[int], connections: Iterable[Connection], now: float
    ) -> None:
        """Keep what it takes to let others speak first, for these routers only.

        Args:
            routers: keys of routers with a masquerade that lets them.
            connections: all records.
            now: monotonic seconds.
        """
        if routers == self.inbound.routers:
            return
        known = [one for one in connections if one.id in self._committed]
        for connection in known:
            self.release(connection)
        self.inbound = Inbound(routers)
        for connection in connections:
            self.commit(connection, now)

    def _uses_of(self, connection: Connection) -> tuple[Use, ...]:
        """List the ports that a record uses, also where the outside spoke first."""
        routers = self.inbound.routers
        if len(connection.translations) == 1 and not routers:
            device, kind, address, port = connection.translations[0]
            if kind is not TranslationKind.SOURCE:
                return ()
            source, destination, source_port, there = connection.original
            proto = connection.ip_proto
            return (
                Use(
                    device,
                    proto,
                    source,
                    source_port,
                    address,
                    port,
                    destination,
                    there,
                ),
            )
        return tuple(
            use
            for use in uses_of(connection, routers)
            if use.outbound or (use.router, use.address) in self._pools
        )

    def _address_order(
        self, router: int, addresses: tuple[int, ...], source: int
    ) -> Iterator[int]:
        """Order NAT addresses: the source's own first, then by rendezvous score."""
        if len(addresses) == 1:
            yield addresses[0]
            return
        paired = self._paired.get((router, source))
        own = paired.address if paired is not None else -1
        if own in addresses:
            # Mostly the only one that is asked for: the others are scored later.
            yield own
        base = mix(router) ^ digest((source,))
        yield from sorted(
            (one for one in addresses if one != own),
            key=lambda one: -mix(base ^ digest((one,))),
        )

    def _is_free(self, use: Use) -> bool:
        pool = self._pools.get((use.router, use.address))
        return pool is None or pool.is_free_for(
            use.ip_proto, use.port, use.destination, use.destination_port
        )

    def _take(self, use: Use) -> None:
        self.inbound.take(use)
        self._count(*use[:8])

    def _count(
        self,
        router: int,
        ip_proto: int,
        source: int,
        source_port: int,
        address: int,
        port: int,
        destination: int,
        there: int,
    ) -> None:
        """Count one more use of a port."""
        endpoint = (router, ip_proto, source, source_port)
        mappings = self._mappings.get(endpoint)
        mapping = None
        if mappings is None:
            self._mappings[endpoint] = (PortMapping(address, port, 1),)
        else:
            mapping = find_mapping(mappings, address, port)
            if mapping is None:
                self._mappings[endpoint] = (*mappings, PortMapping(address, port, 1))
            else:
                mapping.count += 1
        is_new = mapping is None
        who = (router, source)
        if is_new:
            self._ports[who] = self._ports.get(who, 0) + 1
        paired = self._paired.get(who)
        if paired is None:
            self._paired[who] = PairedAddress(address, 1)
        elif paired.address == address:
            paired.count += 1
        pool = self._pool((router, address))
        pool.take(ip_proto, port, destination, there, is_new_endpoint=is_new)
        if pool.is_low(ip_proto):
            self._changed.add((router, address))

    def _give_back(self, use: Use) -> None:
        self.inbound.give_back(use)
        endpoint = (use.router, use.ip_proto, use.source, use.source_port)
        mappings = self._mappings[endpoint]
        mapping = find_mapping(mappings, use.address, use.port)
        assert mapping is not None
        mapping.count -= 1
        is_last = mapping.count == 0
        if is_last:
            left = tuple(one for one in mappings if one is not mapping)
            if left:
                self._mappings[endpoint] = left
            else:
                del self._mappings[endpoint]
            who = (use.router, use.source)
            self._ports[who] -= 1
            if not self._ports[who]:
                del self._ports[who]
        paired = self._paired.get((use.router, use.source))
        if paired is not None and paired.address == use.address:
            paired.count -= 1
            if paired.count == 0:
                del self._paired[(use.router, use.source)]
        self._pool((use.router, use.address)).give_back(
            use.ip_proto,
            use.port,
            use.destination,
            use.destination_port,
            is_last_of_endpoint=is_last,
        )
