# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from midoryu.engine.event import PacketIn
from midoryu.engine.waiting import Parked, WaitingRoom
from midoryu.simulation.outcome import LeaseWanted, NeighborWanted

NEIGHBOR = NeighborWanted(1, 2, 3)
LEASE = LeaseWanted(1, 4)


def parked(vport: int, deadline: float, wanted: object = NEIGHBOR) -> Parked:
    return Parked(PacketIn(vport, b"%d" % deadline), vport, deadline, wanted)  # type: ignore[arg-type]


def test_packets_come_out_in_order_when_what_they_wait_for_is_there() -> None:
    room = WaitingRoom(10, 10)
    for deadline in (1.0, 2.0):
        assert room.park(parked(7, deadline))
    assert room.park(parked(7, 1.5, LEASE))
    assert [p.event.frame for p in room.take(NEIGHBOR)] == [b"1", b"2"]
    assert len(room) == 1
    assert room.take(NEIGHBOR) == ()


def test_overdue_packets_come_out_and_others_stay() -> None:
    room = WaitingRoom(10, 10)
    room.park(parked(7, 1.0))
    room.park(parked(7, 3.0))
    room.park(parked(8, 2.0, LEASE))
    assert room.deadline() == 1.0
    assert [p.deadline for p in room.take_overdue(2.0)] == [1.0, 2.0]
    assert room.deadline() == 3.0
    assert room.wanted() == (NEIGHBOR,)


def test_one_vport_cannot_take_all_the_room() -> None:
    room = WaitingRoom(3, 2)
    assert [room.park(parked(7, 1.0)) for _ in range(3)] == [True, True, False]
    assert room.park(parked(8, 1.0))
    assert not room.park(parked(9, 1.0))
    room.take(NEIGHBOR)
    assert room.park(parked(7, 1.0))


def test_an_empty_room_has_no_deadline() -> None:
    room = WaitingRoom(1, 1)
    assert room.deadline() is None
    assert room.take_overdue(9.0) == ()
