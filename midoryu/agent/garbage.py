# SPDX-License-Identifier: Apache-2.0
"""Keeps Python's search for garbage cycles off the packet path.

What the engine remembers (records, flows) has no cycles, and there may be millions of
it: each full search looks at all of it and stops every packet meanwhile (0.4 s with
30,000 connections). So what has lived for a while is set aside (`gc.freeze`); it is
still freed at once when nobody refers to it. Young objects are searched as ever; under
load they are set aside soon after, before there are so many that it takes long.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Final

SET_ASIDE_S: Final = 2.0
# Under load they are looked at this often: some 20,000 objects then, 2 ms.
LOOK_S: Final = 0.1
_LOOKS: Final = round(SET_ASIDE_S / LOOK_S)
# Young objects between two searches among them; full searches are ours to start.
_THRESHOLDS: Final = (20_000, 20, 1_000_000)
# With fewer objects a full search takes some milliseconds, and finds old cycles, too.
FEW_OBJECTS: Final = 100_000
_FULL_EVERY: Final = 300


def keep_short(sleep: Callable[[float], None]) -> None:
    """Set objects aside while the process lives; runs in a thread of its own."""
    gc.set_threshold(*_THRESHOLDS)
    turn = 0
    while True:
        if turn % _LOOKS == 0:
            set_aside(is_full=turn % (_LOOKS * _FULL_EVERY) == 0)
        elif gc.get_count()[1]:
            set_aside_quickly()
        turn += 1
        sleep(LOOK_S)


def set_aside_quickly() -> None:
    """Search the youngest objects alone, then leave all that is there out."""
    gc.collect(0)
    gc.freeze()


def set_aside(*, is_full: bool) -> None:
    """Search young objects, then leave all that is there out of later searches.

    A full search looks at what was set aside as well, unless that is much.
    """
    if is_full and gc.get_freeze_count() < FEW_OBJECTS:
        gc.unfreeze()
        gc.collect()
    else:
        gc.collect(1)
    gc.freeze()
