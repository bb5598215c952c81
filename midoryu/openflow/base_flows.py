# SPDX-License-Identifier: Apache-2.0
"""The flows that stand before the first packet comes.

    base_flows                      vport_flows (one set for each local vport)
    CLASSIFY  state port -> controller    CLASSIFY  in_port -> VPORT
    CLASSIFY  state port, echo -> back
    CLASSIFY  gre port   -> TUNNEL        VPORT     in_port, miss -> meter, controller
    each table, miss     -> drop          TUNNEL    tunnel key -> ofport
    VPORT     all TCP flags -> drop (`pipeline.PRIORITY_APART`)
    VPORT     sources that no machine has -> drop

The engine installs them; `pipeline` has the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
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
        Flow(
            classify,
            pipeline.PRIORITY_ECHO,
            Match(field.IN_PORT | field.ETH_DST, (state_ofport, pipeline.ECHO_MAC)),
            ((flow.SET_ETH_DST, pipeline.ECHOED_MAC), (flow.REFLECT,)),
            _BASE,
        ),
        Flow(classify, priority, _in_port(gre_ofport), to_tunnel, _BASE),
        *(
            Flow(table, pipeline.PRIORITY_MISS, _ANY, (), _BASE)
            for table in pipeline.TABLE_NAMES
        ),
        *(
            Flow(pipeline.VPORT, pipeline.PRIORITY_FORGED, one, (), _BASE)
            for one in _forged()
        ),
        *(
            Flow(pipeline.VPORT, pipeline.PRIORITY_APART, one, (), _BASE)
            for one in (
                Match(_BY_FLAGS, (eth_type, protocol.TCP, _ALL_FLAGS))
                for eth_type in (protocol.ETH_IPV4, protocol.ETH_IPV6)
            )
        ),
    ]


def _forged() -> Iterator[Match]:
    """Yield what `packet.address.is_forged` tells of, one match for each octet."""
    octet = field.ETH_TYPE | field.SOURCE_OCTET
    whole = field.ETH_TYPE | field.IP_SRC
    v4, v6 = protocol.ETH_IPV4, protocol.ETH_IPV6
    yield Match(octet | field.ETH_GROUP, (v4, 0, 0))
    for first in (127, *range(224, 256)):
        yield Match(octet, (v4, first))
    yield Match(octet, (v6, 0xFF))
    yield Match(whole, (v6, 1))
    yield Match(whole | field.ETH_GROUP, (v6, 0, 0))


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
