# SPDX-License-Identifier: Apache-2.0
"""Records that may leave a full table, oldest first, by the vport that made them.

`table` keeps it in step with its records. Each vport has a queue of its own, so that
one which floods loses its own records, and not those of others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

# A queue is swept when more than half of it is stale.
_SWEEP_MIN: Final = 1024


class Unreplied:
    """Ids of records that no packet has come back for, by ingress vport.

    Args:
        is_live: tells whether a record (its vport, its id) is still one of them; ids
            that are no longer stay in the queues until they are swept.
    """

    def __init__(self, is_live: Callable[[int, int], bool]) -> None:
        self._is_live = is_live
        self._queues: dict[int, deque[int]] = {}
        self._counts: dict[int, int] = {}
        self.total = 0
        """How many there are."""

    def count(self, vport: int) -> int:
        """Count those of one vport."""
        return self._counts.get(vport, 0)

    def enter(self, vport: int, connection_id: int) -> None:
        """Take in a record as the vport's youngest one."""
        self.total += 1
        count = self._counts[vport] = self._counts.get(vport, 0) + 1
        queue = self._queues.get(vport)
        if queue is None:
            queue = self._queues[vport] = deque()
        queue.append(connection_id)
        if len(queue) > 2 * count + _SWEEP_MIN:
            live = (one for one in queue if self._is_live(vport, one))
            self._queues[vport] = deque(dict.fromkeys(live))

    def leave(self, vport: int) -> None:
        """Count one record of a vport less: it was answered, or is gone."""
        self.total -= 1
        self._counts[vport] -= 1
        if not self._counts[vport]:
            del self._counts[vport], self._queues[vport]

    def largest(self) -> int:
        """Return the vport that has most of them; there must be one."""
        return max(self._counts, key=self._counts.__getitem__)

    def take_oldest(self, vport: int) -> int:
        """Return the id of a vport's oldest record, 0 for none; it has yet to leave."""
        queue = self._queues.get(vport)
        while queue:
            connection_id = queue.popleft()
            if self._is_live(vport, connection_id):
                return connection_id
        return 0

    def __len__(self) -> int:
        """Count the entries of all queues, stale ones too."""
        return sum(map(len, self._queues.values()))
