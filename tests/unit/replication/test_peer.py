# SPDX-License-Identifier: Apache-2.0
"""A peer's lives, and when it is greeted."""

from __future__ import annotations

import pytest

from midoryu.replication.peer import HELLO_IDLE_S, HELLO_RETRY_S, Peer


def known() -> Peer:
    """Make a peer that has answered and sent everything."""
    peer = Peer(2, 0.0)
    peer.begin(9, 0.0)
    peer.answer(0.0)
    peer.inbox.end_sync(peer.inbox.sync_number, 0)
    return peer


def test_a_new_peer_is_greeted_at_once_and_then_ever_more_slowly() -> None:
    peer, now = Peer(2, 5.0), 5.0
    assert peer.deadline() == 5.0
    pauses = []
    for _ in range(len(HELLO_RETRY_S) + 3):
        peer.plan_hello(now)
        pauses.append(peer.hello_due - now)
        now = peer.hello_due
    first, rest = pauses[: len(HELLO_RETRY_S)], pauses[len(HELLO_RETRY_S) :]
    assert first == pytest.approx(HELLO_RETRY_S)
    assert rest == pytest.approx([HELLO_RETRY_S[-1]] * 3)


def test_an_answer_ends_the_hurry_and_asks_for_what_the_peer_knows() -> None:
    peer = Peer(2, 0.0)
    peer.plan_hello(0.0)
    peer.answer(1.0)
    assert (peer.has_answered, peer.hello_tries) == (True, 0)
    assert peer.hello_due == 1.0 + HELLO_IDLE_S
    assert peer.inbox.sync_request(1.0) == 1
    peer.plan_hello(2.0)
    assert peer.hello_due == 2.0 + HELLO_IDLE_S


def test_a_second_answer_does_not_ask_again() -> None:
    peer = known()
    peer.answer(1.0)
    assert peer.inbox.is_synced
    assert peer.inbox.sync_request(1.0) is None


def test_a_new_life_starts_both_streams_again_and_needs_no_sync() -> None:
    peer = known()
    peer.out.number(b"entries", 0.0)
    peer.inbox.arrive(1, 0.0)
    peer.begin(10, 5.0)
    assert (peer.epoch, peer.out.last, peer.inbox.arrived) == (10, 0, 0)
    assert not peer.has_answered
    assert peer.hello_due == 5.0 + HELLO_RETRY_S[0]
    assert peer.inbox.is_synced


def test_the_first_life_heard_of_has_been_sent_what_was_sent_before() -> None:
    peer = Peer(2, 0.0)
    peer.out.number(b"entries", 0.0)
    peer.begin(9, 1.0)
    assert (peer.epoch, peer.out.last) == (9, 1)
    assert not peer.inbox.is_synced


def test_the_deadline_is_the_earliest_of_greeting_and_both_streams() -> None:
    peer = known()
    assert peer.deadline() == HELLO_IDLE_S
    peer.out.number(b"entries", 1.0)
    heartbeat = peer.out.deadline()
    assert heartbeat is not None
    assert peer.deadline() == heartbeat < HELLO_IDLE_S
    peer.inbox.expect(3, 0.5)
    assert peer.deadline() == 0.5


def test_stats_tell_the_numbers() -> None:
    peer = known()
    peer.out.number(b"entries", 0.0)
    stats = peer.stats()
    assert (stats["lag"], stats["epoch"], stats["answered"]) == (1, 9, True)
    assert (stats["synced"], stats["gaps"], stats["last_heard"]) == (True, 0, None)
