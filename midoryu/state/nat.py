# SPDX-License-Identifier: Apache-2.0
"""Which address and port a masqueraded connection gets, and which are taken.

`table` keeps the records; this keeps the ports that their SOURCE translations use. The
blocks that this host may give out are leased in the NSDB by the engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple, Union

from midoryu.compat import SLOTS
from midoryu.state.connection import Connection, TranslationKind, translate
from midoryu.state.portpool import (
    BLOCK_PORTS,
    IDLE_LAST_S,
    IDLE_S,
    LOW_FRACTION,
    NOTHING,
    PortPool,
)
from midoryu.topology.rendezvous import digest, mix

# A lease request that failed is repeated after this time.
_RETRY_S: Final = 10.0


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

# (router, address)
PoolKey = tuple[int, int]
# (router, ip_proto, source, source port)
_Endpoint = tuple[int, int, int, int]
# (router, ip_proto, NAT address, port)
_Outside = tuple[int, int, int, int]
# (source, source port)
_Inside = tuple[int, int]
NOTHING_RESERVED: Final[Mapping[int, Mapping[int, int]]] = MappingProxyType({})


class _Use(NamedTuple):
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
        self._endpoints: dict[_Outside, dict[_Inside, dict[int, int]]] = {}

    def find(self, outside: _Outside, sender: int = 0) -> _Inside | None:
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

    def take(self, use: _Use) -> None:
        """Count one more connection."""
        if use.router in self.routers:
            endpoints = self._endpoints.setdefault(_outside(use), {})
            peers = endpoints.setdefault((use.source, use.source_port), {})
            peers[use.destination] = peers.get(use.destination, 0) + 1

    def give_back(self, use: _Use) -> None:
        """Count one connection less."""
        if use.router not in self.routers:
            return
        endpoints = self._endpoints[_outside(use)]
        peers = endpoints[(use.source, use.source_port)]
        peers[use.destination] -= 1
        if not peers[use.destination]:
            del peers[use.destination]
        if not peers:
            del endpoints[(use.source, use.source_port)]
        if not endpoints:
            del self._endpoints[_outside(use)]


def _outside(use: _Use) -> _Outside:
    return use.router, use.ip_proto, use.address, use.port


@dataclass(**SLOTS)
class _Mapping:
    """One internal endpoint's external address and port, and how many use it."""

    address: int
    port: int
    count: int


@dataclass(**SLOTS)
class _Paired:
    """The NAT address that a source has, and how many connections use it."""

    address: int
    count: int


class NatTable:
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
        self._idle_s = idle_s, last_idle_s
        self._max_ports = max_ports_per_source or 1 << 60
        # (router, source) -> ports
        self._ports: dict[tuple[int, int], int] = {}
        self.conflicts = 0
        """Records that claimed an (address, port, destination) already in use."""
        self._pools: dict[PoolKey, PortPool] = {}
        self._changed: set[PoolKey] = set()
        self._pending: set[PoolKey] = set()
        self._failed_until: dict[PoolKey, float] = {}
        # A tuple of one takes half of what a list does.
        self._mappings: dict[_Endpoint, tuple[_Mapping, ...]] = {}
        self._paired: dict[tuple[int, int], _Paired] = {}
        self._committed: set[int] = set()
        self.inbound = Inbound()
        """Endpoints that others may speak to first."""

    # -- leases

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
        mapping: _Mapping,
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
        (translation,) = connection.translations
        router, _, address, port = translation
        source, destination, source_port, there = connection.original
        proto = connection.ip_proto
        self._committed.add(connection.id)
        endpoint = (router, proto, source, source_port)
        mappings = self._mappings.get(endpoint)
        mapping = None
        if mappings is None:
            self._mappings[endpoint] = (_Mapping(address, port, 1),)
        else:
            mapping = _find_mapping(mappings, address, port)
            if mapping is None:
                self._mappings[endpoint] = (*mappings, _Mapping(address, port, 1))
            else:
                mapping.count += 1
        paired = self._paired.get((router, source))
        if paired is None:
            self._paired[(router, source)] = _Paired(address, 1)
        elif paired.address == address:
            paired.count += 1
        key = (router, address)
        pool = self._pools[key]
        is_new = mapping is None
        if is_new:
            self._ports[router, source] = self._ports.get((router, source), 0) + 1
        pool.take(proto, port, destination, there, is_new_endpoint=is_new)
        if pool.is_low(proto):
            self._changed.add(key)

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

    def _uses_of(self, connection: Connection) -> tuple[_Use, ...]:
        """List the ports that a record uses, also where the outside spoke first."""
        routers = self.inbound.routers
        if len(connection.translations) == 1 and not routers:
            device, kind, address, port = connection.translations[0]
            if kind is not TranslationKind.SOURCE:
                return ()
            source, destination, source_port, there = connection.original
            proto = connection.ip_proto
            return (
                _Use(
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
            for use in _uses(connection, routers)
            if use.outbound or (use.router, use.address) in self._pools
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

    def _is_free(self, use: _Use) -> bool:
        pool = self._pools.get((use.router, use.address))
        return pool is None or pool.is_free_for(
            use.ip_proto, use.port, use.destination, use.destination_port
        )

    def _take(self, use: _Use) -> None:
        self.inbound.take(use)
        endpoint = (use.router, use.ip_proto, use.source, use.source_port)
        mappings = self._mappings.get(endpoint)
        mapping = None
        if mappings is None:
            self._mappings[endpoint] = (_Mapping(use.address, use.port, 1),)
        else:
            mapping = _find_mapping(mappings, use.address, use.port)
            if mapping is None:
                one = _Mapping(use.address, use.port, 1)
                self._mappings[endpoint] = (*mappings, one)
            else:
                mapping.count += 1
        is_new = mapping is None
        who = (use.router, use.source)
        if is_new:
            self._ports[who] = self._ports.get(who, 0) + 1
        paired = self._paired.get(who)
        if paired is None:
            paired = _Paired(use.address, 0)
            self._paired[(use.router, use.source)] = paired
        if paired.address == use.address:
            paired.count += 1
        pool = self._pool((use.router, use.address))
        pool.take(
            use.ip_proto,
            use.port,
            use.destination,
            use.destination_port,
            is_new_endpoint=is_new,
        )
        if pool.is_low(use.ip_proto):
            self._changed.add((use.router, use.address))

    def _give_back(self, use: _Use) -> None:
        self.inbound.give_back(use)
        endpoint = (use.router, use.ip_proto, use.source, use.source_port)
        mappings = self._mappings[endpoint]
        mapping = _find_mapping(mappings, use.address, use.port)
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


def _find_mapping(
    mappings: Iterable[_Mapping], address: int, port: int
) -> _Mapping | None:
    for mapping in mappings:
        if mapping.address == address and mapping.port == port:
            return mapping
    return None


def _uses(connection: Connection, watched: frozenset[int]) -> Iterator[_Use]:
    """List the (address, port) pairs that a connection uses, with its destination.

    Of connections that came in by an endpoint's mapping too, where that is watched.
    """
    before = connection.original
    for translation in connection.translations:
        device, kind, address, port = translation
        after = translate(before, translation)
        if kind is TranslationKind.SOURCE:
            yield _Use(
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
            yield _Use(
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
