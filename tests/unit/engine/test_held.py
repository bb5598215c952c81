# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

from midoryu.engine.effect import Effects
from midoryu.engine.held import HeldPackets
from midoryu.openflow.flow import Flow, InstallFlow, Match, PacketOut
from midoryu.packet import field
from midoryu.topology.model import Vport
from tests.helpers.bench import Bench, installed, office

FLOW = Flow(10, 1000, Match(field.IN_PORT, (1,)), ((0, 2),), cookie=5)


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


def test_a_flow_that_was_removed_meanwhile_stays_away_and_its_packet_goes() -> None:
    held, effects = HeldPackets(lambda cookie: False), Effects()
    waiting = held.put(7, 10.0)
    waiting.flow_mods.append(InstallFlow(FLOW))
    waiting.packet_outs.append(packet(b"one"))
    held.release([7], effects)
    assert effects.flow_mods == []
    assert effects.packet_outs == [packet(b"one")]


def strict() -> Bench:
    """Make a bench that holds first packets until node2 has confirmed their record."""
    bench = Bench(
        office(masquerade=True, gateways=True),
        delivery="confirm",
        hold_first_packet_s=0.5,
    )
    bench.greet()
    bench.lease()
    bench.heard.clear()
    return bench


def test_the_engine_lets_a_packet_go_when_its_peer_has_confirmed() -> None:
    bench = strict()
    effects = bench.send("web/vm1", bench.frame())
    assert (effects.packet_outs, installed(effects)) == ([], [])
    replies = [one for heard in bench.heard for one in heard.replies]
    (effects,) = bench.tell(replies)
    assert len(effects.packet_outs) == len(installed(effects)) == 1


def test_the_engine_lets_a_packet_go_when_its_time_is_over() -> None:
    bench = strict()
    bench.send("web/vm1", bench.frame())
    assert bench.wait(0.4).packet_outs == []
    assert len(bench.wait(0.2).packet_outs) == 1


def test_a_change_that_comes_first_leaves_no_flow_behind() -> None:
    bench = strict()
    bench.send("web/vm1", bench.frame())
    row = bench.core.topology.row(Vport, bench.b.key("r/up"))
    assert row is not None
    bench.change(replace(row, up=False))
    effects = bench.wait(1.0)
    assert installed(effects) == []
    assert len(bench.core.flows) == 0
