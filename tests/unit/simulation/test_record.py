# SPDX-License-Identifier: Apache-2.0
"""Records that packets make, and what moves them."""

from __future__ import annotations

from dataclasses import replace

from midoryu.packet.address import parse_ip
from midoryu.simulation.outcome import (
    Forward,
    Simulation,
)
from midoryu.state.connection import Connection, Direction, state_keys
from midoryu.topology import model
from midoryu.topology.tag import interest_tag, vport_tag
from tests.helpers import frames
from tests.helpers.builder import cloud
from tests.helpers.worlds import FAMILIES, Family, Overlay
from tests.unit.simulation.test_simulator import from_vm1, tracked

GATEWAYS = {1: "02:ff:00:00:00:01", 4: "02:ff:00:00:00:04"}
OUTSIDE = "198.51.100.9"


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
