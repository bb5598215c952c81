# SPDX-License-Identifier: Apache-2.0
"""The peers of one agent: who they are, and which of them has something due next.

`session` speaks with them. Hosts that nobody named may write first; their number is
bounded.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Final

from midoryu.replication.peer import Peer, Retired

# At most so many peers that `name` did not name are remembered.
MAX_STRANGERS: Final = 1024


class Roster:
    """All peers, by host key.

    Args:
        host: own host key, which is never a peer.
    """

    def __init__(self, host: int) -> None:
        self._host = host
        self._peers: dict[int, Peer] = {}
        self._retired = Retired(MAX_STRANGERS)
        self._strangers: set[int] = set()
        self._due_heap: list[tuple[float, int]] = []

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers.values())

    def get(self, host: int) -> Peer | None:
        """Return a peer, None where it is not known."""
        return self._peers.get(host)

    def name(self, hosts: Iterable[int], now: float) -> list[Peer]:
        """Name all other hosts; returns the peers that are named no more."""
        wanted = set(hosts) - {self._host}
        gone = [
            self._retired.put(self._peers.pop(host))
            for host in self._peers.keys() - wanted - self._strangers
        ]
        self._strangers -= wanted
        for host in wanted - self._peers.keys():
            self._add(host, now)
        return gone

    def meet(self, host: int, now: float) -> Peer | None:
        """Return the peer that wrote, None where it is one stranger too many."""
        peer = self._peers.get(host)
        if peer is None:
            if len(self._strangers) >= MAX_STRANGERS:
                return None
            self._strangers.add(host)
            peer = self._add(host, now)
        return peer

    def others(self, hosts: Iterable[int], now: float) -> list[Peer]:
        """Return the peers among hosts, known or not."""
        return [
            self._peers.get(host) or self._add(host, now)
            for host in hosts
            if host != self._host
        ]

    def schedule(self, peer: Peer) -> None:
        """Make sure that a peer is taken when its next thing is due."""
        due = peer.deadline()
        if peer.scheduled is None or due < peer.scheduled:
            peer.scheduled = due
            heapq.heappush(self._due_heap, (due, peer.host))

    def deadline(self) -> float | None:
        """Return the instant when some peer has something due."""
        heap = self._due_heap
        while heap:
            due, host = heap[0]
            peer = self._peers.get(host)
            if peer is not None and peer.scheduled == due:
                return due
            heapq.heappop(heap)
        return None

    def take_due(self, now: float) -> Peer | None:
        """Return a peer that has something due; it is to be scheduled again after."""
        due = self.deadline()
        if due is None or due > now:
            return None
        peer = self._peers[heapq.heappop(self._due_heap)[1]]
        peer.scheduled = None
        return peer

    def _add(self, host: int, now: float) -> Peer:
        peer = self._peers[host] = self._retired.take(host) or Peer(host, now)
        peer.resume(now)
        self.schedule(peer)
        return peer
