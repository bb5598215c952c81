# SPDX-License-Identifier: Apache-2.0
"""NAT on a segment shared with the upstream, and on a provider network."""

from __future__ import annotations

import pytest

from midoryu.lab.lab import Lab
from tests.functional.lab_tools import LABS, LabMaker, echo, hops, opened, pings, wait

SERVER, UPSTREAM = "198.51.100.10", "203.0.113.1"
MASQUERADE, DNAT = "203.0.113.10", "203.0.113.20"
FLOATING = {"vm1": "203.0.113.31", "vm3": "203.0.113.33"}


@pytest.fixture(scope="module")
def lab(module_lab: LabMaker) -> Lab:
    return module_lab(LABS / "nat.yaml")


@pytest.fixture(scope="module")
def public(module_lab: LabMaker) -> Lab:
    return module_lab(LABS / "public.yaml")


def sources(lab: Lab, machine: str, target: str, protocol: str) -> set[str]:
    """Connect from a machine; return the source addresses that the server sees."""
    with lab.capture("server", expression="dst port 7007") as capture:
        assert echo(lab, machine, protocol, target) == "ok"
    return {".".join(map(str, frame.data[26:30])) for frame in capture.frames()}


@pytest.mark.parametrize("machine", ["vm1", "vm2", "vm3"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_server_sees_the_floating_address_or_the_masquerade(
    lab: Lab, machine: str, protocol: str
) -> None:
    expected = FLOATING.get(machine, MASQUERADE)

    assert sources(lab, machine, SERVER, protocol) == {expected}


@pytest.mark.parametrize("machine", ["vm1", "vm2", "vm3"])
@pytest.mark.parametrize("target", [SERVER, UPSTREAM])
def test_every_ping_passes_translation(lab: Lab, machine: str, target: str) -> None:
    assert pings(lab, machine, target) == 3


def test_server_speaks_first_on_a_masqueraded_udp_flow(lab: Lab) -> None:
    with opened(lab, "vm2", "udp", SERVER) as session:
        assert session.exchange().ok
        assert session.exchange(push=True).ok


@pytest.mark.parametrize("machine", ["server", "upstream"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_port_of_an_address_on_the_link_leads_inside(
    lab: Lab, machine: str, protocol: str
) -> None:
    assert echo(lab, machine, protocol, DNAT, 8080) == "ok"


def test_other_ports_of_that_address_are_closed(lab: Lab) -> None:
    result = lab.exec("server", f"nc -z -w 1 {DNAT} 7007", check=False)

    assert result.returncode == 1


@pytest.mark.parametrize("machine", ["server", "upstream"])
@pytest.mark.parametrize("address", FLOATING.values())
def test_floating_address_leads_inside(lab: Lab, machine: str, address: str) -> None:
    assert pings(lab, machine, address) == 3
    assert echo(lab, machine, "tcp", address) == "ok"


def test_connection_to_a_filtered_floating_address_outlives_its_flows(lab: Lab) -> None:
    with opened(lab, "server", "tcp", FLOATING["vm1"]) as session:
        assert session.exchange().ok
        for host in ("g1", "g2", "h1"):
            lab.kill(host, "agent")
            lab.host(host).ovs_ofctl("del-flows", "table=10")
            lab.restore(host, "agent")
        lab.wait_ready()

        assert session.exchange().ok


@pytest.mark.parametrize(
    ("machine", "address", "port"),
    [
        ("vm1", DNAT, 8080),
        ("vm2", DNAT, 8080),
        ("vm3", DNAT, 8080),
        ("vm1", FLOATING["vm3"], 7007),
        ("vm2", FLOATING["vm3"], 7007),
        ("vm3", FLOATING["vm1"], 7007),
        ("vm3", FLOATING["vm3"], 7007),
    ],
    ids=[
        "floating to DNAT",
        "masqueraded to DNAT of itself",
        "gateway's VM to DNAT",
        "floating to floating",
        "masqueraded to floating",
        "gateway's VM to floating",
        "to its own floating address",
    ],
)
def test_inside_reaches_inside_by_an_outside_address(
    lab: Lab, machine: str, address: str, port: int
) -> None:
    assert echo(lab, machine, "tcp", address, port) == "ok"


@pytest.mark.parametrize("machine", ["vm1", "vm2"])
def test_route_trace_passes_translation(lab: Lab, machine: str) -> None:
    assert hops(lab, machine, SERVER, 3) == ["10.0.1.1", UPSTREAM, SERVER]


@pytest.mark.parametrize("machine", ["vm1", "vm2"])
def test_closed_port_outside_is_told_through_translation(
    lab: Lab, machine: str
) -> None:
    assert "refused" in echo(lab, machine, "udp", SERVER, 81)
    assert "refused" in echo(lab, machine, "tcp", SERVER, 81)


def test_provider_network_hides_sources_also_from_its_own_link(public: Lab) -> None:
    with public.capture("upstream", "wan", "icmp") as capture:
        assert pings(public, "vm1", SERVER) == 3
        assert pings(public, "vm1", UPSTREAM) == 3
        assert pings(public, "vm2", UPSTREAM) == 3

    asking = {f.data[26:30] for f in capture.frames() if f.data[34] == 8}
    assert asking == {bytes([203, 0, 113, 10]), bytes([203, 0, 113, 30])}


def test_provider_network_leads_outside_addresses_inside(public: Lab) -> None:
    for address in ("203.0.113.2", DNAT, "203.0.113.30", "2001:db8:113::2"):
        assert pings(public, "upstream", address) == 3


def test_provider_network_moves_to_the_gateway_that_has_a_carrier(public: Lab) -> None:
    assert pings(public, "vm1", SERVER) == 3

    public.exec("switch", "ip link set p1 down")
    public.exec("switch", "ip link set p2 master sw")

    assert wait(lambda: pings(public, "vm1", SERVER, count=1), 5)
    assert pings(public, "vm2", SERVER) == 3
    assert pings(public, "upstream", DNAT) == 3
