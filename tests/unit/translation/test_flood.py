# SPDX-License-Identifier: Apache-2.0
"""Which tunnel keys a flood uses towards one host."""

from __future__ import annotations

from midoryu.topology import model
from midoryu.translation.flood import is_member, keys_at, members
from tests.helpers.builder import Builder


def world() -> Builder:
    """Network web: vm1..vm3 at node1, vm4 at node2, vm5 at node1 but not up."""
    b = Builder()
    b.host("node1", "172.31.0.1")
    b.host("node2", "172.31.0.2")
    b.network("web")
    b.router("r")
    for number in (1, 2, 3):
        b.vport(f"web/vm{number}", host="node1")
    b.vport("web/vm4", host="node2")
    b.vport("web/vm5", host="node1", up=False)
    b.attach("r", "web", "10.0.0.1/24")
    return b


def keys(b: Builder, *names: str) -> list[int]:
    vports = [b.key(f"web/{name}") for name in names]
    return keys_at(b.topology(), b.key("node1"), vports)


def test_members_are_the_exterior_vports_that_are_up_by_host() -> None:
    b = world()

    assert members(b.topology(), b.key("web")) == {
        b.key("node1"): {b.key(f"web/vm{number}") for number in (1, 2, 3)},
        b.key("node2"): {b.key("web/vm4")},
    }
    assert members(b.topology(), b.key("r")) == {}


def test_all_that_are_up_at_a_host_get_one_copy() -> None:
    b = world()

    assert keys(b, "vm1", "vm2", "vm3") == [b.key("web")]
    assert keys(b, "vm1", "vm2", "vm3", "vm5") == [b.key("web")]


def test_a_part_of_them_gets_copies_one_by_one() -> None:
    b = world()

    assert keys(b, "vm1", "vm3") == [b.key("web/vm1"), b.key("web/vm3")]
    assert keys(b, "vm1") == [b.key("web/vm1")]


def test_a_dead_hosts_vports_are_no_members() -> None:
    b = world()
    topology = b.topology()
    topology.set_dead_hosts(frozenset((b.key("node1"),)))
    vport = topology.vport(b.key("web/vm1"))

    assert vport is not None
    assert not is_member(topology, vport)
    status = topology.row(model.VportStatus, vport.key)
    assert status is not None
