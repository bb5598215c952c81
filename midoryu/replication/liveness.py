# SPDX-License-Identifier: Apache-2.0
"""Which peers are alive: members of an ingress set beat each other.

Sans-IO like its neighbour `session`, which makes the beats and tells what was heard;
the engine decides whom to watch, and what a death means.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

DEFAULT_INTERVAL_S: Final = 0.05
DEFAULT_MULTIPLIER: Final = 3
# How long the silence of a peer is nothing that was never heard.
_GRACE_S: Final = 1.0

# A peer is late after so many intervals; then it is asked at this pace.
_PATIENCE: Final = 1.5
_ASK_S: Final = 0.01
# For so long a switch may answer for an agent that is silent.
_AGENT_S: Final = 1.0


class Changes(NamedTuple):
    """What one tick found out."""

    beat: bool
    """It is time to beat."""
    died: tuple[int, ...]
    """Host keys that have been silent for too long."""
    revived: tuple[int, ...]
    """Host keys that were dead and have been heard again."""
    suspects: tuple[int, ...] = ()
    """Host keys that are late: to be asked at once, for packets may get lost."""


class Liveness:
    """Silence of watched peers, measured.

    Args:
        interval_s: seconds between two beats.
        multiplier: a peer is dead after so many intervals of silence.
        grace_s: a peer that was never heard gets this long to say something.
    """

    def __init__(
        self,
        interval_s: float = DEFAULT_INTERVAL_S,
        multiplier: int = DEFAULT_MULTIPLIER,
        grace_s: float = _GRACE_S,
    ) -> None:
        self._interval_s = interval_s
        self._limit_s = interval_s * multiplier
        self._grace_s = grace_s
        self._patience_s = _PATIENCE * interval_s
        self._heard: dict[int, float] = {}
        self._dead: set[int] = set()
        self._revived: set[int] = set()
        self._spoke: dict[int, float] = {}
        self._next_beat = 0.0
        self._next_ask = 0.0

    @property
    def watched(self) -> frozenset[int]:
        """The peers whose silence counts."""
        return frozenset(self._heard)

    @property
    def dead(self) -> frozenset[int]:
        """The watched peers that are held for dead."""
        return frozenset(self._dead)

    def watch(self, hosts: Iterable[int], now: float) -> None:
        """Watch just these peers; a new one has some time to be heard first."""
        wanted = set(hosts)
        for host in self._heard.keys() - wanted:
            del self._heard[host]
            self._spoke.pop(host, None)
            self._dead.discard(host)
            self._revived.discard(host)
        for host in wanted - self._heard.keys():
            self._heard[host] = now + self._grace_s - self._limit_s

    def heard(self, host: int, now: float) -> bool:
        """Note that a packet of a peer came; tell whether it was held for dead."""
        if host not in self._heard:
            return False
        # The time to be heard first ends here.
        self._heard[host] = self._spoke[host] = now
        if host not in self._dead:
            return False
        self._dead.discard(host)
        self._revived.add(host)
        return True

    def vouch(self, host: int, now: float) -> None:
        """Note that the switch of a peer answered: its agent gets some time more."""
        if host in self._heard and now - self._spoke.get(host, 0.0) < _AGENT_S:
            self._heard[host] = max(self._heard[host], now)

    def tick(self, now: float) -> Changes:
        """Say whether to beat, and who died or came back since the last tick.

        A pause of this program itself is nobody's silence: what the peers sent in that
        time may still wait to be read.
        """
        if not self._heard:
            return Changes(False, (), ())
        late_s = now - self._next_beat if self._next_beat else 0.0
        beat = now >= self._next_beat
        if late_s > self._interval_s / 2:
            for host in self._heard.keys() - self._dead:
                heard = self._heard[host]
                excused = min(heard + late_s, now - self._limit_s / 2)
                self._heard[host] = max(heard, excused)
        if beat:
            self._next_beat = now + self._interval_s
        died = tuple(
            host
            for host, instant in self._heard.items()
            if host not in self._dead and now >= instant + self._limit_s
        )
        self._dead.update(died)
        revived = tuple(self._revived)
        self._revived.clear()
        return Changes(beat, died, revived, self._suspects(now))

    def _suspects(self, now: float) -> tuple[int, ...]:
        if now < self._next_ask:
            return ()
        late = [
            host
            for host, instant in self._heard.items()
            if host not in self._dead and now >= instant + self._patience_s
        ]
        if late:
            self._next_ask = now + _ASK_S
        return tuple(late)

    def deadline(self) -> float | None:
        """Return the instant when `tick` has something to do, None for never."""
        if not self._heard:
            return None
        living = (at for host, at in self._heard.items() if host not in self._dead)
        first = min(living, default=math.inf)
        ask_at = max(first + self._patience_s, self._next_ask)
        return min(self._next_beat, first + self._limit_s, ask_at)
