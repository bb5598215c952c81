# SPDX-License-Identifier: Apache-2.0
"""One choice everywhere, shared by weight, that moves as little as it can."""

from __future__ import annotations

from collections import Counter

import pytest

from midoryu.topology.rendezvous import choose, digest, mix

KEYS = [(6, 10, 20, 1000 + number, 80) for number in range(3000)]


def test_same_question_has_the_same_answer() -> None:
    candidates = [(1, 1), (2, 1), (3, 1)]

    assert [choose(key, candidates) for key in KEYS] == [
        choose(iter(key), tuple(candidates)) for key in KEYS
    ]


def test_order_of_candidates_does_not_matter() -> None:
    candidates = [(1, 1), (2, 3), (3, 1)]
    turned = candidates[::-1]

    for key in KEYS[:200]:
        assert candidates[choose(key, candidates)] == turned[choose(key, turned)]


@pytest.mark.parametrize(
    "identities",
    [(1, 2, 3), (1 << 64, 2 << 64, 3 << 64), (1 << 120 | 5, 2 << 120 | 5, 5)],
    ids=["low bits", "high bits", "highest bits"],
)
def test_equal_weights_share_equally(identities: tuple[int, ...]) -> None:
    candidates = [(identity, 1) for identity in identities]

    counts = Counter(choose(key, candidates) for key in KEYS)

    assert all(900 < counts[index] < 1100 for index in range(3))


def test_weight_is_a_share() -> None:
    counts = Counter(choose(key, [(1, 1), (2, 2), (3, 3)]) for key in KEYS)

    assert 400 < counts[0] < 600
    assert 900 < counts[1] < 1100
    assert 1400 < counts[2] < 1600


def test_lost_candidate_moves_only_its_own_keys() -> None:
    everybody = [(1, 1), (2, 1), (3, 2), (4, 1)]
    survivors = [pair for pair in everybody if pair[0] != 3]

    for key in KEYS:
        was = everybody[choose(key, everybody)]
        if was[0] != 3:
            assert survivors[choose(key, survivors)] == was


def test_only_candidate_is_chosen() -> None:
    assert choose((), [(7, 255)]) == 0


def test_hash_is_the_published_splitmix64() -> None:
    # First outputs of splitmix64 seeded with 1234567 (its reference implementation).
    golden = 0x9E37_79B9_7F4A_7C15
    state = 1234567

    assert mix(state) == 6457827717110365317
    assert mix(state + golden) == 3203168211198807973


def test_digest_depends_on_order_length_and_high_bits() -> None:
    values = [(1, 2), (2, 1), (1, 2 << 100), (1, 2, 0), (1,)]

    assert len({digest(value) for value in values}) == len(values)
