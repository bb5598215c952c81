# SPDX-License-Identifier: Apache-2.0
"""The whole way: records made and moved, a full table, traces, emissions."""

from __future__ import annotations

from dataclasses import replace

from midoryu.packet.address import parse_ip
from midoryu.simulation.outcome import (
    Emission,
    ErrorDrop,
    Forward,
    MacSeen,
    Reason,
    Simulation,
)
from midoryu.simulation.simulator import simulate_emission
from midoryu.simulation.walk import World
from midoryu.state.connection import Connection, Direction, state_keys
from midoryu.state.table import ConnectionTable
from midoryu.topology import model
from midoryu.topology.tag import interest_tag, vport_tag
from tests.helpers import frames
from tests.helpers.builder import Builder, cloud
from tests.helpers.worlds import FAMILIES, V4, Family, Overlay, two_networks

VM1 = "02:00:00:00:00:01"
OUTSIDE = "198.51.100.9"
GATEWAYS = {1: "02:ff:00:00:00:01", 4: "02:ff:00:00:00:04"}


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


@FAMILIES
def test_record_is_found_at_both_ends_in_both_directions(family: Family) -> None:
    overlay = Overlay(tracked(family))
    overlay.carry("a/vm1", from_vm1(overlay, family, family.ip(2, 12)))
    src, dst = parse_ip(family.ip(1, 11)), parse_ip(family.ip(2, 12))

    forward = overlay.connections.find((overlay.key("a"), 17, src, dst, 1000, 53))
    back = overlay.connections.find((overlay.key("b"), 17, dst, src, 53, 1000))

    assert forward is not None
    assert back is not None
    assert forward.connection.id == back.connection.id == 1
    assert (forward.direction, back.direction) == (Direction.FORWARD, Direction.RETURN)


def test_nat_record_is_found_where_it_translates() -> None:
    overlay = inside_out()
    (record,) = overlay.connections
    keys = {key[0]: direction for key, direction in state_keys(record)}

    assert keys[overlay.key("web")] is Direction.FORWARD
    assert keys[overlay.key("provider")] is Direction.RETURN
    assert overlay.key("tenant") in keys


def inside_out() -> Overlay:
    """Vm2 of the cloud has a masqueraded connection to the outside."""
    b = cloud()
    b.lease("tenant", "203.0.113.10", 16, "node2")
    overlay = Overlay(b)
    frame = frames.tcp(
        "10.0.1.2",
        OUTSIDE,
        1024,
        eth_src="02:00:00:00:00:02",
        eth_dst=overlay.mac("tenant/web"),
    )
    made = overlay.carry("web/vm2", frame)
    assert isinstance(made.outcome, Forward)
    return overlay


def returning(overlay: Overlay, uplink: int) -> bytes:
    return frames.tcp(
        OUTSIDE,
        "203.0.113.10",
        80,
        1024,
        flags="SA",
        eth_src=GATEWAYS[uplink],
        eth_dst=overlay.mac(f"provider/uplink{uplink}"),
    )


def test_return_packet_may_come_by_any_uplink() -> None:
    overlay = inside_out()

    for uplink in (1, 4):
        back = overlay.send(f"provider/uplink{uplink}", returning(overlay, uplink))
        assert overlay.names(back) == ("web/vm2",)
        assert back.connection is None, "a return packet moves nothing"


def test_connection_that_leaves_by_another_uplink_changes_its_record() -> None:
    overlay = inside_out()
    (record,) = overlay.connections
    left_by = record.egress_vport
    overlay.change(model.Gone(model.VportStatus, left_by))
    frame = frames.tcp(
        "10.0.1.2",
        OUTSIDE,
        1024,
        flags="A",
        eth_src="02:00:00:00:00:02",
        eth_dst=overlay.mac("tenant/web"),
    )

    moved = overlay.send("web/vm2", frame).connection

    assert moved is not None
    assert moved.id == record.id
    assert moved.egress_vport not in (left_by, 0)
    assert moved.translations == record.translations
    assert record.egress_vport == left_by, "what is in the table does not change"


def enter_by_turns(
    overlay: Overlay, between: model.Vport | None = None
) -> tuple[Connection, Simulation]:
    """Let a connection begin at one gateway and go on at the other."""
    frame = frames.tcp(
        OUTSIDE,
        "203.0.113.20",
        dport=8080,
        eth_src=GATEWAYS[1],
        eth_dst=overlay.mac("provider/uplink1"),
    )
    overlay.carry("provider/uplink1", frame)
    (record,) = overlay.connections
    if between is not None:
        overlay.change(between)
    other = bytes.fromhex(overlay.mac("provider/uplink4").replace(":", "")) + frame[6:]
    return record, overlay.send("provider/uplink4", other)


def test_connection_that_enters_by_another_member_of_its_set_keeps_its_record() -> None:
    overlay = Overlay(cloud(filters=False))

    record, simulation = enter_by_turns(overlay)

    assert simulation.found is not None
    assert simulation.found.connection is record
    assert simulation.connection is None


def test_connection_that_enters_elsewhere_changes_its_record() -> None:
    builder = cloud(filters=False)
    builder.ingress_set("uplinks", "provider/uplink1")
    overlay = Overlay(builder)

    record, simulation = enter_by_turns(overlay)

    assert simulation.connection is not None
    assert simulation.connection.id == record.id
    assert simulation.connection.ingress_vport == overlay.key("provider/uplink4")


def test_connection_whose_member_went_down_names_the_one_that_it_enters_by() -> None:
    overlay = Overlay(cloud(filters=False))
    row = overlay.vport("provider/uplink1")

    _, simulation = enter_by_turns(overlay, replace(row, up=False))

    assert simulation.connection is not None
    assert simulation.connection.ingress_vport == overlay.key("provider/uplink4")


def test_flow_of_another_member_goes_when_the_set_or_the_member_changes() -> None:
    overlay = Overlay(cloud(filters=False))
    up1 = overlay.key("provider/uplink1")

    _, simulation = enter_by_turns(overlay)

    assert {interest_tag(up1), vport_tag(up1)} <= simulation.tags


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
