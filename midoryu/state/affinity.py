# SPDX-License-Identifier: Apache-2.0
"""Source affinity: which member of a pool a client used last.

Filled from connection records, which every host of the interested set gets: so all
gateways that a client may come by know the same without more messages. A client that
nobody knows is led by rendezvous hashing on its address, alike on every host.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Final

from midoryu.compat import SLOTS
from midoryu.state.table import ConnectionTable

MAX_CLIENTS: Final = 65_536

Client = tuple[str, int]
"""Pool and source address."""
Endpoint = tuple[int, int]
"""Member's address and port."""


@dataclass(**SLOTS)
class _Entry:
    member: Endpoint
    expires: float
    timeout_s: float
    connection: int


class AffinityTable:
    """Clients and their members, bounded; the client noted first leaves first.

    Args:
        max_clients: entries at most.
    """

    def __init__(self, max_clients: int = MAX_CLIENTS) -> None:
        self._max = max_clients
        self._entries: dict[Client, _Entry] = {}
        self._ends: list[tuple[float, Client]] = []

    def __len__(self) -> int:
        """Count the clients."""
        return len(self._entries)

    def find(self, pool: str, source: int) -> Endpoint | None:
        """Return the member that a client used, None for a new one."""
        entry = self._entries.get((pool, source))
        return None if entry is None else entry.member

    def note(
        self,
        client: Client,
        member: Endpoint,
        *,
        connection: int,
        used: float,
        timeout_s: float,
    ) -> None:
        """Note that a client's connection uses a member; the latest use counts.

        Args:
            client: pool and source address.
            member: address and port.
            connection: id of the record; while it is in use, the client is.
            used: instant of the connection's last known packet.
            timeout_s: how long it holds without use.
        """
        expires = used + timeout_s
        old = self._entries.get(client)
        if old is not None and old.expires >= expires and old.member != member:
            return
        if old is None and len(self._entries) >= self._max:
            del self._entries[next(iter(self._entries))]
        self._entries[client] = _Entry(member, expires, timeout_s, connection)
        if old is None:
            heapq.heappush(self._ends, (expires, client))

    def forget_member(self, pool: str, member: Endpoint) -> None:
        """Forget every client of a member."""
        for client, entry in list(self._entries.items()):
            if client[0] == pool and entry.member == member:
                del self._entries[client]

    def expire(self, now: float, connections: ConnectionTable) -> None:
        """Forget clients that have not been seen for their time."""
        while self._ends and self._ends[0][0] <= now:
            _, client = heapq.heappop(self._ends)
            entry = self._entries.get(client)
            if entry is None:
                continue
            record = connections.get(entry.connection)
            if record is not None:
                used = now if connections.is_held(record.id) else record.last_used
                entry.expires = max(entry.expires, used + entry.timeout_s)
            if entry.expires <= now:
                del self._entries[client]
            else:
                heapq.heappush(self._ends, (entry.expires, client))

    def deadline(self) -> float | None:
        """Return the instant when `expire` has something to look at."""
        return self._ends[0][0] if self._ends else None
