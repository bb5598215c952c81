# SPDX-License-Identifier: Apache-2.0
"""Whose packet-ins are more than its share, and for how long."""

from __future__ import annotations

from collections import Counter

from midoryu.engine.share_book import CALM_S, PRESENT_S, WINDOW_S, ShareBook
from midoryu.packet.address import parse_ip
from tests.helpers import frames

FLOODER, SMALL, OTHER, UPLINK = 1, 2, 3, 4
OFPORTS = {11: FLOODER, 12: SMALL, 13: OTHER, 14: UPLINK}
VICTIM, QUIET = "10.0.0.9", "10.0.0.8"


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
        begun, _, ended = self.look()
        return begun, ended

    def look(self) -> tuple[list[int], list[int], list[int]]:
        uplinks = frozenset((UPLINK,))
        return self.book.look(self.packet_ins, OFPORTS, uplinks, self.now)

    def sampled(self, vport: int, *to: str) -> tuple[list[int], list[int]]:
        """Let a port send so much that it is sampled; return who begins, who turns."""
        self.packet_ins[vport] += 400
        self.now += WINDOW_S
        self.look()
        for number in range(self.book.wanted):
            frame = frames.udp(dst=to[number % len(to)])
            self.book.sample(10 + vport, frame)
        self.packet_ins[vport] += 400
        self.now += WINDOW_S
        begun, turned, _ = self.look()
        return begun, turned


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


def test_a_port_that_floods_one_address_is_limited_for_that_alone() -> None:
    hours = Hours()
    hours.window(FLOODER=400, SMALL=3)
    assert hours.book.whole == {FLOODER}
    assert hours.sampled(FLOODER, *[VICTIM] * 15, QUIET) == ([], [FLOODER])
    assert hours.book.whole == set()
    assert hours.book.flooded == {FLOODER: (parse_ip(VICTIM),)}
    assert hours.book.is_flood(FLOODER, parse_ip(VICTIM))
    assert not hours.book.is_flood(FLOODER, parse_ip(QUIET))


def test_a_port_that_floods_random_addresses_stays_limited_as_a_whole() -> None:
    hours = Hours()
    hours.window(FLOODER=400, SMALL=3)
    many = [f"10.0.0.{number}" for number in range(64)]
    assert hours.sampled(FLOODER, *many) == ([], [])
    assert hours.book.whole == {FLOODER}


def test_a_flood_of_one_address_and_of_random_ones_is_limited_both_ways() -> None:
    hours = Hours()
    hours.window(FLOODER=400, SMALL=3)
    many = [f"10.0.0.{number}" for number in range(32)]
    hours.sampled(FLOODER, *(one for pair in zip(many, [VICTIM] * 32) for one in pair))
    assert hours.book.whole == {FLOODER}
    assert hours.book.is_flood(FLOODER, parse_ip(VICTIM))


def test_behind_an_uplink_a_flooded_address_is_limited_beside_others() -> None:
    hours = Hours()
    assert hours.sampled(UPLINK, *[VICTIM] * 15, QUIET) == ([UPLINK], [])
    assert hours.book.whole == set()
    assert hours.book.is_flood(UPLINK, parse_ip(VICTIM))


def test_one_busy_server_behind_an_uplink_is_not_limited() -> None:
    hours = Hours()
    assert hours.sampled(UPLINK, VICTIM) == ([], [])
    assert hours.book.limited == set()


def test_two_addresses_that_a_lone_machine_talks_to_are_not_limited() -> None:
    hours = Hours()
    assert hours.sampled(FLOODER, *[VICTIM] * 15, QUIET) == ([], [])


def test_a_flood_from_outside_ends_like_every_other() -> None:
    hours = Hours()
    hours.sampled(UPLINK, *[VICTIM] * 15, QUIET)
    ended: list[int] = []
    for _ in range(int(CALM_S / WINDOW_S) + 2):
        ended += hours.window(UPLINK=1)[1]
    assert ended == [UPLINK]
    assert hours.book.flooded == {}


def test_nothing_is_sampled_while_nobody_sends_much() -> None:
    hours = Hours()
    hours.window(FLOODER=50, SMALL=3)
    assert hours.book.wanted == 0


def test_what_the_agent_left_out_counts_as_well() -> None:
    hours = Hours()
    hours.window(FLOODER=1, SMALL=1)
    hours.book.lose(FLOODER, 350)
    assert hours.window(FLOODER=50, SMALL=1) == ([FLOODER], [])


def test_a_limit_is_halved_while_packets_are_left_out_and_whole_at_the_next_flood() -> (
    None
):
    hours = Hours()
    hours.window(FLOODER=400, SMALL=3)
    assert hours.book.limit_of(FLOODER) == 1000
    limits = []
    for _ in range(30):
        hours.book.lose(FLOODER, 50)
        hours.window(FLOODER=50, SMALL=1)
        limits.append(hours.book.limit_of(FLOODER))
    assert limits[0] == 1000
    assert sorted(set(limits)) == [62, 125, 250, 500, 1000]
    for _ in range(60):
        hours.window(SMALL=1)
    assert hours.book.limited == set()
    hours.window(FLOODER=400, SMALL=3)
    assert hours.book.limit_of(FLOODER) == 1000


def test_packets_left_out_once_do_not_lower_the_limit_again_and_again() -> None:
    hours = Hours()
    hours.window(FLOODER=400, SMALL=3)
    for _ in range(10):
        hours.window(FLOODER=60, SMALL=1)
    hours.book.lose(FLOODER, 50)
    for _ in range(10):
        hours.window(FLOODER=60, SMALL=1)
    assert hours.book.limit_of(FLOODER) == 500
