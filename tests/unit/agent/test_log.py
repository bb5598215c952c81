# SPDX-License-Identifier: Apache-2.0
"""One cause does not fill the log."""

from __future__ import annotations

from midoryu.agent.log import RateLimit


def test_the_same_cause_is_logged_once_in_ten_seconds_and_the_rest_counted() -> None:
    limit = RateLimit()

    lines = [limit.admit(f"vport {n} at 10.0.0.{n}: bad", 100.0 + n) for n in range(9)]
    later = limit.admit("vport 77 at 10.9.9.9: bad", 110.0)

    assert lines == ["vport 0 at 10.0.0.0: bad"] + [None] * 8
    assert later == "vport 77 at 10.9.9.9: bad (and 8 more like this)"


def test_another_cause_is_logged_at_once() -> None:
    limit = RateLimit()

    assert limit.admit("one thing 1", 0.0)
    assert limit.admit("another thing 1", 0.0)
