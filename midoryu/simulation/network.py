# SPDX-License-Identifier: Apache-2.0
"""A virtual L2 switch: learns, answers ARP and ND, forwards or floods.

`simulator` hands it a packet that entered by one of its vports; it says by which vport
the packet leaves, or that it goes everywhere.
"""

from __future__ import annotations

from typing import Final, Union

from midoryu.packet import field
from midoryu.packet.address import is_group_mac, is_multicast_ip
from midoryu.simulation import balancer, multicast, neighbor, segment, services
from midoryu.simulation.answer import turn_back
from midoryu.simulation.filter import Verdict, evaluate
from midoryu.simulation.multicast import Members
from midoryu.simulation.outcome import (
    Consumed,
    Drop,
    ErrorDrop,
    MacSeen,
    Outcome,
    Reason,
)
from midoryu.simulation.walk import Walk
from midoryu.simulation.world import READ_IP_DST
from midoryu.topology.model import Vport
from midoryu.topology.snapshot import NetworkView
from midoryu.topology.tag import device_tag, flood_tag, mac_tag

# IEEE 802.1Q, table 8-1: 01-80-C2-00-00-00 to -0F never pass a bridge.
_RESERVED_MACS: Final = 0x0180_C200_0000


class Everywhere:
    """The packet goes to every vport of the network but the one it came from."""


EVERYWHERE = Everywhere()


def forward(  # noqa: C901
    walk: Walk, network: NetworkView, vport: Vport
) -> Union[Vport, Everywhere, Members, Outcome]:
    """Switch a packet that came in by a vport.

    Returns:
        The vport to leave by, EVERYWHERE, some `Members`, or how it ended here.
    """
    row, topology = network.row, walk.world.topology
    walk.tags.add(device_tag(row.key))
    headers = walk.headers
    if not walk.hops:
        # Behind a router the addresses are its own, whatever came in.
        walk.fields |= field.ETH_SRC | field.ETH_DST
    refusal = _refusal(walk, network, vport)
    if refusal is not None:
        return refusal
    _learn(walk, network, vport)
    if walk.is_neighbor_talk and not walk.packet.vlan:
        walk.fields |= neighbor.READ_QUESTION
        _let_routers_hear(walk, network, vport)
        if _answered(walk, network, vport):
            return Consumed(Reason.ANSWERED)
    tagged = walk.packet.vlan != 0
    if network.services is not None and not (walk.generated or tagged):
        served = services.serve(walk, network.services, vport)
        if served is not None:
            return served
    balanced = network.balancing is not None and walk.is_ip and not walk.packet.vlan
    asked_mac = headers.eth_dst
    if is_group_mac(asked_mac):
        walk.tags.add(flood_tag(row.key))
        if row.multicast_snooping and _is_ip_multicast(walk):
            return multicast.forward(walk, network, vport) or EVERYWHERE
        return EVERYWHERE
    if balanced:
        ended = balancer.enter(walk, network, vport)
        if ended is not None:
            return ended
    walk.tags.add(mac_tag(row.key, headers.eth_dst))
    station = segment.station(walk, network, headers.eth_dst)
    at = topology.mac_location(network, station)
    if network.segments:
        at = segment.way_to(walk, network, at)
    target = topology.vport(at)
    if target is None:
        walk.tags.add(flood_tag(row.key))
        return EVERYWHERE
    if target.key == vport.key and headers.eth_dst == asked_mac:
        return ErrorDrop(Reason.SAME_VPORT)
    if balanced:
        balancer.leave(walk, network, vport, target)
    return target


def _refusal(walk: Walk, network: NetworkView, vport: Vport) -> Union[Outcome, None]:
    if not network.row.up:
        return Drop(Reason.ADMIN_DOWN)
    if walk.packet.vlan and not network.row.vlan_transparent:
        return Drop(Reason.TAGGED)
    reserved = walk.headers.eth_dst & ~0xF == _RESERVED_MACS
    if reserved and not network.row.forward_bpdu:
        return Drop(Reason.RESERVED_MAC)
    if is_group_mac(walk.headers.eth_src):
        return Drop(Reason.BAD_SOURCE_MAC)
    verdict = evaluate(walk, network.row.ingress_chain)
    if verdict is Verdict.REJECT:
        walk.arrive()
        return turn_back(walk, vport, Reason.REJECTED)
    return None if verdict is Verdict.ACCEPT else Drop(Reason.FILTERED)


def _is_ip_multicast(walk: Walk) -> bool:
    if not walk.is_ip or walk.packet.vlan:
        return False
    walk.fields |= READ_IP_DST
    return is_multicast_ip(walk.headers.ip_dst)


def _learn(walk: Walk, network: NetworkView, vport: Vport) -> None:
    """Note where the source is, unless the topology says where it belongs."""
    mac, key = walk.headers.eth_src, network.row.key
    walk.tags.add(mac_tag(key, mac))
    if mac in network.vport_by_mac:
        return
    mac = segment.station(walk, network, mac)
    at = walk.world.topology.mac_location(network, mac)
    if at != vport.key and at not in network.segments.get(vport.key, ()):
        walk.learned.append(MacSeen(key, mac, vport.key))


def _let_routers_hear(walk: Walk, network: NetworkView, vport: Vport) -> None:
    topology = walk.world.topology
    for other in network.interior:
        peer = topology.vport(other.peer)
        router = topology.router(peer.device) if peer is not None else None
        if peer is not None and router is not None and other.key != vport.key:
            neighbor.hear(walk, router, peer)


def _answered(walk: Walk, network: NetworkView, vport: Vport) -> bool:
    address = neighbor.asked_address(walk.packet)
    mac = network.mac_by_ip.get(address, 0) if address else 0
    if not mac or walk.packet.vlan:
        return False
    # A question that comes from where the answer is stays unanswered: the owner probes.
    at = network.vport_by_mac.get(mac)
    if at == vport.key:
        return False
    is_router = any(other.key == at for other in network.interior)
    neighbor.answer(walk, vport.key, mac, is_router=is_router)
    if walk.steps is not None:
        walk.note(network.row.name, "answer", "ARP or ND from the topology")
    return True
