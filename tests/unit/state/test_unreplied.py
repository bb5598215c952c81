# SPDX-License-Identifier: Apache-2.0
"""Each vport has a queue of its own of records that may leave."""

from __future__ import annotations

from midoryu.state.unreplied import Unreplied


class Records:
    """Which records are without an answer."""

    def __init__(self) -> None:
        self.live: set[tuple[int, int]] = set()
        self.unreplied = Unreplied(lambda vport, id_: (vport, id_) in self.live)

    def enter(self, vport: int, id_: int) -> None:
        self.live.add((vport, id_))
        self.unreplied.enter(vport, id_)

    def leave(self, vport: int, id_: int) -> None:
        self.live.remove((vport, id_))
        self.unreplied.leave(vport)


def test_the_oldest_of_a_vport_is_found_past_those_that_left() -> None:
    records = Records()
    for id_ in (1, 2, 3):
        records.enter(5, id_)
    records.enter(6, 4)
    records.leave(5, 1)

    assert records.unreplied.largest() == 5
    assert records.unreplied.take_oldest(5) == 2
    assert records.unreplied.take_oldest(6) == 4
    assert records.unreplied.take_oldest(7) == 0


def test_nothing_stays_of_a_vport_whose_records_are_gone() -> None:
    records = Records()
    records.enter(5, 1)
    records.leave(5, 1)

    assert (records.unreplied.total, len(records.unreplied)) == (0, 0)
    assert records.unreplied.count(5) == 0


def test_a_queue_of_stale_ids_is_swept() -> None:
    records = Records()
    records.enter(5, 0)
    for id_ in range(1, 10_000):
        records.enter(5, id_)
        records.leave(5, id_)

    assert len(records.unreplied) < 2000
    assert records.unreplied.take_oldest(5) == 0
