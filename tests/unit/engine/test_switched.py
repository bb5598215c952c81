# SPDX-License-Identifier: Apache-2.0
"""Frames between vports of a network, by pairs: the same as one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from midoryu.engine import event
from midoryu.packet.address import parse_mac
from midoryu.topology import model
from tests.helpers import frames
from tests.helpers.worlds import V4, two_networks
from tests.unit.engine.test_express import STATEFUL, Twins

FAR = 8


class Plain(Twins):
    """Network a has vm1 and vm3 here and far machines, the last ones unlike others."""

    def __init__(self) -> None:
        b = two_networks(V4)
        b.chain("in", *STATEFUL)
        for number in range(1, FAR + 1):
            unlike: dict[str, Any] = {}
            if number == FAR - 1:
                unlike = {"egress_chain": "in"}
            b.vport(
                f"a/far{number}",
                host="node2" if number % 2 else "",
                mac=mac(number),
                ip=f"10.0.1.{100 + number}",
                **unlike,
            )
        row = next(r for r in b.rows if getattr(r, "name", "") == f"far{FAR}")
        b.put(replace(row, up=False))
        super().__init__(V4, masquerade=False, builder=b)

    def send(self, to: str, *, at: int = 11, **fields: Any) -> None:
        """Let vm1 (or vm3) send a frame to a MAC address."""
        source = "02:00:00:00:00:01" if at == 11 else "02:00:00:00:00:03"
        values = {"src": "10.0.1.11", "dst": "10.0.1.99", "sport": 1000, "dport": 80}
        frame = frames.tcp(**{**values, "eth_src": source, "eth_dst": to, **fields})
        self.do(event.PacketIn(at, frame, 10))


def mac(number: int) -> str:
    return f"02:00:00:00:01:{number:02x}"


def test_frames_to_vports_alike_need_one_simulation() -> None:
    twins = Plain()
    for number in range(1, FAR + 1):
        twins.send(mac(number))
    twins.same()
    # The first one; three are nowhere, one is filtered, one is down.
    assert twins.taken == 2


def test_frames_to_oneself_to_unknown_ones_and_to_all_are_not_taken() -> None:
    twins = Plain()
    twins.send(mac(1))
    for to in ("02:00:00:00:00:01", "02:00:00:00:77:77", "ff:ff:ff:ff:ff:ff"):
        twins.send(to)
    twins.same()
    assert twins.taken == 0


def test_the_second_frame_of_a_pair_gets_no_flow_of_its_own() -> None:
    twins = Plain()
    for _ in range(3):
        twins.send(mac(1))
        twins.send(mac(3))
    twins.same()
    assert len(twins.engines[0]._core.flows) == 2


def test_a_vport_that_moves_or_changes_takes_its_flows_along() -> None:
    twins = Plain()
    for number in (1, 3, 5):
        twins.send(mac(number))
    assert twins.taken == 2
    moved = twins.b.key("a/far3")
    twins.change(model.VportStatus(moved, twins.b.key("node1"), True))
    twins.change(replace(twins._vport("a/far5"), mac=parse_mac(mac(99))))
    for number in (1, 3, 5, 99):
        twins.send(mac(number))
    twins.same()


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send"] * 8 + ["removed", "chain", "down", "up", "moved"]),
        st.integers(1, FAR),
        st.sampled_from([11, 13]),
        st.booleans(),
    ),
    min_size=5,
    max_size=40,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=_STEPS)
def test_whatever_happens_pairs_are_carried_out_as_they_are_simulated(
    steps: list[Any],
) -> None:
    twins = Plain()
    for what, number, at, flag in steps:
        vport = twins._vport(f"a/far{number}")
        if what == "send":
            twins.send(mac(number), at=at, ttl=64 - number, flags="S" if flag else "A")
        elif what == "removed":
            cookies = [one.cookie for one in twins.engines[1]._core.flows]
            if cookies:
                cookie = cookies[number % len(cookies)]
                twins.do(event.FlowRemoved(cookie, 0, 60, 90.0, 1))
        elif what == "chain":
            twins.change(replace(vport, ingress_chain="in" if flag else ""))
        elif what in ("down", "up"):
            twins.change(replace(twins._vport("a/vm1"), up=what == "up"))
        else:
            host = twins.b.key("node2" if flag else "node1")
            twins.change(model.VportStatus(vport.key, host, True))
        twins.now += 0.1
    twins.same()
