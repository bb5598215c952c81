# SPDX-License-Identifier: Apache-2.0
"""Medians, ratios and the two forms of a report."""

from __future__ import annotations

import json

from midoryu.bench.report import Figure, to_json, to_table


def figure() -> Figure:
    return Figure("micro", "decode", "us", "ryu", [1.0, 4.0, 2.0], [10.0, 10.0, 10.0])


def test_ratio_is_taken_repetition_by_repetition() -> None:
    noisy = Figure("micro", "decode", "us", "ryu", [1.0, 8.0, 2.0], [2.0, 16.0, 4.0])

    assert noisy.ratio() == 0.5


def test_reference_that_measured_nothing_gives_no_ratio() -> None:
    assert Figure("micro", "decode", "us", "ryu", [1.0], [0.0]).ratio() == 0.0


def test_json_has_median_and_extremes() -> None:
    (found,) = json.loads(to_json([figure()]))

    assert (found["median"], found["min"], found["max"]) == (2.0, 1.0, 4.0)
    assert (found["reference_median"], found["ratio"]) == (10.0, 0.2)


def test_table_has_a_line_for_each_figure() -> None:
    head, line = to_table([figure()]).splitlines()

    assert head.split()[:4] == ["suite", "figure", "unit", "median"]
    assert "decode" in line
    assert "0.20" in line
    assert "ryu (10.0)" in line
