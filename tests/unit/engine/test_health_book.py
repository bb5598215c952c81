# SPDX-License-Identifier: Apache-2.0
"""A watch takes source ports by turns."""

from __future__ import annotations

import pytest

from midoryu.engine.health_book import Watch
from midoryu.topology.balancer import (
    CompiledPool,
    HealthMonitor,
    Pool,
    PoolMember,
    Probe,
    Vip,
)


@pytest.mark.parametrize(("kind", "ports"), [(Probe.TCP, 4), (Probe.ICMP, 1)])
def test_looks_take_ports_by_turns(kind: Probe, ports: int) -> None:
    monitor, member = HealthMonitor("h", "p", kind), PoolMember("m", "p", 1)
    pool = CompiledPool(Pool("p", "p"), (member,), monitor, {})
    watch = Watch(pool, monitor, member, Vip("v", "b", 2, "p", 6, 80), 1, 0.0)
    seen = set()
    for watch.count in range(12):
        seen.add(watch.source_port)
    assert len(seen) == ports
    assert all(32_768 <= port <= 0xFFFF for port in seen)
    assert watch.port == 80
