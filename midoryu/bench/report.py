# SPDX-License-Identifier: Apache-2.0
"""Samples -> medians and ratios, as a table or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from midoryu.compat import SLOTS


@dataclass(**SLOTS)
class Figure:
    """One thing that was measured, and what it is compared with."""

    suite: str
    name: str
    unit: str
    reference: str
    """What the reference is."""
    samples: list[float] = field(default_factory=list)
    """One for each repetition."""
    reference_samples: list[float] = field(default_factory=list)
    """The same repetitions'."""
    note: str = ""

    def ratio(self) -> float:
        """Return the median of value / reference, repetition by repetition."""
        pairs = zip(self.samples, self.reference_samples)  # noqa: B905
        ratios = [value / reference for value, reference in pairs if reference]
        return median(ratios) if ratios else 0.0

    def summary(self) -> dict[str, object]:
        """Return everything as JSON-able values."""
        return {
            "suite": self.suite,
            "name": self.name,
            "unit": self.unit,
            "median": median(self.samples),
            "min": min(self.samples),
            "max": max(self.samples),
            "reference": self.reference,
            "reference_median": median(self.reference_samples),
            "ratio": self.ratio(),
            "note": self.note,
        }


def to_json(figures: Sequence[Figure]) -> str:
    """Write figures as one JSON document."""
    return json.dumps([figure.summary() for figure in figures], indent=1)


def to_table(figures: Sequence[Figure]) -> str:
    """Write figures as a table in plain text."""
    head = ("suite", "figure", "unit", "median", "min", "max", "ratio", "to", "note")
    rows = [head]
    for one in figures:
        values = (median(one.samples), min(one.samples), max(one.samples))
        numbers = [_number(value) for value in values]
        reference = f"{one.reference} ({_number(median(one.reference_samples))})"
        ratio = f"{one.ratio():.2f}"
        rows.append(
            (one.suite, one.name, one.unit, *numbers, ratio, reference, one.note)  # type: ignore[arg-type]
        )
    widths = [max(len(row[n]) for row in rows) for n in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if 3 <= n <= 6 else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths))  # noqa: B905
        ).rstrip()
        for row in rows
    )


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3f}"
