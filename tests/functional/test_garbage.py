# SPDX-License-Identifier: Apache-2.0
"""Garbage at every door: nothing dies, it is counted, and the traffic goes on."""

from __future__ import annotations

import json
import random
import socket
import sys
from typing import Any

import pytest

from midoryu.lab.error import LabError
from midoryu.lab.lab import Lab
from tests.functional.lab_tools import (
    LABS,
    LabMaker,
    added,
    counters,
    echo,
    pings,
    send_frames,
    wait,
)
from tests.helpers import frames

SEED = 20
VM = "02:00:00:00:01:11"
BROADCAST = "ff:ff:ff:ff:ff:ff"


@pytest.fixture(scope="module")
def lab(module_lab: LabMaker) -> Lab:
    return module_lab(LABS / "nat.yaml")


@pytest.fixture(autouse=True)
def _nothing_died(lab: Lab) -> Any:
    pids = agent_pids(lab)
    logged = {host: len(node.agent_log.read_text()) for host, node in lab.hosts.items()}
    yield
    assert agent_pids(lab) == pids
    for host, node in lab.hosts.items():
        assert node.is_running("agent"), host
        assert "Traceback" not in node.agent_log.read_text()[logged[host] :], host
    assert echo(lab, "vm1", "tcp", "198.51.100.10") == "ok"
    assert pings(lab, "server", "203.0.113.33", count=2) == 2


def agent_pids(lab: Lab) -> list[str]:
    return [(n.directory / "agent.pid").read_text() for n in lab.hosts.values()]


def router_mac(lab: Lab, machine: str) -> str:
    pings(lab, machine, "10.0.1.1", count=1)
    return lab.exec(machine, "ip neigh show 10.0.1.1").stdout.split("lladdr ")[1][:17]


def broken_frames(to: str) -> list[bytes]:
    """Frames that begin as those of every protocol do, and go on at random."""
    chance = random.Random(SEED)
    sound = [
        frames.tcp("10.0.1.11", "198.51.100.10", eth_src=VM, eth_dst=to, payload=b"x"),
        frames.udp("fd00:1::11", "2001:db8:ff::10", eth_src=VM, eth_dst=to),
        frames.icmp_echo("10.0.1.11", "10.0.1.1", eth_src=VM, eth_dst=to),
        frames.icmp6_echo("fd00:1::11", "fd00:1::1", eth_src=VM, eth_dst=to),
        frames.arp("10.0.1.11", "10.0.1.1", eth_src=VM),
        frames.tcp("fd00:1::11", "2001:db8:ff::10", eth_src=VM, eth_dst=to),
    ]
    made = []
    for frame in sound:
        made += [frame[:length] for length in range(14, len(frame), 3)]
        for _ in range(40):
            bytes_ = bytearray(frame)
            for _ in range(chance.randrange(1, 8)):
                bytes_[chance.randrange(12, len(bytes_))] = chance.randrange(256)
            made.append(bytes(bytes_))
    head = bytes.fromhex(to.replace(":", "") + VM.replace(":", ""))
    for _ in range(100):
        body = chance.randbytes(chance.randrange(2, 200))
        made.append(head + body)
        made.append(chance.randbytes(12) + body)
    return [frame.ljust(14, b"\0") for frame in made]


@pytest.mark.parametrize("machine", ["vm1", "vm2", "vm3"])
def test_random_frames_of_a_vm_harm_nobody(lab: Lab, machine: str) -> None:
    host = {"vm1": "h1", "vm2": "h2", "vm3": "g1"}[machine]
    before = counters(lab, host)

    send_frames(lab, machine, "eth0", broken_frames(router_mac(lab, machine)))
    send_frames(lab, machine, "eth0", broken_frames(BROADCAST))

    assert wait(lambda: added(before, counters(lab, host)).get("malformed frames"))


def test_random_frames_at_an_uplink_harm_nobody(lab: Lab) -> None:
    pings(lab, "upstream", "203.0.113.2", count=1)
    text = lab.exec("upstream", "ip neigh show 203.0.113.2").stdout
    mac = text.split("lladdr ")[1][:17]
    before = counters(lab, "g1")

    send_frames(lab, "upstream", "wan", broken_frames(mac))

    assert wait(lambda: added(before, counters(lab, "g1")).get("malformed frames"))


def gre(key: int, payload: bytes) -> bytes:
    """A GRE packet with a key (RFC 2890), to be sent from a raw IPv4 socket."""
    return b"\x20\x00\x65\x58" + key.to_bytes(4, "big") + payload


def inject(lab: Lab, host: str, target: str, packets: list[bytes]) -> None:
    program = (
        "import socket,sys\n"
        "raw=socket.socket(socket.AF_INET,socket.SOCK_RAW,47)\n"
        "[raw.sendto(bytes.fromhex(l),(sys.argv[1],0)) for l in sys.stdin]\n"
    )
    child = lab.popen(host, [sys.executable, "-c", program, target], stdin=-1)
    _, error = child.communicate("".join(f"{p.hex()}\n" for p in packets), timeout=20)
    assert child.returncode == 0, error


def state_packets(lab: Lab) -> list[bytes]:
    """True state packets, as captured on the underlay."""
    with lab.capture("h1", expression="proto gre") as capture:
        assert echo(lab, "vm1", "tcp", "198.51.100.10") == "ok"
    state = b"\x20\x00\x65\x58\x00\xff\xff\xff"
    found = [f.data[34:] for f in capture.frames() if f.data[34:42] == state]
    assert found != []
    return found


def test_garbage_at_the_state_port_is_counted_and_changes_nothing(lab: Lab) -> None:
    chance = random.Random(SEED)
    true = state_packets(lab)
    records = len(lab.agent_query("g2", "records"))
    packets = [
        gre(0xFFFFFF, chance.randbytes(chance.randrange(0, 300))) for _ in range(200)
    ]
    for packet in true:
        for at in range(8, len(packet), 7):
            packets.append(packet[:at] + bytes([packet[at] ^ 0x55]) + packet[at + 1 :])
            packets.append(packet[:at])
    before = counters(lab, "g2")

    inject(lab, "h2", lab.host("g2").host.ip, packets)

    assert wait(lambda: sum(_refused(before, counters(lab, "g2")).values()) > 100)
    assert len(lab.agent_query("g2", "records")) <= records


def _refused(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    grown = added(before, after)
    return {name: n for name, n in grown.items() if name.startswith("state packets ")}


def test_replayed_state_packets_change_nothing(lab: Lab) -> None:
    true = state_packets(lab)
    before = counters(lab, "g2")

    inject(lab, "h2", lab.host("g2").host.ip, true * 20)

    assert echo(lab, "vm1", "tcp", "198.51.100.10") == "ok"
    grown = added(before, counters(lab, "g2"))
    assert grown.get("connections imported", 0) <= 1


def test_tunnel_keys_of_no_vport_are_dropped(lab: Lab) -> None:
    frame = frames.udp("10.0.1.99", "10.0.1.11", payload=b"through the tunnel")
    with lab.capture("vm1", expression="udp") as capture:
        packets = [gre(key, frame) for key in (0, 9999, 0xFFFFFFFF, 0xFFFFFE)]
        inject(lab, "h2", lab.host("h1").host.ip, packets)
        pings(lab, "vm1", "10.0.1.1")

    assert [f for f in capture.frames() if b"through the tunnel" in f.data] == []


def test_random_bytes_at_the_openflow_port_harm_nobody(lab: Lab) -> None:
    program = (
        "import os,random,socket\n"
        "r=random.Random(7)\n"
        "hello=bytes.fromhex('0400000800000001')\n"
        "for n in range(30):\n"
        " s=socket.create_connection(('127.0.0.1',6653),2)\n"
        " s.sendall((hello if n%2 else b'')+r.randbytes(r.randrange(1,4000)))\n"
        " s.close()\n"
    )
    lab.exec("h1", [sys.executable, "-c", program])

    assert lab.agent_query("h1", "stats")["switch_connected"]
    lab.exec("vm1", "ip neigh flush all")


def test_openflow_port_is_closed_to_others(lab: Lab) -> None:
    ip = lab.host("h1").host.ip

    assert lab.exec("h2", f"nc -z -w 1 {ip} 6653", check=False).returncode == 1


GARBAGE_LINES = [
    b"\n",
    b"not json\n",
    b"[1,2]\n",
    b'{"query": 7}\n',
    b'{"query": "no such"}\n',
    b'{"query": "records", "arguments": {"address": "nonsense"}}\n',
    b'{"query": "stats", "arguments": []}\n',
    b"\xff\xfe\x00\n",
    b"[" * 5000 + b"\n",
]


@pytest.mark.parametrize("line", GARBAGE_LINES, ids=range(len(GARBAGE_LINES)))
def test_garbage_at_the_control_socket_gets_a_reason(lab: Lab, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(lab.host("h1").control_socket))
        client.sendall(line + b'{"query": "stats"}\n')
        answers = client.makefile("rb")
        first = json.loads(answers.readline())
        second = json.loads(answers.readline())

    assert first["error"]
    assert second["result"]["host"] == "h1"


def test_endless_line_at_the_control_socket_ends(lab: Lab) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(lab.host("h1").control_socket))
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            client.sendall(b"x" * 50_000_000)

    assert lab.agent_query("h1", "stats")["host"] == "h1"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("networks: [", "expected"),
        ("networks: {web: {ports: {a: {ip: 10.0.0.256}}}}", "10.0.0.256"),
        ("networks: {web: {colour: red}}", "colour"),
        ("routers: {r: {routes: [{to: 0.0.0.0/0, via: nowhere}]}}", "nowhere"),
        ("routers: {r: {ports: {a: {network: missing, ip: 10.0.0.1/24}}}}", "missing"),
        ("chains: {c: {rules: [{accept: true, ct: [sometimes]}]}}", "sometimes"),
        ("- just\n- a list\n", "list"),
    ],
)
def test_wrong_topology_file_is_refused_with_line_and_reason(
    lab: Lab, text: str, reason: str
) -> None:
    path = lab.store.directory / "wrong.yaml"
    path.write_text(text)
    before = lab.ctl("export")

    with pytest.raises(LabError, match=r"wrong\.yaml:\d+") as refused:
        lab.ctl("apply", "-f", str(path))

    assert reason in str(refused.value)
    assert "Traceback" not in str(refused.value)
    assert lab.ctl("export") == before


@pytest.mark.parametrize(
    ("section", "option", "value"),
    [
        ("agent", "local_ip", "not an address"),
        ("agent", "openflow_port", "70000"),
        ("agent", "tunnel_type", "pigeon"),
        ("nsdb", "connection", "carrier:pigeon"),
        ("flow_state", "key_file", "/nowhere/key"),
        ("flow_state", "dscp", "64"),
    ],
)
def test_wrong_setting_ends_the_agent_with_one_clear_line(
    lab: Lab, section: str, option: str, value: str
) -> None:
    config = lab.host("h1").agent_config()
    lines = [line for line in config.splitlines() if not line.startswith(f"{option} ")]
    if f"[{section}]" not in lines:
        lines.append(f"[{section}]")
    lines.insert(lines.index(f"[{section}]") + 1, f"{option} = {value}")
    path = lab.store.directory / "wrong.conf"
    path.write_text("\n".join(lines) + "\n")
    command = ["timeout", "20", "ryu-manager", "--config-file", str(path)]

    result = lab.exec("nsdb", [*command, "midoryu.agent"], check=False)

    said = result.stdout + result.stderr
    assert result.returncode not in (0, 124), said
    assert option in said or value in said
    assert "Traceback" not in said


def test_yaml_bomb_is_refused(lab: Lab) -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    text = "\n".join(["a0: &a0 [x, x]", *levels, "networks: *a11"])
    path = lab.store.directory / "wrong.yaml"
    path.write_text(text)

    with pytest.raises(LabError):
        lab.ctl("apply", "-f", str(path))
