# SPDX-License-Identifier: Apache-2.0
"""First packets are held until their state is confirmed, or for long enough."""

from __future__ import annotations

from dataclasses import replace

from midoryu.engine.effect import Effects
from midoryu.engine.held import HeldPackets
from midoryu.openflow.flow import Flow, InstallFlow, Match, PacketOut
from midoryu.packet import field
from midoryu.topology.model import Vport
from tests.helpers.bench import Bench, installed, office

FLOW = Flow(10, 1000, Match(field.IN_PORT, (1,)), ((0, 2),), cookie=5)
PACKET = PacketOut(b"frame", ((0, 2),))


def holding(*, is_wanted: bool = True) -> HeldPackets:
    held = HeldPackets(lambda cookie: is_wanted)
    effects = held.put(7, 10.0)
    effects.flow_mods.append(InstallFlow(FLOW))
    effects.packet_outs.append(PACKET)
    return held


def test_what_is_held_comes_out_with_its_confirmation_and_only_then() -> None:
    held, effects = holding(), Effects()
    held.release([6], effects)
    assert (effects.flow_mods, len(held)) == ([], 1)
    held.release([7, 7], effects)
    assert effects.flow_mods == [InstallFlow(FLOW)]
    assert effects.packet_outs == [PACKET]
    assert (len(held), held.deadline()) == (0, None)


def test_what_nobody_confirms_comes_out_at_its_deadline() -> None:
    held, effects = holding(), Effects()
    assert held.deadline() == 10.0
    assert held.release_overdue(9.9, effects) == 0
    assert held.release_overdue(10.0, effects) == 1
    assert effects.packet_outs == [PACKET]


def test_two_packets_of_one_connection_wait_together_for_the_first_deadline() -> None:
    held = holding()
    assert held.put(7, 20.0).packet_outs == [PACKET]
    assert (len(held), held.deadline()) == (1, 10.0)


def test_a_flow_that_was_removed_meanwhile_stays_away_and_its_packet_goes() -> None:
    held, effects = holding(is_wanted=False), Effects()
    held.release([7], effects)
    assert effects.flow_mods == []
    assert effects.packet_outs == [PACKET]


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
