# SPDX-License-Identifier: Apache-2.0
"""Flows that hand packets on, from a NAT address's uplink to a port block's holder.

    at the uplink's host, the gateway:
    VPORT     in_port, NAT address, block of ports -> key of the uplink, holder
    VPORT     in_port, NAT address, one port       -> meter, controller (an exception)
    at the holder, as if the packet had come in by the uplink:
    CLASSIFY  tunnel port, key of the uplink       -> VPORT
    VPORT     tunnel port, key of the uplink, miss -> meter, controller
    SIZE      tunnel port, key of the uplink       -> meter, controller

`engine.port_blocks` says which of them stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from midoryu.compat import SLOTS
from midoryu.openflow import flow, pipeline
from midoryu.openflow.flow import Action, Flow, FlowMod, InstallFlow, Match, SetMeter
from midoryu.packet import field, protocol
from midoryu.packet.address import is_v4

METER_HANDED: Final = 5 << 24
_PROTOCOLS: Final = (protocol.TCP, protocol.UDP, protocol.SCTP)
# A fragment does not match: its later ones have no ports, and must not be parted.
_FIELDS: Final = (
    field.IN_PORT
    | field.ETH_DST
    | field.ETH_TYPE
    | field.VLAN
    | field.IP_PROTO
    | field.IP_DST
    | field.IP_FRAG
)


@dataclass(frozen=True, **SLOTS)
class WayIn:
    """A local uplink of a NAT address."""

    ofport: int
    vport: int
    """Its key."""
    mac: int
    """MAC address of the router behind it."""
    address: int
    """NAT address, 128-bit."""
    limit: int = 0
    """Frames with more bytes go to the controller, 0 for no limit."""


def block_flows(
    way: WayIn, block: int, *, key: int, holder: int, gre_ofport: int
) -> tuple[Flow, ...]:
    """Hand what comes for a block of ports to its holder.

    Args:
        way: where it comes in.
        block: number of the block of 64 ports.
        key: the uplink's tunnel key, or that of an equal one.
        holder: underlay address of the holder.
        gre_ofport: the tunnel port.
    """
    actions: tuple[Action, ...] = (
        (flow.SET_TUNNEL, key, holder),
        (flow.OUTPUT, gre_ofport),
    )
    if way.limit:
        actions = ((flow.CHECK_SIZE, way.limit), *actions)
    return tuple(
        Flow(
            pipeline.VPORT,
            pipeline.PRIORITY_BLOCK,
            Match(_FIELDS | field.PORT_BLOCK, (*_values(way, proto), block)),
            actions,
            pipeline.cookie(pipeline.COOKIE_BLOCK, way.vport),
        )
        for proto in _PROTOCOLS
    )


def exception_flow(way: WayIn, ip_proto: int, port: int) -> Flow:
    """Send what comes for one port of a block to the controller after all."""
    return Flow(
        pipeline.VPORT,
        pipeline.PRIORITY_EXCEPTION,
        Match(_FIELDS | field.L4_DST, (*_values(way, ip_proto), port)),
        ((flow.METER, way.ofport), (flow.CONTROLLER,)),
        pipeline.cookie(pipeline.COOKIE_BLOCK, way.vport),
    )


def _values(way: WayIn, ip_proto: int) -> tuple[int, ...]:
    eth_type = protocol.ETH_IPV4 if is_v4(way.address) else protocol.ETH_IPV6
    return way.ofport, way.mac, eth_type, 0, ip_proto, way.address, 0


def entry_mods(gre_ofport: int, key: int, rate_pps: int, burst: int) -> list[FlowMod]:
    """Take in what gateways hand on with a key, meter first."""
    meter = METER_HANDED | key
    to_controller: tuple[Action, ...] = ((flow.METER, meter), (flow.CONTROLLER,))
    fields, values = field.IN_PORT | field.TUNNEL_KEY, (gre_ofport, key)
    cookie = pipeline.cookie(pipeline.COOKIE_BLOCK, key)
    flows = (
        Flow(
            pipeline.CLASSIFY,
            pipeline.PRIORITY_HANDED,
            Match(fields, values),
            ((flow.GOTO, int(pipeline.VPORT)),),
            cookie,
        ),
        Flow(
            pipeline.VPORT,
            pipeline.PRIORITY_MISS + 1,
            Match(fields, values),
            to_controller,
            cookie,
        ),
        Flow(
            pipeline.SIZE,
            pipeline.PRIORITY_SIZE,
            Match(fields | field.TOO_LARGE, (*values, 1)),
            (*to_controller, (flow.EXIT,)),
            cookie,
        ),
    )
    return [SetMeter(meter, rate_pps, burst), *map(InstallFlow, flows)]
