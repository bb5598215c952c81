# SPDX-License-Identifier: Apache-2.0
"""A translation is used again, but not as long as anybody uses it.

The fabric simulation (`tests/fabric`) found what is tested here in small.
"""

from __future__ import annotations

from typing import Any

from midoryu.packet.address import format_ip
from tests.helpers import frames
from tests.helpers.builder import Builder, cloud
from tests.helpers.fabric import Fabric, Underlay
from tests.scenarios.test_main_job import SERVER, only, router_mac


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


def test_an_answer_that_waits_for_a_port_does_not_get_one_of_its_own() -> None:
    b = cloud(filters=False)
    b.dnat(
        "tenant",
        "203.0.113.20",
        "10.0.1.3",
        ip_proto=17,
        ports=(5353, 5353),
        to_port=53,
    )
    idle = {"nat_block_idle_s": 0.5, "nat_last_block_idle_s": 0.5}
    fabric = Fabric(b, touch_interval_s=1.0, **idle)
    # node3 has given its ports back, and the record does not reach it.
    lost: list[object] = []

    def lose_first(packet: Underlay) -> bool:
        if packet.is_state and packet.destination == "node3" and not lost:
            lost.append(packet)
            return True
        return False

    eth: dict[str, Any] = {
        "eth_src": "02:ff:00:00:00:01",
        "eth_dst": "02:cc:00:00:00:01",
    }
    fabric.advance(3.0)
    assert fabric.inspect("node3", "stats")["counters"]["NAT blocks released"] == 1
    fabric.drop = lose_first
    ends: dict[str, Any] = {"src": SERVER, "dst": "203.0.113.20"}
    asked = frames.udp(sport=50000, dport=5353, **ends, **eth)
    only(fabric.send("provider/uplink1", asked))
    assert lost
    answer = frames.udp(
        src="10.0.1.3",
        dst=SERVER,
        sport=53,
        dport=50000,
        eth_src="02:00:00:00:00:03",
        eth_dst=router_mac(b),
    )
    sent = fabric.send("web/vm3", answer) or fabric.advance(0.1)
    _, seen = only(sent)
    assert (format_ip(seen.headers.ip_src), seen.headers.l4_src) == (
        "203.0.113.20",
        5353,
    )
