# SPDX-License-Identifier: Apache-2.0
"""Gateways have no packet-in for answers to masqueraded connections; holders have one.

Real switches and agents; `tests/scenarios/test_port_blocks.py` has the finer cases.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from midoryu.lab.lab import Lab
from tests.functional.lab_tools import (
    SERVE,
    LabMaker,
    added,
    counters,
    echo,
    opened,
    pings,
    wait,
)

FOUR_HOSTS = Path(__file__).parents[2] / "tools/labs/four-hosts.yaml"
SERVER = "198.51.100.10"
GATEWAYS = ("node1", "node4")
CONNECTIONS = 20


@pytest.fixture(scope="module")
def lab(module_lab: LabMaker) -> Lab:
    spec = yaml.safe_load(FOUR_HOSTS.read_text())
    spec["outside"]["server"]["run"] = [SERVE]
    made = module_lab(spec)
    # Neighbours and the first block are known after it.
    assert echo(made, "vm2", "tcp", SERVER) == "ok"
    assert wait(lambda: "priority=900" in flows(made, "node4"))
    return made


def flows(lab: Lab, host: str) -> str:
    return str(lab.host(host).ovs_ofctl("dump-flows", "table=10"))


def answers_come_by(lab: Lab, address: str) -> None:
    lab.exec("upstream", f"ip route replace 203.0.113.0/24 via {address}")


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("way_back", ["192.0.2.2", "192.0.2.6"])
def test_connections_cost_their_host_one_packet_in_and_gateways_none(
    lab: Lab, way_back: str, protocol: str
) -> None:
    answers_come_by(lab, way_back)
    assert echo(lab, "vm2", protocol, SERVER) == "ok"
    before = {host: counters(lab, host) for host in ("node2", *GATEWAYS)}
    with ExitStack() as sessions:
        for _ in range(CONNECTIONS):
            session = sessions.enter_context(opened(lab, "vm2", protocol, SERVER))
            assert session.exchange().ok
            assert session.exchange(push=True).ok
    grown = {host: added(before[host], counters(lab, host)) for host in before}
    assert grown["node2"]["connections made"] == CONNECTIONS
    assert grown["node2"].get("packet-ins handed on by gateways", 0) == 0
    # A datagram on the heels of the first may meet what the switch cached of that; no
    # segment meets what it cached of a SYN (but a SYN may be sent again).
    most = CONNECTIONS + 1 if protocol == "tcp" else CONNECTIONS * 2 - 1
    assert grown["node2"]["packet-ins"] <= most
    for host in GATEWAYS:
        assert grown[host].get("packet-ins", 0) == 0, grown[host]


def test_pings_and_large_datagrams_pass_too(lab: Lab) -> None:
    assert pings(lab, "vm2", SERVER) == 3
    assert lab.exec("vm2", f"ping -c 1 -W 2 -s 3000 {SERVER}").returncode == 0


def test_a_connection_outlives_the_agent_of_the_holder(lab: Lab) -> None:
    with opened(lab, "vm2", "tcp", SERVER) as session:
        assert session.exchange().ok
        lab.kill("node2", "agent")
        answers_come_by(lab, "192.0.2.6")
        assert session.exchange().ok
        answers_come_by(lab, "192.0.2.2")
        assert session.exchange().ok
        lab.restore("node2", "agent")
        lab.wait_ready()
        assert session.exchange().ok
    assert echo(lab, "vm2", "tcp", SERVER) == "ok"


def test_new_connections_are_made_while_the_gateways_agents_are_dead(lab: Lab) -> None:
    for host in GATEWAYS:
        lab.kill(host, "agent")
    try:
        assert echo(lab, "vm2", "tcp", SERVER) == "ok"
    finally:
        for host in GATEWAYS:
            lab.restore(host, "agent")
        lab.wait_ready()
