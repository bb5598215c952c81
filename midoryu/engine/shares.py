# SPDX-License-Identifier: Apache-2.0
"""A vport that floods with new flows leaves the others their share of agent and switch.

Each packet-in has a price beyond the agent: the switch looks the packet up in vain,
hands it over, takes the flow and checks all that it caches against the changed table.
So a port that `share_book` finds above its share

1. gets a lower meter, so that the switch drops what is more: for all that it has to
   ask about, or for what is for the few destinations that it floods; and
2. has first packets sent without a flow of their own: the switch's tables stay as they
   are, and what it caches for packets that miss stays wide. A later packet makes the
   flow, unless it is but another SYN, or a datagram that nothing has answered yet.

Both end when the flood does, or when the small ones beside it have gone.
"""

from __future__ import annotations

from typing import Final

from midoryu.engine import standing
from midoryu.engine.core import Core
from midoryu.engine.effect import Effects
from midoryu.engine.event import PacketsShed
from midoryu.openflow.block_flows import METER_HANDED
from midoryu.openflow.flow import SetMeter
from midoryu.openflow.service_flows import flood_burst
from midoryu.packet import protocol
from midoryu.packet.protocol import TCP_ACK, TCP_SYN
from midoryu.simulation.outcome import Simulation
from midoryu.state.connection import Direction, Phase
from midoryu.topology.snapshot import Topology

_INFO: Final = 20
_SYN_ACK: Final = TCP_SYN | TCP_ACK


def look(core: Core, effects: Effects, now: float) -> None:
    """Limit ports that have begun to flood, let go those that no longer do."""
    places, topology = core.places, core.topology
    over = [key for key in places.ofport_by_vport if _is_uplink(topology, key)]
    begun, turned, ended = core.shares.look(
        core.packet_ins, places.vport_by_ofport, over, now
    )
    for vport in begun:
        core.counters["ports limited beside others"] += 1
        _tell(core, vport, "floods with new flows: limited", effects)
    for vport in ended:
        _tell(core, vport, "floods no more", effects)
    if begun or turned or ended:
        standing.refresh(core, effects, now)
    for vport in (*begun, *ended):
        _meter_handed(core, vport, effects)


def _meter_handed(core: Core, vport: int, effects: Effects) -> None:
    """Set the meters of what gateways hand on from an uplink of theirs."""
    rate, burst = core.config.vport_rate_pps, core.config.vport_burst
    if vport in core.shares.whole:
        rate = min(rate, core.shares.limit_of(vport))
        burst = min(burst, flood_burst(rate))
    for key, uplinks in core.blocks.entries.items():
        if any(one.vport == vport for one in uplinks):
            effects.flow_mods.append(SetMeter(METER_HANDED | key, rate, burst))


def shed(core: Core, event: PacketsShed, _: Effects, __: float) -> None:
    """Note that a port sent more than this host can handle."""
    vport = core.places.vport_by_ofport.get(event.ofport)
    if vport is not None:
        core.shares.lose(vport, event.count)


def _is_uplink(topology: Topology, key: int) -> bool:
    vport = topology.vport(key)
    return vport is not None and topology.router(vport.device) is not None


def is_without_flow(core: Core, simulation: Simulation) -> bool:
    """Tell whether a packet of a limited port is sent without a flow of its own."""
    vports, to = simulation.vports, simulation.packet.headers.ip_dst
    if not vports or not core.shares.is_flood(vports[0], to):
        return False
    if simulation.connection is not None:
        return True
    if simulation.found is None:
        return False
    connection, direction = simulation.found
    if direction is Direction.RETURN:
        return False
    packet = simulation.packet
    if packet.ip_proto == protocol.TCP:
        return packet.tcp_flags & _SYN_ACK == TCP_SYN
    return connection.phase is Phase.UDP_UNREPLIED


def _tell(core: Core, vport: int, what: str, effects: Effects) -> None:
    name = core.topology.vport_name(vport)
    effects.log.append((_INFO, f"vport {name} {what}"))
