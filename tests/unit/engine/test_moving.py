# SPDX-License-Identifier: Apache-2.0
"""Who carries a vport that has interfaces at two hosts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from midoryu.engine import moving
from midoryu.engine.effect import SetVportReady
from midoryu.engine.event import InterfacesChanged, PacketIn
from midoryu.topology.model import Put, Vport, VportStatus
from tests.helpers import frames
from tests.helpers.bench import Bench, office

VM3 = "web/vm3"


def awaiting() -> Bench:
    """Let web/vm3, which is bound to node2, come to this host (node1)."""
    bench = Bench(office())
    row = bench.core.topology.row(Vport, bench.b.key(VM3))
    assert row is not None
    bench.change(replace(row, migrating_to=bench.b.key("node1")))
    iface_ids = {**bench.core.interfaces, VM3: 77}
    bench.do(InterfacesChanged(iface_ids))
    return bench


def vm3(bench: Bench) -> Vport:
    row = bench.core.topology.vport(bench.b.key(VM3))
    assert row is not None
    return row


def test_a_vport_that_may_come_is_awaited_and_said_to_be_ready() -> None:
    bench = awaiting()
    assert bench.core.awaited == {77: vm3(bench).key}
    assert SetVportReady(vm3(bench).key, True) in bench.done[-1].nsdb_writes
    assert not moving.carries(bench.core, vm3(bench))
    assert moving.is_early(bench.core, vm3(bench).key)


@pytest.mark.parametrize(
    ("early", "carried"), [(True, True), (False, False)], ids=["early", "once"]
)
def test_only_who_took_over_early_carries_before_it_is_bound(
    early: bool, carried: bool
) -> None:
    bench = awaiting()
    key, host = vm3(bench).key, bench.b.key("node1")
    bench.core.topology.apply([Put(VportStatus(key, host, True, early))])
    assert moving.carries(bench.core, vm3(bench)) is carried


def test_a_vport_that_migrates_to_where_it_is_does_not_migrate() -> None:
    bench = awaiting()
    here = bench.b.key("node1")
    assert moving.carries(bench.core, replace(vm3(bench), host=here))


def test_a_strange_mac_address_is_counted_and_opens_nothing() -> None:
    bench = awaiting()
    stranger = frames.Ether(src="02:00:00:00:00:99", type=0x8035)
    bench.do(PacketIn(77, bytes(stranger)))
    assert bench.counters["announcements of somebody else"] == 1
    assert not bench.core.taken


def test_an_interface_that_goes_is_awaited_no_longer() -> None:
    bench = awaiting()
    interfaces = {i: o for i, o in bench.core.interfaces.items() if i != VM3}
    bench.do(InterfacesChanged(interfaces))
    assert bench.core.awaited == {}
