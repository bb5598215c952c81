# SPDX-License-Identifier: Apache-2.0
"""Whom an outside port leads to."""

from __future__ import annotations

from midoryu.packet.protocol import TCP
from midoryu.state.nat import Picked
from tests.unit.state.test_nat import (
    NAT,
    ROUTER,
    SERVER,
    SERVER2,
    VM,
    VM2,
    Host,
    connection_of,
)


def test_port_that_two_endpoints_share_leads_to_nobody() -> None:
    host = Host(100)
    host.nat.watch(frozenset({ROUTER}), (), 0.0)
    outside = (ROUTER, TCP, NAT, 6400)
    one = connection_of(1, Picked(NAT, 6400), VM, 5000, SERVER, 80, TCP)
    two = connection_of(2, Picked(NAT, 6400), VM2, 5000, SERVER2, 80, TCP)

    host.nat.commit(one, 0.0)
    assert host.nat.inbound.find(outside) == (VM, 5000)
    host.nat.commit(two, 0.0)
    assert host.nat.inbound.find(outside) is None
    assert host.nat.inbound.find(outside, SERVER2) == (VM2, 5000)
    host.nat.release(one)
    assert host.nat.inbound.find(outside) == (VM2, 5000)
    host.nat.release(two)
    assert host.nat.inbound.find(outside) is None


def test_router_that_is_watched_later_knows_what_it_has() -> None:
    host = Host(100)
    one = connection_of(1, Picked(NAT, 6400), VM, 5000, SERVER, 80, TCP)
    host.nat.commit(one, 0.0)
    outside = (ROUTER, TCP, NAT, 6400)
    assert host.nat.inbound.find(outside) is None

    host.nat.watch(frozenset({ROUTER}), [one], 0.0)
    assert host.nat.inbound.find(outside) == (VM, 5000)

    host.nat.watch(frozenset(), [one], 0.0)
    assert host.nat.inbound.find(outside) is None
    host.nat.release(one)
    assert host.nat.conflicts == 0
