# SPDX-License-Identifier: Apache-2.0
"""When blocks of ports are asked for, and given back."""

from __future__ import annotations

from tests.unit.state.test_nat import NAT, ROUTER, SERVER, SERVER2, VM, Host


def test_the_next_block_is_wanted_below_a_quarter_and_asked_for_once() -> None:
    host = Host(100)
    host.fill(48)
    assert host.nat.wanted_leases(0.0) == ()
    host.fill(1, SERVER2)
    host.connect(VM, 1, SERVER2, 80)
    assert host.nat.wanted_leases(0.0) == ((ROUTER, NAT),)
    host.nat.lease_pending(ROUTER, NAT)
    assert host.nat.wanted_leases(0.0) == ()
    host.nat.add_lease(ROUTER, NAT, 101)
    assert host.nat.wanted_leases(0.0) == ()


def test_a_failed_request_is_repeated_after_ten_seconds() -> None:
    host = Host(100)
    host.fill(60)
    host.nat.lease_failed(ROUTER, NAT, 0.0)
    assert host.nat.wanted_leases(9.0) == ()
    assert host.nat.wanted_leases(10.0) == ((ROUTER, NAT),)


def test_idle_blocks_are_given_back_the_last_one_late() -> None:
    host = Host(100, 625)
    host.connect(VM, 40000, SERVER, 80)
    assert host.nat.idle_leases(0.0) == ()
    assert host.nat.idle_leases(300.0) == ((ROUTER, NAT, 100),)
    host.nat.remove_lease(ROUTER, NAT, 100)
    host.nat.release(host.live[1])
    assert host.nat.idle_leases(400.0) == ()
    assert host.nat.idle_leases(3999.0) == ()
    assert host.nat.idle_leases(4000.0) == ((ROUTER, NAT, 625),)
