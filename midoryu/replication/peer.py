# SPDX-License-Identifier: Apache-2.0
"""One peer: both streams, its present life, and when to greet it.

`session` keeps one of these for each other host.
"""

from __future__ import annotations

from typing import Final, Union

from midoryu.replication.inbox import Inbox
from midoryu.replication.outbox import Outbox

# A hello is repeated quickly until it is answered (the userspace datapath drops the
# first packet to an underlay neighbour it does not know), then at the last pace.
HELLO_RETRY_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# An idle path is kept warm with a hello in this time.
HELLO_IDLE_S: Final = 30.0


class Peer:
    """What is known of one peer."""

    __slots__ = (
        "correct_after",
        "epoch",
        "has_answered",
        "hello_due",
        "hello_tries",
        "host",
        "inbox",
        "last_heard",
        "out",
        "received",
        "refusals",
        "repairs",
        "scheduled",
        "sent",
    )

    def __init__(self, host: int, now: float) -> None:
        self.host = host
        self.epoch = 0
        """The peer's present life, 0 before anything was heard."""
        self.out = Outbox()
        self.inbox = Inbox()
        self.has_answered = False
        """It has shown that it knows our present life."""
        self.hello_due = now
        self.hello_tries = 0
        self.correct_after = now
        """When to tell it again that it talks to our earlier life."""
        self.scheduled: float | None = None
        """The instant for which the session's heap has this peer."""
        self.last_heard: float | None = None
        self.sent = 0
        self.received = 0
        self.refusals = 0
        self.repairs = 0
        """Datagrams repeated for it."""

    def begin(self, epoch: int, now: float) -> None:
        """Begin with a new life of the peer; it has forgotten what it was sent.

        Its numbers start again, and so do ours, unless nothing of an earlier life was
        known: then what was sent until now was sent to this one.
        """
        was_synced = self.inbox.is_synced
        if self.epoch:
            self.out = Outbox()
            self.has_answered = False
            self.hello_tries = 0
            self.hello_due = now + HELLO_RETRY_S[0]
        self.epoch = epoch
        self.inbox = Inbox()
        if was_synced:
            self.inbox.sync_done_at = 0

    def resume(self, now: float) -> None:
        """Greet the peer, first or again; the numbers of both streams go on.

        Its host row may have gone for this host only, so it may not know of a pause: it
        would take numbers that start again for repeats.
        """
        self.scheduled = None
        self.hello_due, self.hello_tries = now, 0
        if self.epoch:
            self.has_answered = False
            self.inbox.ask_sync(now)

    def answer(self, now: float) -> None:
        """Note that the peer knows us; a host without memory asks for a sync."""
        self.has_answered = True
        self.hello_tries = 0
        self.hello_due = now + HELLO_IDLE_S
        if not self.inbox.is_synced and self.inbox.sync_due is None:
            self.inbox.ask_sync(now)

    def plan_hello(self, now: float) -> None:
        """Plan the next hello, after one was sent."""
        pause = HELLO_RETRY_S[min(self.hello_tries, len(HELLO_RETRY_S) - 1)]
        self.hello_tries += 1
        self.hello_due = now + (HELLO_IDLE_S if self.has_answered else pause)

    def deadline(self) -> float:
        """Return the instant of the next thing to do for this peer."""
        due = self.hello_due
        for other in (self.out.deadline(), self.inbox.deadline()):
            if other is not None and other < due:
                due = other
        return due

    def stats(self) -> dict[str, Union[int, float, bool, None]]:
        """Return this peer's numbers."""
        return {
            "sent": self.sent,
            "received": self.received,
            "gaps": self.inbox.gaps,
            "repaired": self.inbox.repairs,
            "repairs": self.repairs,
            "refusals": self.refusals,
            "lag": self.out.lag,
            "epoch": self.epoch,
            "answered": self.has_answered,
            "synced": self.inbox.is_synced,
            "last_heard": self.last_heard,
        }


class Retired:
    """Peers that are named no more, for the day when they are named again."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._peers: dict[int, Peer] = {}

    def put(self, peer: Peer) -> Peer:
        """Keep a peer's numbers; at the limit the one kept longest is forgotten."""
        self._peers[peer.host] = peer
        if len(self._peers) > self._limit:
            del self._peers[next(iter(self._peers))]
        return peer

    def take(self, host: int) -> Peer | None:
        """Return a peer that is named again, None where it is new."""
        return self._peers.pop(host, None)
