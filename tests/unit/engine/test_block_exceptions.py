# SPDX-License-Identifier: Apache-2.0
"""Connections that gateways keep from their block's holder."""

from __future__ import annotations

from midoryu.openflow.pipeline import PRIORITY_BLOCK, PRIORITY_EXCEPTION
from tests.unit.engine.test_port_blocks import BLOCK, bench, lease_of, priorities


def test_a_record_of_a_vport_that_left_the_holder_is_an_exception_for_its_life() -> (
    None
):
    one = bench()
    one.change(lease_of(one, "node2"))
    # vm1 is here, and its connection has a port that node2 leased.
    port = one.source_nat(BLOCK * 64 + 3)
    vm1 = one.b.key("web/vm1")
    one.push(one.record(ingress_vport=vm1, translations=(port,)))
    assert priorities(one).count(PRIORITY_EXCEPTION) == 1
    one.wait(100_000.0)
    assert priorities(one) == [PRIORITY_BLOCK] * 3


def test_records_are_looked_at_when_a_vport_moves() -> None:
    one = bench()
    one.change(lease_of(one, "node2"))
    vm3 = one.b.key("web/vm3")
    port = one.source_nat(BLOCK * 64 + 3)
    one.push(one.record(ingress_vport=vm3, translations=(port,)))
    assert priorities(one).count(PRIORITY_EXCEPTION) == 0
    one.change(one.status("web/vm3", "node1"))
    one.wait(0.1)
    assert priorities(one).count(PRIORITY_EXCEPTION) == 1
