# SPDX-License-Identifier: Apache-2.0
"""Uses of connections are told at most once in a third of their lifetime."""

from __future__ import annotations

from midoryu.replication.told import Told
from midoryu.state.connection import Connection, Phase

LIFETIMES_S = (30.0, 300.0, 30.0, 30.0, 30.0, 30.0)


def used(id_: int, at: float, phase: Phase = Phase.UDP) -> Connection:
    return Connection(id_, 17, (1, 2, 3, 4), 1, 2, 3, 4, (), 1, phase, at)


def test_a_use_is_news_again_after_a_third_of_the_lifetime() -> None:
    told = Told(LIFETIMES_S)
    news = [told.is_news(used(1, at)) for at in (0.0, 5.0, 9.9, 10.0, 15.0, 20.0)]
    assert news == [True, False, False, True, False, True]


def test_each_phase_has_its_own_pace_and_a_change_is_always_news() -> None:
    told = Told(LIFETIMES_S)
    assert told.is_news(used(1, 0.0, Phase.TCP_ESTABLISHED))
    assert not told.is_news(used(1, 99.0, Phase.TCP_ESTABLISHED))
    assert told.is_news(used(1, 99.0, Phase.TCP_TRANSITORY))


def test_a_connection_that_was_forgotten_is_news() -> None:
    told = Told(LIFETIMES_S)
    told.is_news(used(1, 0.0))
    told.forget(1)
    told.forget(2)
    assert told.is_news(used(1, 0.0))


def test_memory_is_bounded_by_the_connections_in_use() -> None:
    told = Told(LIFETIMES_S)
    for number in range(50_000):
        assert told.is_news(used(number + 1, number / 100))
    assert len(told) <= 10_000


def test_a_record_that_was_changed_is_news() -> None:
    told = Told(LIFETIMES_S)
    one = used(1, 0.0)
    assert told.is_news(one)
    one.version += 1
    assert told.is_news(one)
    assert not told.is_news(one)
