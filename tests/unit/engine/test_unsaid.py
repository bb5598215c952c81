# SPDX-License-Identifier: Apache-2.0
"""What a device says waits for its next hop, within bounds."""

from __future__ import annotations

from dataclasses import replace

from midoryu.engine.unsaid import Unsaid
from midoryu.packet import protocol
from midoryu.packet.codec import decode
from midoryu.packet.packet import Packet
from midoryu.simulation.outcome import Emission, NeighborWanted
from midoryu.topology import model
from tests.helpers import frames
from tests.helpers.bench import GATEWAY, GATEWAY_MAC, Bench, office

OUTSIDE = "198.51.100.9"


UPLINK_MAC = "02:cc:00:00:00:01"


def rejecting() -> Bench:
    """A VM whose filter rejects; the next hop to who calls it is not known."""
    b = office(neighbor=False)
    no = b.chain("no", model.Rule(model.RuleAction.REJECT))
    (vm1,) = (one for one in b.rows if one.key == b.key("web/vm1")
              and isinstance(one, model.Vport))  # fmt: skip
    b.put(replace(vm1, egress_chain=no))
    return Bench(b)


def said(bench: Bench, frame: bytes) -> list[Packet]:
    outs = bench.send("r/up", frame).packet_outs
    return [decode(out.frame) for out in outs]


def call(sport: int) -> bytes:
    macs = {"eth_src": GATEWAY_MAC, "eth_dst": UPLINK_MAC}
    return frames.tcp(OUTSIDE, "10.0.1.1", sport, 80, **macs)  # type: ignore[arg-type]


def test_a_refusal_asks_for_its_way_and_goes_once_that_is_known() -> None:
    bench = rejecting()
    (question,) = said(bench, call(1000))
    assert question.eth_type == protocol.ETH_ARP
    assert said(bench, call(1001)) == [], "asked already"
    answer = frames.arp(
        GATEWAY,
        "192.0.2.2",
        operation=2,
        eth_src=GATEWAY_MAC,
        eth_dst=UPLINK_MAC,
        target_mac=UPLINK_MAC,
    )

    resets = said(bench, answer)

    assert [one.headers.l4_dst for one in resets] == [1000, 1001]
    assert all(one.tcp_flags & protocol.TCP_RST for one in resets)
    assert len(bench.core.unsaid) == 0
    assert len(said(bench, call(1002))) == 1


def wanted(number: int) -> NeighborWanted:
    return NeighborWanted(1, 2, number)


def test_what_waits_too_long_is_dropped_and_asked_for_again() -> None:
    unsaid = Unsaid()
    assert unsaid.wait(wanted(1), Emission(2, b"a"), 10.0)
    assert not unsaid.wait(wanted(1), Emission(2, b"b"), 11.0)
    assert unsaid.wait(wanted(1), Emission(2, b"c"), 14.0)
    assert unsaid.take(wanted(1), 15.0) == [Emission(2, b"c")]
    assert unsaid.take(wanted(1), 15.0) == []
    assert unsaid.wait(wanted(1), Emission(2, b"d"), 20.0)
    assert unsaid.take(wanted(1), 24.0) == []


def test_what_waits_is_bounded() -> None:
    unsaid = Unsaid()
    asked = [unsaid.wait(wanted(n), Emission(2, b"x"), 10.0) for n in range(100)]
    assert asked == [True] * 64 + [False] * 36
    for _ in range(20):
        unsaid.wait(wanted(0), Emission(2, b"y"), 10.5)
    assert len(unsaid.take(wanted(0), 11.0)) == 8
    assert unsaid.wait(wanted(99), Emission(2, b"x"), 14.0)
    assert len(unsaid) == 1
