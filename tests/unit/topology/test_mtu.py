# SPDX-License-Identifier: Apache-2.0
"""How large a packet may be on each virtual link."""

from __future__ import annotations

from dataclasses import replace

import pytest

from midoryu.topology import mtu
from midoryu.topology.snapshot import Topology
from tests.helpers.builder import Builder, cloud


def size(topology: Topology, b: Builder, path: str) -> int:
    vport = topology.vport(b.key(path))
    assert vport is not None
    return mtu.vport_mtu(topology, vport)


@pytest.mark.parametrize(
    ("tunnel", "ipv6", "overhead"),
    [
        ("gre", False, 42),
        ("gre", True, 62),
        ("vxlan", False, 50),
        ("vxlan", True, 70),
        ("geneve", False, 50),
        ("geneve", True, 70),
    ],
)
def test_a_tunnel_takes_its_headers_and_the_inner_ethernet_header(
    tunnel: str, ipv6: bool, overhead: int
) -> None:
    assert mtu.tunnel_overhead(tunnel, ipv6=ipv6) == overhead


def test_a_network_without_mtu_carries_what_tunnels_carry() -> None:
    b = cloud()
    topology = b.topology()
    assert mtu.network_mtu(topology, b.key("web")) == 1458
    topology.default_mtu = 8958
    assert mtu.network_mtu(topology, b.key("web")) == 8958
    assert size(topology, b, "provider/uplink1") == 8958


def test_a_network_that_is_missing_carries_what_tunnels_carry() -> None:
    assert mtu.network_mtu(Topology(), 99) == 1458


def test_both_ends_of_a_link_to_a_network_have_the_networks_mtu() -> None:
    b = cloud()
    b.network("web", mtu=1400)
    topology = b.topology()
    assert size(topology, b, "web/vm2") == 1400
    assert size(topology, b, "tenant/web") == 1400


def test_a_port_that_says_so_goes_before_its_network() -> None:
    b = cloud()
    b.network("web", mtu=1400)
    topology = b.topology()
    vport = topology.vport(b.key("tenant/web"))
    assert vport is not None
    assert mtu.vport_mtu(topology, replace(vport, mtu=1300)) == 1300


def test_two_linked_routers_share_what_either_end_says() -> None:
    b = cloud()
    topology = b.topology()
    vport = topology.vport(b.key("tenant/provider"))
    assert vport is not None
    b.put(replace(vport, mtu=1320))
    topology = b.topology()
    assert size(topology, b, "tenant/provider") == 1320
    assert size(topology, b, "provider/tenant") == 1320
