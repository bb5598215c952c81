# SPDX-License-Identifier: Apache-2.0
"""A process that the agent keeps alive beside itself: the metadata proxy.

It sees the end of its standard input when the agent ends, however that comes about, and
ends too. What it says goes where the agent's own output goes.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Sequence
from typing import Final, Union

LOG = logging.getLogger(__name__)

LEAST_PAUSE_S: Final = 1.0
"""Between an end and the next start; twice as long after each early end."""
MOST_PAUSE_S: Final = 60.0
_LOOK_S: Final = 0.5
_WELL_S: Final = 30.0
"""Who lived for so long has not failed at its start."""


def keep(command: Sequence[str], sleep: Callable[[float], None]) -> None:
    """Run a command for ever (in a green thread)."""
    pause_s = LEAST_PAUSE_S
    while True:
        lived_s = _run(command, sleep)
        pause_s = next_pause_s(pause_s, lived_s)
        sleep(pause_s)


def next_pause_s(pause_s: float, lived_s: float) -> float:
    """Return the pause after a process that lived for a while, in seconds."""
    if lived_s >= _WELL_S:
        return LEAST_PAUSE_S
    return min(pause_s * 2, MOST_PAUSE_S)


def _run(command: Sequence[str], sleep: Callable[[float], None]) -> float:
    """Run it once; return how long it lived, in seconds."""
    lived_s = 0.0
    try:
        child = subprocess.Popen(command, stdin=subprocess.PIPE)
    except OSError as problem:
        LOG.error("cannot run %s: %s", command[0], problem)
        return lived_s
    LOG.info("the metadata proxy runs, process %d", child.pid)
    code: Union[int, None] = None
    with child:
        while code is None:
            sleep(_LOOK_S)
            lived_s += _LOOK_S
            code = child.poll()
    LOG.warning("the metadata proxy ended (%d); it is started again", code)
    return lived_s
