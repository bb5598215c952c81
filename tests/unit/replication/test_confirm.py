# SPDX-License-Identifier: Apache-2.0
"""Which connections wait for whose confirmation."""

from __future__ import annotations

from midoryu.replication.confirm import Confirmations
from midoryu.replication.peer import Peer


def pushed(peer: Peer, count: int = 1) -> Peer:
    for number in range(count):
        peer.out.number(f"entries {number}".encode(), 0.0)
    return peer


def test_a_connection_is_confirmed_when_every_peer_has_it() -> None:
    waiting = Confirmations(0.01, 3)
    one, two = pushed(Peer(1, 0.0)), pushed(Peer(2, 0.0))
    for peer in (one, two):
        waiting.expect(peer, [77], 1, 0.0)
    assert 77 in waiting
    assert waiting.confirm(one, one.out.acknowledge(1)) == []
    assert waiting.confirm(two, two.out.acknowledge(1)) == [77]
    assert 77 not in waiting


def test_a_push_over_several_datagrams_is_confirmed_with_the_last() -> None:
    waiting = Confirmations(0.01, 3)
    peer = pushed(Peer(1, 0.0), 3)
    waiting.expect(peer, [5, 6], 3, 0.0)
    assert waiting.confirm(peer, peer.out.acknowledge(2)) == []
    assert waiting.confirm(peer, peer.out.acknowledge(3)) == [5, 6]


def test_what_is_not_confirmed_is_repeated_some_times_and_then_given_up() -> None:
    waiting = Confirmations(0.01, 3)
    peer = pushed(Peer(1, 0.0))
    waiting.expect(peer, [77], 1, 0.0)
    assert waiting.repeats(peer, 0.005) == []
    repeats = [waiting.repeats(peer, 0.01 * turn) for turn in range(1, 6)]
    assert repeats == [[(1, b"entries 0")]] * 3 + [[], []]
    assert 77 not in waiting


def test_a_peer_that_is_gone_owes_nothing() -> None:
    waiting = Confirmations(0.01, 3)
    one, two = pushed(Peer(1, 0.0)), pushed(Peer(2, 0.0))
    for peer in (one, two):
        waiting.expect(peer, [77], 1, 0.0)
    waiting.forget(one)
    assert 77 in waiting
    assert waiting.confirm(two, two.out.acknowledge(1)) == [77]


def test_a_confirmation_that_nobody_waits_for_is_no_news() -> None:
    assert Confirmations(0.01, 3).confirm(Peer(1, 0.0), [1, 2]) == []
