# SPDX-License-Identifier: Apache-2.0
"""An ingress set whose members are on different routers: equal ways in all the same."""

from __future__ import annotations

from typing import Any, Final

from midoryu.packet.address import format_mac, parse_ip
from midoryu.packet.codec import decode
from midoryu.topology.model import Put
from tests.fabric.world import FLOATING4, World, make_world
from tests.helpers import frames
from tests.helpers.fabric import Delivery, Fabric

CLIENT4, CLIENT6 = "198.51.100.77", "2001:db8:99::77"
VM: Final = "2001:db8:1::b"
GATEWAYS: Final = ("node2", "node1")


class Cloud:
    """A client outside and web/vm11, with one uplink on each of two routers."""

    def __init__(self, world: World | None = None) -> None:
        self.world = world or make_world(4, apart=True)
        self.fabric = Fabric(self.world.builder)
        self.fabric.advance(3.0)

    def enter(self, gateway: str, **fields: Any) -> list[Delivery]:
        """Let a segment in by the uplink of a gateway."""
        sent: dict[str, Any] = {
            "src": CLIENT6,
            "dst": VM,
            "sport": 40000,
            "dport": 80,
            **fields,
        }
        world = self.world
        macs = (world.upstream_mac(gateway), world.uplink_mac(gateway))
        frame = frames.tcp(
            eth_src=format_mac(macs[0]), eth_dst=format_mac(macs[1]), **sent
        )
        return self.fabric.send(world.uplink(gateway), frame)

    def say(self, **fields: Any) -> list[Delivery]:
        """Let the VM send a segment."""
        vm = self.world.vms[0]
        macs: dict[str, Any] = {
            "eth_src": format_mac(vm.mac),
            "eth_dst": format_mac(self.world.router_mac),
        }
        return self.fabric.send(vm.vport, frames.tcp(**macs, **fields))

    def changed(self) -> int:
        """Return how often any host changed a record."""
        stats = (self.fabric.inspect(name, "stats") for name in self.fabric.hosts)
        return sum(one["counters"].get("connections changed", 0) for one in stats)


def test_a_client_that_uses_both_by_turns_changes_no_record() -> None:
    cloud = Cloud()
    assert cloud.enter("node2", flags="S")
    assert cloud.say(src=VM, dst=CLIENT6, sport=80, dport=40000, flags="SA")
    for _ in range(3):
        for gateway in GATEWAYS:
            (arrived,) = cloud.enter(gateway, flags="A")
            assert arrived.vport == "web/vm11"
    (record,) = cloud.fabric.records("node3")
    assert record["ingress"] == cloud.world.uplink("node2")
    assert cloud.changed() == 0
    assert all(len(cloud.fabric.records(name)) == 1 for name in GATEWAYS)


def test_the_same_holds_where_a_router_behind_them_translates() -> None:
    cloud = Cloud()
    for gateway, flags in zip((*GATEWAYS, *GATEWAYS), "SAAA"):
        (arrived,) = cloud.enter(gateway, src=CLIENT4, dst=FLOATING4, flags=flags)
        assert arrived.vport == "web/vm13"
    assert cloud.changed() == 0


def test_an_answer_passes_a_filter_by_whichever_router_it_comes() -> None:
    cloud = Cloud()
    asked = cloud.say(src=VM, dst=CLIENT6, sport=50000, dport=443, flags="S")
    assert len(asked) == 1
    for gateway in GATEWAYS:
        (arrived,) = cloud.enter(gateway, sport=443, dport=50000, flags="SA")
        assert arrived.vport == "web/vm11"
    # A stranger's is none.
    assert cloud.enter("node1", sport=444, dport=50000, flags="SA") == []


def test_a_way_in_that_joins_on_another_router_knows_the_connections() -> None:
    cloud = Cloud()
    b, uplinks = cloud.world.builder, [cloud.world.uplink(g) for g in GATEWAYS]
    cloud.fabric.change(Put(b.ingress_set("uplinks", uplinks[0])))
    cloud.say(src=VM, dst=CLIENT6, sport=50000, dport=443, flags="S")
    asked_by = [cloud.fabric.records(name) for name in GATEWAYS]
    other = GATEWAYS[0] if asked_by[1] else GATEWAYS[1]
    assert cloud.enter(other, sport=443, dport=50000, flags="SA") == []
    cloud.fabric.change(Put(b.ingress_set("uplinks", *uplinks)))
    cloud.fabric.advance(6.0)
    assert len(cloud.enter(other, sport=443, dport=50000, flags="SA")) == 1


def test_what_one_of_the_routers_translates_itself_is_not_the_other_ones() -> None:
    world = make_world(4, apart=True)
    for number, router in enumerate(world.providers):
        ports: dict[str, Any] = {"ip_proto": 6, "ports": (80, 80)}
        world.builder.dnat(router, "203.0.113.60", "10.0.1.12", **ports)
        world.builder.route(router, "10.0.1.0/24", via=f"100.64.{number}.2")
    cloud = Cloud(world)
    for gateway, flags in (("node2", "S"), ("node1", "A")):
        (arrived,) = cloud.enter(gateway, src=CLIENT4, dst="203.0.113.60", flags=flags)
        assert arrived.vport == "web/vm12"
        assert decode(arrived.frame).headers.ip_dst == parse_ip("10.0.1.12")
