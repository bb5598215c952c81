# SPDX-License-Identifier: Apache-2.0
"""Multicast on a network with snooping: to whom it goes, and what hosts say of it.

`network` asks it about frames to IP multicast addresses where the network has
`multicast_snooping`.

Source: RFC 4541 (considerations for IGMP and MLD snooping switches).
"""

from __future__ import annotations

from typing import NamedTuple, Union

from midoryu.packet import field, protocol
from midoryu.packet.multicast import (
    RouterHello,
    is_always_flooded,
    is_talk,
    read_talk,
)
from midoryu.simulation.outcome import Drop, GroupSeen, Outcome, Reason
from midoryu.simulation.walk import Walk
from midoryu.simulation.world import READ_IP_DST, READ_PROTO
from midoryu.topology.l2 import ROUTERS
from midoryu.topology.model import Vport
from midoryu.topology.snapshot import NetworkView
from midoryu.topology.tag import multicast_tag


class Members(NamedTuple):
    """The packet goes to some vports of the network."""

    vports: frozenset[int]


def forward(
    walk: Walk, network: NetworkView, vport: Vport
) -> Union[Members, Outcome, None]:
    """Find who shall get an IP multicast packet.

    Returns:
        Who, or how it ended; None for everybody.
    """
    walk.fields |= READ_IP_DST | READ_PROTO
    if walk.packet.ip_frag:
        # A flow for fragments must not swallow whole reports.
        walk.fields |= field.IP_FRAG
    if is_talk(walk.packet):
        # Each one has to be heard, so no flow stands for it.
        walk.fields |= field.PAYLOAD | field.L4_SRC
        talk = read_talk(walk.packet)
        for said in talk.says:
            if isinstance(said, RouterHello):
                seen = GroupSeen(network.row.key, ROUTERS, vport.key, joins=True)
            else:
                seen = GroupSeen(network.row.key, said.group, vport.key, said.joins)
            if not walk.generated:
                walk.learned.append(seen)
        return None if talk.is_query else _to(walk, network, vport, frozenset())
    group = walk.headers.ip_dst
    if walk.packet.ip_proto == protocol.ICMPV6:
        walk.fields |= field.L4_SRC
    if is_always_flooded(group):
        return None
    members = walk.world.topology.l2.members(network.row.key, group)
    walk.tags.add(multicast_tag(network.row.key, group))
    if not members and network.row.flood_unregistered:
        return None
    return _to(walk, network, vport, members)


def _to(
    walk: Walk, network: NetworkView, vport: Vport, members: frozenset[int]
) -> Union[Members, Outcome]:
    """Send to members and to multicast routers, but never back."""
    walk.tags.add(multicast_tag(network.row.key, ROUTERS))
    routers = walk.world.topology.l2.members(network.row.key, ROUTERS)
    wanted = (members | routers) - {vport.key}
    return Members(wanted) if wanted else Drop(Reason.NO_LISTENER)
