# SPDX-License-Identifier: Apache-2.0
"""Flows of vports with tags, limits, marks and copies, tried in a model switch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from midoryu.openflow import flow, pipeline
from midoryu.openflow.base_flows import vport_flows
from midoryu.openflow.flow import Flow, InstallFlow, Match, SetMeter
from midoryu.openflow.service_flows import (
    METER_FLOODED,
    METER_FROM,
    METER_STORM,
    METER_SUBPORT,
    METER_TO,
    VportPlan,
    plan_mods,
    tagged,
    tunnel_flow,
)
from midoryu.packet import field
from midoryu.packet.address import parse_ip
from tests.helpers import frames
from tests.helpers.fake_switch import FakeSwitch

PLAN = VportPlan(key=77, ofport=5, rate_pps=100, burst=10)
MIRROR = 99


def switch(plan: VportPlan) -> FakeSwitch:
    """Ports 1 (tunnel), 5 and 6; what comes in at 5 goes back out at 6."""
    made = FakeSwitch({1, 5, 6})
    made.apply(plan_mods(plan))
    out = ((flow.OUTPUT, 6),)
    any_of = Flow(pipeline.VPORT, 1000, Match(field.IN_PORT, (5,)), out)
    made.apply([InstallFlow(any_of), InstallFlow(tunnel_flow(MIRROR, out))])
    to_tunnel = ((flow.GOTO, int(pipeline.TUNNEL)),)
    from_tunnel = Flow(pipeline.CLASSIFY, 100, Match(field.IN_PORT, (1,)), to_tunnel)
    made.apply([InstallFlow(from_tunnel)])
    return made


def meters(plan: VportPlan) -> dict[int, tuple[int, int, bool]]:
    found = [mod for mod in plan_mods(plan) if isinstance(mod, SetMeter)]
    return {m.meter: (m.rate_pps, m.burst, m.is_kbps) for m in found}


def test_a_plain_vport_has_just_the_base_flows() -> None:
    wanted = vport_flows(77, 5, meter=5, rate_pps=100, burst=10)
    assert sorted(map(repr, plan_mods(PLAN))) == sorted(map(repr, wanted))
    assert not PLAN.is_special


@pytest.mark.parametrize("vlan", [0, 7])
def test_packets_for_a_flooded_address_have_a_meter_of_their_own(vlan: int) -> None:
    address = parse_ip("10.0.0.9")
    plan = replace(PLAN, vlan=vlan, flooded=(address,), flooded_pps=50)
    assert meters(plan)[METER_FLOODED | 77] == (50, 5, False)
    flows = [mod.flow for mod in plan_mods(plan) if isinstance(mod, InstallFlow)]
    (one,) = [made for made in flows if made.priority == pipeline.PRIORITY_FLOODED]
    tag = (0x1000 | vlan,) if vlan else ()
    assert one.match.values == (5, 0x0800, *tag, address)
    assert one.actions == ((flow.METER, METER_FLOODED | 77), (flow.CONTROLLER,))


def test_every_limit_has_a_meter_of_its_own() -> None:
    plan = replace(
        PLAN, from_kbps=8, from_burst_kb=7, to_kbps=6, to_burst_kb=5, storm_pps=4
    )

    assert meters(plan) == {
        5: (100, 10, False),
        METER_FROM | 77: (8, 7, True),
        METER_TO | 77: (6, 5, True),
        METER_STORM | 77: (4, 4, False),
    }
    assert meters(replace(PLAN, vlan=9)) == {METER_SUBPORT | 77: (100, 10, False)}


def test_a_mark_changes_ip_packets_only_and_keeps_ecn() -> None:
    made = switch(replace(PLAN, dscp=10))

    (marked,) = made.send(frames.udp(tos=0x03), 5)
    assert marked.frame == frames.udp(tos=10 << 2 | 3)
    (plain,) = made.send(frames.arp(), 5)
    assert plain.frame == frames.arp()


def test_copies_of_what_comes_are_as_it_came() -> None:
    made = switch(replace(PLAN, dscp=10, mirrors_from=(MIRROR,)))

    copied, sent = made.send(frames.udp(), 5)
    assert copied.frame == frames.udp()
    assert sent.frame == frames.udp(tos=10 << 2)


def test_what_goes_to_a_vport_is_copied_behind_it() -> None:
    made = switch(replace(PLAN, mirrors_to=(MIRROR,)))

    out = [(o.ofport, o.frame) for o in made.send(frames.udp(), 1, tunnel_key=77)]
    assert out == [(5, frames.udp()), (6, frames.udp())]


def test_a_sub_port_has_its_tag_outside_alone() -> None:
    plan = replace(PLAN, vlan=9, mirrors_from=(MIRROR,), mirrors_to=(MIRROR,))
    made = switch(plan)

    out = [(o.ofport, o.frame) for o in made.send(frames.udp(), 1, tunnel_key=77)]
    assert out == [(5, frames.udp(vlan=9)), (6, frames.udp())]
    copied, _ = made.send(frames.udp(vlan=9), 5)
    assert copied.frame == frames.udp()
    assert tagged(0, ((flow.OUTPUT, 5),)) == ((flow.OUTPUT, 5),)


def test_a_copy_from_the_tunnel_does_not_go_back_into_it() -> None:
    made = switch(PLAN)
    made.apply([InstallFlow(tunnel_flow(MIRROR, ((flow.OUTPUT, 1),)))])

    assert made.send(frames.udp(), 1, tunnel_key=MIRROR) == []
