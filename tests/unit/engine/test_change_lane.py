# SPDX-License-Identifier: Apache-2.0
"""Rows, interfaces and the switch change: base flows, vports, tagged flows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from midoryu.engine.effect import LearnMac, LeaseBlock, SetVportStatus
from midoryu.engine.event import (
    FlowRefused,
    FlowRemoved,
    InterfacesChanged,
    KeysChanged,
    SwitchConnected,
    SwitchDisconnected,
    WriteRefused,
)
from midoryu.openflow import pipeline
from midoryu.openflow.base_flows import base_flows
from midoryu.openflow.flow import (
    Flow,
    InstallFlow,
    Match,
    RemoveFlow,
    RemoveMeter,
    SetMeter,
)
from midoryu.packet import field
from midoryu.packet.address import parse_ip
from midoryu.state.connection import Phase
from midoryu.topology.model import Host, Route, Vport, VportStatus
from tests.helpers.bench import (
    GRE,
    NAT,
    OFPORTS,
    STATE,
    Bench,
    installed,
    office,
    removed,
)
from tests.helpers.fake_switch import FakeSwitch


def run(bench: Bench) -> FakeSwitch:
    """Carry out every flow mod so far on a model switch."""
    switch = FakeSwitch({GRE, STATE, *OFPORTS.values()})
    for effects in bench.done:
        switch.apply(effects.flow_mods)
    return switch


def test_a_connected_switch_gets_the_base_flows_and_those_of_local_vports() -> None:
    bench = Bench(office())
    flows = run(bench).flows()
    for base in base_flows(GRE, STATE):
        assert base.match in [flow.match for flow in flows if flow.table == base.table]
    tunnels = {
        flow.match.values: flow.actions
        for flow in flows
        if flow.table == pipeline.TUNNEL
    }
    assert tunnels[(bench.b.key("web/vm1"),)] == ((0, OFPORTS["web/vm1"]),)
    assert (bench.b.key("web/vm3"),) not in tunnels


def test_a_vport_with_an_interface_is_said_to_be_up_and_gets_a_meter() -> None:
    bench = Bench(office(), vport_rate_pps=50, vport_burst=7)
    writes = [write for effects in bench.done for write in effects.nsdb_writes]
    for path in OFPORTS:
        assert SetVportStatus(bench.b.key(path), True) in writes
    mods = [mod for effects in bench.done for mod in effects.flow_mods]
    assert SetMeter(11, 50, 7) in mods


def test_nothing_is_bound_before_host_row_and_switch_are_there() -> None:
    bench = Bench(office(), start=False)
    bench.do(InterfacesChanged(OFPORTS))
    bench.read_topology()
    assert [effects.nsdb_writes for effects in bench.done] == [[], []]
    effects = bench.do(SwitchConnected(GRE, STATE))
    assert len(effects.nsdb_writes) >= 3


def test_a_vport_of_another_host_is_not_taken() -> None:
    bench = Bench(office())
    effects = bench.do(InterfacesChanged({**OFPORTS, "web/vm3": 14}))
    assert effects.nsdb_writes == []
    assert bench.core.places.vport_by_ofport.get(14) is None


def test_an_interface_that_leaves_takes_its_flows_meter_and_status_along() -> None:
    bench = Bench(office())
    here = installed(bench.send("web/vm1", bench.beside()))
    bench.send("web/vm2", bench.beside(2, to=3))
    left = {name: port for name, port in OFPORTS.items() if name != "web/vm1"}
    effects = bench.do(InterfacesChanged(left))
    assert [f.cookie for f in removed(effects)] == [f.cookie for f in here]
    assert SetVportStatus(bench.b.key("web/vm1"), False) in effects.nsdb_writes
    assert RemoveMeter(11) in effects.flow_mods
    rest = run(bench).flows()
    assert [
        f for f in rest if f.match.fields & field.IN_PORT and 11 in f.match.values[:1]
    ] == []
    assert len(bench.core.flows) == 1


def test_an_interface_that_came_back_elsewhere_is_bound_anew() -> None:
    bench = Bench(office())
    bench.send("web/vm2", bench.beside(2, to=1))
    effects = bench.do(InterfacesChanged({**OFPORTS, "web/vm1": 21}))
    assert len(removed(effects)) == 1
    (out,) = bench.send("web/vm2", bench.beside(2, to=1)).packet_outs
    assert out.actions == ((0, 21),)


def test_a_change_removes_just_the_flows_that_depend_on_it() -> None:
    bench = Bench(office())
    through = installed(bench.send("web/vm1", bench.frame()))
    bench.send("web/vm1", bench.beside())
    effects = bench.gone(
        Route, next(row.key for row in bench.b.rows if isinstance(row, Route))
    )
    assert [f.cookie for f in removed(effects)] == [f.cookie for f in through]
    assert len(bench.core.flows) == 1


def test_a_changed_vport_removes_the_flows_to_and_from_it() -> None:
    bench = Bench(office())
    bench.send("web/vm1", bench.beside(to=2))
    bench.send("web/vm2", bench.beside(2, to=1))
    kept = installed(bench.send("web/vm1", bench.beside(to=3)))
    row = bench.core.topology.row(Vport, bench.b.key("web/vm2"))
    assert row is not None
    effects = bench.change(replace(row, up=False))
    assert len(removed(effects)) == 2
    assert [entry.flow for entry in bench.core.flows] == kept


def test_a_new_underlay_address_moves_the_flows_into_that_tunnel() -> None:
    bench = Bench(office())
    old = installed(bench.send("web/vm1", bench.beside(to=3)))
    effects = bench.change(Host(bench.b.key("node2"), "node2", parse_ip("172.31.0.9")))
    assert [f.cookie for f in removed(effects)] == [f.cookie for f in old]
    (out,) = bench.send("web/vm1", bench.beside(to=3)).packet_outs
    assert parse_ip("172.31.0.9") in out.actions[0]


def test_a_switch_that_comes_back_empty_gets_everything_anew() -> None:
    bench = Bench(office(masquerade=True))
    bench.lease()
    bench.send("web/vm1", bench.frame())
    (connection,) = bench.core.connections
    bench.do(SwitchDisconnected())
    start = len(bench.done)
    bench.do(SwitchConnected(GRE, STATE))
    assert len(bench.core.flows) == 0
    assert not bench.core.connections.is_held(connection.id)
    switch = FakeSwitch({GRE, STATE, *OFPORTS.values()})
    for effects in bench.done[start:]:
        switch.apply(effects.flow_mods)
    assert len(switch.flows(pipeline.TUNNEL)) >= 3
    again = bench.send("web/vm1", bench.frame())
    assert len(installed(again)) == 1
    assert len(bench.core.connections) == 1


def test_a_switch_that_kept_its_flows_keeps_them() -> None:
    bench = Bench(office())
    (made,) = installed(bench.send("web/vm1", bench.beside()))
    bench.do(SwitchDisconnected())
    effects = bench.do(SwitchConnected(GRE, STATE, (made,)))
    assert removed(effects) == []
    assert bench.core.flows.get(made.cookie) is not None
    assert bench.core.orphans == {}


def test_tunnel_flows_of_vports_that_left_meanwhile_are_removed() -> None:
    bench = Bench(office())
    match = Match(field.TUNNEL_KEY, (99,))
    cookie = pipeline.cookie(pipeline.COOKIE_TUNNEL, 99)
    stranger = Flow(pipeline.TUNNEL, 1000, match, ((0, 44),), cookie)
    effects = bench.do(SwitchConnected(GRE, STATE, (stranger,)))
    assert RemoveFlow(stranger) not in effects.flow_mods
    assert RemoveFlow(stranger) in bench.wait(11.0).flow_mods


def test_before_the_topology_is_there_flows_of_an_earlier_agent_stay() -> None:
    bench = Bench(office(), start=False)
    bench.do(InterfacesChanged(OFPORTS))
    match = Match(field.TUNNEL_KEY, (99,))
    cookie = pipeline.cookie(pipeline.COOKIE_TUNNEL, 99)
    stranger = Flow(pipeline.TUNNEL, 1000, match, ((0, 44),), cookie)
    effects = bench.do(SwitchConnected(GRE, STATE, (stranger,)))
    assert RemoveFlow(stranger) not in effects.flow_mods
    assert RemoveFlow(stranger) not in bench.wait(11.0).flow_mods


def established(bench: Bench) -> Flow:
    """Make a connection whose handshake is over; return its forward flow."""
    bench.lease()
    (made,) = installed(bench.send("web/vm1", bench.frame()))
    (port,) = [a[1] for a in made.actions if a[0] == 7]
    bench.send("r/up", bench.reply(dport=port))
    return made


@pytest.mark.parametrize(
    ("idle_timeout_s", "phase"),
    [(2, Phase.TCP_CLOSING), (60, Phase.TCP_ESTABLISHED)],
)
def test_a_flow_that_ended_after_a_fin_makes_its_record_transitory(
    idle_timeout_s: int, phase: Phase
) -> None:
    bench = Bench(office(masquerade=True))
    made = established(bench)
    (connection,) = bench.core.connections
    assert connection.phase is Phase.TCP_ESTABLISHED
    bench.now += 100.0
    gone = FlowRemoved(made.cookie, pipeline.REMOVED_IDLE, idle_timeout_s, 100.0, 5)
    bench.do(gone)
    assert connection.phase is phase
    assert connection.last_used == bench.now - idle_timeout_s
    assert bench.counters["flows gone idle"] == 1


def test_word_of_an_unknown_flow_changes_nothing() -> None:
    bench = Bench(office(masquerade=True))
    established(bench)
    before = len(bench.core.flows)
    effects = bench.do(FlowRemoved(12345, pipeline.REMOVED_IDLE, 60, 60.0, 1))
    assert effects.flow_mods == []
    assert len(bench.core.flows) == before


def test_a_refused_flow_is_forgotten_and_tried_again_with_the_next_packet() -> None:
    bench = Bench(office(masquerade=True))
    made = established(bench)
    effects = bench.do(FlowRefused(made.cookie, "table full"))
    assert bench.core.flows.get(made.cookie) is None
    assert bench.counters["flows refused"] == 1
    assert "table full" in effects.log[0][1]
    again = bench.send("web/vm1", bench.frame(flags="A"))
    assert [f.match for f in installed(again)] == [made.match]


def test_a_refused_message_without_a_cookie_is_only_counted() -> None:
    bench = Bench(office())
    bench.do(FlowRefused(0, "bad meter"))
    assert bench.counters["flows refused"] == 1


def test_a_refused_lease_lets_packets_be_told_and_is_asked_for_later() -> None:
    bench = Bench(office(masquerade=True))
    wanted = LeaseBlock(bench.b.key("r"), parse_ip(NAT))
    assert bench.core.nat.is_pending(wanted.router, wanted.address)
    bench.do(WriteRefused(wanted, "no block is left"))
    assert not bench.core.nat.is_pending(wanted.router, wanted.address)
    assert bench.counters["NSDB writes refused"] == 1


def test_another_refused_write_is_only_counted() -> None:
    bench = Bench(office())
    effects = bench.do(WriteRefused(LearnMac(1, 2, 3), "gone"))
    assert bench.counters["NSDB writes refused"] == 1
    assert "gone" in effects.log[0][1]


def test_a_status_that_names_another_host_is_said_again() -> None:
    bench = Bench(office())
    effects = bench.change(bench.status("web/vm1", "node2"))
    assert SetVportStatus(bench.b.key("web/vm1"), True) in effects.nsdb_writes


def test_a_status_that_the_database_lost_is_said_again() -> None:
    bench = Bench(office())
    key = bench.b.key("web/vm1")
    effects = bench.gone(VportStatus, key)
    assert effects.nsdb_writes == [SetVportStatus(key, True)]
    bench.do(InterfacesChanged({}))
    assert SetVportStatus(key, True) not in bench.gone(VportStatus, key).nsdb_writes


def test_every_install_of_a_start_is_one_flow_in_the_switch() -> None:
    bench = Bench(office())
    mods = [mod for effects in bench.done for mod in effects.flow_mods]
    keys = [
        (mod.flow.table, mod.flow.priority, mod.flow.match)
        for mod in mods
        if isinstance(mod, InstallFlow)
    ]
    assert len(set(keys)) == len(run(bench).flows())


def test_an_interface_that_leaves_lets_its_records_go() -> None:
    bench = Bench(office(masquerade=True))
    bench.lease()
    bench.send("web/vm1", bench.frame())
    (connection,) = bench.core.connections
    bench.do(InterfacesChanged({"web/vm2": 12, "r/up": 13}))
    assert not bench.core.connections.is_held(connection.id)


def test_other_keys_are_for_the_peers_of_now_and_for_those_to_come() -> None:
    bench = Bench(office())
    keys = (b"n" * 16, b"o" * 16)
    effects = bench.do(KeysChanged(keys))
    assert effects.log == [(20, "flow state has other keys: 2")]
    assert bench.core.config.state_keys == keys
    bench.greet()
    bench.push(bench.record())
    # Signed by the old key, which is accepted for a while, and then no more.
    assert bench.core.connections.get(77) is not None
    bench.wait(61.0)
    bench.push(bench.record(78))
    assert bench.core.connections.get(78) is None
