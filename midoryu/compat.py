# SPDX-License-Identifier: Apache-2.0
"""What differs between the Python versions that midoryu runs on (3.9 and later)."""

from __future__ import annotations

import sys
from typing import Any, Final

# `@dataclass(frozen=True, **SLOTS)`: slots where the interpreter can make them.
SLOTS: Final[dict[str, Any]] = {"slots": True} if sys.version_info >= (3, 10) else {}
