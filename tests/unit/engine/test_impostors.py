# SPDX-License-Identifier: Apache-2.0
"""A router's own address as a source passes no flow that stands already."""

from __future__ import annotations

from dataclasses import replace

from midoryu.topology import model
from tests.helpers import frames
from tests.helpers.fabric import Fabric
from tests.helpers.worlds import FAMILIES, V4, Family, two_networks

VM1 = "02:00:00:00:00:01"


def send(fabric: Fabric, family: Family, source: str, sport: int = 1000) -> int:
    """Let vm1 send to vm2 from any address; return how many frames arrive."""
    b = fabric.builder
    router = f"02:aa:00:00:{b.key('r'):02x}:{b.key('a'):02x}"
    frame = frames.udp(source, family.ip(2, 12), sport, eth_src=VM1, eth_dst=router)
    return len(fabric.send("a/vm1", frame))


@FAMILIES
def test_only_a_routers_own_addresses_are_dropped(family: Family) -> None:
    fabric = Fabric(two_networks(family))
    # An IPv4 flow matches no source.
    assert send(fabric, family, family.ip(1, 11)) == 1
    assert send(fabric, family, family.ip(1, 77)) == 1
    before = fabric.hosts["node1"].packet_ins
    for own in (family.ip(1, 1), family.ip(2, 1), family.uplink):
        assert send(fabric, family, own) == 0
    assert fabric.hosts["node1"].packet_ins == before


def test_broadcast_addresses_are_no_sources() -> None:
    fabric = Fabric(two_networks(V4))
    assert send(fabric, V4, "10.0.1.11") == 1
    assert send(fabric, V4, "10.0.1.255") == send(fabric, V4, "10.0.2.255") == 0


def test_an_address_that_a_router_gives_up_is_anybodys() -> None:
    b = two_networks(V4)
    fabric = Fabric(b)
    send(fabric, V4, "10.0.1.11")
    assert send(fabric, V4, V4.uplink) == 0
    row = next(
        one for one in b.rows if isinstance(one, model.Vport) and one.name == "up"
    )
    fabric.change(model.Put(replace(row, addresses=())))
    assert send(fabric, V4, V4.uplink) == 1


def test_at_an_uplink_its_own_address_is_dropped_too() -> None:
    b = two_networks(V4)
    fabric = Fabric(b)

    def enter(source: str) -> int:
        frame = frames.udp(
            source,
            "10.0.2.12",
            eth_src="02:ff:00:00:00:09",
            eth_dst="02:cc:00:00:00:01",
        )
        return len(fabric.send("r/up", frame))

    assert enter("198.51.100.9") == 1
    assert enter(V4.uplink) == enter("10.0.1.1") == 0
