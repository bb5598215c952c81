# SPDX-License-Identifier: Apache-2.0
"""Routers' own addresses as sources of what reaches them: dropped by the switch.

A routed flow does not match sources (`simulation.router`), so one that stands would let
these by. `standing` keeps the flows; what no machine anywhere has is in
`openflow.base_flows`.

Source: RFC 1812, section 5.3.7.
"""

from __future__ import annotations

from collections.abc import Iterator

from midoryu.engine.core import Core
from midoryu.openflow import pipeline
from midoryu.openflow.flow import Flow, Match
from midoryu.packet import field, protocol
from midoryu.packet.address import is_v4
from midoryu.topology.model import Vport

_FIELDS = field.ETH_DST | field.ETH_TYPE | field.IP_SRC
_BASE = pipeline.cookie(pipeline.COOKIE_BASE)


def flows(core: Core) -> Iterator[Flow]:
    """Yield a flow for each address of a router that local vports reach directly.

    Its broadcast addresses are no sources either. Frames to its MAC address only: on
    another network the same address may be a machine's.
    """
    for vport in _gates(core):
        router = core.topology.router(vport.device)
        if router is None:
            continue
        for address in (*router.local, *router.broadcasts):
            eth_type = protocol.ETH_IPV4 if is_v4(address) else protocol.ETH_IPV6
            match = Match(_FIELDS, (vport.mac, eth_type, address))
            yield Flow(pipeline.VPORT, pipeline.PRIORITY_FORGED, match, (), _BASE)


def _gates(core: Core) -> Iterator[Vport]:
    """Yield the routers' vports that frames of local vports reach first."""
    topology = core.topology
    found = map(topology.vport, core.places.ofport_by_vport)
    local = [vport for vport in found if vport is not None]
    for device in {vport.device for vport in local}:
        network = topology.network(device)
        for inner in network.interior if network is not None else ():
            peer = topology.vport(inner.peer)
            if peer is not None:
                yield peer
    for vport in local:
        if topology.router(vport.device) is not None:
            yield vport
