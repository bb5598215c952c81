# SPDX-License-Identifier: Apache-2.0
"""Uplinks of a NAT address: where packets to it come in from outside the overlay.

`engine.port_blocks` asks `uplinks_of`, and has the hosts of the uplinks send such
packets straight to the host that knows their connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, Union

from midoryu.topology.model import Route, RouteKind, Vport
from midoryu.topology.snapshot import Topology
from midoryu.topology.view import RouterView, subnets

# Routers between an uplink and the router that has the address; more is a loop.
_DEPTH: Final = 8
# ::/0, and 0.0.0.0/0 as it is kept.
_DEFAULT_LENGTHS: Final = (0, 96)


class Uplink(NamedTuple):
    """An exterior vport by which packets to a NAT address come in."""

    vport: int
    """Its key."""
    mac: int
    """MAC address of the router that they are sent to there."""
    equals: tuple[int, ...]
    """Uplinks where the same would happen to a packet, itself among them, ascending."""


class Uplinks(NamedTuple):
    """What leads to one NAT address."""

    uplinks: tuple[Uplink, ...]
    devices: frozenset[int]
    """Routers and networks whose rows decide it."""


def uplinks_of(  # noqa: C901
    topology: Topology, router: int, address: int
) -> Uplinks:
    """Find the uplinks of a NAT address of a router.

    Exterior vports of the router, of the routers that its routes lead to, and those of
    the networks between them where anybody may be (without addresses of their own): of
    these the ones from where routes lead straight back to the router. An uplink that is
    not found costs speed only.
    """
    found: dict[int, tuple[Vport, int]] = {}
    devices = {router}
    todo = [router]
    for key in todo:
        view = topology.router(key)
        if view is None or not _leads_to(topology, key, address, router, devices):
            continue
        for vport in view.vports.values():
            if not vport.peer:
                found[vport.key] = (vport, vport.mac)
        for vport in _outward(topology, view, address, is_first=key == router):
            peer = topology.vport(vport.peer)
            if peer is None or peer.device in devices:
                continue
            devices.add(peer.device)
            network = topology.network(peer.device)
            if network is None:
                todo.append(peer.device)
                continue
            for one in network.exterior:
                if not one.addresses and not one.parent and not one.metadata:
                    found[one.key] = (one, vport.mac)
            for one in network.interior:
                other = topology.vport(one.peer)
                if other is not None and other.device not in devices:
                    devices.add(other.device)
                    todo.append(other.device)
    vports = {key: vport for key, (vport, _) in found.items()}
    uplinks = (
        Uplink(key, mac, _equals(topology, vport, vports))
        for key, (vport, mac) in sorted(found.items())
    )
    return Uplinks(tuple(uplinks), frozenset(devices))


def _outward(
    topology: Topology, view: RouterView, address: int, *, is_first: bool
) -> Iterator[Vport]:
    """Yield the interior vports by which translated packets may leave a router."""
    wanted: set[int] = set()
    gateways: set[int] = set()
    for rule in view.nat.masquerades if is_first else ():
        if address in rule.addresses:
            wanted.add(rule.vport)
    if not is_first or 0 in wanted:
        for route in topology.rows_of(Route, view.row.key):
            if is_first or route.destination.length in _DEFAULT_LENGTHS:
                wanted.add(route.vport)
                gateways.add(route.gateway if not route.vport else 0)
    gateways = (gateways | {address}) - {0}
    for vport in view.vports.values():
        if vport.peer and (
            vport.key in wanted
            or any(
                subnet.contains(one) for subnet in subnets(vport) for one in gateways
            )
        ):
            yield vport


def _leads_to(
    topology: Topology, start: int, address: int, router: int, devices: set[int]
) -> bool:
    """Tell whether routes lead from one router to another, one way only."""
    key = start
    for _ in range(_DEPTH):
        if key == router:
            return True
        devices.add(key)
        view = topology.router(key)
        if view is None or address in view.nat.addresses or address in view.local:
            return False
        route = _only_route(view, address)
        key = _next_router(topology, view, route, address) if route is not None else 0
    return False


def _only_route(view: RouterView, address: int) -> Union[Route, None]:
    for group in view.routes.lookup(address):
        best = [route for route in group if route.metric == group[0].metric]
        route = best[0]
        is_plain = route.kind is RouteKind.FORWARD and not route.source.length
        return route if len(best) == 1 and is_plain else None
    return None


def _next_router(
    topology: Topology, view: RouterView, route: Route, address: int
) -> int:
    vport = view.vports.get(route.vport)
    peer = topology.vport(vport.peer) if vport is not None and vport.peer else None
    if peer is None:
        return 0
    network = topology.network(peer.device)
    if network is None:
        return peer.device
    mac = network.mac_by_ip.get(route.gateway or address, 0)
    at = topology.vport(network.vport_by_mac.get(mac, 0))
    beyond = topology.vport(at.peer) if at is not None and at.peer else None
    return beyond.device if beyond is not None else 0


def _equals(
    topology: Topology, vport: Vport, vports: dict[int, Vport]
) -> tuple[int, ...]:
    keys = {vport.key}
    for one in topology.ingress_sets(vport.key):
        keys.update(
            key for key in one.vports if key in vports and _alike(vport, vports[key])
        )
    return tuple(sorted(keys))


def _alike(one: Vport, other: Vport) -> bool:
    return _character(one) == _character(other)


def _character(vport: Vport) -> tuple[object, ...]:
    return (
        vport.device,
        vport.up,
        vport.ingress_chain,
        vport.egress_chain,
        vport.port_security and vport.key,
        vport.allowed,
        vport.mtu,
        vport.mss_clamp,
    )
