# SPDX-License-Identifier: Apache-2.0
"""What one peer has sent: what arrived, what is missing, and when to ask for it.

`outbox` is the other direction of the same pair; `session` sends the questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from midoryu.replication.entry import (
    Entry,
    Heartbeat,
    Nack,
    Record,
    Remove,
    Touch,
)
from midoryu.replication.wire import widen

# A number this far ahead of what arrived is no gap to repair, but a sync to ask for.
WINDOW: Final = 4096
# Datagrams by which an unrepaired stream may be out of order.
REORDER: Final = 64
# Writes remembered while something is missing.
MAX_WRITTEN: Final = 16_384
# Missing datagrams are asked for at once, then each 10 ms, 40 times.
NACK_PAUSE_S: Final = 0.010
NACK_TRIES: Final = 40
# Gaps named in one NACK.
NACK_GAPS: Final = 32
# A sync request is repeated after these times, then after the last one for ever.
SYNC_RETRY_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)


class Inbox:
    """The stream from one peer in its present life.

    On the wire numbers have 32 bits; here they are widened to the one that is nearest
    to the highest known, so nothing happens at the wrap.
    """

    __slots__ = (
        "_ahead",
        "_written",
        "arrived",
        "gaps",
        "highest",
        "nack_due",
        "nack_tries",
        "repairs",
        "sync_done_at",
        "sync_due",
        "sync_number",
        "sync_tries",
    )

    def __init__(self) -> None:
        self.arrived = 0
        """Everything up to here arrived, or was given up for a sync."""
        self.highest = 0
        """Highest number that the peer is known to have sent."""
        self.nack_due: float | None = None
        self.nack_tries = 0
        self.gaps = 0
        """Datagrams found missing."""
        self.repairs = 0
        """Missing datagrams that arrived after all."""
        self.sync_number = 0
        """Number of our last sync request; 0 before the first."""
        self.sync_due: float | None = None
        """When to send the request again; None when none is open."""
        self.sync_tries = 0
        self.sync_done_at: int | None = None
        """The datagram that ends the sync; all up to it must arrive first."""
        self._ahead: set[int] = set()
        # While something is missing: id -> last write to it, and in which datagram.
        self._written: dict[int, tuple[int, Entry]] = {}

    def is_known(self, number: int) -> bool:
        """Tell whether a datagram arrived before."""
        return number <= self.arrived or number in self._ahead

    def arrive(self, number: int, now: float, *, is_repaired: bool = True) -> None:
        """Note a datagram; numbers that it skips count as gaps, to ask for at once.

        In an unrepaired stream they are waited for as long as mere reordering takes.
        """
        if number <= self.highest:
            self.repairs += 1
        elif is_repaired:
            self.expect(number - 1, now)
        else:
            self.gaps += number - 1 - self.highest
        self.highest = max(self.highest, number)
        self._ahead.add(number)
        if not is_repaired:
            self._skip(self.highest - REORDER)
        self._advance()

    def settle(self, number: int, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Give the entries of a datagram, without those that a later one overtook.

        To be called before `arrive`. A late record of a connection that was removed
        meanwhile stays away; one that was touched meanwhile brings the touch again.
        """
        is_whole = self.arrived == self.highest and number == self.arrived + 1
        for entry in entries:
            if is_whole or not isinstance(entry, (Record, Touch, Remove)):
                yield entry
                continue
            id_ = entry.connection.id if isinstance(entry, Record) else entry.id
            later_number, later = self._written.get(id_, (0, None))
            if later_number <= number:
                if len(self._written) >= MAX_WRITTEN:
                    self._written.clear()
                self._written[id_] = (number, entry)
                yield entry
            elif isinstance(later, Touch) and isinstance(entry, Record):
                yield entry
                yield later

    def expect(self, last: int, now: float) -> None:
        """Note that the peer has sent everything up to a number."""
        if last > self.arrived + WINDOW:
            self.give_up(last - WINDOW // 2, now)
        if last > self.highest:
            self.gaps += last - self.highest
            self.highest = last
            self.nack_due, self.nack_tries = now, 0

    def hear(self, heartbeat: Heartbeat, now: float) -> None:
        """Take what a heartbeat says; what cannot be repeated makes a sync needed."""
        oldest = widen(heartbeat.oldest, self.highest)
        self.expect(widen(heartbeat.last, self.highest), now)
        if oldest > self.arrived + 1:
            self.give_up(oldest - 1, now)

    def give_up(self, number: int, now: float) -> None:
        """Stop waiting for everything up to a number, and ask for a sync instead."""
        self.highest = max(self.highest, number)
        self._skip(number)
        self._advance()
        self.ask_sync(now)

    def ask_sync(self, now: float) -> None:
        """Open a new sync request."""
        self.sync_number += 1
        self.sync_due, self.sync_tries = now, 0
        self.sync_done_at = None

    def sync_request(self, now: float) -> int | None:
        """Return the number of the request that is due, and plan its repeat."""
        if self.sync_due is None or self.sync_due > now:
            return None
        self.sync_due = now + SYNC_RETRY_S[min(self.sync_tries, len(SYNC_RETRY_S) - 1)]
        self.sync_tries += 1
        return self.sync_number

    def end_sync(self, request: int, number: int) -> None:
        """Note that the datagram with this number ends a sync."""
        if request == self.sync_number:
            self.sync_done_at = number
            self.sync_due = None

    @property
    def is_synced(self) -> bool:
        """Tell whether the last sync ended and everything up to its end arrived."""
        return self.sync_done_at is not None and self.arrived >= self.sync_done_at

    def nacks(self, now: float) -> list[Nack]:
        """Return the gaps to ask for now, and plan when to ask again."""
        if self.nack_due is None or self.nack_due > now:
            return []
        self.nack_tries += 1
        if self.nack_tries > NACK_TRIES:
            self.nack_due = None
            self.give_up(self.highest, now)
            return []
        self.nack_due = now + NACK_PAUSE_S
        gaps = []
        for gap in self._gaps():
            gaps.append(gap)
            if len(gaps) == NACK_GAPS:
                break
        return gaps

    def deadline(self) -> float | None:
        """Return the instant of the next question to ask."""
        dues = [one for one in (self.nack_due, self.sync_due) if one is not None]
        return min(dues, default=None)

    def _gaps(self) -> Iterator[Nack]:
        first = self.arrived + 1
        for number in sorted(self._ahead):
            if number > first:
                yield Nack(first, number - 1)
            first = number + 1
        if first <= self.highest:
            yield Nack(first, self.highest)

    def _skip(self, number: int) -> None:
        """Wait no longer for anything up to a number."""
        if number > self.arrived:
            self.arrived = number
            self._ahead = {one for one in self._ahead if one > number}

    def _advance(self) -> None:
        while self.arrived + 1 in self._ahead:
            self.arrived += 1
            self._ahead.remove(self.arrived)
        if self.arrived == self.highest:
            self.nack_due, self.nack_tries = None, 0
            self._written.clear()
