# SPDX-License-Identifier: Apache-2.0
"""Whoever has an old state of a record is found out by touches, and mended."""

from __future__ import annotations

from midoryu.engine.effect import Effects
from midoryu.state.connection import Connection
from tests.helpers.bench import Bench, office


def touched(bench: Bench, record: Connection) -> list[Effects]:
    """Let node2 touch a record, and everything that follows from it happen."""
    bench.peer.touch([record], [bench.b.key("node1")], bench.now)
    bench.now += 0.1
    effects = bench.tell(bench.peer.tick(bench.now))
    wanted = [id_ for heard in bench.heard for id_ in heard.wanted]
    if wanted:
        assert wanted == [record.id]
        effects += bench.push(record)
    return effects


def greeted() -> Bench:
    bench = Bench(office())
    bench.greet()
    bench.heard.clear()
    return bench


def told(bench: Bench) -> list[Connection]:
    """Return the records that node2 was told of."""
    return [record for heard in bench.heard for record in heard.records]


def test_a_touch_of_a_newer_state_is_asked_for() -> None:
    bench = greeted()
    bench.push(bench.record())
    newer = bench.record(version=3, ingress_vport=bench.b.key("web/vm1"))
    touched(bench, newer)
    known = bench.core.connections.get(77)
    assert known is not None
    assert (known.version, known.ingress_vport) == (3, newer.ingress_vport)
    assert bench.core.counters["records fetched"] == 1


def test_a_touch_of_a_record_that_is_not_known_is_asked_for() -> None:
    bench = greeted()
    touched(bench, bench.record())
    assert bench.core.connections.get(77) is not None


def test_a_touch_of_an_older_state_is_answered_with_the_newer() -> None:
    bench = greeted()
    bench.push(bench.record(version=2))
    bench.heard.clear()
    touched(bench, bench.record())
    assert [record.version for record in told(bench)] == [2]
    assert bench.core.counters["old records corrected"] == 1


def test_a_touch_of_the_same_state_leads_to_nothing() -> None:
    bench = greeted()
    for version in (0, 2):
        record = bench.record(77 + version, version=version)
        bench.push(record)
        bench.heard.clear()
        touched(bench, record)
        assert not [heard for heard in bench.heard if heard.records or heard.wanted]


def test_two_states_of_one_version_are_decided_as_always() -> None:
    low, high = "web/vm1", "web/vm3"
    for here, there in ((low, high), (high, low)):
        bench = greeted()
        vports = [bench.b.key(here), bench.b.key(there)]
        bench.push(bench.record(version=1, ingress_vport=vports[0]))
        bench.heard.clear()
        touched(bench, bench.record(version=1, ingress_vport=vports[1]))
        known = bench.core.connections.get(77)
        assert known is not None
        assert known.ingress_vport == max(vports)
        # Where the sender has the losing state, it is told the other one.
        told_it = [record.ingress_vport for record in told(bench)]
        assert told_it == ([vports[0]] if vports[0] > vports[1] else [])
