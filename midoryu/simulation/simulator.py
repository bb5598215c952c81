# SPDX-License-Identifier: Apache-2.0
"""One packet's whole way: from the vport where it enters to the vports where it leaves.

`simulate` takes a frame that came in from outside the overlay, `simulate_emission` one
that a virtual device made. Both move a `Walk` from device to device until it ends.
"""

from __future__ import annotations

from typing import Final, Union

from midoryu.packet import field, protocol
from midoryu.packet.address import is_forged, is_group_mac
from midoryu.packet.codec import decode
from midoryu.packet.packet import Packet
from midoryu.simulation import balancer, network, router, segment, services
from midoryu.simulation.answer import Complaint, complain, turn_back
from midoryu.simulation.filter import Verdict, evaluate, expect_return
from midoryu.simulation.multicast import Members
from midoryu.simulation.network import EVERYWHERE, Everywhere
from midoryu.simulation.outcome import (
    Blocked,
    Consumed,
    Drop,
    Emission,
    ErrorDrop,
    Flood,
    Forward,
    Outcome,
    Reason,
    Simulation,
    StateWanted,
)
from midoryu.simulation.port import is_allowed
from midoryu.simulation.record import record_of
from midoryu.simulation.result import result
from midoryu.simulation.walk import Walk
from midoryu.simulation.world import READ_IP_SRC, World
from midoryu.state.connection import Direction, TranslationKind
from midoryu.state.table import Hit
from midoryu.topology.model import Vport
from midoryu.topology.mtu import IPV4_MINIMUM_MTU, vport_mtu
from midoryu.topology.snapshot import NetworkView
from midoryu.topology.tag import device_tag, flood_tag, vport_tag

# RFC 894: what every Ethernet interface has.
_USUAL_MTU: Final = 1500
# Devices that one packet may cross; more is a loop.
DEVICE_BUDGET: Final = 32


def simulate(
    packet: Packet,
    vport: Vport,
    world: World,
    *,
    now: float,
    give_up: bool = False,
    ask_peers: bool = False,
    has_memory: bool = True,
    trace: bool = False,
) -> Simulation:
    """Simulate a packet that enters the overlay by an exterior vport.

    Args:
        packet: as it came in.
        vport: where it came in.
        world: everything known; nothing in it changes.
        now: monotonic seconds, for the admission of new connections.
        give_up: a next hop that is still unknown will not answer any more: the sender
            is told instead of the packet being Blocked.
        ask_peers: a packet in the middle of a connection without a record is Blocked:
            another host may have the record.
        has_memory: an agent without it may lack the record of any packet.
        trace: leave a line for each step.
    """
    walk = Walk(packet, vport, world, trace=trace)
    outcome, egress_device = _run(walk, vport, give_up=give_up)
    hit = walk.hit
    if hit is not None and hit.connection.translations and isinstance(outcome, Forward):
        balancer.come_back(walk, outcome.vport)
    if ask_peers and _lacks_state(walk, outcome, has_memory=has_memory):
        egress = outcome.vport if isinstance(outcome, Forward) else 0
        wanted = StateWanted(walk.missed_keys(), egress)
        walk.emissions.clear()
        return result(walk, Blocked(wanted), None, (vport.key,))
    if _is_stray(walk, outcome):
        # No translation that is made now is the one that its connection has.
        outcome, walk.judged = Drop(Reason.NO_BINDING), True
        walk.emissions.clear()
    if walk.packet.ip_frag and _is_unsummable(walk, outcome):
        outcome = ErrorDrop(Reason.SCTP_FRAGMENT)
    connection = record_of(walk, outcome, egress_device)
    if connection is not None and walk.hit is None and not world.connections.admit(now):
        outcome, connection = ErrorDrop(Reason.TABLE_FULL), None
        walk.emissions.clear()
    if connection is None and walk.hit is None and walk.judged:
        # No record will speak for the flow's other packets: their flags do.
        walk.fields |= field.TCP_FLAGS
    if walk.unfinished is not None and isinstance(outcome, Consumed):
        walk.hit = walk.hit or Hit(walk.unfinished, Direction.FORWARD)
    return result(walk, outcome, connection, (vport.key,))


def _lacks_state(walk: Walk, outcome: Outcome, *, has_memory: bool) -> bool:
    """Tell whether a record that another host may have would change the outcome."""
    if walk.hit is not None or not walk.tracked:
        return False
    if not has_memory:
        return True
    if isinstance(outcome, Drop) and outcome.reason is Reason.NO_BINDING:
        return walk.ip_proto != protocol.TCP or not walk.is_beginning
    if walk.seems_answer and walk.ip_proto != protocol.TCP:
        return True
    return not walk.is_beginning


def _is_stray(walk: Walk, outcome: Outcome) -> bool:
    """Tell whether TCP in the middle of a connection would get a new translation."""
    return (
        isinstance(outcome, Forward)
        and walk.hit is None
        and walk.ip_proto == protocol.TCP
        and not walk.is_error
        and not walk.is_beginning
        and any(one.kind is TranslationKind.SOURCE for one in walk.translations)
    )


def _is_unsummable(walk: Walk, outcome: Outcome) -> bool:
    """Tell whether a fragment of SCTP leaves with another port.

    Its checksum covers the whole packet, and no incremental update makes it right
    (RFC 9260, appendix A).
    """
    if walk.packet.ip_proto != protocol.SCTP or not isinstance(outcome, Forward):
        return False
    old, new = walk.packet.headers, walk.headers
    return (old.l4_src, old.l4_dst) != (new.l4_src, new.l4_dst)


def simulate_emission(
    emission: Emission, world: World, *, trace: bool = False
) -> Simulation:
    """Simulate a frame that a virtual device sends out of one of its vports.

    No filter looks at it and no connection is made for it. A vport that went away in
    the meantime drops it.
    """
    packet = decode(emission.frame)
    vport = world.topology.vport(emission.vport)
    if vport is None:
        lost = Vport(key=emission.vport, name="", device=0)
        walk = Walk(packet, lost, world, generated=True)
        return result(walk, ErrorDrop(Reason.BROKEN), None, ())
    walk = Walk(packet, vport, world, generated=True, trace=trace)
    if packet.l3_length > IPV4_MINIMUM_MTU:
        # A VM may not have taken over a larger MTU.
        walk.limit = min(_USUAL_MTU, vport_mtu(world.topology, vport))
    step = _leave(walk, vport)
    outcome = step
    if isinstance(step, Vport):
        outcome, _ = _run(walk, step, give_up=False)
    assert not isinstance(outcome, Vport)
    return result(walk, outcome, None, ())


def _run(walk: Walk, vport: Vport, *, give_up: bool) -> tuple[Outcome, int]:
    """Enter by a vport and go on until the packet ends.

    Returns:
        The outcome, and the key of the last device.
    """
    step: Union[Vport, Outcome] = vport
    entered = vport
    while isinstance(step, Vport):
        entered = step
        walk.devices += 1
        if walk.devices > DEVICE_BUDGET:
            return ErrorDrop(Reason.LOOP), entered.device
        step = _enter(walk, entered)
        if isinstance(step, Blocked) and give_up:
            step = complain(
                walk, entered, Complaint.HOST_UNREACHABLE, Reason.NO_NEIGHBOR
            )
        elif give_up and step == Drop(Reason.NO_BINDING):
            step = complain(
                walk, entered, Complaint.PORT_UNREACHABLE, Reason.NO_BINDING
            )
    return step, entered.device


def _enter(walk: Walk, vport: Vport) -> Union[Vport, Outcome]:
    """Take a packet into a device, through it, and out of it again.

    Returns:
        The vport by which it enters the next device, or how it ended.
    """
    topology = walk.world.topology
    walk.tags.add(vport_tag(vport.key))
    if walk.steps is not None:
        walk.note(topology.vport_name(vport.key), "enter")
    network_view = topology.network(vport.device)
    ended = _before_filters(walk, vport, network_view)
    if ended is not None:
        return ended
    verdict = evaluate(walk, vport.ingress_chain)
    if verdict is Verdict.ACCEPT:
        verdict = expect_return(walk, vport.egress_chain, vport.ingress_chain)
    if verdict is not Verdict.ACCEPT:
        walk.arrive()
        return _filtered(walk, vport, verdict)
    if network_view is not None:
        return _switch(walk, network_view, vport)
    router_view = topology.router(vport.device)
    if router_view is None:
        walk.tags.add(device_tag(vport.device))
        return ErrorDrop(Reason.BROKEN)
    routed = router.forward(walk, router_view, vport)
    if not isinstance(routed, Vport):
        return routed
    return _leave(walk, routed, entered=vport)


def _before_filters(
    walk: Walk, vport: Vport, network_view: Union[NetworkView, None]
) -> Union[Outcome, None]:
    """Judge what may not enter; no filter keeps a machine from getting its address."""
    if not vport.up:
        return Drop(Reason.ADMIN_DOWN)
    if not walk.generated and not is_allowed(walk, vport):
        return Drop(Reason.PORT_SECURITY)
    if walk.is_ip and not walk.generated and not walk.hops and _is_forged(walk):
        return Drop(Reason.MARTIAN)
    if network_view is None:
        return None
    if network_view.segments and segment.is_copy(walk, network_view, vport):
        return Drop(Reason.COPY)
    if network_view.services is None:
        return None
    return services.greet(walk, network_view, vport)


def _is_forged(walk: Walk) -> bool:
    """Tell whether no machine can have sent it.

    The switch drops these itself (`openflow.base_flows`), so nothing was read.
    """
    headers = walk.headers
    forged = is_forged(headers.ip_src, to_group=is_group_mac(headers.eth_dst))
    if forged:
        walk.fields |= READ_IP_SRC | field.ETH_DST
    return forged


def _switch(
    walk: Walk, network_view: NetworkView, vport: Vport
) -> Union[Vport, Outcome]:
    """Take a packet through a network, and out of it again."""
    if network_view.balancing is not None:
        walk.arrive()
    switched = network.forward(walk, network_view, vport)
    if switched is EVERYWHERE:
        return _flood(walk, network_view, vport)
    if isinstance(switched, Members):
        return _flood(walk, network_view, vport, switched.vports)
    if not isinstance(switched, Vport):
        assert not isinstance(switched, Everywhere)
        return switched
    verdict = evaluate(walk, network_view.row.egress_chain)
    if verdict is not Verdict.ACCEPT:
        return _filtered(walk, vport, verdict)
    return _leave(walk, switched, entered=vport)


def _filtered(walk: Walk, vport: Vport, verdict: Verdict) -> Outcome:
    """End a packet at a chain of the device that it entered by a vport.

    A rejected one is answered: by a router itself, and from a network as if the
    destination had answered. Either knows it as it arrived, before any translation.
    """
    if verdict is not Verdict.REJECT:
        return Drop(Reason.FILTERED)
    topology = walk.world.topology
    if topology.router(vport.device) is not None:
        return router.filtered(walk, vport, verdict)
    view = topology.network(vport.device)
    if view is not None and view.balancing is None:
        walk.arrive()
    return turn_back(walk, vport, Reason.REJECTED)


def _leave(
    walk: Walk, vport: Vport, *, entered: Union[Vport, None] = None
) -> Union[Vport, Outcome]:
    """Take a packet out of a device: to the link's other end, or out of the overlay.

    Args:
        walk: the packet.
        vport: where it leaves.
        entered: where it entered the device and a refusal is told; None: nowhere.
    """
    topology = walk.world.topology
    walk.tags.add(vport_tag(vport.key))
    if walk.steps is not None:
        walk.note(topology.vport_name(vport.key), "leave")
    if not vport.up:
        return Drop(Reason.ADMIN_DOWN)
    verdict = evaluate(walk, vport.egress_chain)
    if verdict is Verdict.ACCEPT:
        verdict = expect_return(walk, vport.ingress_chain, vport.egress_chain)
    if verdict is not Verdict.ACCEPT:
        if entered is not None:
            return _filtered(walk, entered, verdict)
        rejected = verdict is Verdict.REJECT
        return Drop(Reason.REJECTED if rejected else Reason.FILTERED)
    if not vport.peer:
        return Forward(vport.key)
    peer = topology.vport(vport.peer)
    if peer is None:
        return ErrorDrop(Reason.BROKEN)
    return peer


def _flood(
    walk: Walk,
    start: NetworkView,
    entered: Vport,
    only: Union[frozenset[int], None] = None,
) -> Outcome:
    """Send a frame to every exterior vport of a network, and of networks linked to it.

    Routers on the network have heard what concerns them already. With `only`, it goes
    to these of the vports.
    """
    topology = walk.world.topology
    reached: list[int] = []
    seen = {start.row.key}
    todo = [(start, entered.key)]
    while todo:
        view, came_by = todo.pop()
        walk.tags.add(flood_tag(view.row.key))
        if evaluate(walk, view.row.egress_chain) is not Verdict.ACCEPT:
            continue
        for vport in segment.spread(walk, view, came_by, only):
            if isinstance(_leave(walk, vport), Forward):
                reached.append(vport.key)
        for vport in view.interior:
            peer = topology.vport(vport.peer)
            other = topology.network(peer.device) if peer is not None else None
            if other is not None and peer is not None and other.row.key not in seen:
                seen.add(other.row.key)
                todo.append((other, peer.key))
    return Flood(tuple(reached)) if reached else Drop(Reason.NO_VPORT)
