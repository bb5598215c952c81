# SPDX-License-Identifier: Apache-2.0
"""Load balancers on real Open vSwitch: members on two hosts, clients in and outside."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from midoryu.lab.lab import Lab
from midoryu.nsdb.file_link import stable_mac
from midoryu.packet.address import format_mac
from tests.functional.lab_tools import LABS, LabMaker, pings, start, wait

VIPS = {
    "router IPv4": "203.0.113.80",
    "router IPv6": "2001:db8:113::80",
    "network IPv4": "10.0.1.80",
    "network IPv6": "fd00:1::80",
}
MEMBERS = ({"10.0.1.12", "10.0.1.13"}, {"fd00:1::12", "fd00:1::13"})

# Two connections from one port at once: to argv[2:4], then argv[4:6]; two requests on
# each, by turns.
TWINS = """
import socket, sys
port, twins = int(sys.argv[1]), []
for host, target in (sys.argv[2:4], sys.argv[4:6]):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    twin = socket.socket(family)
    twin.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    twin.settimeout(3)
    twin.bind(("", port))
    twin.connect((host, int(target)))
    twins.append(twin)
for twin in twins * 2:
    twin.send(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    data = b""
    while not data.partition(b"\\r\\n\\r\\n")[2].endswith(b"\\n"):
        data += twin.recv(4096) or 1 / 0
    print(data.decode().split()[-2])
"""


@pytest.fixture(scope="module")
def lab(module_lab: LabMaker) -> Lab:
    lab = module_lab(LABS / "balancer.yaml")
    for vm in ("vm1", "vm2", "vm3"):
        assert wait(functools.partial(_serves, lab, vm)), vm
    return lab


def gateway_of(lab: Lab) -> str:
    """Name the gateway that the server sends a VIP's packets to."""
    shown = lab.exec("server", "ip neigh show 203.0.113.80").stdout
    for host, vport in (("g1", "provider/uplink1"), ("g2", "provider/uplink2")):
        if format_mac(stable_mac(vport)) in shown:
            return host
    return ""


def _serves(lab: Lab, vm: str) -> bool:
    return bool(curl(lab, vm, "127.0.0.1:8080")[0])


def curl(lab: Lab, machine: str, vip: str, *options: str) -> tuple[str, str]:
    """Get a page; return who answered and whom the server saw, or what went wrong."""
    host = f"[{vip}]" if vip.count(":") > 1 else vip
    command = ["curl", "-gsS", "-m", "3", *options, f"http://{host}/"]
    done = lab.exec(machine, command, check=False)
    if done.returncode:
        return "", done.stderr.strip()
    who, caller = done.stdout.split()
    return who, caller


@pytest.mark.parametrize("where", VIPS)
@pytest.mark.parametrize("machine", ["vm1", "vm2", "vm3", "server"])
def test_curl_reaches_every_member_through_the_vip(
    lab: Lab, machine: str, where: str
) -> None:
    vip = VIPS[where]
    if machine == "server" and where.startswith("network"):
        route = "ip -6 route" if ":" in vip else "ip route"
        via = "2001:db8:113::2" if ":" in vip else "203.0.113.2"
        lab.exec(machine, f"{route} replace {vip} via {via}")
    answers = Counter(curl(lab, machine, vip)[0] for _ in range(16))
    assert set(answers) == MEMBERS[":" in vip], answers


def test_a_member_that_calls_its_own_vip_is_called_by_the_vip(lab: Lab) -> None:
    for vip in ("203.0.113.80", "10.0.1.80"):
        seen = {curl(lab, "vm2", vip) for _ in range(16)}
        assert seen == {("10.0.1.12", vip), ("10.0.1.13", "10.0.1.12")}


@pytest.mark.parametrize("order", ["VIP first", "direct first"])
@pytest.mark.parametrize("where", ["router IPv4", "network IPv4", "network IPv6"])
def test_a_direct_connection_beside_the_same_tuple_by_the_vip(
    lab: Lab, where: str, order: str
) -> None:
    vip = VIPS[where]
    for number, target in enumerate(sorted(MEMBERS[":" in vip])):
        calls = [(vip, "80"), (target, "8080")]
        if order == "direct first":
            calls.reverse()
        port = str(45000 + number + 10 * len(order) + 100 * list(VIPS).index(where))
        words = [word for call in calls for word in call]
        done = lab.exec("vm1", [sys.executable, "-c", TWINS, port, *words])
        answers = done.stdout.split()
        assert len(answers) == 4, answers
        assert set(answers) <= MEMBERS[":" in vip]


def test_udp_is_balanced(lab: Lab) -> None:
    say = ["sh", "-c", "echo hi | socat -T1 - UDP4:203.0.113.80:53"]
    for machine in ("vm1", "server"):
        answers = {lab.exec(machine, say, check=False).stdout for _ in range(12)}
        assert answers == {"vm2\n", "vm3\n"}


def test_vip_answers_ping_and_refuses_other_ports(lab: Lab) -> None:
    for machine, where in (("vm1", "network IPv4"), ("vm2", "router IPv6")):
        assert pings(lab, machine, VIPS[where]) == 3
    for machine in ("vm1", "server"):
        assert pings(lab, machine, "203.0.113.80") == 3
        done = lab.exec(machine, "nc -z -w 2 203.0.113.80 81", check=False)
        assert done.returncode == 1


def test_a_floating_address_leads_to_a_networks_vip(lab: Lab) -> None:
    answers = {curl(lab, "server", "203.0.113.81")[0] for _ in range(12)}
    assert answers == MEMBERS[0]


def with_members(lab: Lab, directory: Path, members: list[str]) -> None:
    """Give the pool `talk` these members."""
    topology = yaml.safe_load(lab.ctl("export"))
    topology["balancers"]["talk"]["members"] = members
    file = directory / "topology.yaml"
    file.write_text(yaml.safe_dump(topology))
    lab.ctl("apply", "-f", str(file))


@contextlib.contextmanager
def sick(lab: Lab, vm: str) -> Iterator[None]:
    """Let a VM hear nothing for a while."""
    hook = "{ type filter hook input priority 0; policy drop; }"
    lab.exec(vm, ["nft", "add table inet sick"])
    lab.exec(vm, ["nft", f"add chain inet sick in {hook}"])
    try:
        yield
    finally:
        lab.exec(vm, ["nft", "delete table inet sick"])


def health(lab: Lab, member: str) -> tuple[str, str]:
    """Return what is said of a member, and the host that found it."""
    shown = lab.ctl("--format", "json", "show", "balancer", "public")
    for row in json.loads(shown)["balancer"]["public"]["members"]:
        if row["address"] == f"{member}:8080":
            word, _, host = row["health"].partition(" (seen by ")
            return word, host.rstrip(")")
    return "", ""


def test_another_host_looks_when_the_agent_of_the_first_one_dies(lab: Lab) -> None:
    assert wait(lambda: health(lab, "10.0.1.12")[0] == "up")
    _, first = health(lab, "10.0.1.12")
    vm, member = ("vm3", "10.0.1.13") if first == "h2" else ("vm2", "10.0.1.12")
    lab.kill(first, "agent")
    try:
        with sick(lab, vm):
            assert wait(lambda: health(lab, member)[0] == "down")
            assert health(lab, member)[1] != first
    finally:
        lab.restore(first, "agent")
        lab.wait_ready()
    assert wait(lambda: health(lab, "10.0.1.12")[0] == "up", 15)
    assert wait(lambda: health(lab, "10.0.1.13")[0] == "up", 15)


def test_a_sick_member_gets_nothing_until_it_is_well(lab: Lab) -> None:
    def answers(count: int = 10) -> set[str]:
        return {curl(lab, "server", "203.0.113.80")[0] for _ in range(count)}

    with sick(lab, "vm3"):
        assert wait(lambda: answers(6) == {"10.0.1.12"})
        assert answers() == {"10.0.1.12"}
    assert wait(lambda: answers() == MEMBERS[0], 15)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_sessions_outlive_their_gateway_and_a_changed_pool(
    lab: Lab, protocol: str, tmp_path: Path
) -> None:
    sessions = [start(lab, "server", protocol, "203.0.113.80") for _ in range(6)]
    try:
        assert all(session.exchange().ok for session in sessions)
        with_members(lab, tmp_path, ["10.0.1.11", "10.0.1.12"])
        results = [session.exchange() for session in sessions]
        assert all(result.ok for result in results), results
        gateway = gateway_of(lab)
        lab.kill(gateway, "host")
        try:
            assert wait(lambda: gateway_of(lab) != gateway)
            results = [session.exchange() for session in sessions]
            assert all(result.ok for result in results), results
        finally:
            lab.restore(gateway, "host")
            lab.wait_ready()
    finally:
        for session in sessions:
            session.close()
        with_members(lab, tmp_path, ["10.0.1.12", "10.0.1.13"])
