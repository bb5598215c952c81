# SPDX-License-Identifier: Apache-2.0
"""Whose packet-ins are more than its share, and for how long."""

from __future__ import annotations

from collections import Counter

from midoryu.engine.share_book import CALM_S, PRESENT_S, WINDOW_S, ShareBook

FLOODER, SMALL, OTHER = 1, 2, 3


class Hours:
    """A book, and what its vports cause."""

    def __init__(self, limit_pps: int = 1000) -> None:
        self.now = 50.0
        self.book = ShareBook(limit_pps, self.now)
        self.packet_ins: Counter[int] = Counter()

    def window(self, **counts: int) -> tuple[list[int], list[int]]:
        """Let packets come and look at the end of a window."""
        for name, count in counts.items():
            self.packet_ins[globals()[name]] += count
        self.now += WINDOW_S
        return self.book.look(self.packet_ins, self.now)


def test_a_port_that_floods_beside_a_small_one_is_limited() -> None:
    hours = Hours()
    assert hours.window(FLOODER=400, SMALL=3) == ([FLOODER], [])
    assert hours.book.limited == {FLOODER}
    assert hours.book.shares[FLOODER].times == 1


def test_a_port_that_is_alone_is_not_limited() -> None:
    hours = Hours()
    hours.window(SMALL=1)
    hours.now += PRESENT_S
    assert hours.window(FLOODER=400) == ([], [])


def test_ports_that_send_alike_are_not_limited() -> None:
    hours = Hours()
    assert hours.window(FLOODER=200, OTHER=180) == ([], [])


def test_two_floods_beside_a_small_port_are_both_limited() -> None:
    hours = Hours()
    begun, _ = hours.window(FLOODER=400, OTHER=300, SMALL=1)
    assert set(begun) == {FLOODER, OTHER}


def test_a_rate_below_the_limit_is_no_flood() -> None:
    hours = Hours()
    assert hours.window(FLOODER=90, SMALL=1) == ([], [])


def test_answers_do_not_count_but_show_that_a_port_is_there() -> None:
    hours = Hours()
    hours.book.answers[OTHER] += 400
    assert hours.window(OTHER=400, FLOODER=200) == ([FLOODER], [])


def test_a_limited_port_is_free_when_it_has_been_calm_for_a_while() -> None:
    hours = Hours()
    hours.window(FLOODER=400, SMALL=3)
    ended: list[int] = []
    windows = 0
    while not ended:
        windows += 1
        _, ended = hours.window(FLOODER=5, SMALL=1)
    assert ended == [FLOODER]
    assert windows * WINDOW_S >= CALM_S - WINDOW_S / 2
    assert hours.book.limited == set()


def test_a_flood_that_goes_on_at_the_limit_stays_limited() -> None:
    hours = Hours()
    hours.window(FLOODER=400, SMALL=3)
    for _ in range(60):
        assert hours.window(FLOODER=60, SMALL=1) == ([], [])
    assert hours.book.limited == {FLOODER}


def test_a_flood_goes_on_unlimited_once_the_small_port_has_gone() -> None:
    hours = Hours()
    hours.window(FLOODER=400, SMALL=3)
    ended: list[int] = []
    for _ in range(int((PRESENT_S + CALM_S) / WINDOW_S) + 2):
        ended += hours.window(FLOODER=100)[1]
    assert ended == [FLOODER]


def test_with_a_limit_of_nothing_nobody_looks() -> None:
    book = ShareBook(0, 50.0)
    assert book.due > 1e9
    assert book.deadline() is None


def test_a_look_is_due_while_a_port_is_limited_though_no_packet_comes() -> None:
    hours = Hours()
    assert hours.book.deadline() is None
    hours.window(FLOODER=400, SMALL=3)
    deadline = hours.book.deadline()
    assert deadline is not None
    assert deadline > hours.now


def test_a_vport_that_left_is_forgotten() -> None:
    hours = Hours()
    hours.window(FLOODER=400, SMALL=3)
    hours.book.forget(FLOODER)
    assert hours.book.limited == set()
    assert FLOODER not in hours.book.shares
