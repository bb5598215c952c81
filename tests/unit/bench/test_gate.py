# SPDX-License-Identifier: Apache-2.0
"""A step that became twice as slow is named, noise is not."""

from __future__ import annotations

from midoryu.bench.gate import BOUNDS, losses
from midoryu.bench.report import Figure


def figure(name: str, *samples: float) -> Figure:
    reference = [10.0] * len(samples)
    return Figure("micro", name, "us", "ryu", list(samples), reference)


def test_a_step_beyond_its_bound_is_named() -> None:
    (loss,) = losses([figure("decode", BOUNDS["decode"] * 11)])

    assert "decode" in str(loss)
    assert loss.ratio > loss.bound


def test_one_good_repetition_is_enough() -> None:
    assert losses([figure("decode", 99.0, BOUNDS["decode"] * 9, 99.0)]) == []


def test_a_figure_without_a_bound_passes() -> None:
    assert losses([figure("something new", 1e9)]) == []
