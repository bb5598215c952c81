# SPDX-License-Identifier: Apache-2.0
"""What the lanes share: ids, cookies, memory, invalidation."""

from __future__ import annotations

from midoryu.engine.config import EngineConfig
from midoryu.engine.core import SYNC_LIMIT_S, Core
from midoryu.engine.effect import Effects
from midoryu.openflow import pipeline
from midoryu.topology.tag import vport_tag
from tests.helpers.bench import Bench, office


def core(epoch: int = 1, seed: int = 1) -> Core:
    return Core(EngineConfig(host="node1", epoch=epoch, seed=seed), 0.0)


def test_cookies_of_two_starts_never_meet() -> None:
    one, other = core(epoch=1), core(epoch=2)
    cookies = [c.new_cookie() for c in (one, other) for _ in range(1000)]
    assert len(set(cookies)) == 2000
    assert {pipeline.cookie_kind(cookie) for cookie in cookies} == {
        pipeline.COOKIE_REACTIVE
    }


def test_connection_ids_of_two_hosts_differ_and_are_never_zero() -> None:
    one, other = core(seed=1), core(seed=2)
    ids = [c.new_connection_id() for c in (one, other) for _ in range(1000)]
    assert len(set(ids)) == 2000
    assert all(0 < id_ < 1 << 64 for id_ in ids)


def test_without_a_host_key_there_is_no_memory_whatever_the_time() -> None:
    assert not core().has_memory(100.0)
    assert core().host == 0


def test_peers_are_waited_for_until_they_have_sent_theirs_or_time_is_up() -> None:
    bench = Bench(office())
    start = bench.core.started
    assert not bench.core.has_memory(start + SYNC_LIMIT_S - 0.1)
    assert bench.core.has_memory(start + SYNC_LIMIT_S)
    bench.greet()
    assert bench.core.has_memory(start)


def test_invalidation_removes_tagged_flows_counts_them_and_lets_records_go() -> None:
    bench = Bench(office(masquerade=True))
    bench.lease()
    bench.send("web/vm1", bench.frame())
    bench.send("web/vm2", bench.beside(2, to=3))
    (connection,) = bench.core.connections
    effects = Effects()
    tags = (vport_tag(bench.b.key("r/up")),)
    before = bench.counters["flows invalidated"]
    assert bench.core.invalidate(tags, effects, bench.now) == 1
    assert len(effects.flow_mods) == 1
    assert bench.counters["flows invalidated"] == before + 1
    assert not bench.core.connections.is_held(connection.id)
    assert bench.core.invalidate(tags, effects, bench.now) == 0


def test_an_agent_learns_from_the_moment_when_it_can_ask() -> None:
    bench = Bench(office(), start=False, epoch=6)
    bench.read_topology()
    bench.wait(SYNC_LIMIT_S + 1)
    assert not bench.core.has_memory(bench.now)
    bench.connect()
    bench.wait(SYNC_LIMIT_S - 0.5)
    assert not bench.core.has_memory(bench.now)
    bench.wait(0.6)
    assert bench.core.has_memory(bench.now)
