# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from midoryu.replication.session import Replicator


def replicator(host: int, epoch: int, now: float) -> Replicator:
    return Replicator(host=host, epoch=epoch, keys=(b"k",), mtu_bytes=1500, now=now)


def talk(one: Replicator, other: Replicator, start: float, seconds: float) -> None:
    now = start
    while now < start + seconds:
        now += 0.01
        todo = [(other, d.frame) for d in one.tick(now)]
        todo += [(one, d.frame) for d in other.tick(now)]
        while todo:
            receiver, frame = todo.pop(0)
            sender = one if receiver is other else other
            received = receiver.receive(frame, now)
            for peer in received.sync_wanted_by:
                receiver.sync(peer, (), now)
            todo += [(sender, d.frame) for d in received.replies]


def test_an_agent_whose_clock_was_set_back_is_heard_again() -> None:
    peer = replicator(2, 1000, 0.0)
    peer.set_peers([1], 0.0)
    first = replicator(1, 5000, 0.0)
    first.set_peers([2], 0.0)
    talk(first, peer, 0.0, 3.0)
    assert first.synced_with(2)
    again = replicator(1, 40, 10.0)
    again.set_peers([2], 10.0)
    assert not again.synced_with(2)
    talk(again, peer, 10.0, 3.0)
    assert again.synced_with(2)
    assert peer.synced_with(1)
