# SPDX-License-Identifier: Apache-2.0
"""First packets that wait until every peer has confirmed their state.

Only where an operator asked for it (`hold_first_packet_ms`): certainty for the price of
one round trip in the underlay. `packet_lane` puts packets in, the engine lets them go
when confirmations arrive, or when their time is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Union

from midoryu.engine.effect import Effects
from midoryu.openflow.flow import InstallFlow


class _Held(NamedTuple):
    deadline: float
    effects: Effects


class HeldPackets:
    """What is to be done as soon as a connection is confirmed.

    Args:
        is_wanted: tells by its cookie whether a flow is still to be installed; one that
            a change removed while it was held back must not come afterwards.
    """

    def __init__(self, is_wanted: Callable[[int], bool]) -> None:
        self._is_wanted = is_wanted
        self._by_connection: dict[int, _Held] = {}

    def __len__(self) -> int:
        return len(self._by_connection)

    def __contains__(self, connection: int) -> bool:
        return connection in self._by_connection

    def put(self, connection: int, deadline: float) -> Effects:
        """Hold back what the caller adds to the returned effects."""
        standing = self._by_connection.get(connection)
        if standing is None:
            standing = self._by_connection[connection] = _Held(deadline, Effects())
        return standing.effects

    def release(self, connections: Iterable[int], effects: Effects) -> None:
        """Let go what waited for these connections."""
        for connection in connections:
            held = self._by_connection.pop(connection, None)
            if held is not None:
                self._add(held.effects, effects)

    def release_overdue(self, now: float, effects: Effects) -> int:
        """Let go what has waited long enough; return how many connections."""
        overdue = [
            connection
            for connection, held in self._by_connection.items()
            if held.deadline <= now
        ]
        self.release(overdue, effects)
        return len(overdue)

    def deadline(self) -> Union[float, None]:
        """Return the earliest deadline, None when nothing is held."""
        return min(
            (held.deadline for held in self._by_connection.values()), default=None
        )

    def _add(self, held: Effects, effects: Effects) -> None:
        effects.flow_mods.extend(
            mod
            for mod in held.flow_mods
            if not isinstance(mod, InstallFlow) or self._is_wanted(mod.flow.cookie)
        )
        effects.packet_outs.extend(held.packet_outs)
