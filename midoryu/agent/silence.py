# SPDX-License-Identifier: Apache-2.0
"""Says which of the agent's neighbours does not answer, soon and then now and then.

A wrong address in the configuration, or a daemon that does not run, otherwise looks
like an agent that works and does nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Final

LOG = logging.getLogger(__name__)
# A start takes its time; afterwards one reminder in half a minute is enough.
_FIRST_S: Final = 5.0
_AGAIN_S: Final = 30.0

Neighbor = tuple[Callable[[], bool], str]
"""Whether it is there, and what to say if not."""


def watch(neighbors: list[Neighbor], sleep: Callable[[float], None]) -> None:
    """Warn for as long as the process lives; runs in a thread of its own."""
    sleep(_FIRST_S)
    while True:
        for line in missing(neighbors):
            LOG.warning("%s", line)
        sleep(_AGAIN_S)


def missing(neighbors: list[Neighbor]) -> Iterator[str]:
    """Yield what to say about those that are not there."""
    for is_there, line in neighbors:
        if not is_there():
            yield line
