# SPDX-License-Identifier: Apache-2.0
"""The lab itself: with plain switching in place of agents."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

import pytest

from midoryu.lab.error import LabError
from midoryu.lab.lab import Lab, take_down
from midoryu.lab.store import Store

ROOT = Path(__file__).parents[2]
NETNS = Path("/run/netns")
LabMaker = Callable[..., Lab]


def plain_lab() -> dict[str, Any]:
    return {
        "hosts": ["node1", "node2"],
        "vms": {
            "vm1": {"host": "node1", "ip": ["10.0.0.1/24", "fd00:1::1/64"]},
            "vm2": {"host": "node1", "ip": ["10.0.0.2/24", "fd00:1::2/64"]},
        },
        "outside": {
            "router": {
                "forward": True,
                "interfaces": {"a": "192.0.2.1/24", "b": "198.51.100.1/24"},
            },
            "client": {"interfaces": {"eth0": "192.0.2.2/24"}, "gateway": "192.0.2.1"},
            "server": {
                "interfaces": {"eth0": "198.51.100.2/24"},
                "gateway": "198.51.100.1",
                "run": ["exec socat TCP-LISTEN:80,fork,reuseaddr EXEC:'echo hello'"],
            },
        },
        "links": [["router/a", "client/eth0"], ["router/b", "server/eth0"]],
    }


@pytest.fixture(scope="module")
def lab(module_lab: LabMaker) -> Lab:
    return module_lab(plain_lab(), agents=False)


def namespaces_of(lab: Lab) -> list[str]:
    return [p.name for p in NETNS.glob(f"{lab.store.name}.*")]


def answers(lab: Lab, machine: str, ip: str, count: int = 1) -> bool:
    ping = ["ping", "-c", str(count), "-i", "0.05", "-W", "1", ip]
    return lab.exec(machine, ping, check=False).returncode == 0


def test_vms_of_one_host_reach_each_other_once_flows_say_so(lab: Lab) -> None:
    assert not answers(lab, "vm1", "10.0.0.2")

    lab.host("node1").ovs_ofctl("add-flow", "actions=NORMAL")

    # The first ones wait for the kernel's next ARP request, up to a second.
    assert answers(lab, "vm1", "10.0.0.2", count=20)
    assert answers(lab, "vm1", "fd00:1::2", count=20)


def test_interface_is_plugged_in_under_its_iface_id(lab: Lab) -> None:
    found = lab.host("node1").ovs_vsctl(
        "--bare", "--columns=name", "find", "interface", "external_ids:iface-id=vm1"
    )

    assert found.strip() == lab.spec.plugs("node1")[0].device


def test_hosts_reach_each_other_over_the_underlay_with_its_mtu(lab: Lab) -> None:
    big = ["ping", "-c", "1", "-W", "2", "-M", "do", "-s", str(1600 - 28), "172.31.0.2"]

    assert lab.exec("node1", big).returncode == 0


def test_outside_router_forwards(lab: Lab) -> None:
    result = lab.exec("client", "socat - TCP:198.51.100.2:80,connect-timeout=2")

    assert result.stdout == "hello\n"


def test_capture_sees_the_frames(lab: Lab) -> None:
    with lab.capture("client", expression="icmp") as capture:
        answers(lab, "client", "192.0.2.1")

    assert [frame.data[34] for frame in capture.frames()] == [8, 0]


def test_capture_with_a_wrong_filter_says_so(lab: Lab) -> None:
    with pytest.raises(LabError, match="syntax error"):
        lab.capture("client", expression="no such filter").__enter__()


def test_total_loss_cuts_a_host_off_until_it_ends(lab: Lab) -> None:
    lab.loss("node2", 100)
    assert not answers(lab, "node1", "172.31.0.2")

    lab.loss("node2", 0)
    assert answers(lab, "node1", "172.31.0.2")


def test_loss_of_state_packets_spares_the_others(lab: Lab) -> None:
    lab.loss("node2", 100, state_only=True)
    state = ["ping", "-c", "1", "-W", "1", "-Q", "0xb8", "172.31.0.2"]

    assert lab.exec("node1", state, check=False).returncode != 0
    assert answers(lab, "node1", "172.31.0.2")
    lab.loss("node2", 0)


def test_partial_loss_drops_about_its_share(lab: Lab) -> None:
    lab.loss("node2", 30)
    ping = "ping -q -c 200 -i 0.002 -W 1 172.31.0.2"
    text = lab.exec("node1", ping, check=False).stdout
    lab.loss("node2", 0)

    received = int(text.split(" received")[0].split()[-1])
    # Each ping crosses twice: 49 % of 200 are expected, six sigma allowed for.
    assert 56 <= received <= 140


def test_cut_link_is_silent_and_comes_back(lab: Lab) -> None:
    lab.kill("node2", "link")
    assert not answers(lab, "node1", "172.31.0.2")
    state = lab.exec("node2", "cat /sys/class/net/underlay/carrier").stdout
    assert state == "1\n"

    lab.restore("node2", "link")
    assert answers(lab, "node1", "172.31.0.2")


@pytest.mark.parametrize("part", ["ovs", "host"])
def test_killed_part_comes_back(lab: Lab, part: str) -> None:
    lab.kill("node2", part)
    assert lab.status()["hosts"]["node2"]["ovs"] is False
    assert not answers(lab, "node1", "172.31.0.2")

    lab.restore("node2", part)
    assert lab.status()["hosts"]["node2"]["ovs"] is True
    assert answers(lab, "node1", "172.31.0.2", count=3)


def test_unknown_names_are_refused_with_those_that_exist(lab: Lab) -> None:
    with pytest.raises(LabError, match="there are: node1, node2, vm1"):
        lab.exec("vm9", "true")
    with pytest.raises(LabError, match="parts: agent, ovs, host, link"):
        lab.kill("node1", "everything")


def test_second_up_of_a_running_lab_is_refused_and_harms_nothing(lab: Lab) -> None:
    again = Lab(plain_lab(), name=lab.store.name, agents=False)

    with pytest.raises(LabError, match="is up already"):
        again.up()

    assert answers(lab, "client", "198.51.100.2")


def test_attached_lab_is_the_same(lab: Lab) -> None:
    found = Lab.attach(lab.store.name)

    assert found.spec == lab.spec
    assert found.exec("vm1", "hostname -I").stdout.split()[0] == "10.0.0.1"


def test_down_ends_processes_and_removes_namespaces_and_files(
    make_lab: LabMaker,
) -> None:
    lab = make_lab(plain_lab(), agents=False)
    child = lab.popen("vm1", "sleep 1000")
    pid = int((lab.host("node1").directory / "ovs" / "ovs-vswitchd.pid").read_text())
    assert len(namespaces_of(lab)) == 9

    lab.down()
    lab.down()

    assert namespaces_of(lab) == []
    assert not lab.store.directory.exists()
    assert child.returncode == -signal.SIGKILL
    assert not Path(f"/proc/{pid}").exists()


def test_failure_in_the_middle_leaves_nothing(make_lab: LabMaker) -> None:
    wrong = plain_lab()
    wrong["outside"]["client"]["setup"] = ["echo went wrong >&2; false"]
    lab = Lab(wrong, name="fails", agents=False)

    with pytest.raises(LabError, match="client: setup .* failed: went wrong"):
        lab.up()

    assert namespaces_of(lab) == []
    assert not lab.store.directory.exists()


def test_namespace_of_somebody_else_is_left_alone() -> None:
    lab = Lab({"hosts": ["a"]}, name="taken", agents=False)
    subprocess.run(["ip", "netns", "add", "taken.a"], check=True)
    try:
        with pytest.raises(LabError, match="`taken.a` exists already"):
            lab.up()
        assert (NETNS / "taken.a").exists()
        assert not lab.store.directory.exists()
    finally:
        subprocess.run(["ip", "netns", "del", "taken.a"], check=True)


@pytest.mark.parametrize("delay_s", [0.1, 0.2, 0.3, 0.4])
@pytest.mark.parametrize("then", ["down", "up"])
def test_killed_up_leaves_nothing_that_stands_in_the_way(
    tmp_path: Path, delay_s: float, then: str
) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text("hosts: [a, b, c]\nvms: {vm1: {host: a, ip: 10.0.0.1/24}}\n")
    command = [sys.executable, "-m", "midoryu.lab", "up", "--name", "crash"]
    up = subprocess.Popen(
        [*command, "--no-agents", str(file)], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    time.sleep(delay_s)
    up.kill()
    up.wait()

    if then == "up" and not is_up("crash"):
        with Lab(file, name="crash", agents=False) as lab:
            assert lab.status()["hosts"]["a"]["ovs"] is True
    take_down(Store("crash"))

    assert list(NETNS.glob("crash.*")) == []
    assert not Store("crash").directory.exists()


def is_up(name: str) -> bool:
    plan = Store(name).plan()
    return plan is not None and plan.phase == "up"


def test_labs_of_different_names_live_side_by_side(
    lab: Lab, make_lab: LabMaker
) -> None:
    other = make_lab(plain_lab(), agents=False)
    other.exec("vm1", "ip link set eth0 down")

    assert lab.exec("vm1", "cat /sys/class/net/eth0/operstate").stdout == "up\n"


def test_ipv6_underlay(make_lab: LabMaker) -> None:
    lab = make_lab(
        {"hosts": ["a", "b"], "underlay": {"subnet": "fd00:aa::/64"}}, agents=False
    )

    assert answers(lab, "a", "fd00:aa::2", count=2)


def test_signal_during_up_cleans_up(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text("hosts: [a]\noutside: {m: {setup: [sleep 20]}}\n")
    command = [sys.executable, "-m", "midoryu.lab", "up", "--name", "signal"]
    up = subprocess.Popen(
        [*command, "--no-agents", str(file)], cwd=ROOT, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 10
    while not (NETNS / "signal.m").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(up.pid, signal.SIGTERM)
    up.communicate(timeout=30)

    assert list(NETNS.glob("signal.*")) == []
    assert not Store("signal").directory.exists()
