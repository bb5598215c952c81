# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging

import pytest

from midoryu.agent.silence import watch


class EnoughError(Exception):
    pass


def test_only_the_missing_are_named_first_soon_then_rarely(
    caplog: pytest.LogCaptureFixture,
) -> None:
    there = {"switch": False}
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            there["switch"] = True
        if len(pauses) == 4:
            raise EnoughError

    neighbors = [
        (lambda: True, "no database"),
        (lambda: there["switch"], "no switch"),
    ]
    with caplog.at_level(logging.WARNING), pytest.raises(EnoughError):
        watch(neighbors, sleep)

    assert caplog.messages == ["no switch", "no switch"]
    assert pauses[0] < pauses[1] == pauses[2]
