# SPDX-License-Identifier: Apache-2.0
"""Who gets a multicast packet on a network with snooping, and what is read for it."""

from __future__ import annotations

from typing import Any

import pytest

from midoryu.packet import field
from midoryu.packet.address import parse_ip
from midoryu.packet.codec import decode
from midoryu.simulation.outcome import Drop, Flood, GroupSeen, Reason
from midoryu.simulation.simulator import simulate
from midoryu.topology.l2 import ROUTERS, MulticastMember
from midoryu.topology.tag import multicast_tag
from tests.helpers import frames, groups
from tests.helpers.worlds import V4, Overlay, two_networks

GROUP = "239.1.2.3"
MAC: dict[str, Any] = {"eth_src": "02:00:00:00:00:01", "eth_dst": "01:00:5e:01:02:03"}


def overlay(*members: str, routers: tuple[str, ...] = (), **fields: Any) -> Overlay:
    b = two_networks(V4)
    b.vport("a/vm4", host="node2")
    b.network("a", multicast_snooping=True, **fields)
    made = Overlay(b)
    for group, names in ((parse_ip(GROUP), members), (ROUTERS, routers)):
        for name in names:
            row = MulticastMember(f"{group}{name}", b.key("a"), group, b.key(name))
            made.change(row)
    return made


def test_a_group_goes_to_its_members_and_to_multicast_routers() -> None:
    world = overlay("a/vm3", "a/vm1", routers=("a/vm4",))
    simulation = world.send("a/vm1", frames.udp(dst=GROUP, **MAC))

    assert set(world.names(simulation)) == {"a/vm3", "a/vm4"}
    network = world.key("a")
    wanted = {multicast_tag(network, parse_ip(GROUP)), multicast_tag(network, ROUTERS)}
    assert wanted <= simulation.tags
    assert simulation.fields & field.IP_DST
    assert not simulation.fields & field.PAYLOAD


def test_a_group_that_nobody_wants_goes_nowhere_or_everywhere() -> None:
    frame = frames.udp(dst=GROUP, **MAC)

    assert overlay().send("a/vm1", frame).outcome == Drop(Reason.NO_LISTENER)
    flooded = overlay(flood_unregistered=True).send("a/vm1", frame).outcome
    assert isinstance(flooded, Flood)


@pytest.mark.parametrize(("kind", "joins"), [(0x16, True), (0x17, False)])
def test_a_report_is_learned_and_told_to_routers_alone(
    kind: int, *, joins: bool
) -> None:
    world = overlay("a/vm3", routers=("a/vm4",))
    simulation = world.send("a/vm1", groups.igmp(kind, GROUP))

    assert world.names(simulation) == ("a/vm4",)
    seen = GroupSeen(world.key("a"), parse_ip(GROUP), world.key("a/vm1"), joins)
    assert seen in simulation.learned
    assert simulation.fields & field.PAYLOAD


def test_a_query_goes_to_everybody_and_shows_a_router() -> None:
    world = overlay()
    simulation = world.send("a/vm1", groups.igmp(0x11))

    assert set(world.names(simulation)) == {"a/vm3", "a/vm4"}
    seen = GroupSeen(world.key("a"), ROUTERS, world.key("a/vm1"), joins=True)
    assert seen in simulation.learned


def test_a_fragment_stands_for_fragments_alone() -> None:
    packet = decode(groups.igmp(0x16, GROUP))
    packet.ip_frag = 1
    world = overlay("a/vm3")
    simulation = simulate(packet, world.vport("a/vm1"), world.world, now=100.0)

    assert simulation.fields & field.IP_FRAG
    assert not [one for one in simulation.learned if isinstance(one, GroupSeen)]
