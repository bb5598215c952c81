# SPDX-License-Identifier: Apache-2.0
"""A virtual router: takes a packet in, finds its route and its next hop.

`simulator` hands it a packet that reached one of its vports; it says by which vport the
packet leaves, or how it ended. The order of steps is in the room's design note.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Union

from midoryu.packet import field
from midoryu.packet.address import (
    format_ip,
    is_group_mac,
    is_link_local,
    is_martian,
    is_multicast_ip,
    is_v4,
    link_local_of,
)
from midoryu.simulation import balancer, nat, neighbor
from midoryu.simulation.answer import Complaint, complain, deliver, refuse
from midoryu.simulation.filter import Verdict, evaluate
from midoryu.simulation.outcome import (
    Blocked,
    Consumed,
    Drop,
    ErrorDrop,
    NeighborWanted,
    Outcome,
    Reason,
)
from midoryu.simulation.size import clamp, fit
from midoryu.simulation.walk import Walk
from midoryu.simulation.world import READ_IP_DST, READ_IP_SRC, READ_TUPLE
from midoryu.state.connection import Direction
from midoryu.topology.model import Route, RouteKind, Vport
from midoryu.topology.rendezvous import choose, digest
from midoryu.topology.snapshot import RouterView
from midoryu.topology.tag import device_tag, flood_tag, neighbor_tag, vport_tag

_EVERYBODY: Final = 0
Next = Union[Vport, Outcome]


def forward(walk: Walk, router: RouterView, vport: Vport) -> Next:
    """Route a packet that reached a vport.

    Returns:
        The vport to leave by (the headers are ready for its link), or how it ended.
    """
    walk.tags.add(device_tag(router.row.key))
    walk.arrive()
    if not router.row.up:
        return Drop(Reason.ADMIN_DOWN)
    if walk.is_neighbor_talk and not walk.packet.vlan:
        return _talk(walk, router, vport)
    ended = _unroutable(walk, router, vport) or nat.inbound(walk, router, vport)
    if ended is not None:
        return ended
    verdict = evaluate(walk, router.row.ingress_chain)
    if verdict is not Verdict.ACCEPT:
        return filtered(walk, vport, verdict)
    walk.fields |= READ_IP_DST
    if _is_local(router, vport, walk.headers.ip_dst):
        if router.nat.balancing.vips and balancer.is_probe_reply(walk):
            return Consumed(Reason.PROBE)
        return deliver(walk, vport)
    return _route(walk, router, vport)


def _unroutable(walk: Walk, router: RouterView, vport: Vport) -> Union[Outcome, None]:
    """Drop what a router does not take, whatever its rules say."""
    headers = walk.headers
    if walk.packet.vlan or not walk.is_ip:
        return Drop(Reason.NOT_IP)
    walk.fields |= field.ETH_DST
    if headers.eth_dst != vport.mac:
        group = is_group_mac(headers.eth_dst)
        return Drop(Reason.NOT_ROUTED if group else Reason.NOT_FOR_ROUTER)
    walk.fields |= READ_IP_DST
    if is_multicast_ip(headers.ip_dst) or headers.ip_dst in router.broadcasts:
        return Drop(Reason.NOT_ROUTED)
    if is_martian(headers.ip_dst) or _has_bad_source(walk, router):
        return Drop(Reason.MARTIAN)
    return None


def _has_bad_source(walk: Walk, router: RouterView) -> bool:
    """Tell whether no packet on a link can have its source.

    Source: RFC 1812, section 5.3.7. Only a packet that fails counts as read, or every
    routed flow would be of one source: where a flow stands already, the switch drops
    such packets before it (`openflow.base_flows`, `engine.impostors`).
    """
    source = walk.headers.ip_src
    bad = is_martian(source) or is_multicast_ip(source) or source in router.broadcasts
    if not bad and (walk.generated or source not in router.local):
        return False
    walk.fields |= READ_IP_SRC
    return True


def filtered(walk: Walk, vport: Vport, verdict: Verdict) -> Outcome:
    """End a packet that a chain refused; a rejecting one lets the sender know."""
    if verdict is Verdict.REJECT:
        return refuse(walk, vport, Reason.REJECTED)
    return Drop(Reason.FILTERED)


def _is_local(router: RouterView, vport: Vport, address: int) -> bool:
    return address in router.local or (
        is_link_local(address) and address == link_local_of(vport.mac)
    )


def _talk(walk: Walk, router: RouterView, vport: Vport) -> Outcome:
    """Hear ARP and ND, and answer for own addresses and NAT addresses on the link."""
    walk.fields |= field.PAYLOAD
    neighbor.hear(walk, router, vport)
    address = neighbor.asked_address(walk.packet)
    on_link = any((a.value ^ address) & a.mask == 0 for a in vport.addresses)
    if address and (
        any(address == own.value for own in vport.addresses)
        or address == link_local_of(vport.mac)
        or (on_link and address in router.nat.addresses)
    ):
        neighbor.answer(walk, vport.key, vport.mac, is_router=True)
    return Consumed(Reason.ANSWERED)


def _route(walk: Walk, router: RouterView, vport: Vport) -> Next:
    headers = walk.headers
    if not is_v4(headers.ip_src):
        walk.fields |= READ_IP_SRC
    if is_link_local(headers.ip_dst) or is_link_local(headers.ip_src):
        return Drop(Reason.NOT_ROUTED)
    route = _find_route(walk, router, vport)
    if route is None or route.kind is not RouteKind.FORWARD:
        return _no_way(walk, vport, route)
    if headers.ip_ttl <= 1:
        return complain(walk, vport, Complaint.TTL_EXCEEDED, Reason.TTL_EXCEEDED)
    headers.ip_ttl -= 1
    walk.hops += 1
    leaving = router.vports[route.vport]
    walk.tags.add(vport_tag(leaving.key))
    if router.is_narrow:
        ended = fit(walk, router, vport, leaving)
        if ended is not None:
            return ended
    if router.clamps:
        clamp(walk, router, vport, leaving)
    verdict = evaluate(walk, router.row.egress_chain)
    if verdict is not Verdict.ACCEPT:
        return filtered(walk, vport, verdict)
    # The next hop follows from the routed destination, before SNAT.
    next_hop = route.gateway or headers.ip_dst
    ended = nat.outbound(walk, router, vport, leaving)
    if ended is not None:
        return ended
    return _resolve(walk, router, leaving, next_hop)


def _no_way(walk: Walk, vport: Vport, route: Union[Route, None]) -> Outcome:
    """End a packet that no route takes on; a blackhole is silent.

    Source: RFC 1812, section 5.2.7.1.
    """
    if route is None:
        return complain(walk, vport, Complaint.NO_ROUTE, Reason.NO_ROUTE)
    if route.kind is RouteKind.BLACKHOLE:
        return Drop(Reason.BLACKHOLE)
    return complain(walk, vport, Complaint.PROHIBITED, Reason.ROUTE_REJECT)


def _find_route(walk: Walk, router: RouterView, vport: Vport) -> Union[Route, None]:
    """Choose among the usable routes of the longest prefix that has any.

    Source: RFC 1812, section 5.2.4.3 (longest match, then metric); of those a route for
    fewer sources wins.
    """
    destination, routes = walk.headers.ip_dst, router.routes
    if routes.shared and vport.key in routes.shared:
        # Its answers shall leave where it came in, not where their hash says.
        _keep_way(walk)
    topology = walk.world.topology
    found = _search(walk, router, destination, topology.is_up)
    if found is None and topology.dead_hosts:
        # Who is held for dead may live, and nobody else is left.
        found = _search(walk, router, destination, topology.seems_up)
    return found


def _search(
    walk: Walk, router: RouterView, destination: int, is_up: Callable[[Vport], bool]
) -> Union[Route, None]:
    for group in router.routes.lookup(destination):
        usable = [one for one in group if _is_usable(walk, router, one, is_up)]
        if usable:
            first = usable[0]
            rank = first.metric, first.source.length
            best = [one for one in usable if (one.metric, one.source.length) == rank]
            route = best[0] if len(best) == 1 else _choose(walk, router, best)
            if walk.steps is not None:
                via = format_ip(route.gateway) if route.gateway else "on link"
                walk.note(router.row.name, "route", f"{route.destination} {via}")
            return route
    return None


def _is_usable(
    walk: Walk, router: RouterView, route: Route, is_up: Callable[[Vport], bool]
) -> bool:
    if route.source.length != _EVERYBODY:
        walk.fields |= READ_IP_SRC
        if not route.source.contains(walk.headers.ip_src):
            return False
    if route.kind is not RouteKind.FORWARD:
        return True
    vport = router.vports.get(route.vport)
    if vport is None:
        return False
    if is_up(vport):
        return True
    # When it comes up, this packet's flow has to be thought over.
    walk.tags.update((vport_tag(vport.key), vport_tag(vport.peer)))
    return False


def _choose(walk: Walk, router: RouterView, routes: list[Route]) -> Route:
    """Choose among equal-cost routes: the connection's own way, else by rendezvous.

    Every host makes the same choice, and a connection keeps its way while it is there.
    The record knows the vport; among gateways behind one the hash goes on deciding.
    """
    # The record holds the choice when routes come: they get new connections only.
    _keep_way(walk)
    hit = walk.hit
    if hit is not None:
        connection, direction = hit
        own = (
            connection.egress_vport
            if direction is Direction.FORWARD
            else connection.ingress_vport
        )
        routes = [route for route in routes if route.vport == own] or routes
        if len(routes) == 1:
            return routes[0]
    key: tuple[int, ...]
    if walk.is_error or walk.packet.ip_frag:
        walk.fields |= READ_IP_SRC | READ_IP_DST | field.IP_FRAG
        key = (walk.headers.ip_src, walk.headers.ip_dst)
    else:
        walk.fields |= READ_TUPLE
        key = (walk.ip_proto, *walk.tuple4())
    candidates = [
        (digest((route.vport, route.gateway)), route.weight) for route in routes
    ]
    return routes[choose(key, candidates)]


def _keep_way(walk: Walk) -> None:
    """Let a record hold the way that a new connection takes."""
    if not (walk.generated or walk.is_error or walk.packet.ip_frag):
        walk.look_up()
        walk.tracked |= walk.hit is None and walk.is_beginning


def _resolve(walk: Walk, router: RouterView, leaving: Vport, next_hop: int) -> Next:
    key = router.row.key
    walk.tags.add(neighbor_tag(key, next_hop))
    if _is_local(router, leaving, next_hop):
        return ErrorDrop(Reason.LOOP)
    topology = walk.world.topology
    peer = topology.vport(leaving.peer) if leaving.peer else None
    network = topology.network(peer.device) if peer is not None else None
    if network is not None and next_hop not in network.mac_by_ip:
        # A vport that gets this address goes before what was heard.
        walk.tags.add(flood_tag(network.row.key))
    mac = topology.neighbor_mac(leaving, next_hop)
    if not mac:
        return Blocked(NeighborWanted(key, leaving.key, next_hop))
    walk.headers.eth_src = leaving.mac
    walk.headers.eth_dst = mac
    return leaving
