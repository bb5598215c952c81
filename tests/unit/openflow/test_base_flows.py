# SPDX-License-Identifier: Apache-2.0
"""The flows that stand before the first packet."""

from __future__ import annotations

from midoryu.openflow import flow, pipeline
from midoryu.openflow.base_flows import base_flows, vport_flows
from midoryu.openflow.flow import InstallFlow, Match, SetMeter
from midoryu.packet import field
from tests.helpers import frames
from tests.helpers.fake_switch import FakeSwitch


def test_every_table_drops_what_nobody_wants() -> None:
    misses = [value for value in base_flows(1, 2) if value.match == Match(0, ())]

    assert {value.table for value in misses} == set(pipeline.TABLE_NAMES)
    assert all(value.actions == () and value.priority == 0 for value in misses)


def test_the_state_port_goes_to_the_controller_and_the_tunnel_to_its_table() -> None:
    by_port = {
        value.match.values: value.actions
        for value in base_flows(1, 2)
        if value.match.fields == field.IN_PORT
    }

    assert by_port == {
        (1,): ((flow.GOTO, pipeline.TUNNEL),),
        (2,): ((flow.CONTROLLER,),),
    }


def test_a_vports_miss_is_metered_and_its_key_leads_to_it() -> None:
    meter, *mods = vport_flows(77, 5, meter=9, rate_pps=100, burst=10)

    assert meter == SetMeter(9, 100, 10)
    assert all(isinstance(mod, InstallFlow) for mod in mods)
    by_table = {mod.flow.table: mod.flow for mod in mods}
    assert by_table[pipeline.CLASSIFY].actions == ((flow.GOTO, pipeline.VPORT),)
    assert by_table[pipeline.VPORT].actions == ((flow.METER, 9), (flow.CONTROLLER,))
    assert by_table[pipeline.TUNNEL].match == Match(field.TUNNEL_KEY, (77,))
    assert by_table[pipeline.TUNNEL].actions == ((flow.OUTPUT, 5),)
    priority = by_table[pipeline.VPORT].priority
    assert pipeline.PRIORITY_MISS < priority < pipeline.PRIORITY_REACTIVE


def test_misses_are_told_apart_by_tcp_flags_and_nobody_sends_what_that_takes() -> None:
    apart = [
        value
        for value in base_flows(1, 2)
        if value.priority == pipeline.PRIORITY_APART and value.table == pipeline.VPORT
    ]
    (_, *mods) = vport_flows(77, 5, meter=9, rate_pps=100, burst=10)

    assert {value.match.values for value in apart} == {
        (0x0800, 6, 0xFFF),
        (0x86DD, 6, 0xFFF),
    }
    assert all(value.actions == () for value in apart)
    misses = [mod.flow for mod in mods if mod.flow.table == pipeline.VPORT]
    assert all(miss.priority < pipeline.PRIORITY_APART for miss in misses)


def test_sources_that_no_machine_has_are_dropped_before_anything_else() -> None:
    switch = FakeSwitch([1, 2, 5])
    switch.apply(InstallFlow(one) for one in base_flows(1, 2))
    switch.apply(vport_flows(77, 5, meter=9, rate_pps=100, burst=10))
    for family, source, target, passes in (
        (4, "10.0.0.9", frames.MAC_2, True),
        (4, "127.0.0.1", frames.MAC_2, False),
        (4, "224.0.0.5", frames.MAC_2, False),
        (4, "255.255.255.255", frames.MAC_2, False),
        (4, "0.0.0.0", frames.MAC_2, False),
        (4, "0.0.0.0", "ff:ff:ff:ff:ff:ff", True),
        (6, "fd00::9", frames.MAC_2, True),
        (6, "::1", frames.MAC_2, False),
        (6, "ff02::1", frames.MAC_2, False),
        (6, "::", frames.MAC_2, False),
        (6, "::", "33:33:00:00:00:01", True),
    ):
        to = "10.0.0.2" if family == 4 else "fd00::2"
        outputs = switch.send(frames.udp(source, to, eth_dst=target), 5)
        assert bool(outputs) is passes, source
