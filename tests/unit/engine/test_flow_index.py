# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from midoryu.engine.flow_index import Entry, FlowIndex
from midoryu.openflow.flow import Flow, Match
from midoryu.packet import field
from midoryu.topology.tag import device_tag, vport_tag


def entry(cookie: int, in_port: int, *tags: tuple[int | str, ...]) -> Entry:
    flow = Flow(10, 1000, Match(field.IN_PORT, (in_port,)), ((0, 2),), cookie)
    return Entry(flow, frozenset(tags))


def test_a_change_removes_just_the_flows_with_its_tag() -> None:
    index = FlowIndex()
    index.add(entry(1, 1, vport_tag(1), device_tag(9)))
    index.add(entry(2, 2, vport_tag(2), device_tag(9)))
    index.add(entry(3, 3, vport_tag(3)))
    assert [e.flow.cookie for e in index.remove_tagged([device_tag(9)])] == [1, 2]
    assert [e.flow.cookie for e in index] == [3]
    assert index.remove_tagged([vport_tag(1), device_tag(9)]) == []


def test_a_flow_with_the_same_match_takes_the_place_of_the_old_one() -> None:
    index = FlowIndex()
    old, new = entry(1, 1, vport_tag(1)), entry(2, 1, vport_tag(2))
    assert index.add(old) is None
    assert index.add(new) is old
    assert len(index) == 1
    assert index.get(1) is None
    assert index.remove_tagged([vport_tag(1)]) == []
    assert index.find(new.flow.match) is new


def test_a_late_message_about_a_replaced_flow_changes_nothing() -> None:
    index = FlowIndex()
    index.add(entry(1, 1))
    index.add(entry(2, 1))
    assert index.remove(1) is None
    assert index.find(Match(field.IN_PORT, (1,))) is not None


def test_clear_returns_what_was_there() -> None:
    index = FlowIndex()
    index.add(entry(1, 1, vport_tag(1)))
    assert len(index.clear()) == 1
    assert len(index) == 0
    assert index.remove_tagged([vport_tag(1)]) == []
