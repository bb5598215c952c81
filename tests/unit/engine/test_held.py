# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from midoryu.engine.effect import Effects
from midoryu.engine.held import HeldPackets
from midoryu.openflow.flow import PacketOut


def packet(frame: bytes) -> PacketOut:
    return PacketOut(frame, ((0, 1),))


def test_a_confirmed_connection_lets_its_packets_go_and_no_others() -> None:
    held = HeldPackets(lambda cookie: True)
    held.put(1, 5.0).packet_outs.append(packet(b"one"))
    held.put(1, 9.0).packet_outs.append(packet(b"again"))
    held.put(2, 5.0).packet_outs.append(packet(b"two"))
    effects = Effects()
    held.release([1, 77], effects)
    assert [out.frame for out in effects.packet_outs] == [b"one", b"again"]
    assert len(held) == 1
    held.release([1], effects)
    assert len(effects.packet_outs) == 2


def test_what_has_waited_long_enough_goes_without_confirmation() -> None:
    held = HeldPackets(lambda cookie: True)
    held.put(1, 5.0).packet_outs.append(packet(b"one"))
    held.put(2, 6.0).packet_outs.append(packet(b"two"))
    effects = Effects()
    assert held.deadline() == 5.0
    assert held.release_overdue(5.5, effects) == 1
    assert [out.frame for out in effects.packet_outs] == [b"one"]
    assert held.deadline() == 6.0


def test_nothing_held_has_no_deadline() -> None:
    held = HeldPackets(lambda cookie: True)
    assert held.deadline() is None
    assert held.release_overdue(9.0, Effects()) == 0
