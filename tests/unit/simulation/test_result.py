# SPDX-License-Identifier: Apache-2.0
"""What a simulation says at its end: how it ended in words, for what no flow stands."""

from __future__ import annotations

from typing import Any

import pytest

from midoryu.packet import field
from midoryu.simulation.outcome import Forward
from midoryu.topology import model
from tests.helpers import frames
from tests.helpers.builder import Builder
from tests.helpers.worlds import FAMILIES, V4, Family, Overlay, two_networks

VM1, VM3 = "02:00:00:00:00:01", "02:00:00:00:00:03"


def fragment(overlay: Overlay, target: str) -> bytes:
    """Make the first fragment of a datagram to the router's other side."""
    body = frames.ip("10.0.1.11", target)
    body.flags = "MF"
    datagram = body / frames.UDP(sport=1000, dport=53) / frames.Raw(bytes(72))
    return frames.ethernet(datagram, eth_src=VM1, eth_dst=overlay.mac("r/a"))


def test_a_fragment_needs_its_first_one_where_addresses_change() -> None:
    b = two_networks(V4)
    b.floating("r", "203.0.113.9", "10.0.2.12")
    overlay = Overlay(b)

    changed = overlay.send("a/vm1", fragment(overlay, "203.0.113.9"))
    plain = overlay.send("a/vm1", fragment(overlay, "10.0.2.12"))

    assert isinstance(changed.outcome, Forward)
    assert changed.needs_first
    assert changed.fields & field.IP_FRAG
    assert not plain.needs_first


@FAMILIES
def test_a_translated_packets_flow_is_for_no_fragments(family: Family) -> None:
    b = two_networks(family)
    b.floating("r", family.nat_ip(9), family.ip(2, 12))
    overlay = Overlay(b)
    link: dict[str, Any] = {"eth_src": VM1, "eth_dst": overlay.mac("r/a")}

    for target, whole in ((family.nat_ip(9), True), (family.ip(2, 12), False)):
        frame = frames.udp(family.ip(1, 11), target, **link)
        fields = overlay.send("a/vm1", frame).fields
        assert bool(fields & field.IP_FRAG) is whole


def last_step(b: Builder, frame: bytes) -> Any:
    return Overlay(b).send("a/vm1", frame, trace=True).trace[-1]


@pytest.mark.parametrize(
    ("eth_dst", "verb", "detail"),
    [
        (VM3, "forward", "a/vm3"),
        ("ff:ff:ff:ff:ff:ff", "flood", "a/vm3"),
    ],
)
def test_a_trace_ends_with_the_outcome(eth_dst: str, verb: str, detail: str) -> None:
    frame = frames.udp(V4.ip(1, 11), V4.ip(1, 13), eth_src=VM1, eth_dst=eth_dst)
    step = last_step(two_networks(V4), frame)
    assert (step.device, step.verb, step.detail) == ("packet", verb, detail)


def test_a_trace_says_why_a_packet_was_dropped_or_waits() -> None:
    b = two_networks(V4)
    b.network("a", up=False)
    frame = frames.udp(V4.ip(1, 11), V4.ip(1, 13), eth_src=VM1, eth_dst=VM3)
    assert last_step(b, frame).detail == "device or vport is administratively down"

    b = two_networks(V4)
    mac = Overlay(b).mac("r/a")
    frame = frames.udp(V4.ip(1, 11), V4.ip(2, 99), eth_src=VM1, eth_dst=mac)
    assert last_step(b, frame).detail == "waits for NeighborWanted"
    assert b.put(model.Network(b.key("a"), "a"))
