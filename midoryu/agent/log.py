# SPDX-License-Identifier: Apache-2.0
"""Keeps one cause from filling the log: a line now, the rest counted."""

from __future__ import annotations

import re
from typing import Final

_INTERVAL_S: Final = 10.0
_MAX_CAUSES: Final = 1000
# Numbers and addresses are what differs between two messages of one cause.
_VARIABLE: Final = re.compile(r"(?:[0-9a-f]*[0-9][0-9a-fx.:]*|::)", re.IGNORECASE)


class RateLimit:
    """Admits one line for each cause in ten seconds."""

    def __init__(self) -> None:
        self._causes: dict[str, tuple[float, int]] = {}

    def admit(self, message: str, now: float) -> str | None:
        """Return the line to log, or None while its cause was logged just now."""
        cause = _VARIABLE.sub("#", message)
        last, held = self._causes.get(cause, (-_INTERVAL_S, 0))
        if now - last < _INTERVAL_S:
            self._causes[cause] = (last, held + 1)
            return None
        if len(self._causes) >= _MAX_CAUSES:
            self._causes.clear()
        self._causes[cause] = (now, 0)
        return f"{message} (and {held} more like this)" if held else message
