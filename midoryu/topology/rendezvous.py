# SPDX-License-Identifier: Apache-2.0
"""Weighted rendezvous hashing: every host makes the same choice without talking.

Used where a choice is made before state exists (equal-cost routes, load-balancer
members, NAT addresses). Adding or removing a candidate moves only the keys that must.

Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates",
1998; weights by the logarithm method (draft-ietf-bess-weighted-hrw, section 4).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF


def mix(value: int) -> int:
    """Scramble 64 bits (finaliser of splitmix64); equal on every host and version."""
    value = (value + 0x9E37_79B9_7F4A_7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58_476D_1CE4_E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D0_49BB_1331_11EB) & _MASK
    return value ^ (value >> 31)


def digest(parts: Iterable[int]) -> int:
    """Hash a sequence of non-negative integers of up to 128 bits to 64 bits."""
    value = 0
    for part in parts:
        value = mix(value ^ (part & _MASK) ^ (part >> 64))
    return value


def choose(key: Iterable[int], candidates: Sequence[tuple[int, int]]) -> int:
    """Choose one candidate for a key.

    Args:
        key: what to choose for, for example a 5-tuple.
        candidates: (identity, weight) pairs; identities of up to 128 bits, different
            from each other; weights above 0; at least one pair.

    Returns:
        The index of the chosen pair.
    """
    base = digest(key)
    best, best_score = 0, -1.0
    for index, (identity, weight) in enumerate(candidates):
        unit = (mix(base ^ digest((identity,))) + 1) / (_MASK + 2)
        score = -weight / math.log(unit)
        if score > best_score:
            best, best_score = index, score
    return best
