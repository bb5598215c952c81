# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from midoryu.replication.liveness import Liveness


def run(liveness: Liveness, start: float, seconds: float, *talking: int) -> list[int]:
    died: list[int] = []
    for step in range(round(seconds / 0.05)):
        now = start + step * 0.05
        for host in talking:
            liveness.heard(host, now)
        died += liveness.tick(now).died
    return died


def test_a_silent_peer_is_dead_after_three_beats() -> None:
    liveness = Liveness(0.1, 3)
    liveness.watch([1, 2], 100.0)
    assert run(liveness, 100.0, 5.0, 1, 2) == []
    assert run(liveness, 105.0, 0.2, 1) == []
    assert run(liveness, 105.2, 0.2, 1) == [2]
    assert liveness.dead == {2}


def test_a_peer_that_is_heard_again_comes_back_once() -> None:
    liveness = Liveness(0.1, 3)
    liveness.watch([2], 100.0)
    run(liveness, 100.0, 2.0)
    assert liveness.dead == {2}
    assert liveness.heard(2, 102.0)
    assert liveness.tick(102.0).revived == (2,)
    assert liveness.tick(102.1).revived == ()
    assert liveness.dead == frozenset()


def test_a_new_peer_has_a_second_to_be_heard() -> None:
    liveness = Liveness(0.1, 3)
    liveness.watch([2], 100.0)
    assert run(liveness, 100.0, 0.95) == []
    assert run(liveness, 100.95, 0.2) == [2]


def test_a_new_peer_that_spoke_is_judged_like_any_other() -> None:
    liveness = Liveness(0.1, 3)
    liveness.watch([2], 100.0)
    assert run(liveness, 100.0, 0.2, 2) == []
    assert run(liveness, 100.2, 0.5) == [2]


def test_a_pause_of_this_program_kills_nobody() -> None:
    liveness = Liveness(0.1, 3)
    liveness.watch([2], 100.0)
    run(liveness, 100.0, 2.0, 2)
    assert liveness.tick(104.0).died == ()
    liveness.heard(2, 104.01)
    assert liveness.tick(104.1).died == ()
    assert run(liveness, 104.2, 0.5) == [2]


def test_a_short_pause_of_this_program_is_nobodys_silence() -> None:
    liveness = Liveness(0.1, 3)
    liveness.watch([2], 100.0)
    run(liveness, 100.0, 2.0, 2)
    liveness.heard(2, 102.0)
    assert not liveness.tick(102.1).died
    # The next beat was due at 102.2.
    assert liveness.tick(102.31).died == ()
    assert liveness.tick(102.42).died == (2,)


def test_nobody_watched_needs_no_beat() -> None:
    liveness = Liveness(0.1, 3)
    assert liveness.deadline() is None
    liveness.watch([2], 1.0)
    assert liveness.tick(1.0).beat
    assert not liveness.tick(1.05).beat
    liveness.watch([], 1.1)
    assert liveness.deadline() is None


def test_the_silence_of_a_peer_is_judged_at_its_instant_and_not_a_beat_later() -> None:
    liveness = Liveness(0.1, 3)
    liveness.watch([2], 100.0)
    liveness.heard(2, 102.05)
    assert liveness.tick(102.28).suspects == (2,)
    assert liveness.tick(102.285).suspects == ()
    assert liveness.tick(102.34).died == ()
    assert liveness.deadline() == 102.05 + 0.1 * 3
    assert liveness.tick(102.05 + 0.1 * 3).died == (2,)
    # Who is dead already is not waited for.
    assert liveness.deadline() == 102.28 + 0.1


def test_who_is_late_is_asked_often_until_heard() -> None:
    liveness = Liveness(0.1, 3)
    liveness.watch([2, 3], 100.0)
    run(liveness, 100.0, 2.0, 2, 3)
    liveness.heard(2, 102.0)
    liveness.heard(3, 102.1)
    assert liveness.tick(102.1).suspects == ()
    assert liveness.deadline() == 102.0 + 0.1 * 1.5
    assert liveness.tick(102.16).suspects == (2,)
    liveness.heard(2, 102.17)
    assert liveness.tick(102.18).suspects == ()


def test_a_switch_answers_for_a_silent_agent_for_a_second() -> None:
    liveness = Liveness(0.1, 3)
    liveness.watch([2], 100.0)
    run(liveness, 100.0, 2.0, 2)
    died: list[int] = []
    step = 0
    while not died:
        now = 102.0 + step * 0.05
        liveness.vouch(2, now)
        died += liveness.tick(now).died
        step += 1
    assert 103.1 < now < 103.4
    assert not liveness.heard(9, now)
