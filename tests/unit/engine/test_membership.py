# SPDX-License-Identifier: Apache-2.0
"""Records are sent again to who has become interested in them."""

from __future__ import annotations

from dataclasses import replace

from midoryu.engine import membership
from midoryu.engine.effect import Effects
from midoryu.topology.model import Gone, IngressSet, Put, Vport, VportStatus
from tests.helpers.bench import Bench, office


def connected() -> Bench:
    """Make a connection from vm1 to the outside; node2 has nothing to do with it."""
    bench = Bench(office(masquerade=True))
    bench.greet()
    bench.lease()
    bench.send("web/vm1", bench.frame())
    assert records(bench) == []
    return bench


def records(bench: Bench) -> list[int]:
    """List the ids of the records that node2 was sent."""
    return [one.id for heard in bench.heard for one in heard.records]


def test_a_new_member_of_an_ingress_set_is_sent_the_records_of_its_members() -> None:
    bench = connected()
    (record,) = bench.core.connections
    row = bench.b.ingress_set("uplinks", "r/up", "web/vm3")
    bench.change(row)
    assert records(bench) == [record.id]
    assert bench.counters["connections sent again"] == 1


def test_a_set_without_a_vport_of_the_connection_sends_nothing() -> None:
    bench = connected()
    bench.change(bench.b.ingress_set("others", "web/vm2", "web/vm3"))
    assert records(bench) == []


def test_records_of_another_host_are_left_to_it() -> None:
    bench = Bench(office())
    bench.greet()
    vm3 = bench.b.key("web/vm3")
    bench.push(bench.record(ingress_vport=vm3, egress_vport=vm3))
    bench.change(bench.b.ingress_set("uplinks", "r/up", "web/vm3"))
    assert records(bench) == []


def test_a_vport_that_moved_away_has_its_records_sent_after_it() -> None:
    bench = connected()
    (record,) = bench.core.connections
    row = bench.core.topology.row(Vport, bench.b.key("web/vm1"))
    assert row is not None
    bench.change(
        replace(row, host=bench.b.key("node2")), bench.status("web/vm1", "node2")
    )
    assert record.id in records(bench)


def test_a_vport_that_moved_here_is_remembered_with_its_old_host() -> None:
    bench = Bench(office())
    bench.change(bench.status("web/vm3", "node1"))
    assert bench.core.moved_from == {bench.b.key("web/vm3"): bench.b.key("node2")}


def test_a_vport_of_a_dead_host_is_served_by_whoever_has_the_records() -> None:
    b = office()
    b.host("node3", "172.31.0.3")
    bench = Bench(b)
    bench.greet()
    vm3, dead = b.key("web/vm3"), b.key("node3")
    bench.change(bench.status("web/vm3", "node3"))
    bench.push(bench.record(owner=dead))
    bench.core.topology.set_dead_hosts(frozenset({dead}))
    before = records(bench)
    places = membership.Places(frozenset(), {vm3: dead})
    bench.core.topology.apply([Put(bench.status("web/vm3", "node2"))])
    effects = Effects()
    membership.follow(bench.core, places, effects, bench.now)
    assert before == []
    assert len(effects.state_pushes) == 1


def test_before_notes_old_and_new_members_and_where_vports_were() -> None:
    bench = Bench(office(gateways=True))
    b = bench.b
    new = replace(
        next(row for row in b.rows if isinstance(row, IngressSet)),
        vports=frozenset({b.key("r/up2"), b.key("web/vm3")}),
    )
    moved = bench.status("web/vm3", "node1")
    places = membership.before(bench.core, [Put(new), Put(moved)])
    names = ("r/up", "r/up2", "web/vm3")
    assert places.joined == {b.key(name) for name in names}
    assert places.was_at == {b.key("web/vm3"): b.key("node2")}
    gone = membership.before(
        bench.core, [Gone(IngressSet, "uplinks"), Gone(VportStatus, b.key("web/vm3"))]
    )
    assert gone.joined == {b.key("r/up"), b.key("r/up2")}
    assert gone.was_at == {}
