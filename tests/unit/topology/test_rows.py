# SPDX-License-Identifier: Apache-2.0
"""Rows as they are kept: found by what they are, and by what they are about."""

from __future__ import annotations

from dataclasses import replace

from midoryu.topology import model, tag
from tests.helpers.builder import cloud
from tests.unit.topology.test_snapshot import apply


def test_vport_is_found_by_its_interface() -> None:
    b = cloud()
    topology = b.topology()
    vport = topology.vport_by_iface_id("web/vm2")

    assert vport is not None
    assert vport.key == b.key("web/vm2")
    apply(topology, replace(vport, iface_id="other"))
    assert topology.vport_by_iface_id("web/vm2") is None
    assert topology.vport_by_iface_id("") is None


def test_host_is_found_by_its_name() -> None:
    b = cloud()
    topology = b.topology()
    host = topology.host_named("node2")

    assert host is not None
    assert host.key == b.key("node2")
    topology.apply([model.Gone(model.Host, host.key)])
    assert topology.host_named("node2") is None


def test_row_of_the_database_replaces_what_was_learned_here() -> None:
    b = cloud()
    topology, web, mac = b.topology(), b.key("web"), 0x02DD_0000_0001
    here = model.MacEntry("local/1", web, mac, b.key("web/vm2"))
    apply(topology, here)
    apply(topology, model.MacEntry("uuid", web, mac, b.key("web/vm3")))
    network = topology.network(web)
    assert network is not None
    assert topology.mac_location(network, mac) == b.key("web/vm3")

    touched = apply(topology, here)

    assert tag.mac_tag(web, mac) in touched
    assert topology.mac_location(network, mac) == b.key("web/vm2")


def test_location_is_where_a_vport_was_seen_else_where_it_is_bound() -> None:
    b = cloud()
    topology, vm2 = b.topology(), b.key("web/vm2")
    apply(topology, model.VportStatus(vm2, b.key("node4"), True))
    assert topology.location(vm2) == b.key("node4")

    apply(topology, model.VportStatus(vm2, b.key("node4"), False))

    assert topology.location(vm2) == b.key("node2")
    assert topology.location(999) == 0


def test_vport_is_up_where_its_host_says_so_and_lives() -> None:
    b = cloud()
    topology, uplink = b.topology(), b.key("provider/uplink1")
    row = topology.vport(uplink)
    assert row is not None
    assert topology.is_up(row)
    assert not topology.is_up(replace(row, up=False))

    topology.set_dead_hosts(frozenset({b.key("node1")}))
    assert not topology.is_up(row)

    topology.set_dead_hosts(frozenset())
    topology.apply([model.Gone(model.VportStatus, uplink)])
    assert not topology.is_up(row)
