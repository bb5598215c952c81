# SPDX-License-Identifier: Apache-2.0
"""Exit codes of `midoryu-ctl`; argparse itself exits with 2 for wrong usage."""

from __future__ import annotations

from typing import Final

DONE: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
