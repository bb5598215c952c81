# SPDX-License-Identifier: Apache-2.0
"""What a changed row touches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from midoryu.topology import model, tag
from tests.helpers.builder import cloud
from tests.unit.topology.test_snapshot import apply, full


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (model.Network, lambda row: tag.device_tag(row.key)),
        (model.Router, lambda row: tag.device_tag(row.key)),
        (model.Vport, lambda row: tag.vport_tag(row.key)),
        (model.VportStatus, lambda row: tag.vport_tag(row.key)),
        (model.Route, lambda row: tag.device_tag(row.router)),
        (model.Masquerade, lambda row: tag.device_tag(row.router)),
        (model.Dnat, lambda row: tag.device_tag(row.router)),
        (model.FloatingIp, lambda row: tag.device_tag(row.router)),
        (model.Chain, lambda row: tag.chain_tag(row.key)),
        (model.Host, lambda row: tag.host_tag(row.key)),
        (model.MacEntry, lambda row: tag.mac_tag(row.network, row.mac)),
        (model.Neighbor, lambda row: tag.neighbor_tag(row.router, row.address)),
        (model.IngressSet, lambda row: tag.interest_tag(min(row.vports))),
    ],
)
def test_deleted_row_touches_its_tag(kind: type, expected: Any) -> None:
    topology = full().topology()
    row = next(iter(topology.rows(kind)))

    touched = topology.apply([model.Gone(kind, row.key)])

    assert expected(row) in touched
    assert topology.row(kind, row.key) is None


def test_row_that_moves_to_another_device_touches_both() -> None:
    b = full()
    topology = b.topology()
    route = b.route("tenant", "0.0.0.0/0", via="100.64.0.1")

    touched = apply(topology, replace(route, router=b.key("provider")))

    assert {tag.device_tag(b.key(name)) for name in ("tenant", "provider")} <= touched


def test_link_of_a_router_touches_its_mac_on_the_network() -> None:
    b = cloud()
    topology, web = b.topology(), b.key("web")
    link, router = topology.vport(b.key("web/tenant")), b.key("tenant/web")
    mac = topology.vport(router)
    assert link is not None
    assert mac is not None
    wanted = tag.mac_tag(web, mac.mac)

    assert wanted in topology.apply([model.Gone(model.Vport, link.key)])
    assert wanted in apply(topology, link)
