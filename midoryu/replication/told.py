# SPDX-License-Identifier: Apache-2.0
"""What peers have been told about the use of connections, so that it is not repeated.

`session` asks before it queues a touch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from midoryu.state.connection import Connection, Phase

_SWEEP_MIN: Final = 4096


class Told:
    """When each connection in use was told of last, in which phase and version.

    Args:
        lifetimes_s: seconds, one for each `Phase`; a use is news again after a third.
    """

    def __init__(self, lifetimes_s: Sequence[float]) -> None:
        self._pauses_s = tuple(lifetime_s / 3 for lifetime_s in lifetimes_s)
        self._told: dict[int, tuple[float, Phase, int]] = {}
        self._sweep_at = _SWEEP_MIN

    def __len__(self) -> int:
        return len(self._told)

    def is_news(self, connection: Connection) -> bool:
        """Tell whether peers need to hear of a use; if so, note that they do."""
        told = self._told.get(connection.id)
        if told is not None:
            instant, phase, version = told
            end = instant + self._pauses_s[connection.phase]
            is_same = phase is connection.phase and version == connection.version
            if is_same and connection.last_used < end:
                return False
        self._told[connection.id] = (
            connection.last_used,
            connection.phase,
            connection.version,
        )
        if len(self._told) > self._sweep_at:
            self._sweep(connection.last_used)
        return True

    def forget(self, connection_id: int) -> None:
        """Forget a connection that is over."""
        self._told.pop(connection_id, None)

    def _sweep(self, now: float) -> None:
        """Forget what was told so long ago that it is news again."""
        self._told = {
            id_: (instant, phase, version)
            for id_, (instant, phase, version) in self._told.items()
            if now < instant + self._pauses_s[phase]
        }
        self._sweep_at = max(_SWEEP_MIN, 2 * len(self._told))
