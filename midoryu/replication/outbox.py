# SPDX-License-Identifier: Apache-2.0
"""What one peer has been sent: numbers, the ring for repeats, heartbeats, sync.

`inbox` is the other direction of the same pair; `session` makes frames of both.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from midoryu.replication.entry import Heartbeat, Nack, Touch, encode_record
from midoryu.replication.wire import pack, widen
from midoryu.state.connection import Connection


class Unconfirmed(NamedTuple):
    """A datagram that waits for its confirmation."""

    ids: tuple[int, ...]
    """Connections that are confirmed with it."""
    tried: int
    """How often it was repeated."""


# Datagrams that one peer can ask for again.
RING: Final = 1024
# Heartbeats after the last datagram of a burst; they stop when all is acknowledged.
HEARTBEATS_S: Final = (0.020, 0.100, 0.500, 1.0, 2.0)
# Datagrams repeated for one NACK, and the time before one is repeated again.
REPEATS: Final = 64
REPEAT_PAUSE_S: Final = 0.005
# A sync is sent in bursts, so that it does not fill the underlay's queues: at most
# 16 datagrams each 5 ms, some 60,000 records a second.
SYNC_BURST: Final = 16
SYNC_PAUSE_S: Final = 0.005


# Datagrams to be confirmed are repeated together; more than this many at once are too
# many for a peer that does not answer.
CONFIRM_BURST: Final = 64


class Outbox:
    """The stream to one peer. Numbers are counted from 1 and never wrap here."""

    __slots__ = (
        "_repeated",
        "_ring",
        "acknowledged",
        "confirm_due",
        "unconfirmed",
        "heartbeat_due",
        "heartbeat_index",
        "last",
        "sync_due",
        "sync_number",
        "sync_queue",
        "flush_due",
        "touches",
        "removes",
    )

    def __init__(self) -> None:
        self.last = 0
        """Number of the last datagram sent."""
        self.acknowledged = 0
        """The peer has everything up to here."""
        self.heartbeat_due: float | None = None
        self.heartbeat_index = 0
        self.unconfirmed: OrderedDict[int, Unconfirmed] = OrderedDict()
        """Datagrams that the peer shall confirm, by number."""
        self.confirm_due: float | None = None
        """When to repeat what is not confirmed."""
        self.sync_queue: deque[Connection] | None = None
        """Records still to send for a sync; None when there is none."""
        self.sync_due = 0.0
        self.sync_number = 0
        self.touches: dict[int, Touch] = {}
        """Touches that wait for the next flush."""
        self.removes: dict[int, None] = {}
        """Removed ids that wait for the next flush."""
        self.flush_due: float | None = None
        self._ring: OrderedDict[int, bytes] = OrderedDict()
        self._repeated: dict[int, float] = {}

    @property
    def lag(self) -> int:
        """Datagrams sent and not acknowledged."""
        return self.last - self.acknowledged

    @property
    def oldest(self) -> int:
        """Oldest number that can be repeated; one past the last when none can."""
        return next(iter(self._ring), self.last + 1)

    def number(self, entries: bytes, now: float, *, is_kept: bool = True) -> int:
        """Give entries the next number and keep them for repeats."""
        self.last += 1
        if not is_kept:
            return self.last
        self._ring[self.last] = entries
        if len(self._ring) > RING:
            self._repeated.pop(self._ring.popitem(last=False)[0], None)
        if self.heartbeat_due is None or self.heartbeat_index > 0:
            self.heartbeat_index = 0
            self.heartbeat_due = now + HEARTBEATS_S[0]
        return self.last

    def acknowledge(self, number: int) -> tuple[int, ...]:
        """Note what the peer says that it has; frees the ring up to there.

        Returns:
            Ids of connections that the peer thereby confirms.
        """
        if not self.acknowledged < number <= self.last:
            return ()
        self.acknowledged = number
        while self._ring and next(iter(self._ring)) <= number:
            self._repeated.pop(self._ring.popitem(last=False)[0], None)
        if number == self.last:
            self.heartbeat_due = None
            self.heartbeat_index = 0
        ids: list[int] = []
        while self.unconfirmed and next(iter(self.unconfirmed)) <= number:
            ids += self.unconfirmed.popitem(last=False)[1].ids
        if not self.unconfirmed:
            self.confirm_due = None
        return tuple(ids)

    def await_confirmation(self, number: int, ids: tuple[int, ...], due: float) -> None:
        """Repeat a datagram at `due` unless it is confirmed by then."""
        self.unconfirmed[number] = Unconfirmed(ids, 0)
        if self.confirm_due is None:
            self.confirm_due = due

    def confirm_repeats(
        self, now: float, interval_s: float, tries: int
    ) -> tuple[list[tuple[int, bytes]], list[int]]:
        """Return the unconfirmed datagrams to repeat now, and ids given up."""
        found: list[tuple[int, bytes]] = []
        given_up: list[int] = []
        if self.confirm_due is None or self.confirm_due > now:
            return found, given_up
        for number, (ids, tried) in list(self.unconfirmed.items())[:CONFIRM_BURST]:
            entries = self._ring.get(number)
            if entries is None or tried >= tries:
                del self.unconfirmed[number]
                given_up += ids
                continue
            self.unconfirmed[number] = Unconfirmed(ids, tried + 1)
            found.append((number, entries))
        self.confirm_due = now + interval_s if self.unconfirmed else None
        return found, given_up

    def heartbeat(self, now: float) -> Heartbeat | None:
        """Return the heartbeat that is due, and plan the next one."""
        if self.heartbeat_due is None or self.heartbeat_due > now:
            return None
        self.heartbeat_index += 1
        if self.heartbeat_index < len(HEARTBEATS_S):
            pause = HEARTBEATS_S[self.heartbeat_index]
            pause -= HEARTBEATS_S[self.heartbeat_index - 1]
            self.heartbeat_due = now + pause
        else:
            self.heartbeat_due = None
        return Heartbeat(self.last, self.oldest)

    def repeats(self, nack: Nack, now: float) -> list[tuple[int, bytes]]:
        """Return the asked-for datagrams that the ring still has."""
        found: list[tuple[int, bytes]] = []
        first = max(widen(nack.first, self.last), self.oldest)
        last = min(widen(nack.last, self.last), self.last)
        for number in range(first, last + 1):
            if now < self._repeated.get(number, 0.0):
                continue
            if len(found) == REPEATS:
                break
            self._repeated[number] = now + REPEAT_PAUSE_S
            found.append((number, self._ring[number]))
        return found

    def start_sync(self, connections: Iterable[Connection], now: float) -> None:
        """Queue every record that the peer should have."""
        self.sync_queue = deque(connections)
        self.sync_due = now

    def sync_burst(self, host: int, room_bytes: int, now: float) -> Sequence[bytes]:
        """Take the next packets' worth of records from the sync queue, if it is due."""
        queue = self.sync_queue
        if queue is None or self.sync_due > now:
            return ()
        self.sync_due = now + SYNC_PAUSE_S
        batches: list[bytes] = []
        while queue and len(batches) < SYNC_BURST:
            entries: list[bytes] = []
            size = 0
            while queue and size < room_bytes:
                entry = encode_record(queue[0], host, now)
                if entries and size + len(entry) > room_bytes:
                    break
                queue.popleft()
                entries.append(entry)
                size += len(entry)
            batches.extend(pack(entries, room_bytes))
        return batches

    def deadline(self) -> float | None:
        """Return the instant of the next thing to do."""
        sync = None if self.sync_queue is None else self.sync_due
        dues = [self.heartbeat_due, self.flush_due, self.confirm_due, sync]
        return min((one for one in dues if one is not None), default=None)
