# SPDX-License-Identifier: Apache-2.0
"""The waiting room: packets that cannot go on until something is known.

`packet_lane` parks packets and takes them out again when what they wait for arrives, or
when their time is over. It is bounded, over all and for each vport.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import NamedTuple, Union

from midoryu.engine.event import PacketIn
from midoryu.packet.packet import Packet
from midoryu.simulation.outcome import StateWanted, Wanted
from midoryu.state.connection import StateKey


class Parked(NamedTuple):
    """A packet that waits."""

    event: PacketIn
    vport: int
    deadline: float
    wanted: Wanted
    packet: Union[Packet, None] = None
    """What was decoded, where the frame alone does not tell (a later fragment)."""


class WaitingRoom:
    """Packets by what they wait for, each with a deadline."""

    def __init__(self, limit: int, limit_per_vport: int) -> None:
        self._limit = limit
        self._limit_per_vport = limit_per_vport
        self._by_wanted: dict[Wanted, deque[Parked]] = {}
        self._per_vport: Counter[int] = Counter()
        self._count = 0
        self._by_key: dict[StateKey, StateWanted] = {}

    def __len__(self) -> int:
        return self._count

    def park(self, parked: Parked) -> bool:
        """Let a packet wait; return False, and do nothing, where there is no room."""
        if not self.has_room(parked.vport):
            return False
        self._by_wanted.setdefault(parked.wanted, deque()).append(parked)
        if isinstance(parked.wanted, StateWanted):
            for key in parked.wanted.keys:
                self._by_key[key] = parked.wanted
        self._per_vport[parked.vport] += 1
        self._count += 1
        return True

    def count(self, vport: int) -> int:
        """Count the packets of a vport that wait."""
        return self._per_vport.get(vport, 0)

    def has_room(self, vport: int) -> bool:
        """Tell whether a packet of a vport may wait."""
        return (
            self._count < self._limit
            and self._per_vport.get(vport, 0) < self._limit_per_vport
        )

    def wanted(self) -> tuple[Wanted, ...]:
        """List what is waited for."""
        return tuple(self._by_wanted)

    def waiting_for_state(self, keys: Iterable[StateKey]) -> set[StateWanted]:
        """List what waits for a record that has any of these keys."""
        return {self._by_key[key] for key in keys if key in self._by_key}

    def take(self, wanted: Wanted) -> tuple[Parked, ...]:
        """Take out every packet that waits for one thing, in order of arrival."""
        taken = tuple(self._by_wanted.pop(wanted, ()))
        self._forget_keys(wanted)
        self._forget(taken)
        return taken

    def take_overdue(self, now: float) -> tuple[Parked, ...]:
        """Take out every packet whose deadline has come."""
        overdue: list[Parked] = []
        for wanted, queue in list(self._by_wanted.items()):
            while queue and queue[0].deadline <= now:
                overdue.append(queue.popleft())
            if not queue:
                del self._by_wanted[wanted]
                self._forget_keys(wanted)
        self._forget(tuple(overdue))
        return tuple(overdue)

    def deadline(self) -> Union[float, None]:
        """Return the earliest deadline, None when nobody waits."""
        return min(
            (queue[0].deadline for queue in self._by_wanted.values()), default=None
        )

    def _forget_keys(self, wanted: Wanted) -> None:
        if isinstance(wanted, StateWanted):
            for key in wanted.keys:
                self._by_key.pop(key, None)

    def _forget(self, taken: tuple[Parked, ...]) -> None:
        self._count -= len(taken)
        for parked in taken:
            self._per_vport[parked.vport] -= 1
            if not self._per_vport[parked.vport]:
                del self._per_vport[parked.vport]
