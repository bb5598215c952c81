# SPDX-License-Identifier: Apache-2.0
"""What is set aside is not searched, and no cycle is lost while there is little."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from midoryu.agent.garbage import keep_short, set_aside, set_aside_quickly


class Node:
    """Something that can be part of a cycle."""

    other: Node


@pytest.fixture(autouse=True)
def collector_as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def cycle() -> weakref.ref[Node]:
    one, two = Node(), Node()
    one.other, two.other = two, one
    return weakref.ref(one)


def test_young_cycle_is_freed_and_not_set_aside() -> None:
    young = cycle()

    set_aside(is_full=False)

    assert young() is None


def test_what_is_set_aside_is_freed_when_nobody_refers_to_it() -> None:
    kept = Node()
    seen = weakref.ref(kept)
    set_aside(is_full=False)
    assert gc.get_freeze_count() > 0

    del kept

    assert seen() is None


def test_full_search_finds_a_cycle_that_was_set_aside() -> None:
    one = Node()
    one.other = one
    seen = weakref.ref(one)
    set_aside(is_full=False)
    del one
    gc.collect()
    assert seen() is not None

    gc.unfreeze()
    gc.collect()

    assert seen() is None


def test_under_load_the_youngest_are_searched_and_all_are_set_aside() -> None:
    set_aside(is_full=False)
    before = gc.get_freeze_count()
    kept = [Node() for _ in range(100)]
    young = cycle()

    set_aside_quickly()

    assert young() is None
    assert gc.get_freeze_count() >= before + len(kept)


def test_searches_go_on_until_the_end() -> None:
    class EndedError(Exception):
        """Ends the loop."""

    turns: list[float] = []

    def sleep(seconds: float) -> None:
        turns.append(seconds)
        if len(turns) == 3:
            raise EndedError

    with pytest.raises(EndedError):
        keep_short(sleep)

    assert len(turns) == 3
    assert gc.get_threshold()[2] > 1000
