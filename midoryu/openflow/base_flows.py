# SPDX-License-Identifier: Apache-2.0
"""The flows that stand before the first packet comes.

    base_flows                      vport_flows (one set for each local vport)
    CLASSIFY  state port -> controller    CLASSIFY  in_port -> VPORT
    CLASSIFY  gre port   -> TUNNEL        VPORT     in_port, miss -> meter, controller
    each table, miss     -> drop          TUNNEL    tunnel key -> ofport
    VPORT     all TCP flags -> drop (`pipeline.PRIORITY_APART`)

The engine installs them; `pipeline` has the numbers.
"""

from __future__ import annotations

from typing import Final

from midoryu.openflow import flow, pipeline
from midoryu.openflow.flow import Flow, FlowMod, InstallFlow, Match, SetMeter
from midoryu.packet import field, protocol

_ANY: Final = Match(0, ())
_BASE: Final = pipeline.cookie(pipeline.COOKIE_BASE)
_BY_FLAGS: Final = field.ETH_TYPE | field.IP_PROTO | field.TCP_FLAGS
# SYN and RST and FIN and what has no meaning (RFC 9293, section 3.1): nobody sends it.
_ALL_FLAGS: Final = 0xFFF


def base_flows(gre_ofport: int, state_ofport: int) -> list[Flow]:
    """List the flows that every bridge has, whatever its vports."""
    classify, priority = pipeline.CLASSIFY, pipeline.PRIORITY_CLASSIFY
    to_tunnel = ((flow.GOTO, int(pipeline.TUNNEL)),)
    return [
        Flow(classify, priority, _in_port(state_ofport), ((flow.CONTROLLER,),), _BASE),
        Flow(classify, priority, _in_port(gre_ofport), to_tunnel, _BASE),
        *(
            Flow(table, pipeline.PRIORITY_MISS, _ANY, (), _BASE)
            for table in pipeline.TABLE_NAMES
        ),
        *(
            Flow(pipeline.VPORT, pipeline.PRIORITY_APART, one, (), _BASE)
            for one in (
                Match(_BY_FLAGS, (eth_type, protocol.TCP, _ALL_FLAGS))
                for eth_type in (protocol.ETH_IPV4, protocol.ETH_IPV6)
            )
        ),
    ]


def vport_flows(
    vport_key: int, ofport: int, *, meter: int, rate_pps: int, burst: int
) -> list[FlowMod]:
    """List what a local vport needs, its meter first.

    The vport's miss has the lowest priority above the table's own.
    """
    base = pipeline.cookie(pipeline.COOKIE_BASE, vport_key)
    tunnel = pipeline.cookie(pipeline.COOKIE_TUNNEL, vport_key)
    flows = (
        Flow(
            pipeline.CLASSIFY,
            pipeline.PRIORITY_CLASSIFY,
            _in_port(ofport),
            ((flow.GOTO, int(pipeline.VPORT)),),
            base,
        ),
        Flow(
            pipeline.VPORT,
            pipeline.PRIORITY_MISS + 1,
            _in_port(ofport),
            ((flow.METER, meter), (flow.CONTROLLER,)),
            base,
        ),
        Flow(
            pipeline.TUNNEL,
            pipeline.PRIORITY_TUNNEL,
            Match(field.TUNNEL_KEY, (vport_key,)),
            ((flow.OUTPUT, ofport),),
            tunnel,
        ),
        Flow(
            pipeline.SIZE,
            pipeline.PRIORITY_SIZE,
            Match(field.IN_PORT | field.TOO_LARGE, (ofport, 1)),
            ((flow.METER, meter), (flow.CONTROLLER,), (flow.EXIT,)),
            base,
        ),
    )
    return [SetMeter(meter, rate_pps, burst), *map(InstallFlow, flows)]


def _in_port(ofport: int) -> Match:
    return Match(field.IN_PORT, (ofport,))
