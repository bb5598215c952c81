# SPDX-License-Identifier: Apache-2.0
"""What a tenant of five hosts may do that single devices' tests do not: all at once."""

from __future__ import annotations

import copy
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from midoryu.lab.lab import Lab
from tests.functional.lab_tools import LABS, LabMaker, echo, opened, send_frames, wait
from tests.helpers import frames

SERVER = {4: "198.51.100.10", 6: "2001:db8:ff::10"}
VIP = {4: "203.0.113.80", 6: "2001:db8:113::80"}
VIP_OUTSIDE = {4: "203.0.113.90", 6: "2001:db8:113::90"}
FLOATING = {4: "203.0.113.30", 6: "2001:db8:113::30"}
A1 = {4: "10.0.1.11", 6: "fd00:1::11"}
FAMILIES = pytest.mark.parametrize("family", [4, 6])
# UDP clients of many ports, one after the other: HOST PORT FIRST COUNT.
CALLERS = """
import socket, sys, time
host, port, first, count = sys.argv[1], *map(int, sys.argv[2:])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
answered = 0
for number in range(first, first + count):
    caller = socket.socket(family, socket.SOCK_DGRAM)
    caller.settimeout(2)
    caller.bind(("", number))
    caller.connect((host, port))
    caller.send(b"x\\n")
    answered += caller.recv(100) == b"x\\n"
print(answered)
"""
# Connections from one port, all open at once: PROTOCOL SPORT HOST PORT HOST PORT...
TWINS = """
import socket, sys
protocol, sport, *targets = sys.argv[1:]
kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
twins = []
for host, port in zip(targets[::2], targets[1::2]):
    twin = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    twin.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    twin.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    twin.settimeout(3)
    twin.bind(("", int(sport)))
    twin.connect((host, int(port)))
    twins.append((host.encode() + b"\\n", twin))
for line, twin in twins * 3:
    twin.send(line)
    assert twin.recv(100) == line
print("ok")
"""
# One TCP connection from a port, closed with a reset: HOST PORT SPORT.
ONCE = """
import socket, struct, sys
host, port, sport = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
one.settimeout(3)
one.bind(("", sport))
one.connect((host, port))
one.send(b"x\\n")
one.recv(10)
one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
"""


class Tenant:
    """The lab, and its topology for a test to change."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        text = (LABS / "tenant.yaml").read_text()
        self.first: dict[str, Any] = yaml.safe_load(text)["topology"]
        self.topology = copy.deepcopy(self.first)

    def apply(self) -> None:
        path = self.lab.store.directory / "changed.yaml"
        path.write_text(yaml.safe_dump(self.topology))
        self.lab.ctl("apply", "-f", str(path))

    def python(self, machine: str, text: str, *words: object) -> str:
        command = [sys.executable, "-c", text, *map(str, words)]
        return self.lab.exec(machine, command).stdout.strip()

    def forget_flows(self) -> None:
        mask = "cookie=0x6d03000000000000/0xffff000000000000"
        for host in self.lab.hosts:
            self.lab.host(host).ovs_ofctl("del-flows", mask)


@pytest.fixture(scope="module")
def lab(module_lab: LabMaker) -> Lab:
    return module_lab(LABS / "tenant.yaml")


@pytest.fixture
def tenant(lab: Lab) -> Iterator[Tenant]:
    tenant = Tenant(lab)
    yield tenant
    if tenant.topology != tenant.first:
        tenant.topology = tenant.first
        tenant.apply()


def ways(
    tenant: Tenant, machine: str, host: str, first: int, count: int = 100
) -> dict[int, set[str]]:
    """Let many ports call a server; return by which uplink each call left."""
    caught = {
        name: tenant.lab.capture("upstream", name, f"udp and dst host {host}")
        for name in ("gw1", "gw2")
    }
    with caught["gw1"], caught["gw2"]:
        assert tenant.python(machine, CALLERS, host, 7007, first, count) == str(count)
    found: dict[int, set[str]] = {}
    at = 54 if ":" in host else 34
    for name, capture in caught.items():
        for frame in capture.frames():
            port = int.from_bytes(frame.data[at : at + 2], "big")
            found.setdefault(port, set()).add(name)
    return found


@FAMILIES
def test_uplinks_share_connections_by_weight_and_keep_them(
    tenant: Tenant, family: int
) -> None:
    first = ways(tenant, "a1", SERVER[family], 20000)
    shares = Counter(name for (name,) in first.values())
    assert len(first) == 100
    assert 60 < shares["gw1"] < 90

    tenant.forget_flows()
    assert ways(tenant, "a1", SERVER[family], 20000) == first

    for route in tenant.topology["routers"]["provider"]["routes"]:
        route.pop("weight", None)
    tenant.apply()
    tenant.forget_flows()
    assert ways(tenant, "a1", SERVER[family], 20000) == first
    fresh = ways(tenant, "a1", SERVER[family], 21000)
    assert 30 < Counter(name for (name,) in fresh.values())["gw1"] < 70


def test_a_route_for_a_source_goes_before_one_for_all(tenant: Tenant) -> None:
    tenant.topology["routers"]["provider"]["routes"].append(
        {"to": "0.0.0.0/0", "from": "10.0.1.12/32", "via": "192.0.2.5"}
    )
    tenant.apply()
    assert wait(
        lambda: (
            set(map(tuple, ways(tenant, "a2", SERVER[4], 22000, 10).values()))
            == {("gw2",)}
        )
    )
    others = ways(tenant, "a1", SERVER[4], 22000, 40)
    assert {name for names in others.values() for name in names} == {"gw1", "gw2"}


@pytest.mark.parametrize("uplink", ["gw1", "gw2"])
def test_answers_leave_by_the_uplink_that_the_call_came_by(
    tenant: Tenant, uplink: str
) -> None:
    lab, via = tenant.lab, {"gw1": "192.0.2.2", "gw2": "192.0.2.6"}
    lab.exec("upstream", f"ip route replace 10.0.0.0/16 via {via[uplink]}")
    other = {"gw1": "gw2", "gw2": "gw1"}[uplink]
    first = {"gw1": 23000, "gw2": 23100}[uplink]
    try:
        with lab.capture("upstream", other, "udp src port 7007") as wrong:
            assert tenant.python("server", CALLERS, A1[4], 7007, first, 40) == "40"
    finally:
        lab.exec("upstream", "ip route replace 10.0.0.0/16 via 192.0.2.2")
    assert wrong.frames() == []


def test_machines_that_route_share_what_goes_by_them(tenant: Tenant) -> None:
    lab = tenant.lab
    shown = lab.exec("b1", ["sh", "-c", "ping -c1 10.0.2.1; ip neigh"]).stdout.split()
    to = shown[shown.index("lladdr") + 1]
    sent = [
        frames.udp(
            "10.0.2.11", "10.50.0.5", sport, 9, eth_dst=to, eth_src="02:00:00:00:02:11"
        )  # fmt: skip
        for sport in range(7100, 7140)
    ]

    def seen() -> dict[str, set[bytes]]:
        caught = {vm: lab.capture(vm, "eth0", "udp dst port 9") for vm in ("a1", "a3")}
        with caught["a1"], caught["a3"]:
            send_frames(lab, "b1", "eth0", sent)
            wait(lambda: False, 0.5)
        return {vm: {f.data[34:36] for f in c.frames()} for vm, c in caught.items()}

    first = seen()
    assert len(first["a1"] | first["a3"]) == 40
    assert min(len(first["a1"]), len(first["a3"])) > 8
    tenant.forget_flows()
    assert seen() == first


@FAMILIES
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("machine", ["a1", "b1"], ids=["own address", "floating"])
@pytest.mark.parametrize("order", [1, -1], ids=["VIP first", "direct first"])
def test_one_port_calls_a_server_outside_by_a_vip_and_straight(
    tenant: Tenant, machine: str, protocol: str, family: int, order: int
) -> None:
    targets = [(VIP_OUTSIDE[family], 80), (SERVER[family], 7007)][::order]
    case = (machine == "a1") + 2 * (protocol == "tcp") + 4 * (order == 1)
    words = [word for target in targets for word in target]
    sport = 24000 + 10 * case + family
    assert tenant.python(machine, TWINS, protocol, sport, *words) == "ok"


@FAMILIES
@pytest.mark.parametrize("machine", ["server", "a1"])
def test_a_port_calls_a_vip_again_after_its_member_has_left(
    tenant: Tenant, machine: str, family: int
) -> None:
    sport = 25000 + family + 10 * (machine == "a1")
    members = dict(zip(("a2", "a3"), tenant.topology["balancers"]["inside"]["members"]))
    if family == 6:
        both = tenant.topology["balancers"]["inside"]["members"][2:]
        members = dict(zip(("a2", "a3"), both))

    def called() -> list[str]:
        what = "tcp dst port 7007" if family == 4 else "ip6 and tcp dst port 7007"
        caught = {vm: tenant.lab.capture(vm, "eth0", what) for vm in members}
        with caught["a2"], caught["a3"]:
            tenant.python(machine, ONCE, VIP[family], 80, sport)
        return [vm for vm, capture in caught.items() if capture.frames()]

    (first,) = called()
    tenant.topology["balancers"]["inside"]["members"].remove(members[first])
    tenant.apply()

    assert wait(lambda: called() == [vm for vm in members if vm != first])


def test_refusals_behind_translations_are_told(tenant: Tenant) -> None:
    tenant.topology["chains"]["no"] = {
        "rules": [{"reject": True, "proto": one} for one in ("tcp", "udp")]
    }
    tenant.topology["networks"]["db"]["ports"]["b1"]["egress"] = "no"
    for name in ("a2", "a3"):
        tenant.topology["networks"]["web"]["ports"][name]["egress"] = "no"
    tenant.topology["balancers"]["inner"] = {
        "network": "web",
        "vips": ["10.0.1.80:80/tcp", "[fd00:1::80]:80/tcp"],
        "members": tenant.topology["balancers"]["inside"]["members"],
    }
    tenant.apply()
    calls = [
        ("server", FLOATING[4], 7007), ("server", FLOATING[6], 7007),
        ("server", VIP[4], 80), ("server", VIP[6], 80),
        ("a1", "10.0.1.80", 80), ("a1", "fd00:1::80", 80), ("b2", "10.0.1.80", 80),
    ]  # fmt: skip
    for machine, address, port in calls:
        told = echo(tenant.lab, machine, "tcp", address, port)
        assert "refused" in told, (machine, address, told)
    for address in FLOATING.values():
        told = echo(tenant.lab, "server", "udp", address)
        assert "lost" in told, told
        assert "timed out" not in told, told


def test_groups_of_ten_thousand_follow_one_member(tenant: Tenant) -> None:
    many = [f"172.16.{number >> 8}.{number & 255}/32" for number in range(0, 20000, 2)]
    tenant.topology["groups"]["many"] = [*many, "10.0.1.11"]
    tenant.apply()
    assert wait(lambda: echo(tenant.lab, "a1", "tcp", "10.0.2.12") == "ok")
    assert echo(tenant.lab, "a2", "tcp", "10.0.2.12") != "ok"

    with opened(tenant.lab, "a1", "tcp", "10.0.2.12") as session:
        assert session.exchange().ok
        tenant.topology["groups"]["many"].append("10.0.1.12")
        tenant.apply()
        assert wait(lambda: echo(tenant.lab, "a2", "tcp", "10.0.2.12") == "ok", 5)
        assert session.exchange().ok
        tenant.topology["groups"]["many"].remove("10.0.1.11")
        tenant.apply()
        assert wait(lambda: not session.exchange().ok, 5)
