# SPDX-License-Identifier: Apache-2.0
"""A translation is used again, but not as long as anybody uses it.

The fabric simulation (`tests/fabric`) found what is tested here in small.
"""

from __future__ import annotations

from tests.helpers import frames
from tests.helpers.builder import Builder, cloud
from tests.helpers.fabric import Fabric
from tests.scenarios.test_main_job import SERVER, router_mac


def ping(b: Builder) -> bytes:
    mac = "02:00:00:00:00:02"
    return frames.icmp_echo("10.0.1.2", SERVER, eth_src=mac, eth_dst=router_mac(b))


def test_a_ping_of_a_vm_that_moved_keeps_its_identifier_at_who_leased_it() -> None:
    lifetimes_s = (10, 10, 10, 10, 10, 10, 10)
    fabric = Fabric(cloud(), touch_interval_s=3.0, lifetimes_s=lifetimes_s)
    fabric.advance(3.0)
    assert len(fabric.send("web/vm2", ping(fabric.builder))) == 1
    fabric.move("web/vm2", "node3")
    for _ in range(6):
        fabric.advance(4.0)
        assert len(fabric.send("web/vm2", ping(fabric.builder))) == 1
    # No flow can stand for it: that it is used, node3 has to say itself.
    (record,) = fabric.records("node2")
    assert record["idle_s"] < 4.5
    fabric.advance(20.0)
    assert [fabric.records(f"node{number}") for number in (1, 2, 3, 4)] == [[]] * 4
