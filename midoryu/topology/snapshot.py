# SPDX-License-Identifier: Apache-2.0
"""All rows of the topology, put together so that the simulation can ask questions.

`model` has the rows, `view` the devices made of them, `chains` the compiled filters.
Views are made at first use and dropped when a row behind them changes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from midoryu.packet.address import link_local_of
from midoryu.topology import model
from midoryu.topology.balancer import BALANCER_ROWS, Balancers, is_mild
from midoryu.topology.chains import CompiledChain, compile_chain
from midoryu.topology.groups import Groups
from midoryu.topology.l2_index import L2Index
from midoryu.topology.mtu import DEFAULT_UNDERLAY_MTU, tunnel_overhead
from midoryu.topology.segment import designated, is_way
from midoryu.topology.tag import (
    Tag,
    chain_tag,
    device_tag,
    flood_tag,
    host_tag,
    interest_tag,
    mac_tag,
    multicast_tag,
    neighbor_tag,
    pool_tag,
    vport_tag,
)
from midoryu.topology.view import NetworkView as NetworkView
from midoryu.topology.view import RouterView as RouterView
from midoryu.topology.view import subnets as subnets

_TAG_OF_ROW: Final[dict[type, Callable[[Any], Tag]]] = {
    model.VportStatus: lambda row: vport_tag(row.key),
    model.MacEntry: lambda row: mac_tag(row.network, row.mac),
    model.Neighbor: lambda row: neighbor_tag(row.router, row.address),
    model.Network: lambda row: device_tag(row.key),
    model.Router: lambda row: device_tag(row.key),
    model.Chain: lambda row: chain_tag(row.key),
    model.Host: lambda row: host_tag(row.key),
    model.MulticastMember: lambda row: multicast_tag(row.network, row.group),
}
# Sets of vports whose interested hosts are kept until a row changes.
_MAX_INTEREST: Final = 4096
_WITH_CHAINS = (model.Network, model.Router, model.Vport)
# What says where vports are and who shares their connections.
_PLACE_ROWS = (model.Host, model.Vport, model.VportStatus, model.IngressSet)
_DEVICE_ROWS = (model.Route, model.Masquerade, model.Dnat, model.FloatingIp)
# Rows that belong to a network.
_NETWORK_ROWS = (model.Subnet,)


class Topology:
    """Every known row, and views made of them."""

    def __init__(self) -> None:
        self.version = 0
        """Counts the changes applied so far."""
        self.dead_hosts: frozenset[int] = frozenset()
        """Keys of hosts that a failure detector holds for dead."""
        self.default_mtu = DEFAULT_UNDERLAY_MTU - tunnel_overhead("gre", ipv6=False)
        """Largest IP packet that a tunnel carries whole, bytes; set once, at start."""
        self.assumed_mtu = 0
        """What may come in by any link, bytes; 0 where links keep to their MTU."""
        self._rows: dict[type, dict[int | str, Any]] = defaultdict(dict)
        self._by_device: dict[tuple[type, int], dict[int | str, Any]] = {}
        self._macs: dict[tuple[int, int], model.MacEntry] = {}
        self._neighbors: dict[tuple[int, int], model.Neighbor] = {}
        self.l2 = L2Index(self._rows)
        """Sub-ports, multicast groups, policies, mirrors."""
        self.leased: Counter[tuple[int, int]] = Counter()
        """(router, NAT address) -> its leased port blocks."""
        self._sets_by_vport: dict[int, set[str]] = defaultdict(set)
        self._vport_by_iface: dict[str, int] = {}
        self._host_by_name: dict[str, int] = {}
        self._views: dict[int, NetworkView | RouterView] = {}
        self._chains: dict[str, CompiledChain] = {}
        self.groups = Groups(self._rows)
        """Who is in which group."""
        self._changed_chains: set[str] = set()
        self.interest_version = 0
        """Counts the changes that may touch `interested_hosts`."""
        self._interest: dict[frozenset[int], frozenset[int]] = {}
        self._beside: dict[int, tuple[int, ...]] = {}
        self.balancers = Balancers(self._rows)
        """Load balancers, their pools and members."""

    # Questions.

    def rows(self, kind: type) -> Iterable[Any]:
        """Return all rows of one kind."""
        return self._rows[kind].values()

    def row(self, kind: type, key: int | str) -> Any | None:
        """Return one row, None when there is none."""
        return self._rows[kind].get(key)

    def rows_of(self, kind: type, device: int) -> Iterable[Any]:
        """Return the rows of one kind that belong to one device."""
        return self._by_device.get((kind, device), {}).values()

    def rows_about(self, device: int) -> Iterator[Any]:
        """Yield all rows that belong to one device."""
        for kind in (model.Vport, *_DEVICE_ROWS, *_NETWORK_ROWS):
            yield from self.rows_of(kind, device)

    def vports_of(self, device: int) -> Iterable[model.Vport]:
        """Return the vports of a device."""
        return self.rows_of(model.Vport, device)

    def vport(self, key: int) -> model.Vport | None:
        """Return a vport, None when there is none."""
        return self._rows[model.Vport].get(key)

    def vport_by_iface_id(self, iface_id: str) -> model.Vport | None:
        """Return the vport that an interface's `external_ids:iface-id` names."""
        return self.vport(self._vport_by_iface.get(iface_id, 0))

    def host(self, key: int) -> model.Host | None:
        """Return a host, None when there is none."""
        return self._rows[model.Host].get(key)

    def host_named(self, name: str) -> model.Host | None:
        """Return the host of a name, None when there is none."""
        return self.host(self._host_by_name.get(name, 0))

    def network(self, key: int) -> NetworkView | None:
        """Return a network's view, None when the key is no network's."""
        view = self._views.get(key)
        if view is None:
            row = self._rows[model.Network].get(key)
            if row is None:
                return None
            view = self._views[key] = NetworkView(row, self)
        return view if isinstance(view, NetworkView) else None

    def router(self, key: int) -> RouterView | None:
        """Return a router's view, None when the key is no router's."""
        view = self._views.get(key)
        if view is None:
            row = self._rows[model.Router].get(key)
            if row is None:
                return None
            view = self._views[key] = RouterView(row, self)
        return view if isinstance(view, RouterView) else None

    def device_name(self, key: int) -> str:
        """Return the name of a network or router, for people."""
        row = self._rows[model.Network].get(key) or self._rows[model.Router].get(key)
        return row.name if row is not None else f"device {key}"

    def vport_name(self, key: int) -> str:
        """Return `device/vport`, for people."""
        vport = self.vport(key)
        if vport is None:
            return f"vport {key}"
        return f"{self.device_name(vport.device)}/{vport.name}"

    def chain(self, key: str) -> CompiledChain | None:
        """Return a compiled chain, None when there is none."""
        compiled = self._chains.get(key)
        if compiled is None:
            chains: dict[Any, model.Chain] = self._rows[model.Chain]
            row = chains.get(key)
            if row is None:
                return None
            compiled = compile_chain(row, chains, self._changed_chains)
            self._chains[key] = compiled
        return compiled

    def has_changed(self, chain: CompiledChain) -> bool:
        """Tell whether a live connection may have been let in by other rules."""
        return chain.changed or not chain.groups.isdisjoint(self.groups.changed)

    def mac_location(self, network: NetworkView, mac: int) -> int:
        """Return the vport behind which a MAC address is, 0 where nobody knows."""
        known = network.vport_by_mac.get(mac)
        if known is not None:
            return known
        learned = self._macs.get((network.row.key, mac))
        vport = self.vport(learned.vport) if learned is not None else None
        if vport is None or self.is_up(vport):
            return vport.key if vport is not None else 0
        # What was behind a vport that went down may be anywhere by now, but for what
        # is in a segment that there are other ways to.
        way = self.vport(designated(self, network.segments.get(vport.key, ())))
        return way.key if way is not None and self.is_up(way) else 0

    def neighbor_mac(self, vport: model.Vport, address: int) -> int:
        """Return the MAC address of a router vport's neighbour, 0 when unknown."""
        peer = self.vport(vport.peer) if vport.peer else None
        if peer is not None:
            network = self.network(peer.device)
            if network is not None:
                known = network.mac_by_ip.get(address)
                if known is not None:
                    return known
            elif address == link_local_of(peer.mac) or any(
                own.value == address for own in peer.addresses
            ):
                return peer.mac
        learned = self._neighbors.get((vport.device, address))
        return learned.mac if learned is not None else 0

    def knows_neighbor(self, router: int, address: int) -> bool:
        """Tell whether a router has learned of a neighbour."""
        return (router, address) in self._neighbors

    def location(self, vport: int) -> int:
        """Return the host that has a vport (or should have it), 0 for none."""
        status = self._rows[model.VportStatus].get(vport)
        if status is not None and status.up:
            return int(status.host)
        row = self.vport(vport)
        return row.host if row is not None else 0

    def is_up(self, vport: model.Vport) -> bool:
        """Tell whether a packet can leave by a vport now."""
        if not self.seems_up(vport):
            return False
        status = self._rows[model.VportStatus].get(vport.key)
        return status is None or status.host not in self.dead_hosts

    def seems_up(self, vport: model.Vport) -> bool:
        """Tell whether a packet could leave by a vport if its host lives."""
        if not vport.up:
            return False
        if vport.peer:
            peer = self.vport(vport.peer)
            return peer is not None and peer.up
        status = self._rows[model.VportStatus].get(vport.key)
        return status is not None and status.up

    def ingress_sets(self, vport: int) -> Iterator[model.IngressSet]:
        """Yield the ingress sets that a vport is in."""
        for key in self._sets_by_vport.get(vport, ()):
            yield self._rows[model.IngressSet][key]

    def devices_beside(self, vport: int) -> tuple[int, ...]:
        """Return the other devices where what comes in by a vport may come in as well.

        Those of the members of its ingress sets; mostly all are on one device.
        """
        known = self._beside.get(vport)
        if known is None:
            members = {m for one in self.ingress_sets(vport) for m in one.vports}
            rows = map(self.vport, {vport, *members})
            devices = {row.key: row.device for row in rows if row is not None}
            own = devices.get(vport, 0)
            known = tuple(sorted(set(devices.values()) - {own}))
            if len(self._beside) >= _MAX_INTEREST:
                self._beside.clear()
            self._beside[vport] = known
        return known

    def interested_hosts(self, vports: Iterable[int]) -> frozenset[int]:
        """Return the hosts that may see a later packet of a connection.

        Hosts of the given vports (ingress and egress) and of every vport that shares
        an ingress set with them: where they are, where they are bound to be, and where
        they migrate to.
        """
        asked = frozenset(vports)
        known = self._interest.get(asked)
        if known is None:
            if len(self._interest) >= _MAX_INTEREST:
                self._interest.clear()
            known = self._interest[asked] = self._interested_hosts(asked)
        return known

    def _interested_hosts(self, vports: frozenset[int]) -> frozenset[int]:
        members = set(vports)
        for vport in tuple(members):
            for ingress_set in self.ingress_sets(vport):
                members |= ingress_set.vports
        hosts = {self.location(vport) for vport in members}
        for vport in members:
            row = self.vport(vport)
            if row is not None:
                hosts.add(row.host)
                hosts.add(row.migrating_to)
        hosts.discard(0)
        return frozenset(hosts)

    # Changes.

    def apply(self, changes: Iterable[model.Change]) -> set[Tag]:
        """Take over changed rows.

        Returns:
            The tags of everything that could have become wrong by it.
        """
        tags: set[Tag] = set()
        members: set[int] = set()
        for change in changes:
            if isinstance(change, model.Put):
                kind, key, new = type(change.row), _key(change.row), change.row
            else:
                kind, key, new = change.kind, change.key, None
            old = self._rows[kind].get(key)
            if old == new and not self._is_eclipsed(new):
                continue
            if kind in _PLACE_ROWS:
                self._interest.clear()
                self._beside.clear()
                self.interest_version += 1
            if kind in BALANCER_ROWS:
                members |= self._change_balancer(kind, key, (old, new), tags)
                continue
            tags |= self._change_row(kind, key, (old, new))
        tags.update(self._networks_of(members))
        self.version += 1
        return tags

    def set_dead_hosts(self, hosts: frozenset[int]) -> set[Tag]:
        """Take over which hosts are held for dead; return the tags that it touches."""
        changed = hosts ^ self.dead_hosts
        self.dead_hosts = hosts
        return {
            vport_tag(status.key)
            for status in self.rows(model.VportStatus)
            if status.host in changed
        }

    def _change_row(
        self, kind: type, key: int | str, rows: tuple[Any, Any]
    ) -> set[Tag]:
        """Take over one row of any other kind; return the tags that it touches."""
        old, new = rows
        there = [row for row in rows if row is not None]
        for row in there:
            self._forget_views(row)
        self._store(kind, key, old, new)
        if kind is model.Vport and _only_migrates(old, new):
            return set()
        tags = self.groups.update(kind, old, new)
        self._note_chains(kind, old, new)
        for row in there:
            self._forget_views(row)
            tags.update(self._tags_of(row))
        return tags

    def _change_balancer(
        self, kind: type, key: int | str, rows: tuple[Any, Any], tags: set[Tag]
    ) -> set[int]:
        """Take over one row of a load balancer.

        Returns:
            Members that came or went: networks around them treat them in another way.
        """
        balancers, (old, new) = self.balancers, rows
        there = [row for row in rows if row is not None]
        devices: set[int] = set()
        members: set[int] = set()

        def note() -> None:
            for row in there:
                tags.add(pool_tag(balancers.pool_of(kind, row)))
                if not is_mild(kind, old, new):
                    devices.update(balancers.devices_of(kind, row))
                    members.update(balancers.members_behind(kind, row))

        note()
        self._store(kind, key, old, new)
        balancers.store(kind, old, new)
        note()
        for device in devices:
            tags.add(device_tag(device))
            self._forget_device(device)
        return members

    def _networks_of(self, members: set[int]) -> Iterator[Tag]:
        """Forget the views of networks where members are, or could be."""
        if not members:
            return
        for key in self._rows[model.Network]:
            view = self._views.get(int(key))
            if view is None:
                yield device_tag(int(key))
            elif isinstance(view, NetworkView) and view.may_hold(members):
                del self._views[int(key)]
                yield device_tag(int(key))

    def _note_chains(self, kind: type, old: Any, new: Any) -> None:
        """Remember the chains whose judgement of live connections may be another now.

        Those whose rules changed, and those that took another one's place.
        """
        if kind is model.Chain and old is not None:
            self._changed_chains.add(old.key)
        if kind not in _WITH_CHAINS or old is None or new is None:
            return
        for was, now in (
            (old.ingress_chain, new.ingress_chain),
            (old.egress_chain, new.egress_chain),
        ):
            if now and was != now:
                self._changed_chains.add(now)
                self._chains.clear()

    def _is_eclipsed(self, row: Any) -> bool:
        """Tell whether another row stands for what a learned row says."""
        if isinstance(row, model.MacEntry):
            return self._macs.get(_natural(row)) is not self._rows[type(row)][row.key]
        if isinstance(row, model.Neighbor):
            known = self._neighbors.get(_natural(row))
            return known is not self._rows[type(row)][row.key]
        return False

    def _store(  # noqa: C901
        self, kind: type, key: int | str, old: Any, new: Any
    ) -> None:
        if new is None:
            self._rows[kind].pop(key, None)
        else:
            self._rows[kind][key] = new
        if kind is model.Vport or kind in _DEVICE_ROWS or kind in _NETWORK_ROWS:
            self._index_by_device(kind, key, old, new)
        self.l2.store(kind, old, new)
        if kind is model.Vport:
            _reindex(self._vport_by_iface, old, new, "iface_id")
        elif kind is model.Host:
            _reindex(self._host_by_name, old, new, "name")
        elif kind is model.MacEntry:
            place = _natural(new if new is not None else old)
            before = self._macs.get(place)
            self._index_natural(self._macs, old, new)
            self.l2.count_macs(before, self._macs.get(place))
        elif kind is model.Neighbor:
            self._index_natural(self._neighbors, old, new)
        elif kind is model.Lease:
            self._count_lease(old, new)
        elif kind is model.IngressSet:
            for vport in old.vports if old else ():
                self._sets_by_vport[vport].discard(key)
            for vport in new.vports if new else ():
                self._sets_by_vport[vport].add(str(key))

    def _count_lease(self, old: Any, new: Any) -> None:
        for row, change in ((old, -1), (new, 1)):
            if row is not None:
                pair = row.router, row.address
                self.leased[pair] += change
                if not self.leased[pair]:
                    del self.leased[pair]

    def _index_by_device(self, kind: type, key: int | str, old: Any, new: Any) -> None:
        if old is not None:
            self._by_device[(kind, _device(old))].pop(key, None)
        if new is not None:
            self._by_device.setdefault((kind, _device(new)), {})[key] = new

    @staticmethod
    def _index_natural(index: dict[tuple[int, int], Any], old: Any, new: Any) -> None:
        # A row of the NSDB replaces what this host had learned by itself; the natural
        # key tells which entry an old row stood for.
        if old is not None and index.get(_natural(old)) is old:
            del index[_natural(old)]
        if new is not None:
            index[_natural(new)] = new

    def _forget_views(self, row: Any) -> None:
        if isinstance(row, model.Chain):
            # Whether a chain is stateful depends on the chains that it jumps to.
            self._chains.clear()
        elif isinstance(row, (model.Network, model.Router)):
            self._forget_device(row.key)
            if isinstance(row, model.Network):
                self._forget_routers(row.key)
        elif type(row) in _NETWORK_ROWS:
            self._views.pop(row.network, None)
        elif isinstance(row, model.IngressSet):
            for device in self._networks_between(row):
                self._views.pop(device, None)
        elif isinstance(row, model.Vport) or type(row) in _DEVICE_ROWS:
            self._forget_device(_device(row))
            peer = self.vport(row.peer) if isinstance(row, model.Vport) else None
            if peer is not None:
                self._forget_device(peer.device)

    def _forget_routers(self, network: int) -> None:
        # The routers around a network know its MTU.
        for vport in self.vports_of(network):
            peer = self.vport(vport.peer) if vport.peer else None
            if peer is not None:
                self._views.pop(peer.device, None)

    def _forget_device(self, device: int) -> None:
        self._views.pop(device, None)
        # The networks around a router answer for its addresses.
        for vport in self.vports_of(device):
            peer = self.vport(vport.peer) if vport.peer else None
            if peer is not None and peer.device in self._rows[model.Network]:
                self._views.pop(peer.device, None)

    def _tags_of(self, row: Any) -> Iterable[Tag]:
        if isinstance(row, model.Vport):
            return self._vport_tags(row)
        if isinstance(row, model.IngressSet):
            return self._set_tags(row)
        if type(row) in _NETWORK_ROWS:
            return (device_tag(row.network),)
        if type(row) in _DEVICE_ROWS:
            return (device_tag(row.router),)
        make_tag = _TAG_OF_ROW.get(type(row))
        return () if make_tag is None else (make_tag(row),)

    def _set_tags(self, row: model.IngressSet) -> Iterator[Tag]:
        yield from map(interest_tag, row.vports)
        rows = list(filter(None, map(self.vport, row.vports)))
        if len({one.device for one in rows}) > 1:
            # Records are looked for at all of these devices.
            yield from (vport_tag(one.key) for one in rows)
        yield from map(device_tag, self._networks_between(row))

    def _networks_between(self, row: model.IngressSet) -> set[int]:
        """Return the networks that a set may have several ways to one segment of."""
        rows = filter(None, map(self.vport, row.vports))
        networks = self._rows[model.Network]
        return {one.device for one in rows if is_way(one) and one.device in networks}

    def _vport_tags(self, row: model.Vport) -> Iterator[Tag]:
        yield vport_tag(row.key)
        yield flood_tag(row.device)
        if (
            row.metadata
            or row.device in self._rows[model.Router]
            or row.key in self._sets_by_vport
        ):
            yield device_tag(row.device)
        yield mac_tag(row.device, row.mac)
        peer = self.vport(row.peer) if row.peer else None
        if peer is not None:
            yield mac_tag(peer.device, row.mac)
            yield mac_tag(row.device, peer.mac)


def _key(row: Any) -> int | str:
    key: int | str = row.key
    return key


def _device(row: Any) -> int:
    if type(row) in _NETWORK_ROWS:
        return int(row.network)
    return int(row.device if isinstance(row, model.Vport) else row.router)


def _natural(row: Any) -> tuple[int, int]:
    if isinstance(row, model.MacEntry):
        return (row.network, row.mac)
    return (row.router, row.address)


def _only_migrates(old: model.Vport | None, new: model.Vport | None) -> bool:
    """Tell whether nothing but a vport's next host differs: no flow depends on that."""
    if old is None or new is None or old.migrating_to == new.migrating_to:
        return False
    return replace(old, migrating_to=new.migrating_to) == new


def _reindex(index: dict[str, int], old: Any, new: Any, column: str) -> None:
    if old is not None and index.get(getattr(old, column)) == old.key:
        del index[getattr(old, column)]
    if new is not None and getattr(new, column):
        index[getattr(new, column)] = new.key
