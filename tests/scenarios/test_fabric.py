# SPDX-License-Identifier: Apache-2.0
"""A few seeds of the fabric simulation; `tools/fabric` plays as many as you like.

Each of the single kinds stands for a bug that it found.
"""

from __future__ import annotations

import pytest

from tests.fabric.run import play


@pytest.mark.parametrize("seed", [1, 4, 10])
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
    ],
)
def test_no_connection_is_lost_in(only: str, seed: int) -> None:
    figures = play(seed, 4, 25, only=only)
    assert figures.violation == ""
    assert figures.disturbances[only] >= 3


def test_one_seed_is_one_run() -> None:
    first, second = play(3, 4, 10), play(3, 4, 10)
    assert first == second
