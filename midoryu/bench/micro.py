# SPDX-License-Identifier: Apache-2.0
"""Suite `micro`: each step of the packet path, per call."""

from __future__ import annotations

from collections.abc import Callable

from midoryu.bench.report import Figure


def run(
    repeat: int, tell: Callable[[str], None], *, is_profiled: bool = False
) -> list[Figure]:
    """Measure the steps."""
    return []
