# SPDX-License-Identifier: Apache-2.0
"""Flows of a vport that has a tag, limits or copies of its own, and of floods.

`base_flows` has those of a plain vport; these stand in their place:

    CLASSIFY  in_port [, tag] [, IP] -> meter, copies, DSCP, VPORT
    VPORT     in_port, tag, miss     -> meter, controller
    VPORT     the same, a flooded destination -> a lower meter, controller
    TUNNEL    the vport's key        -> meter, tag, ofport, copies
    TUNNEL    the network's key      -> every vport of it here
    TUNNEL    a mirror's key         -> where its copies go
    CLASSIFY  in_port of a shut interface, announcements -> meter, controller

A copy is a clone with the mirror's key in TUNNEL. That flow never clears the port where
the packet came in, so a copy that came through the tunnel cannot leave through it
again: copies do not go round in circles, whatever two hosts think of where a vport is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from midoryu.compat import SLOTS
from midoryu.openflow import flow, pipeline
from midoryu.openflow.flow import Action, Flow, FlowMod, InstallFlow, Match, SetMeter
from midoryu.packet import field, protocol
from midoryu.packet.address import is_v4

# Meter ids above every ofport: a kind, then the vport's key (24 bits).
METER_SUBPORT: Final = 1 << 24
METER_FROM: Final = 2 << 24
METER_TO: Final = 3 << 24
METER_STORM: Final = 4 << 24
METER_FLOODED: Final = 6 << 24
_VLAN_PRESENT: Final = 0x1000
_TUNNEL_FIELDS: Final = field.TUNNEL_KEY


@dataclass(frozen=True, **SLOTS)
class VportPlan:
    """What a local vport needs from the switch; directions seen from its machine."""

    key: int
    ofport: int
    rate_pps: int
    """Packet-ins per second that it may cause."""
    burst: int
    flooded: tuple[int, ...] = ()
    """Addresses that are flooded from there: packet-ins for them are fewer."""
    flooded_pps: int = 0
    """How many in a second, for all of them."""
    vlan: int = 0
    """Tag of a sub-port, 0 for none."""
    from_kbps: int = 0
    """Limit of what comes from it, 0 for none."""
    from_burst_kb: int = 0
    to_kbps: int = 0
    """Limit of what goes to it, 0 for none."""
    to_burst_kb: int = 0
    dscp: int = -1
    """Mark of IP packets that come from it, -1 for none."""
    storm_pps: int = 0
    """Flooded packets per second that come from it, 0 for no limit."""
    mirrors_from: tuple[int, ...] = ()
    """Keys of mirrors of what comes from it."""
    mirrors_to: tuple[int, ...] = ()
    """Keys of mirrors of what goes to it."""

    @property
    def is_special(self) -> bool:
        """Whether all that goes to it must pass its own flow."""
        return bool(self.to_kbps or self.mirrors_to)


# All vports are compared after each change, and hardly one differs.
@lru_cache(maxsize=4096)
def plan_mods(plan: VportPlan) -> tuple[FlowMod, ...]:
    """List what a local vport needs, meters first."""
    flows = [*_classify(plan), _miss(plan), _too_large(plan), _to_vport(plan)]
    flows += [_flooded(plan, address) for address in plan.flooded]
    return (*_meters(plan), *map(InstallFlow, flows))


def awaiting_mods(key: int, ofport: int, *, rate_pps: int, burst: int) -> list[FlowMod]:
    """List what a shut interface needs: announcements are heard, the rest is dropped.

    Args:
        key: of the vport that is to come.
        ofport: of its interface.
        rate_pps: packet-ins per second at most.
        burst: packet-ins at once.
    """
    cookie = pipeline.cookie(pipeline.COOKIE_BASE, key)
    matches = [
        Match(field.IN_PORT | field.ETH_TYPE, (ofport, eth_type))
        for eth_type in (protocol.ETH_ARP, protocol.ETH_RARP)
    ]
    fields = field.IN_PORT | field.ETH_TYPE | field.IP_PROTO | field.L4_SRC
    advert = (ofport, protocol.ETH_IPV6, protocol.ICMPV6, protocol.ND_ADVERTISEMENT)
    matches.append(Match(fields, advert))
    actions: tuple[Action, ...] = ((flow.METER, ofport), (flow.CONTROLLER,))
    return [
        SetMeter(ofport, rate_pps, burst),
        *(
            InstallFlow(
                Flow(
                    pipeline.CLASSIFY,
                    pipeline.PRIORITY_CLASSIFY,
                    match,
                    actions,
                    cookie,
                )
            )
            for match in matches
        ),
    ]


def tunnel_flow(key: int, actions: tuple[Action, ...]) -> Flow:
    """Make the flow for packets with a network's or mirror's key."""
    return Flow(
        pipeline.TUNNEL,
        pipeline.PRIORITY_TUNNEL,
        Match(_TUNNEL_FIELDS, (key,)),
        actions,
        pipeline.cookie(pipeline.COOKIE_TUNNEL, key),
    )


def tagged(vlan: int, actions: tuple[Action, ...]) -> tuple[Action, ...]:
    """Do something with the tag of a sub-port on the packet, none for 0."""
    if not vlan:
        return actions
    return ((flow.PUSH_VLAN, vlan), *actions, (flow.POP_VLAN,))


def _packet_in_meter(plan: VportPlan) -> int:
    return METER_SUBPORT | plan.key if plan.vlan else plan.ofport


def _meters(plan: VportPlan) -> list[FlowMod]:
    mods: list[FlowMod] = [
        SetMeter(_packet_in_meter(plan), plan.rate_pps, plan.burst),
    ]
    for kind, rate, burst in (
        (METER_FROM, plan.from_kbps, plan.from_burst_kb),
        (METER_TO, plan.to_kbps, plan.to_burst_kb),
    ):
        if rate:
            mods.append(SetMeter(kind | plan.key, rate, burst, is_kbps=True))
    if plan.flooded:
        rate = plan.flooded_pps
        mods.append(SetMeter(METER_FLOODED | plan.key, rate, flood_burst(rate)))
    if plan.storm_pps:
        # Whoever sends little for a second may send that much at once.
        storm = METER_STORM | plan.key
        mods.append(SetMeter(storm, plan.storm_pps, plan.storm_pps))
    return mods


def _classify(plan: VportPlan) -> list[Flow]:
    limit: tuple[Action, ...] = ()
    if plan.from_kbps:
        limit = ((flow.METER, METER_FROM | plan.key),)
    copies: tuple[Action, ...] = tuple((flow.DELIVER, key) for key in plan.mirrors_from)
    if plan.vlan and copies:
        copies = ((flow.POP_VLAN,), *copies, (flow.PUSH_VLAN, plan.vlan))
    to_vport: tuple[Action, ...] = ((flow.GOTO, int(pipeline.VPORT)),)
    priority = pipeline.PRIORITY_SUBPORT if plan.vlan else pipeline.PRIORITY_CLASSIFY
    flows = [_from_vport(plan, priority, (), limit + copies + to_vport)]
    if plan.dscp >= 0:
        mark: tuple[Action, ...] = ((flow.SET_DSCP, plan.dscp),)
        for eth_type in (protocol.ETH_IPV4, protocol.ETH_IPV6):
            actions = limit + copies + mark + to_vport
            flows.append(_from_vport(plan, priority + 1, (eth_type,), actions))
    return flows


def _from_vport(
    plan: VportPlan,
    priority: int,
    eth_type: tuple[int, ...],
    actions: tuple[Action, ...],
) -> Flow:
    fields, values = field.IN_PORT, (plan.ofport, *eth_type)
    if eth_type:
        fields |= field.ETH_TYPE
    if plan.vlan:
        fields |= field.VLAN
        values = (*values, _VLAN_PRESENT | plan.vlan)
    cookie = pipeline.cookie(pipeline.COOKIE_BASE, plan.key)
    return Flow(pipeline.CLASSIFY, priority, Match(fields, values), actions, cookie)


def _miss(plan: VportPlan) -> Flow:
    fields = field.IN_PORT
    values: tuple[int, ...] = (plan.ofport,)
    if plan.vlan:
        fields, values = fields | field.VLAN, (*values, _VLAN_PRESENT | plan.vlan)
    return Flow(
        pipeline.VPORT,
        pipeline.PRIORITY_MISS + (2 if plan.vlan else 1),
        Match(fields, values),
        ((flow.METER, _packet_in_meter(plan)), (flow.CONTROLLER,)),
        pipeline.cookie(pipeline.COOKIE_BASE, plan.key),
    )


def flood_burst(rate_pps: int) -> int:
    """Return what a port that floods may send at once: as much as in 0.1 s."""
    return max(1, rate_pps // 10)


def _flooded(plan: VportPlan, address: int) -> Flow:
    fields = field.IN_PORT | field.ETH_TYPE | field.IP_DST
    eth_type = protocol.ETH_IPV4 if is_v4(address) else protocol.ETH_IPV6
    values: tuple[int, ...] = (plan.ofport, eth_type, address)
    if plan.vlan:
        fields |= field.VLAN
        values = (plan.ofport, eth_type, _VLAN_PRESENT | plan.vlan, address)
    return Flow(
        pipeline.VPORT,
        pipeline.PRIORITY_FLOODED,
        Match(fields, values),
        ((flow.METER, METER_FLOODED | plan.key), (flow.CONTROLLER,)),
        pipeline.cookie(pipeline.COOKIE_BASE, plan.key),
    )


def _too_large(plan: VportPlan) -> Flow:
    """Send what is larger than its flow allows to the controller, metered."""
    fields = field.IN_PORT | field.TOO_LARGE
    values: tuple[int, ...] = (plan.ofport, 1)
    if plan.vlan:
        fields |= field.VLAN
        values = (plan.ofport, _VLAN_PRESENT | plan.vlan, 1)
    return Flow(
        pipeline.SIZE,
        pipeline.PRIORITY_SIZE + (1 if plan.vlan else 0),
        Match(fields, values),
        ((flow.METER, _packet_in_meter(plan)), (flow.CONTROLLER,), (flow.EXIT,)),
        pipeline.cookie(pipeline.COOKIE_BASE, plan.key),
    )


def _to_vport(plan: VportPlan) -> Flow:
    actions: tuple[Action, ...] = ((flow.OUTPUT, plan.ofport),)
    if plan.is_special:
        # It may have come in by the very port: back to the sender's other address, or
        # a copy of what came through the tunnel and has to go on through it.
        copies = tuple((flow.DELIVER, key) for key in plan.mirrors_to)
        actions = ((flow.CLEAR_IN_PORT,), *tagged(plan.vlan, actions), *copies)
    elif plan.vlan:
        actions = ((flow.PUSH_VLAN, plan.vlan), *actions)
    if plan.to_kbps:
        actions = ((flow.METER, METER_TO | plan.key), *actions)
    return tunnel_flow(plan.key, actions)
