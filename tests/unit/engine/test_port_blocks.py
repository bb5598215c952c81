# SPDX-License-Identifier: Apache-2.0
"""Which blocks of NAT ports are handed on, seen from a gateway and from a holder."""

from __future__ import annotations

from typing import Any

from midoryu.openflow import pipeline
from midoryu.openflow.flow import Flow, InstallFlow, RemoveFlow
from midoryu.openflow.pipeline import PRIORITY_BLOCK
from midoryu.packet.address import parse_ip
from midoryu.topology.model import Lease
from tests.helpers.bench import NAT, Bench, office

BLOCK = 100


def bench(*, gateways: bool = False, **config: Any) -> Bench:
    b = office(masquerade=True, gateways=gateways)
    config = {"gateway_return": "holder", **config}
    return Bench(b, **config)


def standing(one: Bench) -> set[Flow]:
    """Return the flows about blocks that stand after all that was done."""
    found: dict[Any, Flow] = {}
    for effects in one.done:
        for mod in effects.flow_mods:
            if isinstance(mod, (InstallFlow, RemoveFlow)):
                flow = mod.flow
                slot = flow.table, flow.priority, flow.match
                found.pop(slot, None)
                if isinstance(mod, InstallFlow):
                    found[slot] = flow
    kind = pipeline.COOKIE_BLOCK
    return {
        flow for flow in found.values() if pipeline.cookie_kind(flow.cookie) == kind
    }


def priorities(one: Bench) -> list[int]:
    return sorted(flow.priority for flow in standing(one))


def lease_of(one: Bench, host: str, block: int = BLOCK) -> Lease:
    key = f"lease/{block}"
    router, address = one.b.key("r"), parse_ip(NAT)
    return Lease(key, router, address, block, one.b.key(host))


def test_another_hosts_block_is_handed_on_while_its_lease_stands() -> None:
    one = bench()
    lease = lease_of(one, "node2")
    one.change(lease)
    assert priorities(one) == [PRIORITY_BLOCK] * 3
    one.gone(Lease, lease.key)
    assert standing(one) == set()


def test_own_blocks_are_not() -> None:
    one = bench()
    one.change(lease_of(one, "node1"))
    assert standing(one) == set()


def test_a_classic_gateway_hands_nothing_on_and_takes_in_what_others_do() -> None:
    one = bench(gateways=True, gateway_return="classic")
    one.change(lease_of(one, "node2"))
    assert standing(one) == set()
    one.change(lease_of(one, "node1", BLOCK + 1))
    assert {flow.table for flow in standing(one)} == {
        pipeline.CLASSIFY,
        pipeline.VPORT,
        pipeline.SIZE,
    }


def test_a_block_goes_to_its_new_holder() -> None:
    one = bench()
    one.change(lease_of(one, "node2"))
    one.change(lease_of(one, "node1"))
    assert standing(one) == set()


def test_a_switch_that_comes_back_gets_all_of_it_again() -> None:
    one = bench()
    one.change(lease_of(one, "node2"))
    before = standing(one)
    one.done.clear()
    one.connect()
    assert standing(one) == before


def test_packets_too_large_for_the_tunnel_stay_here_where_machines_may_send_them() -> (
    None
):
    for assumed, checked in ((0, False), (1500, True)):
        one = bench(assumed_mtu_bytes=assumed)
        one.change(lease_of(one, "node2"))
        kinds = {flow.actions[0][0] for flow in standing(one)}
        assert (30 in kinds) == checked


def test_an_address_that_leads_inside_is_not_handed_on() -> None:
    one = bench()
    one.change(lease_of(one, "node2"))
    assert standing(one)
    one.change(one.b.floating("r", NAT, "10.0.1.1"))
    assert standing(one) == set()


def test_a_whole_dnat_or_vip_is_not_handed_on() -> None:
    one = bench()
    one.change(lease_of(one, "node2"), one.b.dnat("r", NAT, "10.0.1.1"))
    assert standing(one) == set()
