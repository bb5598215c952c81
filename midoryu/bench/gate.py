# SPDX-License-Identifier: Apache-2.0
"""`tools/bench gate`: no step of the packet path has become twice as slow.

Each bound is a multiple of what Ryu's own parser takes for a frame, measured in the
same run; the best repetition of each counts, so that a busy machine does not matter.
CI runs it (`.ci/run`). Whoever makes a step faster lowers its bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from midoryu.bench import micro
from midoryu.bench.report import Figure

# Twice what was measured when the bound was set.
BOUNDS: Final[dict[str, float]] = {
    "decode": 0.25,
    "simulate": 7.0,
    "translate + encode": 1.6,
    "push to 3 peers": 2.6,
    "state receive": 6.0,
    "state receive, each of 16": 2.4,
    "engine l2": 4.2,
    "engine l3": 3.2,
    "engine l3+ct": 9.0,
    "engine l3+ct+snat": 12.5,
    "16 at once + wire l3": 2.6,
    "16 at once + wire l3+ct": 5.4,
    "16 at once + wire l3+ct+snat": 8.8,
}
_REPEAT: Final = 5


class Loss(NamedTuple):
    """A figure beyond its bound."""

    name: str
    ratio: float
    bound: float

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.ratio:.2f} times the reference, at most {self.bound}"
        )


def run(tell: Callable[[str], None]) -> list[Loss]:
    """Measure the micro suite and return what is too slow."""
    return losses(micro.run(_REPEAT, tell))


def losses(figures: Sequence[Figure]) -> list[Loss]:
    """Compare figures with their bounds, the best repetition of each."""
    found: list[Loss] = []
    for figure in figures:
        bound = BOUNDS.get(figure.name)
        reference = min(figure.reference_samples, default=0.0)
        if bound is None or not reference:
            continue
        ratio = min(figure.samples) / reference
        if ratio > bound:
            found.append(Loss(figure.name, ratio, bound))
    return found
