# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from midoryu.engine.minded import Asked, Snooping


def test_the_deadline_is_the_first_end_or_question() -> None:
    state = Snooping()
    assert state.deadline() is None

    state.ends[(1, 2, 3)] = 50.0
    assert state.deadline() == 50.0
    state.asked[3] = Asked(40.0, 1)
    assert state.deadline() == 40.0
