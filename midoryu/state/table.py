# SPDX-License-Identifier: Apache-2.0
"""The table of connection records: found by key, aged by phase, bounded.

`key_index` finds them, `nat` keeps the ports of the same connections.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from typing import Final

from midoryu.state.connection import (
    Connection,
    FourTuple,
    Phase,
    StateKey,
    Translation,
    state_keys,
)
from midoryu.state.key_index import Hit as Hit
from midoryu.state.key_index import KeyIndex
from midoryu.state.key_index import TableCounters as TableCounters
from midoryu.state.lifetime import DEFAULT_LIFETIMES_S, UNREPLIED
from midoryu.state.unreplied import Unreplied
from midoryu.state.watched import Watched, Way

# Records are aged in steps of this many seconds: an expiry is late by one at most.
_STEP_S: Final = 1.0
# A small table is no reason to take a vport's records from it.
_MIN_SHARE: Final = 1024
# Numbers remembered for sharing; a flood of made-up addresses must not fill memory.
_MAX_INTERNED: Final = 262_144
# Some milliseconds' work, with the flows and ports that go with the records.
EXPIRE_AT_ONCE: Final = 256


class ConnectionTable(KeyIndex):
    """All connections that this host knows, its own and imported ones.

    Expiry is a timer wheel: a record waits in the bucket of the second when it would
    expire, and a touch only moves `last_used`; when the bucket comes up, a record that
    was used meanwhile goes to a later bucket. So a touch is O(1) and expiry costs what
    expires.

    Args:
        max_connections: records at most.
        lifetimes_s: seconds, one for each `Phase`.
        max_unreplied_per_vport: records without an answer at most that one vport may
            make; 0 for a quarter of all.
    """

    def __init__(
        self,
        max_connections: int = 1_000_000,
        lifetimes_s: Sequence[float] = DEFAULT_LIFETIMES_S,
        max_unreplied_per_vport: int = 0,
    ) -> None:
        super().__init__()
        self._max = max_connections
        self._lifetimes_s = tuple(lifetimes_s)
        self._interned: dict[int, int] = {}
        self._records: dict[int, Connection] = {}
        self._holds: dict[int, int] = {}
        self._buckets: dict[int, list[int]] = {}
        self._bucket_heap: list[int] = []
        self._last_bucket = 0
        self._share = max_unreplied_per_vport or max(max_connections // 4, _MIN_SHARE)
        self._unreplied = Unreplied(self._is_unreplied)
        self._evicted: list[Connection] = []
        self._watched = Watched()

    def __len__(self) -> int:
        """Count the records."""
        return len(self._records)

    def __iter__(self) -> Iterator[Connection]:
        """Go through all records; the table must not change meanwhile."""
        return iter(self._records.values())

    def get(self, connection_id: int) -> Connection | None:
        """Find a record by its id."""
        return self._records.get(connection_id)

    def admit(self, now: float) -> bool:
        """Tell whether a new connection may be made.

        False only when the table is full of records that must not be dropped.
        """
        return len(self._records) < self._max or self._unreplied.total > 0

    def insert(self, connection: Connection, now: float) -> tuple[StateKey, ...]:
        """Take a new, imported or updated record; one with the same id is replaced.

        The table keeps `connection` itself and changes its `phase` and `last_used`. A
        key that another record has goes to who expects it as a reply, else to the lower
        id: so all hosts decide alike, in whatever order the records arrive. Where
        the table is full, the oldest unreplied record leaves (`expire` returns it).

        Returns:
            All keys by which packets find it, for the invalidation of flows; empty when
            the table is full of established connections and refuses the record.
        """
        old = self._records.get(connection.id)
        connection.bucket = 0 if old is None else old.bucket
        if old is not None:
            connection.last_used = max(connection.last_used, old.last_used)
            self._drop_keys(old)
            if old.phase in UNREPLIED:
                self._unreplied.leave(old.ingress_vport)
        elif len(self._records) >= self._max and not self._evict():
            self.counters.refused += 1
            return ()
        self._records[connection.id] = connection
        self._intern(connection)
        keys = tuple([key for key, _ in state_keys(connection)])
        self._claim(connection, keys)
        if old is not None and connection.id in self._rivals:
            rivals = tuple(self._rivals[connection.id])
            self._hand_over(connection.id, rivals, self._records)
        if connection.phase in UNREPLIED:
            self._enter_unreplied(connection)
        self._queue(connection)
        return keys + self._watched.note(connection) if self._watched else keys

    @property
    def is_plain(self) -> bool:
        """Whether no key is claimed by two records, and no vport is watched."""
        return not (self._narrow or self._exact or self._watched)

    @property
    def has_room(self) -> bool:
        """Whether a record more would drop none."""
        return len(self._records) < self._max

    def share(self, ends: FourTuple) -> FourTuple:
        """Return the same ends, made of numbers that other records have as well."""
        if len(self._interned) > _MAX_INTERNED:
            self._interned.clear()
        one = self._interned.setdefault
        source, destination, port, to_port = ends
        return (
            one(source, source),
            one(destination, destination),
            one(port, port),
            one(to_port, to_port),
        )

    def insert_fresh(self, connection: Connection, forward: int, back: int) -> None:
        """Take a record that is new, and whose keys nobody claims.

        The table is plain and has room. The record translates its source at most.

        Args:
            connection: the record, its numbers shared (`share`).
            forward: code of its forward keys (see `may_find`).
            back: code of its return keys.
        """
        self._records[connection.id] = connection
        index = self._index
        index[forward] = index[back] = connection
        if connection.phase in UNREPLIED:
            self._enter_unreplied(connection)
        self._queue(connection)

    def touch(
        self, connection_id: int, now: float, phase: Phase | None = None
    ) -> Connection | None:
        """Note that a packet was seen at `now`, and perhaps a new phase.

        `last_used` never goes back.
        """
        connection = self._records.get(connection_id)
        if connection is None:
            return None
        connection.last_used = max(connection.last_used, now)
        if phase is not None and phase is not connection.phase:
            self._change_phase(connection, phase)
        return connection

    def remove(self, connection_id: int) -> tuple[StateKey, ...]:
        """Forget a record; returns the keys by which it was found."""
        connection = self._records.get(connection_id)
        return () if connection is None else self._forget(connection)

    def hold(self, connection_id: int) -> None:
        """Count one more installed flow; a held record does not expire."""
        self._holds[connection_id] = self._holds.get(connection_id, 0) + 1

    def hold_fresh(self, connection_id: int, count: int) -> None:
        """Count the installed flows of a record that had none."""
        self._holds[connection_id] = count

    def release(self, connection_id: int, now: float) -> None:
        """Count one installed flow less, last used at `now`."""
        count = self._holds.get(connection_id, 0)
        if count > 1:
            self._holds[connection_id] = count - 1
        else:
            self._holds.pop(connection_id, None)
        connection = self.touch(connection_id, now)
        if connection is not None:
            self._queue(connection)

    def held(self) -> list[int]:
        """List the ids of records that installed flows hold."""
        return list(self._holds)

    def is_held(self, connection_id: int) -> bool:
        """Tell whether installed flows hold the record."""
        return connection_id in self._holds

    def expire(self, now: float, limit: int = EXPIRE_AT_ONCE) -> list[Connection]:
        """Remove and return what reached its end, and what a full table dropped.

        Looks at `limit` records at most, so that packets need not wait while very many
        end at once; `deadline` is past until the rest was looked at.
        """
        gone = self._evicted[-limit:]
        del self._evicted[-limit:]
        limit -= len(gone)
        while limit > 0 and self._bucket_heap:
            bucket = self._bucket_heap[0]
            if bucket * _STEP_S > now:
                break
            ids = self._buckets[bucket]
            due = ids[-limit:]
            del ids[-limit:]
            if not ids:
                heapq.heappop(self._bucket_heap)
                del self._buckets[bucket]
            limit -= len(due)
            for connection_id in due:
                connection = self._records.get(connection_id)
                if connection is not None and connection.bucket == bucket:
                    self._age(connection, now, gone)
        return gone

    def deadline(self) -> float | None:
        """Return the instant when `expire` has something to look at."""
        if self._evicted:
            return 0.0
        return self._bucket_heap[0] * _STEP_S if self._bucket_heap else None

    def lifetime_s(self, phase: Phase) -> float:
        """Return how long a record in a phase lives without use, in seconds."""
        return self._lifetimes_s[phase]

    def _age(self, connection: Connection, now: float, gone: list[Connection]) -> None:
        """Look at one record whose bucket has come: forget it, or queue it again."""
        connection.bucket = 0
        if connection.id in self._holds:
            connection.last_used = max(connection.last_used, now)
        elif connection.last_used + self._lifetimes_s[connection.phase] <= now:
            self._forget(connection)
            self.counters.expired += 1
            gone.append(connection)
            return
        self._queue(connection)

    def _queue(self, connection: Connection) -> None:
        """Put a record into the bucket of its end, unless it is in an earlier one."""
        due = connection.last_used + self._lifetimes_s[connection.phase]
        bucket = max(math.ceil(due / _STEP_S), 1)
        if bucket == self._last_bucket:
            # One number for all of them.
            bucket = self._last_bucket
        self._last_bucket = bucket
        if connection.bucket and connection.bucket <= bucket:
            return
        ids = self._buckets.get(bucket)
        if ids is None:
            ids = self._buckets[bucket] = []
            heapq.heappush(self._bucket_heap, bucket)
        ids.append(connection.id)
        connection.bucket = bucket

    def _change_phase(self, connection: Connection, phase: Phase) -> None:
        was, connection.phase = connection.phase, phase
        if was in UNREPLIED:
            self._unreplied.leave(connection.ingress_vport)
        if phase in UNREPLIED:
            self._enter_unreplied(connection)
        self._queue(connection)

    def _intern(self, connection: Connection) -> None:
        """Let equal numbers of different records be one object (saves a third)."""
        connection.original = self.share(connection.original)
        one = self._interned.setdefault
        if connection.translations:
            connection.translations = tuple(
                [
                    Translation(
                        one(device, device),
                        kind,
                        one(address, address),
                        one(port, port),
                    )
                    for device, kind, address, port in connection.translations
                ]
            )
        ingress, egress = connection.ingress_device, connection.egress_device
        connection.ingress_device = one(ingress, ingress)
        connection.egress_device = one(egress, egress)
        ingress, egress = connection.ingress_vport, connection.egress_vport
        connection.ingress_vport = one(ingress, ingress)
        connection.egress_vport = one(egress, egress)
        connection.owner = one(connection.owner, connection.owner)

    def _forget(self, connection: Connection) -> tuple[StateKey, ...]:
        keys = self._drop_keys(connection)
        del self._records[connection.id]
        if self._rivals:
            rivals = self._rivals.pop(connection.id, ())
            self._hand_over(connection.id, rivals, self._records)
        connection.bucket = 0
        if connection.phase in UNREPLIED:
            self._unreplied.leave(connection.ingress_vport)
        return keys

    def _enter_unreplied(self, connection: Connection) -> None:
        vport = connection.ingress_vport
        self._unreplied.enter(vport, connection.id)
        if self._unreplied.count(vport) > self._share:
            self.counters.over_share += 1
            self._evict(vport)

    def _is_unreplied(self, vport: int, connection_id: int) -> bool:
        connection = self._records.get(connection_id)
        return (
            connection is not None
            and connection.ingress_vport == vport
            and connection.phase in UNREPLIED
        )

    def _evict(self, vport: int | None = None) -> bool:
        """Drop a vport's oldest unreplied record, if there is one.

        None: of the vport that has most of them.
        """
        if not self._unreplied.total:
            return False
        wanted = self._unreplied.largest() if vport is None else vport
        connection = self._records.get(self._unreplied.take_oldest(wanted))
        if connection is None:
            return False
        self._forget(connection)
        self.counters.evicted += 1
        self._evicted.append(connection)
        return True

    def unreplied_of(self, vport: int) -> int:
        """Count the records without an answer that a vport has made."""
        return self._unreplied.count(vport)

    def watch(self, vport: int) -> None:
        """Keep account of a vport's records; looks through all records once."""
        self._watched.add(vport, self._records.values())

    def unwatch(self, vport: int) -> None:
        """Keep no more account of a vport's records."""
        self._watched.remove(vport)

    def watched(
        self, vport: int, ip_proto: int | None = None, block: int | None = None
    ) -> Iterator[Way]:
        """Yield how packets of a watched vport's records look (`Watched.ways`)."""
        return self._watched.ways(vport, self._records, ip_proto, block)
