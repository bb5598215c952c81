# SPDX-License-Identifier: Apache-2.0
"""Sub-ports: a tagged frame at a trunk's interface belongs to the vport of its tag.

`packet_lane` asks `enter` first; from there on the frame has no tag. `installed` puts
it back into what the switch is told.
"""

from __future__ import annotations

from typing import Final, Union

from midoryu.engine.core import Core
from midoryu.engine.event import PacketIn
from midoryu.openflow import flow, service_flows
from midoryu.openflow.flow import Action
from midoryu.simulation.outcome import Flood, Outcome
from midoryu.topology.model import Vport

# IEEE 802.1Q, table 9-1: customer and service tag.
_TAGS: Final = (b"\x81\x00", b"\x88\xa8")


def enter(
    core: Core, event: PacketIn, parent: Vport
) -> Union[tuple[PacketIn, Vport], None]:
    """Return the vport where a frame really comes in, and the frame as it sees it.

    Returns:
        None for a frame with two tags, which no match could tell from others.
    """
    frame = event.frame
    if frame[12:14] not in _TAGS or len(frame) < 18:
        return event, parent
    vlan = int.from_bytes(frame[14:16], "big") & 0xFFF
    key = core.places.vport_by_tag.get((event.in_port, vlan))
    vport = core.topology.vport(key) if key is not None else None
    if vport is None:
        return event, parent
    if frame[16:18] in _TAGS:
        core.counters["frames with two tags"] += 1
        return None
    return event._replace(frame=frame[:12] + frame[16:]), vport


def installed(
    core: Core, vport: int, outcome: Outcome, actions: tuple[Action, ...]
) -> tuple[Action, ...]:
    """Return what a flow does, for packets as they come in by a vport.

    The tag of a sub-port goes first; a flood is held to the vport's storm limit.
    """
    if not actions:
        return actions
    if vport in core.places.tag_by_vport:
        actions = ((flow.POP_VLAN,), *actions)
    if isinstance(outcome, Flood) and vport in core.storms:
        actions = ((flow.METER, service_flows.METER_STORM | vport), *actions)
    return actions
