# SPDX-License-Identifier: Apache-2.0
"""All rows of the topology, put together so that the simulation can ask questions.

`model` has the rows, `view` the devices made of them, `chains` the compiled filters.
Views are made at first use and dropped when a row behind them changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from midoryu.packet.address import link_local_of
from midoryu.topology import model
from midoryu.topology.balancer import BALANCER_ROWS, Balancers, is_mild
from midoryu.topology.chains import CompiledChain, compile_chain
from midoryu.topology.groups import Groups
from midoryu.topology.mtu import DEFAULT_UNDERLAY_MTU, tunnel_overhead
from midoryu.topology.rows import (
    DEVICE_ROWS,
    NETWORK_ROWS,
    Rows,
    device_of,
)
from midoryu.topology.segment import designated
from midoryu.topology.tag import (
    Tag,
    device_tag,
    pool_tag,
    vport_tag,
)
from midoryu.topology.tags_of import networks_between, tags_of
from midoryu.topology.view import NetworkView as NetworkView
from midoryu.topology.view import RouterView as RouterView
from midoryu.topology.view import subnets as subnets

# Sets of vports whose interested hosts are kept until a row changes.
_MAX_INTEREST: Final = 4096
_WITH_CHAINS = (model.Network, model.Router, model.Vport)
# What says where vports are and who shares their connections.
_PLACE_ROWS = (model.Host, model.Vport, model.VportStatus, model.IngressSet)


class Topology(Rows):
    """Every known row, and views made of them."""

    def __init__(self) -> None:
        super().__init__()
        self.version = 0
        """Counts the changes applied so far."""
        self.default_mtu = DEFAULT_UNDERLAY_MTU - tunnel_overhead("gre", ipv6=False)
        """Largest IP packet that a tunnel carries whole, bytes; set once, at start."""
        self.assumed_mtu = 0
        """What may come in by any link, bytes; 0 where links keep to their MTU."""
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
            tags.update(tags_of(self, row))
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

    def _forget_views(self, row: Any) -> None:
        if isinstance(row, model.Chain):
            # Whether a chain is stateful depends on the chains that it jumps to.
            self._chains.clear()
        elif isinstance(row, (model.Network, model.Router)):
            self._forget_device(row.key)
            if isinstance(row, model.Network):
                self._forget_routers(row.key)
        elif type(row) in NETWORK_ROWS:
            self._views.pop(row.network, None)
        elif isinstance(row, model.IngressSet):
            for device in networks_between(self, row):
                self._views.pop(device, None)
        elif isinstance(row, model.Vport) or type(row) in DEVICE_ROWS:
            self._forget_device(device_of(row))
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


def _key(row: Any) -> int | str:
    key: int | str = row.key
    return key


def _only_migrates(old: model.Vport | None, new: model.Vport | None) -> bool:
    """Tell whether nothing but a vport's next host differs: no flow depends on that."""
    if old is None or new is None or old.migrating_to == new.migrating_to:
        return False
    return replace(old, migrating_to=new.migrating_to) == new
