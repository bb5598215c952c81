# SPDX-License-Identifier: Apache-2.0
"""IPv6 does what IPv4 does: masquerade, DNAT, floating addresses, errors, filters."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from midoryu.lab.lab import Lab
from tests.functional.lab_tools import LABS, LabMaker, echo, hops, opened, pings

SERVER, UPSTREAM = "2001:db8:ff::10", "2001:db8:113::1"
MASQUERADE, FLOATING = "2001:db8:113::10", "2001:db8:113::33"
DNAT_PORT, DNAT_WHOLE = "2001:db8:113::20", "2001:db8:113::21"


@pytest.fixture(scope="module")
def lab(module_lab: LabMaker) -> Lab:
    return module_lab(LABS / "nat.yaml")


@pytest.mark.parametrize(
    ("machine", "expected"), [("vm1", MASQUERADE), ("vm3", FLOATING)]
)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_server_sees_the_outside_address(
    lab: Lab, machine: str, expected: str, protocol: str
) -> None:
    with lab.capture("server", expression="dst port 7007") as capture:
        assert echo(lab, machine, protocol, SERVER) == "ok"

    seen = {str(ip_address(frame.data[22:38])) for frame in capture.frames()}
    assert seen == {expected}


@pytest.mark.parametrize("machine", ["vm1", "vm2", "vm3"])
@pytest.mark.parametrize("target", [SERVER, UPSTREAM, "fd00:1::1"])
def test_every_ping_is_answered(lab: Lab, machine: str, target: str) -> None:
    assert pings(lab, machine, target) == 3


@pytest.mark.parametrize("machine", ["server", "upstream"])
def test_outside_addresses_on_the_link_lead_inside(lab: Lab, machine: str) -> None:
    assert echo(lab, machine, "tcp", DNAT_PORT, 8080) == "ok"
    assert echo(lab, machine, "tcp", DNAT_WHOLE) == "ok"
    assert echo(lab, machine, "udp", DNAT_WHOLE) == "ok"
    assert echo(lab, machine, "tcp", FLOATING) == "ok"
    assert pings(lab, machine, FLOATING) == 3


def test_server_speaks_first_on_a_masqueraded_udp_flow(lab: Lab) -> None:
    with opened(lab, "vm2", "udp", SERVER) as session:
        assert session.exchange().ok
        assert session.exchange(push=True).ok


@pytest.mark.parametrize(
    ("address", "port"), [(DNAT_PORT, 8080), (DNAT_WHOLE, 7007), (FLOATING, 7007)]
)
def test_inside_reaches_inside_by_an_outside_address(
    lab: Lab, address: str, port: int
) -> None:
    assert echo(lab, "vm1", "tcp", address, port) == "ok"


@pytest.mark.parametrize("machine", ["vm1", "vm3"])
def test_route_trace_passes_translation(lab: Lab, machine: str) -> None:
    assert pings(lab, machine, SERVER) == 3

    assert hops(lab, machine, SERVER, 3) == ["fd00:1::1", UPSTREAM, SERVER]


@pytest.mark.parametrize("machine", ["vm1", "vm3"])
def test_closed_port_outside_is_told_through_translation(
    lab: Lab, machine: str
) -> None:
    assert "refused" in echo(lab, machine, "udp", SERVER, 81)
    assert "refused" in echo(lab, machine, "tcp", SERVER, 81)


def test_neighbour_discovery_passes_a_filter_that_drops_by_default(lab: Lab) -> None:
    lab.exec("vm2", "ip -6 neigh flush dev eth0")

    assert echo(lab, "vm2", "tcp", "fd00:1::11") == "ok"


def test_filter_keeps_out_what_it_does_not_name(lab: Lab) -> None:
    assert pings(lab, "vm3", "fd00:1::11") == 0


def test_link_local_addresses_reach_within_the_network(lab: Lab) -> None:
    assert pings(lab, "vm1", "fe80::ff:fe00:113%eth0") == 3
    assert pings(lab, "vm1", "ff02::1%eth0") >= 1
