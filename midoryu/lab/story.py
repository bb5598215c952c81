# SPDX-License-Identifier: Apache-2.0
"""A story told on the terminal: steps, what was seen, and claims that hold or not.

`demo` tells one.
"""

from __future__ import annotations


class Story:
    """Prints steps and checks, and remembers what failed."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._step = 0
        self.failed: list[str] = []

    def step(self, title: str) -> None:
        """Begin a step."""
        self._step += 1
        print(f"\n[{self._step}/{self._steps}] {title}", flush=True)

    def tell(self, text: str) -> None:
        """Explain, or show what was seen."""
        print(f"      {text}", flush=True)

    def check(self, claim: str, holds: bool, seen: object = "") -> None:
        """Check a claim; show what was seen."""
        mark = "ok    " if holds else "FAILED"
        tail = f"   [{seen}]" if seen != "" else ""
        print(f"  {mark}  {claim}{tail}", flush=True)
        if not holds:
            self.failed.append(claim)
