# SPDX-License-Identifier: Apache-2.0
"""When a host looks at a member, and what it tells."""

from __future__ import annotations

from typing import Any

from midoryu.engine import health
from midoryu.engine.effect import Effects, SetMemberStatus
from midoryu.packet.codec import decode
from midoryu.topology.balancer import HealthMonitor, MemberStatus, Probe
from tests.helpers.bench import Bench, office

KEY = "member/shop/10.0.1.2:8080"


def bench(kind: Probe = Probe.TCP, **fields: Any) -> Bench:
    b = office()
    values = {"interval_s": 1.0, "timeout_s": 0.4, "fall": 2, **fields}
    monitor = HealthMonitor("", "", kind, **values)
    vips = ["203.0.113.80:80/6"]
    b.balancer("shop", "r", vips, ["10.0.1.2:8080"], monitor=monitor)
    world = Bench(b)
    # node2 is out of the way.
    world.change(b.vport("web/vm3", mac="02:00:00:00:00:03", ip="10.0.1.3"))
    world.gone(type(world.status("web/vm3")), b.key("web/vm3"))
    return world


def told(world: Bench) -> list[bool]:
    return [
        write.up
        for effects in world.done
        for write in effects.nsdb_writes
        if isinstance(write, SetMemberStatus)
    ]


def live(world: Bench, seconds: float) -> None:
    for _ in range(int(seconds * 10)):
        world.wait(0.1)


def probes(world: Bench) -> int:
    count = 0
    for effects in world.done:
        for out in effects.packet_outs:
            packet = decode(out.frame)
            count += packet.headers.l4_dst == 8080
    return count


def test_a_silent_member_is_told_down_once() -> None:
    world = bench()
    live(world, 5.0)
    assert told(world) == [False]
    assert 8 <= probes(world) <= 12
    row = world.core.topology.row(MemberStatus, KEY)
    assert row == MemberStatus(KEY, world.b.key("node1"), False)


def test_a_udp_service_may_be_silent() -> None:
    world = bench(Probe.UDP)
    live(world, 3.0)
    assert told(world) == [True]


def test_nobody_is_looked_at_without_a_monitor() -> None:
    world = bench()
    world.gone(HealthMonitor, "monitor/shop")
    before = probes(world)
    live(world, 3.0)
    assert probes(world) == before
    assert not world.core.health.watches
    assert health.step(world.core, Effects(), world.now) == health.Wishes()


def test_a_known_member_needs_its_count_of_failures() -> None:
    world = bench(fall=3)
    world.change(MemberStatus(KEY, world.b.key("node2"), True))
    live(world, 2.2)
    assert told(world) == []
    live(world, 2.0)
    assert told(world) == [False]


def test_hosts_with_ports_around_are_ranked_alike() -> None:
    world = bench()
    ranks = {
        tuple(health.rank(world.core, world.b.key("r"), "pool/shop")) for _ in range(3)
    }
    assert ranks == {(world.b.key("node1"),)}
    assert health.fellows(world.core) == {world.b.key("node1")}
