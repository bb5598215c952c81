# SPDX-License-Identifier: Apache-2.0
"""The keys of flow state while they change: no packet of a peer is refused for it.

Hosts learn of new keys one after another. So a key that is new to this host is accepted
at once but signs only after a while, and one that was dropped is accepted a while
longer. `session` owns one of these; `wire` checks tags with its signer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from midoryu.replication.wire import Signer

# All hosts should have new keys within this time; in seconds.
GRACE_S: Final = 30.0
# Keys that are accepted at once; the newest files matter.
_MAX_KEYS: Final = 16


class Keyring:
    """Keys by which tags are made and checked now.

    Args:
        keys: at least one; the first signs, all verify.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.signer = Signer(keys)
        self.due: float | None = None
        """When `step` has something to do."""
        self._wanted = tuple(keys)
        self._active = self._wanted
        self._steps: list[tuple[float, tuple[bytes, ...]]] = []

    def change(self, keys: Sequence[bytes], now: float) -> None:
        """Put other keys in the place of these, by steps."""
        wanted = tuple(keys)
        if wanted == self._wanted:
            return
        self._wanted, old = wanted, self._active
        self._steps = [(now + GRACE_S, wanted)]
        if wanted[0] in old:
            self._activate(_joined(wanted, old))
        else:
            # The others may not have it yet.
            self._activate(_joined(old[:1], wanted, old))
            self._steps = [
                (now + GRACE_S, _joined(wanted, old)),
                (now + 2 * GRACE_S, wanted),
            ]
        self.due = self._steps[0][0]

    def step(self, now: float) -> None:
        """Take the steps whose time has come."""
        while self._steps and self._steps[0][0] <= now:
            self._activate(self._steps.pop(0)[1])
        self.due = self._steps[0][0] if self._steps else None

    def _activate(self, keys: tuple[bytes, ...]) -> None:
        self._active = keys
        self.signer.set_keys(keys)


def _joined(*groups: Iterable[bytes]) -> tuple[bytes, ...]:
    keys = dict.fromkeys(key for group in groups for key in group)
    return tuple(keys)[:_MAX_KEYS]
