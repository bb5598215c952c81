# SPDX-License-Identifier: Apache-2.0
"""Flows of an earlier agent: kept, made our own, removed when they are wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from midoryu.engine.adoption import GIVE_UP_S, LACKING_S
from midoryu.engine.event import InterfacesChanged, JournalRead
from midoryu.openflow import pipeline
from midoryu.openflow.flow import Flow, Match
from midoryu.packet import field, protocol
from midoryu.replication.entry import encode_record
from midoryu.topology.model import CT_ESTABLISHED, RouteKind, Rule, RuleAction, Vport
from midoryu.topology.tag import vport_tag
from tests.helpers.bench import (
    OFPORTS,
    Bench,
    installed,
    office,
    removed,
)
from tests.helpers.builder import Builder


def earlier(masquerade: bool = False) -> tuple[Bench, Flow, Flow]:
    """Run an agent that leaves a flow, and return it with the flow and its answer's."""
    bench = Bench(office(masquerade=masquerade))
    bench.lease()
    (made,) = installed(bench.send("web/vm1", bench.frame()))
    port = {a[0]: a[1] for a in made.actions if len(a) > 1}.get(7, 40000)
    fields = {} if masquerade else {"dst": "10.0.1.1"}
    (back,) = installed(bench.send("r/up", bench.reply(dport=port, **fields)))
    return bench, made, back


def later(*flows: Flow, bench: Bench | None = None, **fields: bool) -> Bench:
    """Start the next agent, which finds flows."""
    new = Bench(office(**fields), start=False, epoch=6)
    new.read_topology()
    if bench is not None:
        for connection in bench.core.connections:
            new.core.connections.insert(connection, new.now)
    new.connect(*flows)
    return new


def test_a_found_flow_stays_until_memory_is_back() -> None:
    _, made, _ = earlier()
    bench = later(made)
    assert [removed(effects) for effects in bench.done if removed(effects)] == []
    assert bench.counters["flows found"] == 1
    effects = bench.wait(1.0)
    assert (installed(effects), removed(effects)) == ([], [])
    assert len(bench.core.orphans) == 1


def test_an_adopted_flow_keeps_its_match_and_actions_and_gets_a_new_cookie() -> None:
    _, made, _ = earlier()
    bench = later(made)
    effects = bench.wait(2.1)
    (own,) = installed(effects)
    assert removed(effects) == []
    assert (own.match, own.actions) == (made.match, made.actions)
    assert own.cookie != made.cookie
    assert bench.core.orphans == {}
    assert bench.counters["flows adopted"] == 1


def test_an_adopted_flow_goes_when_what_it_depends_on_changes() -> None:
    _, made, _ = earlier()
    bench = later(made)
    (own,) = installed(bench.wait(2.1))
    entry = bench.core.flows.get(own.cookie)
    assert entry is not None
    assert vport_tag(bench.b.key("r/up")) in entry.tags
    row = bench.core.topology.row(Vport, bench.b.key("r/up"))
    assert row is not None
    effects = bench.change(replace(row, up=False))
    assert [flow.cookie for flow in removed(effects)] == [own.cookie]


def test_flows_of_a_connection_hold_its_record_again() -> None:
    old, made, back = earlier(masquerade=True)
    bench = later(made, back, bench=old, masquerade=True)
    effects = bench.wait(2.1)
    assert {f.match for f in installed(effects)} == {made.match, back.match}
    assert {f.actions for f in installed(effects)} == {made.actions, back.actions}
    (connection,) = bench.core.connections
    assert bench.core.connections.is_held(connection.id)
    entries = list(bench.core.flows)
    assert {entry.connection for entry in entries} == {connection.id}
    assert sorted(entry.returns for entry in entries) == [False, True]


def test_a_flow_of_an_earlier_release_makes_way_for_one_without_syns() -> None:
    old, made, _ = earlier(masquerade=True)
    assert made.match.fields & field.TCP_SYN
    values = made.match.values[:-1]
    formerly = replace(made, match=Match(made.match.fields ^ field.TCP_SYN, values))
    bench = later(formerly, bench=old, masquerade=True)

    effects = bench.wait(2.1)

    assert [flow.match for flow in installed(effects)] == [made.match]
    assert [flow.match for flow in removed(effects)] == [formerly.match]


def test_a_flow_whose_record_has_not_come_back_stays_as_it_is() -> None:
    _, made, _ = earlier(masquerade=True)
    made = replace(made, note=b"")
    bench = later(made, masquerade=True)
    effects = bench.wait(2.1)
    assert (installed(effects), removed(effects)) == ([], [])
    bench.lease()
    effects = bench.wait(5.0)
    assert (installed(effects), removed(effects)) == ([], [])
    assert made.match in bench.core.orphans


@pytest.mark.parametrize("after_s", [2.1, GIVE_UP_S + 10.0])
def test_a_flow_whose_record_never_returns_goes_when_its_way_is_closed(
    after_s: float,
) -> None:
    _, made, _ = earlier(masquerade=True)
    bench = later(replace(made, note=b""), masquerade=True)
    bench.wait(after_s)
    assert made.match in bench.core.orphans
    vport = bench.core.topology.vport(bench.b.key("web/vm1"))
    assert vport is not None
    bench.change(replace(vport, up=False))
    effects = bench.wait(LACKING_S)
    assert made.match in {flow.match for flow in removed(effects)}
    assert bench.core.orphans == {}


def test_a_flow_brings_back_the_record_that_only_its_host_had() -> None:
    old, made, back = earlier(masquerade=True)
    (known,) = old.core.connections
    bench = later(made, back, masquerade=True)
    # At once, before peers have had their say: its packets may miss their flows.
    (connection,) = bench.core.connections
    assert connection.id == known.id
    assert connection.translations == known.translations
    assert connection.phase is known.phase
    effects = bench.wait(2.1)
    assert {f.match for f in installed(effects)} == {made.match, back.match}
    assert all(f.note for f in installed(effects))
    assert bench.core.orphans == {}
    assert bench.counters["connections from flows"] == 1


def test_a_note_comes_back_from_the_switch_with_zeros_at_its_end() -> None:
    _, made, _ = earlier(masquerade=True)
    bench = later(replace(made, note=made.note + bytes(6)), masquerade=True)
    assert len(bench.core.connections) == 1


@pytest.mark.parametrize("note", [b"x", b"\x01\0\x39", bytes(64), b"\xff" * 64])
def test_a_note_that_means_nothing_is_counted_and_its_flow_stays(note: bytes) -> None:
    _, made, _ = earlier(masquerade=True)
    bench = later(replace(made, note=note), masquerade=True)
    assert len(bench.core.connections) == 0
    assert bench.counters["notes refused"] == 1
    assert made.match in bench.core.orphans


def test_a_record_known_better_is_not_undone_by_a_flow() -> None:
    old, made, _ = earlier(masquerade=True)
    (known,) = old.core.connections
    bench = Bench(office(masquerade=True), start=False, epoch=6)
    bench.read_topology()
    newer = replace(known, version=known.version + 1)
    bench.core.connections.insert(newer, bench.now)
    bench.connect(made)
    (connection,) = bench.core.connections
    assert connection is newer


def test_a_record_from_the_journal_lets_its_flow_be_adopted() -> None:
    old, made, _ = earlier(masquerade=True)
    (connection,) = old.core.connections
    bench = Bench(office(masquerade=True), start=False, epoch=6)
    bench.do(JournalRead(((encode_record(connection, 0, bench.now), 0.0),)))
    bench.read_topology()
    bench.connect(made)
    (own,) = installed(bench.wait(2.1))
    assert own.match == made.match


def test_a_flow_to_a_place_that_is_wrong_now_is_removed() -> None:
    _, made, _ = earlier()
    b = office()
    b.route("r", "198.51.100.0/24", kind=RouteKind.BLACKHOLE)
    bench = Bench(b, start=False)
    bench.read_topology()
    bench.connect(made)
    gone = [flow for _ in range(8) for flow in removed(bench.wait(1.1))]
    assert [flow.cookie for flow in gone] == [made.cookie]
    assert bench.core.orphans == {}
    assert len(bench.core.flows) == 0


def test_drops_of_an_earlier_agent_are_removed_at_once() -> None:
    match = Match(field.IN_PORT, (11,))
    cookie = pipeline.cookie(pipeline.COOKIE_REACTIVE, 99)
    effects_of = later(Flow(10, 1000, match, (), cookie))
    gone = [flow for effects in effects_of.done for flow in removed(effects)]
    assert [flow.cookie for flow in gone] == [cookie]
    assert effects_of.core.orphans == {}


def test_a_flow_of_a_vport_that_does_not_come_back_is_given_up_after_a_while() -> None:
    _, made, _ = earlier()
    bench = later(made)
    bench.do(InterfacesChanged({"web/vm2": 12, "r/up": 13}))
    lost = replace(made, match=Match(made.match.fields, (55, *made.match.values[1:])))
    bench = later(lost)
    assert removed(bench.wait(GIVE_UP_S - 1)) == []
    gone = removed(bench.wait(2.0))
    assert [flow.cookie for flow in gone] == [lost.cookie]


def test_a_flow_that_no_specimen_shows_is_removed() -> None:
    fields = field.IN_PORT | field.ETH_TYPE
    match = Match(fields, (11, protocol.ETH_ARP))
    cookie = pipeline.cookie(pipeline.COOKIE_REACTIVE, 99)
    bench = later(Flow(10, 1000, match, ((0, 12),), cookie))
    gone = removed(bench.wait(2.1))
    assert [flow.cookie for flow in gone] == [cookie]
    assert len(bench.core.flows) == 0


def test_two_found_flows_that_are_one_now_hold_the_record_once() -> None:
    old, made, _ = earlier(masquerade=True)
    values = (*made.match.values[:5], 0, *made.match.values[5:])
    narrow = Match(made.match.fields | field.IP_TOS, values)
    cookie = pipeline.cookie(pipeline.COOKIE_REACTIVE, 98)
    twin = replace(made, match=narrow, cookie=cookie)
    bench = later(made, twin, bench=old, masquerade=True)
    assert made.match.fields & field.IP_TOS == 0
    bench.wait(2.1)
    (connection,) = bench.core.connections
    (entry,) = bench.core.flows
    bench.core.flows.remove(entry.flow.cookie)
    bench.core.release(entry, bench.now)
    assert not bench.core.connections.is_held(connection.id)


def test_a_packet_that_came_first_replaces_the_found_flow() -> None:
    _, made, _ = earlier()
    wrong = replace(made, actions=((0, 12),))
    bench = later(wrong)
    (own,) = installed(bench.send("web/vm1", bench.frame()))
    assert own.match == made.match
    effects = bench.wait(2.1)
    assert (installed(effects), removed(effects)) == ([], [])
    assert bench.core.orphans == {}
    assert OFPORTS["r/up"] == own.actions[-1][1]


def filtered() -> Builder:
    """Let vm2 take TCP in, and answers."""
    b = office()
    known = Rule(RuleAction.ACCEPT, ct_states=CT_ESTABLISHED)
    chain = b.chain("in", known, Rule(RuleAction.ACCEPT, ip_proto=6), accept=False)
    (row,) = [
        one for one in b.rows if isinstance(one, Vport) and one.iface_id == "web/vm2"
    ]
    b.put(replace(row, egress_chain=chain))
    return b


def test_a_record_that_only_this_host_knew_is_made_again_from_its_flow() -> None:
    first = Bench(filtered())
    (made,) = installed(first.send("web/vm1", first.beside()))
    assert len(first.core.connections) == 1
    bench = Bench(filtered(), start=False, epoch=6)
    bench.read_topology()
    bench.connect(made)
    effects = [bench.wait(1.1) for _ in range(5)]
    assert len(bench.core.connections) == 1
    (own,) = [flow for one in effects for flow in installed(one)]
    assert (own.match, own.actions) == (made.match, made.actions)
    (answer,) = bench.send(
        "web/vm2", bench.beside(2, to=1, sport=80, dport=40000, flags="SA")
    ).packet_outs
    assert answer.actions == ((0, 11),)
