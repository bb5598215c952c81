# SPDX-License-Identifier: Apache-2.0
"""Rows of layer 2 services come, change and go; the look-ups follow."""

from __future__ import annotations

from dataclasses import replace

from midoryu.topology import model
from midoryu.topology.l2 import Mirror, MulticastMember, Qos
from midoryu.topology.model import Gone, Put
from midoryu.topology.tag import mac_tag, multicast_tag
from tests.helpers.builder import Builder


def builder() -> Builder:
    b = Builder()
    b.network("web")
    b.vport("web/vm1")
    b.vport("web/vm2")
    return b


def test_a_sub_port_is_found_by_its_parent_until_it_goes() -> None:
    b = builder()
    sub = b.vport("web/sub", parent=b.key("web/vm1"), vlan=7)
    topology = b.topology()

    assert list(topology.l2.subports(b.key("web/vm1"))) == [sub.key]
    topology.apply([Gone(model.Vport, sub.key)])
    assert list(topology.l2.subports(b.key("web/vm1"))) == []


def test_members_of_a_group_come_and_go_with_its_tag() -> None:
    b = builder()
    topology, web = b.topology(), b.key("web")
    row = MulticastMember("m", web, 99, b.key("web/vm1"))

    assert topology.apply([Put(row)]) == {multicast_tag(web, 99)}
    assert topology.l2.members(web, 99) == {b.key("web/vm1")}
    assert topology.l2.members(web, 98) == frozenset()
    assert topology.apply([Gone(MulticastMember, "m")]) == {multicast_tag(web, 99)}
    assert topology.l2.members(web, 99) == frozenset()


def test_a_vports_own_policy_goes_before_its_networks() -> None:
    b = builder()
    gold, lead = b.put(Qos("g", "gold", dscp=1)), b.put(Qos("l", "lead", dscp=2))
    topology = b.topology()
    vport = topology.vport(b.key("web/vm1"))
    assert vport is not None
    assert topology.l2.policy(vport) == Qos("", "")

    topology.apply([Put(model.Network(b.key("web"), "web", qos="l"))])
    assert topology.l2.policy(vport) == lead
    assert topology.l2.policy(replace(vport, qos="g")) == gold


def test_mirrors_are_found_from_both_ends() -> None:
    b = builder()
    one, two = b.key("web/vm1"), b.key("web/vm2")
    topology = b.topology()
    mirror = Mirror(50, "m", frozenset((one,)), two)

    topology.apply([Put(mirror)])
    assert topology.l2.mirrors_of(one) == topology.l2.mirrors_to(two) == (mirror,)
    topology.apply([Put(replace(mirror, vports=frozenset(), target=one))])
    assert topology.l2.mirrors_of(one) == topology.l2.mirrors_to(two) == ()


def test_learned_addresses_are_counted_once_whoever_told() -> None:
    b = builder()
    topology, web = b.topology(), b.key("web")
    one, two = b.key("web/vm1"), b.key("web/vm2")
    own = model.MacEntry("local", web, 5, one)

    assert mac_tag(web, 5) in topology.apply([Put(own)])
    topology.apply([Put(replace(own, key="row"))])
    assert (topology.l2.macs_of_network[web], topology.l2.macs_of_vport[one]) == (1, 1)
    topology.apply([Put(replace(own, key="row", vport=two))])
    assert (topology.l2.macs_of_vport[one], topology.l2.macs_of_vport[two]) == (0, 1)
    topology.apply([Gone(model.MacEntry, "row"), Gone(model.MacEntry, "local")])
    assert topology.l2.macs_of_network[web] == 0
