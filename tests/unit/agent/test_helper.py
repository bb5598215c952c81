# SPDX-License-Identifier: Apache-2.0
"""A process beside the agent: when it is started again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from midoryu.agent import helper


class EnoughError(Exception):
    """The test has seen enough."""


def test_who_ends_early_waits_longer_each_time_and_starts_anew_once_well() -> None:
    pause_s = helper.LEAST_PAUSE_S
    pauses = []
    for _ in range(8):
        pause_s = helper.next_pause_s(pause_s, lived_s=0.5)
        pauses.append(pause_s)
    assert pauses[:3] == [2.0, 4.0, 8.0]
    assert pauses[-1] == helper.MOST_PAUSE_S
    assert helper.next_pause_s(pause_s, lived_s=60.0) == helper.LEAST_PAUSE_S


def test_a_process_that_ends_is_started_again(tmp_path: Path) -> None:
    log = tmp_path / "starts"
    script = f"open({str(log)!r}, 'a').write('x')"

    def count(_: float) -> None:
        if log.exists() and len(log.read_text()) == 3:
            raise EnoughError

    with pytest.raises(EnoughError):
        helper.keep([sys.executable, "-c", script], count)


def test_a_program_that_is_not_there_is_tried_later() -> None:
    pauses: list[float] = []

    def count(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == 3:
            raise EnoughError

    with pytest.raises(EnoughError):
        helper.keep(["/no/such/program"], count)
    assert pauses == [2.0, 4.0, 8.0]
