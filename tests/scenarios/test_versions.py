# SPDX-License-Identifier: Apache-2.0
"""A host that changed a record dies before all have heard; the others mend it.

Its journal and its ring are gone with it: it never returns here.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from midoryu.topology.model import Gone, Route
from tests.helpers.builder import cloud
from tests.helpers.fabric import Fabric
from tests.scenarios.test_concurrent_changes import client, close, three_gateways
from tests.scenarios.test_main_job import from_outside, from_vm, only, other


def changed_at_node4(heard: Iterable[str]) -> Fabric:
    """Let node4 change a record, tell only some hosts of it, and die for ever."""
    fabric = Fabric(three_gateways())
    fabric.advance(3.0)
    only(fabric.send("provider/uplink2", client(2, "S")))
    answer = from_vm(fabric.builder, 3, sport=80, dport=50000, flags="SA")
    fabric.send("web/vm3", answer)
    fabric.advance(1.0)
    close(fabric, "provider/uplink2")
    fabric.drop = lambda p: (
        p.is_state and p.source == "node4" and p.destination not in heard
    )
    fabric.send("provider/uplink4", client(4, "A"))
    fabric.stop("node4")
    fabric.drop = lambda packet: False
    return fabric


def ingresses(fabric: Fabric) -> set[str]:
    return {
        record["ingress"]
        for name in ("node1", "node2", "node3")
        for record in fabric.records(name)
    }


@pytest.mark.parametrize("heard", ["node1", "node2", "node3"])
def test_who_heard_of_a_change_tells_the_others_at_once(heard: str) -> None:
    fabric = changed_at_node4([heard])
    assert len(ingresses(fabric)) == 2
    fabric.advance(0.5)
    assert ingresses(fabric) == {"provider/uplink4"}


@pytest.mark.parametrize("lost", ["word", "question", "answer"])
def test_that_too_is_repaired_where_packets_are_lost(lost: str) -> None:
    fabric = changed_at_node4(["node3"])
    left = {"word": 2, "question": 2, "answer": 2}
    asks = {"word": "node3", "question": "node1", "answer": "node3"}[lost]

    def drop(packet: object) -> bool:
        source, is_state = packet.source, packet.is_state  # type: ignore[attr-defined]
        if not is_state or source != asks or not left[lost]:
            return False
        left[lost] -= 1
        return True

    fabric.drop = drop
    fabric.advance(1.0)
    assert ingresses(fabric) == {"provider/uplink4"}


def test_who_is_ahead_corrects_a_sender_that_is_behind() -> None:
    fabric = Fabric(cloud(), gateway_return="classic")
    fabric.advance(3.0)
    syn = from_vm(fabric.builder, 2, sport=40000, dport=443, flags="S")
    uplink, seen = only(fabric.send("web/vm2", syn))
    behind, ahead = (f"node{number}" for number in (uplink[-1], other(uplink)))
    # The connection leaves by the other gateway now. Only that one hears of it.
    gateway = f"192.0.2.{int(behind[4:]) * 4 - 3}"
    fabric.change(Gone(Route, f"route/provider/0.0.0.0/0/{gateway}/"))
    fabric.drop = lambda p: p.is_state and p.destination == behind
    ack = from_vm(fabric.builder, 2, sport=40000, dport=443, flags="A")
    assert only(fabric.send("web/vm2", ack))[0] != uplink
    fabric.stop("node2")
    # Its word about it does not get through either, until it says no more.
    fabric.advance(1.0)
    fabric.drop = lambda packet: False
    assert egress(fabric, behind) != egress(fabric, ahead)
    headers = seen.headers
    answer = from_outside(
        int(behind[4:]), dport=headers.l4_src, sport=headers.l4_dst, flags="SA"
    )
    # What the one that is behind says about the answer shows that it is.
    fabric.send(uplink, answer)
    fabric.advance(0.05)
    counters = fabric.inspect(ahead, "stats")["counters"]
    assert counters["old records corrected"] == 1
    assert egress(fabric, behind) == egress(fabric, ahead)


def egress(fabric: Fabric, name: str) -> str:
    (record,) = fabric.records(name)
    found: str = record["egress"]
    return found
