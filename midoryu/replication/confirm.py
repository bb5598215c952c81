# SPDX-License-Identifier: Apache-2.0
"""Confirmation of pushes, for operators who want certainty before speed.

`outbox` knows which datagrams a peer owes an answer for; this knows which connections
wait for which peers. Only used with `Delivery.CONFIRM`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from midoryu.replication.peer import Peer


class Confirmations:
    """Pushed connections that not every peer has confirmed.

    Args:
        interval_s: an unconfirmed datagram is repeated after this time.
        tries: so many times; then its connections are awaited no more, and the repair
            of gaps has to do.
    """

    def __init__(self, interval_s: float, tries: int) -> None:
        self._interval_s = interval_s
        self._tries = tries
        # connection id -> keys of the hosts that have not confirmed it
        self._hosts: dict[int, set[int]] = {}

    def __contains__(self, connection_id: int) -> bool:
        """Tell whether a peer still owes the confirmation of a connection."""
        return connection_id in self._hosts

    def expect(self, peer: Peer, ids: Sequence[int], count: int, now: float) -> None:
        """Expect a peer to confirm the `count` datagrams that were made last."""
        last = peer.out.last
        for number in range(last - count + 1, last + 1):
            peer.out.await_confirmation(
                number, tuple(ids) if number == last else (), now + self._interval_s
            )
        for id_ in ids:
            self._hosts.setdefault(id_, set()).add(peer.host)

    def confirm(self, peer: Peer, ids: Iterable[int]) -> list[int]:
        """Note that a peer has connections; returns those that now all peers have."""
        confirmed = []
        for id_ in ids:
            hosts = self._hosts.get(id_)
            if hosts is None:
                continue
            hosts.discard(peer.host)
            if not hosts:
                del self._hosts[id_]
                confirmed.append(id_)
        return confirmed

    def repeats(self, peer: Peer, now: float) -> list[tuple[int, bytes]]:
        """Return the datagrams to repeat now; forgets what was tried often enough."""
        found, given_up = peer.out.confirm_repeats(now, self._interval_s, self._tries)
        for id_ in given_up:
            self._hosts.pop(id_, None)
        return found

    def forget(self, peer: Peer) -> None:
        """Wait no longer for a peer that is gone or lives anew."""
        for waiting in peer.out.unconfirmed.values():
            self.confirm(peer, waiting.ids)
