# SPDX-License-Identifier: Apache-2.0
"""Load balancers in the compiled forms that the simulation asks.

`balancer_row` has the rows. `snapshot` keeps them and an index of them (`Balancers`);
the views of routers and networks have a `Balancing`; `CompiledPool` chooses a member,
by weighted rendezvous hashing, so that any two hosts choose alike before either knows
of a connection.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Union

from midoryu.topology.balancer_row import Balancer as Balancer
from midoryu.topology.balancer_row import HealthMonitor as HealthMonitor
from midoryu.topology.balancer_row import MemberStatus as MemberStatus
from midoryu.topology.balancer_row import Pool as Pool
from midoryu.topology.balancer_row import PoolMember as PoolMember
from midoryu.topology.balancer_row import Probe as Probe
from midoryu.topology.balancer_row import Vip as Vip
from midoryu.topology.rendezvous import choose, digest

# A network's own MAC address for its VIPs: locally administered, "LB", network key.
_VIP_MAC_BASE: Final = 0x06_4C_42 << 24


BALANCER_ROWS: Final = (Balancer, Vip, Pool, PoolMember, HealthMonitor, MemberStatus)


def vip_mac(network: int) -> int:
    """Return the MAC address with which a network answers for its VIPs."""
    return _VIP_MAC_BASE | network


class CompiledPool:
    """A pool with its members and what is known of them. Never changes once made."""

    __slots__ = ("_candidates", "_usable", "down", "members", "monitor", "row")

    def __init__(
        self,
        row: Pool,
        members: Iterable[PoolMember],
        monitor: HealthMonitor | None,
        status: Mapping[Union[int, str], MemberStatus],
    ) -> None:
        self.row = row
        self.monitor = monitor
        self.members = tuple(sorted(members, key=lambda m: (m.address, m.port)))
        self.down = frozenset(
            member.key
            for member in self.members
            if monitor is not None
            and (seen := status.get(member.key)) is not None
            and not seen.up
        )
        """Keys of members that the monitor found down."""
        self._usable = {
            (member.address, member.port): member
            for member in self.members
            if member.up and member.key not in self.down
        }
        self._candidates: dict[bool, tuple[tuple[PoolMember, int], ...]] = {}
        for v4 in (False, True):
            self._candidates[v4] = tuple(
                (member, digest((member.address, member.port)))
                for member in self._usable.values()
                if member.weight and (member.address >> 32 == 0xFFFF) is v4
            )

    def choose(self, key: Iterable[int], *, v4: bool) -> PoolMember | None:
        """Choose a member for a new connection; None where none is usable.

        Args:
            key: what shall lead to one member: a 5-tuple, or with affinity a source.
            v4: whether the VIP is an IPv4 address.
        """
        candidates = self._candidates[v4]
        if not candidates:
            return None
        pairs = [(identity, member.weight) for member, identity in candidates]
        return candidates[choose(key, pairs)][0]

    def usable(self, address: int, port: int) -> PoolMember | None:
        """Find a member that may go on with an old client: up, or draining."""
        return self._usable.get((address, port))

    def member(self, address: int, port: int) -> PoolMember | None:
        """Find the member that serves at an address and port (0 there: any)."""
        for member in self.members:
            if member.address == address and member.port in (0, port):
                return member
        return None


Services = dict[int, set[tuple[int, int]]]
"""Member address -> (protocol, port) that VIPs lead to, 0 for any."""


class Balancing:
    """The VIPs of one device, and the members that matter to it."""

    __slots__ = ("mac", "services", "targets", "vips")

    def __init__(
        self, vips: Iterable[Vip], services: Services, *, mac: int = 0
    ) -> None:
        self.vips: dict[int, dict[tuple[int, int], Vip]] = {}
        """Address -> (protocol, port) -> VIP, 0 for any."""
        for vip in vips:
            self.vips.setdefault(vip.address, {})[vip.ip_proto, vip.port] = vip
        self.services = services
        self.targets = frozenset(services)
        """Member addresses: what comes from there may be an answer."""
        self.mac = mac
        """The MAC address of a network's VIPs, 0 for a router."""

    def find(self, address: int, ip_proto: int, port: int) -> Vip | None:
        """Find the VIP of a destination; one that says more goes first."""
        rules = self.vips.get(address)
        if rules is None:
            return None
        return (
            rules.get((ip_proto, port)) or rules.get((ip_proto, 0)) or rules.get((0, 0))
        )

    def is_service(self, address: int, ip_proto: int, port: int) -> bool:
        """Tell whether a VIP leads to a port of an address."""
        served = self.services.get(address)
        return served is not None and not served.isdisjoint(
            ((ip_proto, port), (ip_proto, 0), (0, 0), (0, port))
        )


NO_BALANCING: Final = Balancing((), {})


class Balancers:
    """The rows of all balancers, found by what belongs together."""

    def __init__(self, rows: Mapping[type, dict[Union[int, str], Any]]) -> None:
        self._rows = rows
        self._by_parent: dict[tuple[type, str], dict[str, Any]] = defaultdict(dict)
        self._by_device: dict[int, set[str]] = defaultdict(set)
        self._compiled: dict[str, CompiledPool] = {}
        self._services: Services | None = None
        self.former: set[int] = set()
        """Addresses of members that have left: their connections may go on."""

    def __bool__(self) -> bool:
        """Tell whether there is any balancer."""
        return bool(self._rows[Balancer])

    # Questions.

    def pool(self, key: str) -> CompiledPool | None:
        """Return a pool, None when there is none."""
        compiled = self._compiled.get(key)
        if compiled is None:
            row = self._rows[Pool].get(key)
            if row is None:
                return None
            compiled = self._compiled[key] = CompiledPool(
                row,
                self.members_of(key),
                self.monitor_of(key),
                self._rows[MemberStatus],
            )
        return compiled

    def pools(self) -> Iterator[CompiledPool]:
        """Go through all pools."""
        for key in self._rows[Pool]:
            compiled = self.pool(str(key))
            assert compiled is not None
            yield compiled

    def members_of(self, pool: str) -> tuple[PoolMember, ...]:
        """Return the members of a pool."""
        return tuple(self._children(PoolMember, pool))

    def monitor_of(self, pool: str) -> HealthMonitor | None:
        """Return the monitor of a pool, None when nobody watches it."""
        return next(iter(self._children(HealthMonitor, pool)), None)

    def vips_of_pool(self, pool: str) -> Iterator[tuple[Balancer, Vip]]:
        """Yield what leads to a pool, of balancers that are up."""
        for vip in sorted(self._children(Vip, pool), key=lambda vip: vip.key):
            balancer = self._rows[Balancer].get(vip.balancer)
            if balancer is not None and balancer.up:
                yield balancer, vip

    def balancing(
        self,
        device: int,
        *,
        holds: Callable[[set[int]], bool] | None = None,
        mac: int = 0,
    ) -> Balancing:
        """Compile what a device does; `NO_BALANCING` where it has nothing to do.

        Args:
            device: key of the router or network.
            holds: of a network: whether addresses could be on it; members matter there.
            mac: of a network's VIPs.
        """
        if not self:
            return NO_BALANCING
        vips = tuple(self._vips_of(device))
        services: Services = {}
        for vip in vips:
            self._add_services(services, vip)
        everywhere = self._everywhere() if holds is not None else {}
        for address in {*everywhere, *self.former}:
            if holds is not None and holds({address}):
                served = services.setdefault(address, set())
                served |= everywhere.get(address, set())
        if not vips and not services:
            return NO_BALANCING
        return Balancing(vips, services, mac=mac)

    def devices_of(self, kind: type, row: Any) -> set[int]:
        """Return the devices whose VIPs a row is about."""
        if kind is Balancer:
            return {row.device}
        if kind is Vip:
            balancer = self._rows[Balancer].get(row.balancer)
            return {balancer.device} if balancer is not None else set()
        pool = row.key if kind is Pool else row.pool
        return {
            balancer.device
            for vip in self._children(Vip, pool)
            if (balancer := self._rows[Balancer].get(vip.balancer)) is not None
        }

    def members_behind(self, kind: type, row: Any) -> set[int]:
        """Return the member addresses that a row is about."""
        if kind is PoolMember:
            return {row.address}
        if kind is Balancer:
            vips = self._children(Balancer, row.key)
            return {a for vip in vips for a in self.members_behind(Vip, vip)}
        pool = row.pool if kind is Vip else row.key
        return {member.address for member in self.members_of(pool)}

    def pool_of(self, kind: type, row: Any) -> str:
        """Return the pool whose choice a row can change, "" for none."""
        if kind is Pool:
            return str(row.key)
        if kind is MemberStatus:
            member = self._rows[PoolMember].get(row.key)
            return member.pool if member is not None else ""
        return "" if kind is Balancer else str(row.pool)

    # Changes.

    def store(self, kind: type, old: Any, new: Any) -> None:  # noqa: C901, PLR0912
        """Take over that a row changed; `_rows` has it already."""
        for row in (old, new):
            if row is not None:
                self._compiled.pop(self.pool_of(kind, row), None)
        if kind is MemberStatus:
            return
        self._services = None
        for row, put in ((old, False), (new, True)):
            for parent in _parents(kind, row) if row is not None else ():
                if put:
                    self._by_parent[parent][row.key] = row
                else:
                    self._by_parent[parent].pop(row.key, None)
        if kind is Balancer:
            if old is not None:
                self._by_device[old.device].discard(old.key)
            if new is not None:
                self._by_device[new.device].add(new.key)
        left = kind is PoolMember and old is not None
        if left and (new is None or new.address != old.address):
            self.former.add(old.address)

    def _children(self, kind: type, parent: str) -> Iterable[Any]:
        return self._by_parent[kind, parent].values() if parent else ()

    def _vips_of(self, device: int) -> Iterator[Vip]:
        for key in sorted(self._by_device.get(device, ())):
            balancer = self._rows[Balancer].get(key)
            if balancer is not None and balancer.up:
                vips = self._children(Balancer, key)
                yield from sorted(vips, key=lambda vip: vip.key, reverse=True)

    def _add_services(self, services: Services, vip: Vip) -> None:
        for member in self.members_of(vip.pool):
            port = member.port or vip.port
            services.setdefault(member.address, set()).add((vip.ip_proto, port))

    def _everywhere(self) -> Services:
        if self._services is None:
            self._services = {}
            for device in tuple(self._by_device):
                for vip in self._vips_of(device):
                    self._add_services(self._services, vip)
        return self._services


def is_mild(kind: type, old: Any, new: Any) -> bool:
    """Tell whether a change only moves shares: no address comes or goes."""
    if kind is MemberStatus or kind is HealthMonitor:
        return True
    if kind is Pool:
        return old is not None and new is not None
    if kind is not PoolMember or old is None or new is None:
        return False
    one = (old.pool, old.address, old.port)
    return bool(one == (new.pool, new.address, new.port))


def _parents(kind: type, row: Any) -> tuple[tuple[type, str], ...]:
    if kind is Vip:
        return (Balancer, row.balancer), (Vip, row.pool)
    return () if kind in (Balancer, Pool) else ((kind, row.pool),)
