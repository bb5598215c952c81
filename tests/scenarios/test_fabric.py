# SPDX-License-Identifier: Apache-2.0
"""A few seeds of the fabric simulation; `tools/fabric` plays as many as you like.

Each of the single kinds stands for a bug that it found.
"""

from __future__ import annotations

import pytest

from tests.fabric.run import play


# 3 has its gateways on two routers.
@pytest.mark.parametrize("seed", [1, 3, 10])
def test_a_cloud_in_which_everything_goes_wrong_loses_nothing(seed: int) -> None:
    assert play(seed, 4, 40).violation == ""


@pytest.mark.parametrize(
    ("only", "seed"),
    [
        # A masqueraded answer of a service whose record was lost on the way.
        ("state loss", 2),
        # New translations before the old records came back.
        ("agent restart", 2),
        ("agent loop", 2),
        # The same at the new host of a VM; and a record changed at the same time.
        ("migration", 2),
        # A gateway that joins again got the records as they were before.
        ("drain", 1),
        ("switch restart", 2),
        ("gateway death", 2),
        ("partition", 1),
        # A floating address on two routers' uplinks.
        ("pool change", 3),
        # Records that only flows still tell of, leaving by another way now.
        ("amnesia", 2),
    ],
)
def test_no_connection_is_lost_in(only: str, seed: int) -> None:
    figures = play(seed, 4, 25, only=only)
    assert figures.violation == ""
    assert figures.disturbances[only] >= 3


# Two hosts told each other their phases: established ones ended like unanswered ones.
@pytest.mark.parametrize("only", ["silence", "quiet"])
def test_who_idles_for_too_long_is_gone_and_nobody_else(only: str) -> None:
    figures = play(1, 4, 50, only=only)
    assert figures.violation == ""
    assert figures.counts["expired"] >= 10
    if only == "quiet":
        assert figures.counts["blocks given back"] >= 4


def test_one_seed_is_one_run() -> None:
    first, second = play(3, 4, 10), play(3, 4, 10)
    assert first == second
