# SPDX-License-Identifier: Apache-2.0
"""Load balancing: a VIP's member is chosen once, and the record keeps the choice.

`nat` asks on a router, where a VIP is a DNAT rule that chooses; `network` asks on a
network, which translates by itself. `topology.balancer` has the pools.

A member on a network may answer a client beside it without passing the device that
translated: the network undoes then, by the record at the member's vport, what was done
on the way. There too a source port gives way where a member would see two connections
with one tuple: one by a VIP, one straight.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Union

from midoryu.packet import field, protocol
from midoryu.packet.address import Prefix, is_v4
from midoryu.simulation.answer import deliver, refuse
from midoryu.simulation.binding import bind, repeat
from midoryu.simulation.outcome import Consumed, Drop, ErrorDrop, Outcome, Reason
from midoryu.simulation.readdress import set_destination, set_source
from midoryu.simulation.walk import PORT_PROTOCOLS, Walk
from midoryu.simulation.world import READ_IP_DST, READ_IP_SRC
from midoryu.state.connection import Direction, Translation, TranslationKind
from midoryu.topology.balancer import Balancing, CompiledPool, PoolMember, Vip
from midoryu.topology.model import Vport
from midoryu.topology.rendezvous import digest
from midoryu.topology.snapshot import NetworkView
from midoryu.topology.tag import flood_tag, pool_tag

_ECHO: Final = (
    (protocol.ICMP, protocol.ICMP_ECHO_REQUEST),
    (protocol.ICMPV6, protocol.ICMPV6_ECHO_REQUEST),
)
# Where other source ports come from, and how many are looked at.
_FIRST_PORT: Final = 1024
_PORTS: Final = 0x1_0000 - _FIRST_PORT
_TRIES: Final = 64


def serve(
    walk: Walk, balancing: Balancing, device: int, vport: Vport
) -> Union[Outcome, None]:
    """Lead a new connection to a member, if it calls a VIP.

    Args:
        walk: at the device, its connection looked up in vain.
        balancing: of the device.
        device: its key.
        vport: who speaks where the packet is answered here.

    Returns:
        How the packet ended here; None where it goes on, translated or not.
    """
    _, destination, _, port = walk.tuple4()
    vip = balancing.find(destination, walk.ip_proto, port)
    packet = walk.packet
    if vip is None or (packet.ip_proto, packet.headers.l4_src) in _ECHO:
        return None
    if walk.is_error or walk.generated:
        return Drop(Reason.NO_BINDING)
    pool = walk.world.topology.balancers.pool(vip.pool)
    member = _choose(walk, vip, pool) if pool is not None else None
    if member is None or pool is None:
        walk.tags.add(pool_tag(vip.pool))
        if walk.steps is not None:
            name = pool.row.name if pool is not None else vip.pool
            walk.note(f"pool {name}", "choose", "no usable member")
        if pool is not None and not pool.row.rejects:
            return Drop(Reason.NO_MEMBER)
        return refuse(walk, vport, Reason.NO_MEMBER)
    to_port = member.port or port
    kind = TranslationKind.DESTINATION
    bind(walk, Translation(device, kind, member.address, to_port))
    return None


def _choose(walk: Walk, vip: Vip, pool: CompiledPool) -> Union[PoolMember, None]:
    """Choose a member: the source's own one with affinity, else by rendezvous."""
    tuple4 = walk.tuple4()
    key: tuple[int, ...] = (walk.ip_proto, *tuple4)
    if pool.row.affinity_s:
        source = tuple4[0]
        affinity = walk.world.affinity
        known = affinity.find(vip.pool, source) if affinity is not None else None
        if known is not None:
            member = pool.usable(*known)
            if member is not None and is_v4(member.address) == is_v4(tuple4[1]):
                return member
        key = (source,)
    return pool.choose(key, v4=is_v4(tuple4[1]))


def is_balanced(walk: Walk, balancing: Balancing, device: int) -> bool:
    """Tell whether the device has just led a new connection to a member."""
    return walk.hit is None and any(
        translation.device == device
        and translation.kind is TranslationKind.DESTINATION
        and translation.address in balancing.targets
        for translation in walk.translations
    )


def calls_itself(walk: Walk) -> bool:
    """Tell whether a member would get a packet from its own address."""
    return walk.headers.ip_src == walk.headers.ip_dst


def hide_behind_vip(walk: Walk, device: int) -> None:
    """Let a member that calls its own VIP see the VIP as the caller."""
    bind_source(walk, device, vip_address(walk, device))


def vip_address(walk: Walk, device: int) -> int:
    """Return the VIP that a new connection called at a device."""
    address = walk.original_tuple4()[1]
    for translation in walk.translations:
        is_own = translation.device == device
        if is_own and translation.kind is TranslationKind.DESTINATION:
            return address
        if translation.kind in (
            TranslationKind.DESTINATION,
            TranslationKind.FLOATING_DESTINATION,
        ):
            address = translation.address
    return address


def bind_source(walk: Walk, device: int, address: int, *, seen_at: int = 0) -> None:
    """Translate the source so that no other connection has the same return tuple.

    Args:
        walk: a new connection, its destination translated already.
        device: who translates.
        address: the new source.
        seen_at: device where answers come in; 0 for the translating one.
    """
    _, destination, port, to_port = walk.tuple4()
    proto = walk.ip_proto
    if proto in PORT_PROTOCOLS:
        seed = digest((port, address, destination))
        tries = range(_TRIES)
        others = (_FIRST_PORT + (seed + one * 7919) % _PORTS for one in tries)
        for candidate in (port, *others):
            at = seen_at or device
            key = (at, proto, destination, address, to_port, candidate)
            hit = walk.world.connections.find(key)
            if hit is None or hit.connection is walk.unfinished:
                port = candidate
                break
    bind(walk, Translation(device, TranslationKind.SOURCE, address, port))


# On a network.


def enter(walk: Walk, network: NetworkView, vport: Vport) -> Union[Outcome, None]:
    """Translate what enters a network: to a member, or back from one.

    Returns:
        How the packet ended here, None when nothing keeps it from going on.
    """
    balancing, device = network.balancing, network.row.key
    assert balancing is not None
    walk.fields |= READ_IP_SRC | READ_IP_DST
    before = walk.headers.ip_dst
    if walk.hit is None and _concerns(walk, balancing):
        if walk.is_later_fragment:
            return ErrorDrop(Reason.FRAGMENT)
        walk.track()
        if walk.hit is None and not walk.translations:
            # One that was just translated is new: what looks like it is another.
            walk.find_at(device)
    if walk.hit is not None:
        repeat(walk, device, after_routing=False)
    if before == walk.headers.ip_dst and before in balancing.vips:
        ended = _answer_or_serve(walk, network, vport)
        if ended is not None:
            return ended
    if before != walk.headers.ip_dst:
        _aim(walk, network)
    elif walk.headers.eth_dst == balancing.mac:
        return Drop(Reason.NO_BINDING)
    return None


def _answer_or_serve(
    walk: Walk, network: NetworkView, vport: Vport
) -> Union[Outcome, None]:
    balancing, device = network.balancing, network.row.key
    assert balancing is not None
    vip = walk.headers.ip_dst
    if is_probe_reply(walk):
        return Consumed(Reason.PROBE)
    if walk.hit is not None:
        return Drop(Reason.NO_BINDING)
    speaker = replace(vport, mac=balancing.mac, addresses=(Prefix(vip, 128),))
    ended = serve(walk, balancing, device, speaker)
    if ended is not None:
        return ended
    if walk.headers.ip_dst == vip:
        return deliver(walk, speaker)
    if calls_itself(walk):
        hide_behind_vip(walk, device)
    return None


def is_probe_reply(walk: Walk) -> bool:
    """Tell whether a packet answers what a device asked a member."""
    if walk.hit is None:
        walk.track()
    hit = walk.hit
    return (
        hit is not None
        and hit.direction is Direction.RETURN
        and not hit.connection.ingress_vport
    )


def _concerns(walk: Walk, balancing: Balancing) -> bool:
    """Tell whether a packet may belong to a connection with a member."""
    source, destination, source_port, port = walk.tuple4()
    if walk.quoted is not None:
        walk.fields |= field.PAYLOAD
    proto = walk.ip_proto
    if destination in balancing.vips:
        return True
    if not (
        source in balancing.targets
        or destination in balancing.targets
        or source in walk.world.connections.targets
    ):
        return False
    walk.fields |= field.IP_PROTO
    if proto not in PORT_PROTOCOLS:
        return True
    walk.fields |= field.L4_SRC | field.L4_DST
    return (
        balancing.is_service(source, proto, source_port)
        or balancing.is_service(destination, proto, port)
        or source in walk.world.connections.targets
    )


def _aim(walk: Walk, network: NetworkView) -> None:
    """Address a translated frame to the member's MAC address, or to a router."""
    walk.tags.add(flood_tag(network.row.key))
    headers, topology = walk.headers, walk.world.topology
    mac = network.mac_by_ip.get(headers.ip_dst, 0)
    if not mac and network.balancing and headers.eth_dst == network.balancing.mac:
        for vport in network.interior:
            peer = topology.vport(vport.peer)
            router = topology.router(peer.device) if peer is not None else None
            if peer is not None and router is not None:
                mac = mac or peer.mac
                if any(router.routes.lookup(headers.ip_dst)):
                    mac = peer.mac
                    break
    if mac:
        headers.eth_dst = mac


def leave(walk: Walk, network: NetworkView, vport: Vport, target: Vport) -> None:
    """Translate what leaves a network by a vport that was found."""
    balancing, device = network.balancing, network.row.key
    assert balancing is not None
    if target.key == vport.key:
        walk.headers.eth_src = balancing.mac
    if walk.hit is not None:
        repeat(walk, device, after_routing=True)
        come_back(walk, target.key)
    elif walk.tracked and not target.peer and not walk.is_error:
        _keep_apart(walk, balancing, device)


def come_back(walk: Walk, vport: int) -> None:
    """Undo what devices did, for an answer that goes to its client past them."""
    assert walk.hit is not None
    connection, direction = walk.hit
    if (
        direction is Direction.RETURN
        and connection.translations
        and connection.ingress_vport == vport
    ):
        source, destination, source_port, port = connection.original
        set_source(walk, destination, port)
        set_destination(walk, source, source_port)


def _keep_apart(walk: Walk, balancing: Balancing, device: int) -> None:
    """Move the source port of a connection whose answers would look like another's."""
    source, destination, source_port, port = walk.tuple4()
    proto = walk.ip_proto
    if proto not in PORT_PROTOCOLS or walk.generated:
        return
    if not balancing.is_service(destination, proto, port):
        return
    key = (device, proto, destination, source, port, source_port)
    walk.tags.add(key)
    hit = walk.world.connections.find(key)
    if hit is not None and hit.connection is not walk.unfinished:
        bind_source(walk, _last_device(walk, device), source, seen_at=device)


def _last_device(walk: Walk, device: int) -> int:
    """Return who shall move the source: who moved the destination, else `device`."""
    moved = [
        one.device
        for one in walk.translations
        if one.kind is TranslationKind.DESTINATION
    ]
    return moved[-1] if moved else device
