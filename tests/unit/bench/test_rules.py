# SPDX-License-Identifier: Apache-2.0
"""Long chains and large groups cost about what short and small ones do."""

from __future__ import annotations

from midoryu.bench.rules import FEW, MANY, filtered, member_change


def best(step: object, turns: int = 3) -> float:
    return min(step(None) for _ in range(turns))  # type: ignore[operator]


def test_rules_and_members_do_not_count() -> None:
    few = best(filtered(FEW))
    many = best(filtered(MANY))
    grouped = best(filtered(MANY, members=200))

    # What is measured is some 50 us; a look at each rule would be some milliseconds.
    assert many < 4 * few
    assert grouped < 4 * few


def test_change_of_a_member_is_cheap() -> None:
    assert best(member_change(2_000)) < 5_000
