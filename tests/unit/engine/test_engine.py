# SPDX-License-Identifier: Apache-2.0
"""The one door: every event has a lane, and the next deadline is named."""

from __future__ import annotations

from typing import get_args

import pytest

from midoryu.engine import event
from midoryu.engine.config import EngineConfig
from midoryu.engine.engine import Engine
from midoryu.state.connection import Phase
from tests.helpers.bench import GRE, OFPORTS, STATE, Bench, office

EVENTS: dict[type, event.Event] = {
    type(one): one
    for one in (
        event.PacketIn(1, b""),
        event.SwitchConnected(GRE, STATE),
        event.SwitchDisconnected(),
        event.JournalRead(()),
        event.InterfacesChanged({"web/vm1": 11}),
        event.TopologyChanged(()),
        event.NsdbDisconnected(),
        event.WriteRefused(None, "no"),
        event.PacketsShed(11, 3),
        event.FlowRemoved(1, 0, 60, 60.0, 1),
        event.FlowRefused(1, "no"),
        event.KeysChanged((b"k" * 16,)),
        event.Resolved(7, b""),
        event.Tick(),
    )
}


def test_the_list_of_events_is_whole() -> None:
    assert set(EVENTS) == set(get_args(event.Event))


@pytest.mark.parametrize("kind", get_args(event.Event))
@pytest.mark.parametrize("started", [False, True])
def test_every_event_may_come_at_any_time(kind: type, started: bool) -> None:
    bench = Bench(office(), start=started)
    effects = bench.do(EVENTS[kind])
    assert effects.packet_outs == []
    assert effects.deadline is not None
    assert effects.deadline > bench.now


def test_nothing_is_lost_in_whichever_order_a_start_goes() -> None:
    steps = {
        "rows": lambda b: b.read_topology(),
        "switch": lambda b: b.do(event.SwitchConnected(GRE, STATE)),
        "ports": lambda b: b.do(event.InterfacesChanged(OFPORTS)),
    }
    for order in (
        ("rows", "switch", "ports"),
        ("switch", "ports", "rows"),
        ("ports", "rows", "switch"),
        ("ports", "switch", "rows"),
    ):
        bench = Bench(office(), start=False)
        for step in order:
            steps[step](bench)
        assert set(bench.core.places.ofport_by_vport.values()) == {11, 12, 13}
        assert len(bench.send("web/vm1", bench.beside()).packet_outs) == 1


def test_a_waiting_packet_brings_the_deadline_near() -> None:
    bench = Bench(office(neighbor=False))
    bench.greet()
    effects = bench.send("web/vm1", bench.frame())
    assert effects.deadline is not None
    assert bench.now < effects.deadline <= bench.now + 1.0


def test_a_deadline_is_never_in_the_past_even_when_much_is_due() -> None:
    bench = Bench(office())
    bench.greet()
    bench.push(bench.record(phase=Phase.TCP_TRANSITORY))
    effects = bench.wait(100_000.0)
    assert effects.deadline is not None
    assert effects.deadline >= bench.now + 0.005


def test_a_lost_database_is_said_and_packets_go_on() -> None:
    bench = Bench(office())
    effects = bench.do(event.NsdbDisconnected())
    assert bench.counters["NSDB connections lost"] == 1
    assert "NSDB" in effects.log[0][1]
    assert len(bench.send("web/vm1", bench.beside()).packet_outs) == 1


def test_a_switch_that_left_is_said() -> None:
    bench = Bench(office())
    effects = bench.do(event.SwitchDisconnected())
    assert not bench.core.switch_connected
    assert "switch" in effects.log[0][1]


def test_inspect_refuses_what_it_does_not_know() -> None:
    engine = Engine(EngineConfig(host="h", epoch=1, seed=1), 0.0)
    with pytest.raises(ValueError, match="unknown query 'weather'"):
        engine.inspect("weather", {}, 0.0)
