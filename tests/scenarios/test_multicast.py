# SPDX-License-Identifier: Apache-2.0
"""IGMP and MLD snooping over several hosts: who gets a group, and for how long."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from scapy.layers.inet6 import ICMPv6MLDMultAddrRec, ICMPv6MLReport2

from midoryu.topology import model
from tests.helpers import frames, groups
from tests.helpers.fabric import Fabric
from tests.scenarios.test_l2 import OTHERS, mac, names, office

G4, G6 = "239.1.2.3", "ff0e::123"


def cloud(**fields: Any) -> Fabric:
    b = office()
    b.network("web", multicast_snooping=True, **fields)
    return Fabric(b)


def report(vm: int, family: int = 4, kind: int = 4) -> bytes:
    if family == 4:
        return groups.igmp(0x22, records=((kind, G4),), eth_src=mac(vm))
    record = ICMPv6MLDMultAddrRec(rtype=kind, dst=G6)
    return groups.mld(ICMPv6MLReport2(records=[record]), eth_src=mac(vm))


def data(family: int = 4, dst: str = "") -> bytes:
    if family == 4:
        dst = dst or G4
        last = int.from_bytes(bytes(map(int, dst.split("."))), "big") & 0x7FFFFF
        text = f"{0x01005E000000 | last:012x}"
        eth_dst = ":".join(re.findall("..", text))
        return frames.udp("10.0.1.1", dst, eth_src=mac(1), eth_dst=eth_dst)
    dst = dst or G6
    eth_dst = "33:33:00:00:01:23" if dst == G6 else "33:33:00:00:00:01"
    return frames.udp("fd00::1", dst, eth_src=mac(1), eth_dst=eth_dst)


FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])


@FAMILIES
def test_a_group_goes_to_members_on_any_host_and_to_nobody_else(family: int) -> None:
    fabric = cloud()
    assert names(fabric, "web/vm1", data(family)) == []

    fabric.send("web/vm4", report(4, family))
    assert names(fabric, "web/vm1", data(family)) == ["web/vm4"]
    fabric.send("web/vm2", report(2, family))
    fabric.send("web/vm7", report(7, family))
    expected = ["web/vm2", "web/vm4", "web/vm7"]
    assert names(fabric, "web/vm1", data(family)) == expected


@FAMILIES
def test_who_leaves_is_asked_first_and_then_left_out(family: int) -> None:
    fabric = cloud()
    fabric.send("web/vm4", report(4, family))
    fabric.advance(1)

    asked = fabric.send("web/vm4", report(4, family, kind=3))
    assert [one.vport for one in asked] == ["web/vm4"]
    assert names(fabric, "web/vm1", data(family)) == ["web/vm4"]
    fabric.advance(2.5)
    assert names(fabric, "web/vm1", data(family)) == []


def test_another_member_behind_the_vport_keeps_the_group() -> None:
    fabric = cloud()
    fabric.send("web/vm4", report(4))
    fabric.send("web/vm4", report(4, kind=3))
    fabric.send("web/vm4", report(4, kind=2))
    fabric.advance(5)

    assert names(fabric, "web/vm1", data()) == ["web/vm4"]


def test_members_are_asked_and_silence_ends_a_membership() -> None:
    fabric = cloud()
    fabric.send("web/vm4", report(4))

    fabric.advance(240, step=1)
    fabric.send("web/vm4", report(4, kind=2))
    fabric.advance(200, step=1)
    assert names(fabric, "web/vm1", data()) == ["web/vm4"]
    fabric.advance(100, step=1)
    assert names(fabric, "web/vm1", data()) == []


def test_every_vport_of_the_network_is_asked_by_its_own_host() -> None:
    fabric = cloud()
    fabric.advance(0.1)
    fabric.delivered.clear()
    queried: dict[str, int] = {}
    for _ in range(130):
        for one in fabric.advance(1, step=1):
            queried[one.vport] = queried.get(one.vport, 0) + 1

    # IPv4 and IPv6; after 31 s and, for good, 125 s later.
    assert queried.keys() == {f"web/vm{number}" for number in range(1, 8)}
    assert set(queried.values()) <= {2, 4}
    assert not [one for one in fabric.underlay if not one.is_state]


@FAMILIES
def test_groups_of_the_link_go_to_everybody(family: int) -> None:
    fabric = cloud()

    frame = data(family, "224.0.0.251" if family == 4 else "ff02::1")
    assert names(fabric, "web/vm1", frame) == OTHERS


def test_unasked_groups_go_everywhere_where_the_network_says_so() -> None:
    fabric = cloud(flood_unregistered=True)
    assert names(fabric, "web/vm1", data()) == OTHERS

    fabric.send("web/vm4", report(4))
    assert names(fabric, "web/vm1", data()) == ["web/vm4"]


def test_a_multicast_router_gets_reports_and_every_group() -> None:
    fabric = cloud()
    query = groups.igmp(0x11, src="10.0.1.6", eth_src=mac(6))
    others = [f"web/vm{number}" for number in (1, 2, 3, 4, 5, 7)]
    assert sorted(one.vport for one in fabric.send("web/vm6", query)) == others

    assert names(fabric, "web/vm1", data()) == ["web/vm6"]
    assert [one.vport for one in fabric.send("web/vm4", report(4))] == ["web/vm6"]
    assert names(fabric, "web/vm1", data()) == ["web/vm4", "web/vm6"]


def test_a_member_that_moves_or_whose_host_is_gone_is_followed() -> None:
    fabric = cloud()
    fabric.send("web/vm4", report(4))
    names(fabric, "web/vm1", data())

    fabric.move("web/vm4", "node3")
    assert names(fabric, "web/vm1", data()) == ["web/vm4"]
    fabric.advance(150, step=1)
    fabric.send("web/vm4", report(4, kind=2))
    fabric.advance(200, step=1)
    assert names(fabric, "web/vm1", data()) == ["web/vm4"]
    fabric.stop("node3")
    fabric.start("node3")
    fabric.advance(400, step=1)
    assert names(fabric, "web/vm1", data()) == []


def test_without_snooping_a_group_goes_to_everybody() -> None:
    fabric = Fabric(office())
    fabric.send("web/vm4", report(4))

    assert names(fabric, "web/vm1", data()) == OTHERS


def test_snooping_can_be_switched_on_under_way() -> None:
    fabric = Fabric(office())
    assert names(fabric, "web/vm1", data()) == OTHERS
    network = next(r for r in fabric.builder.rows if isinstance(r, model.Network))

    fabric.change(model.Put(replace(network, multicast_snooping=True)))
    fabric.send("web/vm4", report(4))
    assert names(fabric, "web/vm1", data()) == ["web/vm4"]
