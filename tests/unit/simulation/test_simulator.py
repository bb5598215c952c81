# SPDX-License-Identifier: Apache-2.0
"""The whole way: a full table, traces, emissions."""

from __future__ import annotations

from dataclasses import replace

from midoryu.simulation.outcome import (
    Emission,
    ErrorDrop,
    MacSeen,
    Reason,
    Simulation,
)
from midoryu.simulation.simulator import simulate_emission
from midoryu.simulation.world import World
from midoryu.state.table import ConnectionTable
from midoryu.topology import model
from tests.helpers import frames
from tests.helpers.builder import Builder
from tests.helpers.worlds import FAMILIES, V4, Family, Overlay, two_networks

VM1 = "02:00:00:00:00:01"


def tracked(family: Family) -> Builder:
    """What vm1 sends is tracked."""
    b = two_networks(family)
    chain = b.chain("seen", model.Rule(model.RuleAction.ACCEPT, ct_states=model.CT_NEW))
    row = b.vport("a/vm1", host="node1", mac=VM1, ip=family.ip(1, 11))
    b.put(replace(row, ingress_chain=chain))
    return b


def from_vm1(overlay: Overlay, family: Family, dst: str) -> bytes:
    mac = overlay.mac("r/a")
    return frames.udp(family.ip(1, 11), dst, eth_src=VM1, eth_dst=mac)


def test_full_table_refuses_a_new_connection() -> None:
    overlay = Overlay(tracked(V4))
    overlay.world = World(overlay.topology, ConnectionTable(0), overlay.nat)

    simulation = overlay.send("a/vm1", from_vm1(overlay, V4, V4.ip(2, 12)))

    assert simulation.outcome == ErrorDrop(Reason.TABLE_FULL)
    assert simulation.connection is None


def test_simulation_changes_nothing() -> None:
    overlay = Overlay(tracked(V4))
    frame = from_vm1(overlay, V4, V4.ip(2, 12))
    version = overlay.topology.version

    first, second = overlay.send("a/vm1", frame), overlay.send("a/vm1", frame)

    assert len(overlay.connections) == 0
    assert overlay.topology.version == version
    assert first.packet.headers.ip_ttl == second.packet.headers.ip_ttl == 64
    assert (first.outcome, first.headers, first.tags) == (
        second.outcome,
        second.headers,
        second.tags,
    )


def test_trace_tells_the_way_when_asked() -> None:
    overlay = Overlay(two_networks(V4))
    frame = from_vm1(overlay, V4, V4.ip(2, 12))

    told = overlay.send("a/vm1", frame, trace=True)

    assert overlay.send("a/vm1", frame).trace == ()
    way = [(step.device, step.verb) for step in told.trace]
    assert way[0] == ("a/vm1", "enter")
    assert ("r", "route") in way
    assert way[-2:] == [("b/vm2", "leave"), ("packet", "forward")]


def test_emission_is_learned_from_but_makes_no_record() -> None:
    overlay = Overlay(tracked(V4))
    frame = frames.udp(eth_src="02:dd:00:00:00:01", eth_dst=VM1)

    simulation = simulate_emission(Emission(overlay.key("r/a"), frame), overlay.world)

    assert overlay.names(simulation) == ("a/vm1",)
    assert simulation.connection is None
    assert MacSeen(overlay.key("a"), 0x02DD_0000_0001, overlay.key("a/r")) in (
        simulation.learned
    )


def test_emission_of_a_vport_that_is_gone_is_dropped() -> None:
    overlay = Overlay(two_networks(V4))

    simulation = simulate_emission(Emission(999, frames.udp()), overlay.world)

    assert simulation.outcome == ErrorDrop(Reason.BROKEN)


def test_vport_without_its_device_is_broken_and_waits_for_it() -> None:
    b = Builder()
    b.vport("nowhere/p1")
    overlay = Overlay(b)

    simulation = overlay.send("nowhere/p1", frames.udp())

    assert simulation.outcome == ErrorDrop(Reason.BROKEN)
    later = model.Network(overlay.key("nowhere"), "nowhere")
    assert overlay.change(later) & simulation.tags


@FAMILIES
def test_a_fragment_of_sctp_keeps_its_ports_or_goes_nowhere(family: Family) -> None:
    b, vip = two_networks(family), family.nat_ip(80)
    endpoint = f"[{vip}]:2000/132" if family.is_v6 else f"{vip}:2000/132"
    member = family.ip(2, 12)
    b.balancer(
        "s", "r", [endpoint], [f"[{member}]:2001" if family.is_v6 else f"{member}:2001"]
    )
    b.floating("r", family.nat_ip(81), member)
    overlay = Overlay(b)

    def first(target: str) -> Simulation:
        body = frames.ip(family.ip(1, 11), target, proto=132)
        if family.is_v6:
            body = frames.IPv6(src=family.ip(1, 11), dst=target)
            body /= frames.IPv6ExtHdrFragment(nh=132, m=1, id=7)
        else:
            body.flags = "MF"
        sctp = frames.SCTP(sport=1000, dport=2000) / frames.Raw(bytes(84))
        to = overlay.mac("r/a")
        frame = frames.ethernet(body / sctp, eth_src=VM1, eth_dst=to)
        return overlay.send("a/vm1", frame)

    assert first(vip).outcome == ErrorDrop(Reason.SCTP_FRAGMENT)
    assert first(vip).connection is None
    assert overlay.names(first(family.nat_ip(81))) == ("b/vm2",)
