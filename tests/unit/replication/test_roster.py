# SPDX-License-Identifier: Apache-2.0
"""Peers are named, met and taken when something is due; strangers are bounded."""

from __future__ import annotations

from midoryu.replication.roster import MAX_STRANGERS, Roster


def hosts(roster: Roster) -> set[int]:
    return {peer.host for peer in roster}


def test_named_hosts_are_peers_and_this_one_never_is() -> None:
    roster = Roster(1)
    assert roster.name({1, 2, 3}, 0.0) == []
    assert hosts(roster) == {2, 3}
    (gone,) = roster.name({1, 2}, 0.0)
    assert (gone.host, hosts(roster)) == (3, {2})


def test_a_peer_that_is_named_again_has_its_numbers() -> None:
    roster = Roster(1)
    roster.name({2}, 0.0)
    two = roster.get(2)
    assert two is not None
    two.out.last = 7
    roster.name((), 0.0)
    assert roster.get(2) is None
    roster.name({2}, 0.0)
    assert roster.get(2) is two


def test_strangers_are_met_up_to_a_limit_and_stay() -> None:
    roster = Roster(1)
    for host in range(2, MAX_STRANGERS + 2):
        assert roster.meet(host, 0.0) is not None
    assert roster.meet(MAX_STRANGERS + 2, 0.0) is None
    roster.name({2}, 0.0)
    assert roster.meet(MAX_STRANGERS + 2, 0.0) is not None
    roster.name((), 0.0)
    assert len(hosts(roster)) == MAX_STRANGERS


def test_others_are_added_where_they_are_not_known() -> None:
    roster = Roster(1)
    assert [peer.host for peer in roster.others((1, 2, 3), 0.0)] == [2, 3]
    assert hosts(roster) == {2, 3}


def test_the_peer_with_the_earliest_thing_to_do_is_taken_first() -> None:
    roster = Roster(1)
    two, three = roster.others((2, 3), 0.0)
    two.hello_due, three.hello_due = 5.0, 3.0
    while roster.take_due(1.0) is not None:
        pass
    roster.schedule(two)
    roster.schedule(three)
    assert roster.deadline() == 3.0
    assert roster.take_due(2.9) is None
    assert roster.take_due(9.0) is three
    assert roster.take_due(9.0) is two
    assert roster.deadline() is None
