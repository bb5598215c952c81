# SPDX-License-Identifier: Apache-2.0
"""Which uplinks are ways to one outside segment, and which stands for all."""

from __future__ import annotations

from dataclasses import replace

from midoryu.topology import model
from midoryu.topology.segment import designated, living, segments_of, stands_back
from midoryu.topology.tag import device_tag
from tests.helpers.builder import Builder


def world() -> Builder:
    b = Builder()
    for number in (1, 2, 3):
        b.host(f"node{number}", f"172.31.0.{number}")
    b.network("web")
    for number in (1, 2, 3):
        b.vport(f"web/up{number}", host=f"node{number}")
    b.vport("web/vm", host="node1", mac="02:00:00:00:00:01")
    return b


def ways(b: Builder, *names: str) -> tuple[int, ...]:
    return tuple(sorted(b.key(f"web/{name}") for name in names))


def test_members_of_one_set_are_ways_to_one_segment() -> None:
    b = world()
    b.ingress_set("outside", "web/up1", "web/up3", "web/vm")
    topology = b.topology()
    found = segments_of(topology, topology.vports_of(b.key("web")))
    assert found == dict.fromkeys(ways(b, "up1", "up3"), ways(b, "up1", "up3"))


def test_sets_that_share_a_member_are_one() -> None:
    b = world()
    b.ingress_set("a", "web/up1", "web/up2")
    b.ingress_set("b", "web/up2", "web/up3")
    topology = b.topology()
    found = segments_of(topology, topology.vports_of(b.key("web")))
    assert set(found.values()) == {ways(b, "up1", "up2", "up3")}


def test_a_lone_uplink_has_no_fellows() -> None:
    b = world()
    b.ingress_set("outside", "web/up1", "web/vm")
    topology = b.topology()
    assert segments_of(topology, topology.vports_of(b.key("web"))) == {}


def test_the_first_that_lives_is_designated() -> None:
    b = world()
    topology = b.topology()
    first, second, third = together = ways(b, "up1", "up2", "up3")
    assert designated(topology, together) == first
    topology.set_dead_hosts(frozenset({b.key("node1")}))
    assert designated(topology, together) == second
    topology.apply([model.Put(model.VportStatus(second, b.key("node2"), False))])
    assert living(topology, together) == [third]


def test_where_none_lives_one_that_is_not_switched_off_stands_in() -> None:
    b = world()
    topology = b.topology()
    first, second = together = ways(b, "up1", "up2")
    topology.apply(model.Gone(model.VportStatus, key) for key in together)
    row = topology.vport(first)
    assert row is not None
    assert designated(topology, together) == first
    topology.apply([model.Put(replace(row, up=False))])
    assert designated(topology, together) == second
    assert designated(topology, ()) == 0


def test_a_change_of_the_set_touches_every_flow_of_the_network() -> None:
    b = world()
    topology = b.topology()
    topology.network(b.key("web"))
    row = b.ingress_set("outside", "web/up1", "web/up2")
    assert device_tag(b.key("web")) in topology.apply([model.Put(row)])
    view = topology.network(b.key("web"))
    assert view is not None
    assert set(view.segments) == set(ways(b, "up1", "up2"))


def test_what_is_behind_a_dead_way_is_behind_its_fellow() -> None:
    b = world()
    b.ingress_set("outside", "web/up1", "web/up2")
    first, second = ways(b, "up1", "up2")
    b.put(model.MacEntry("m", b.key("web"), 0x02_00_00_00_00_99, first))
    topology = b.topology()
    view = topology.network(b.key("web"))
    assert view is not None
    assert topology.mac_location(view, 0x02_00_00_00_00_99) == first
    topology.set_dead_hosts(frozenset({b.key("node1")}))
    assert topology.mac_location(view, 0x02_00_00_00_00_99) == second
    topology.set_dead_hosts(frozenset({b.key("node1"), b.key("node2")}))
    assert topology.mac_location(view, 0x02_00_00_00_00_99) == 0


def test_all_but_the_designated_way_stand_back() -> None:
    b = world()
    b.ingress_set("outside", "web/up1", "web/up2")
    topology = b.topology()
    backs = {
        vport.name
        for vport in topology.vports_of(b.key("web"))
        if stands_back(topology, vport)
    }
    assert backs == {"up2"}
