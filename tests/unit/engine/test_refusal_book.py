# SPDX-License-Identifier: Apache-2.0
"""A vport floods when it is refused more often in a second than it may be."""

from __future__ import annotations

from midoryu.engine.refusal_book import FLOOD_S, RefusalBook


def test_few_refusals_in_a_second_are_no_flood() -> None:
    book = RefusalBook(5)
    for second in range(100):
        assert not any(book.note(7, second + n / 10) for n in range(5))
    assert book.tallies[7].total == 500


def test_a_flood_counts_as_one_for_some_time_after_and_is_the_vports_own() -> None:
    book = RefusalBook(5)

    assert [book.note(7, 1.0 + n / 10) for n in range(6)] == [False] * 5 + [True]
    assert not book.note(8, 1.6)
    assert book.note(7, 1.5 + FLOOD_S - 0.1)
    assert not book.note(7, 1.5 + FLOOD_S + 0.1)


def test_without_a_limit_there_is_no_flood() -> None:
    book = RefusalBook(0)
    assert not any(book.note(7, 1.0) for _ in range(1000))
