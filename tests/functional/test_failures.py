# SPDX-License-Identifier: Apache-2.0
"""Daemons die by kill -9 under thirty established connections, and come back."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from midoryu.cli.exit_code import UNREACHABLE
from midoryu.lab.lab import Lab
from midoryu.lab.session import Session
from midoryu.lab.shell import program, run
from tests.functional.lab_tools import LABS as OWN_LABS
from tests.functional.lab_tools import SERVE, LabMaker, echo, start, wait

FOUR_HOSTS = OWN_LABS.parents[2] / "tools" / "labs" / "four-hosts.yaml"
SERVER, DNAT = "198.51.100.10", "203.0.113.20"
MASQUERADED = 20
FROM_OUTSIDE = 10


@pytest.fixture(scope="module")
def lab(module_lab: LabMaker) -> Lab:
    spec = yaml.safe_load(FOUR_HOSTS.read_text())
    spec["outside"]["server"]["run"] = [SERVE]
    spec["vms"]["vm3"]["run"] = [SERVE]
    return module_lab(spec)


@pytest.fixture(scope="module")
def sessions(lab: Lab) -> Iterator[list[Session]]:
    """Thirty connections: out through masquerade, and in through DNAT."""
    opened = [start(lab, "vm2", "tcp", SERVER) for _ in range(MASQUERADED)]
    opened += [start(lab, "server", "tcp", DNAT) for _ in range(FROM_OUTSIDE)]
    assert all(session.is_open for session in opened)
    yield opened
    for session in opened:
        session.close()


@pytest.fixture(autouse=True)
def _whole(lab: Lab) -> Iterator[None]:
    yield
    lab.restore("nsdb")
    for host in lab.hosts:
        lab.restore(host, "host")
    lab.wait_ready()


class Stream:
    """A steady UDP flow through masquerade, both ways; counts what is lost."""

    def __init__(self, lab: Lab) -> None:
        old = self._records(lab)
        self._server = lab.popen("server", ["iperf3", "-s", "-1", "-p", "5300"])
        assert wait(lambda: "5300" in lab.exec("server", "ss -Hltn").stdout)
        rate = ["--bidir", "-b", "200k", "-l", "100", "-t", "6", "-J"]
        command = ["iperf3", "-u", "-c", SERVER, "-p", "5300", *rate]
        self._client = lab.popen("vm2", command)
        # Both ways are flows of their own, and there is a control connection.
        assert wait(lambda: len(self._records(lab) - old) >= 3)

    @staticmethod
    def _records(lab: Lab) -> set[str]:
        return {
            record["id"]
            for record in lab.agent_query("node2", "records")
            if record["original"]["destination_port"] == 5300
        }

    def lost(self) -> dict[str, int]:
        """Wait for its end; return the packets that are lost, each way, with all."""
        text, _ = self._client.communicate(timeout=20)
        self._server.communicate(timeout=20)
        end = json.loads(text)["end"]
        ways = ("sum", "sum_bidir_reverse")
        assert all(end[way]["packets"] > 1000 for way in ways), text
        return {way: int(end[way]["lost_packets"]) for way in ways}


def broken(sessions: list[Session]) -> list[str]:
    """Use every session at once; return what went wrong."""
    with ThreadPoolExecutor(len(sessions)) as pool:
        results = list(pool.map(lambda session: session.exchange(), sessions))
    return [result.detail for result in results if not result.ok]


def retransmitted(lab: Lab, machine: str) -> int:
    """Return how many TCP segments a machine had to send again."""
    text = lab.exec(machine, "nstat -asz TcpRetransSegs").stdout
    return int(float(text.split("TcpRetransSegs")[1].split()[0]))


def kill_daemon(lab: Lab, host: str, daemon: str) -> None:
    pid = int((lab.host(host).directory / "ovs" / f"{daemon}.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    assert wait(lambda: not lab.host(host).is_running(daemon))


@pytest.mark.parametrize("before", [True, False])
def test_flow_state_tells_of_records_and_peers(
    lab: Lab, sessions: list[Session], before: bool
) -> None:
    socket = str(lab.host("node2").control_socket)

    def ask(action: str) -> Any:
        formats, own = ["--format", "json"], ["flow-state", action, "--agent", socket]
        words = [*formats, *own] if before else [*own, *formats]
        return json.loads(run([program("midoryu-ctl"), *words]).stdout)

    record = ask("list")[0]
    assert record["owner"] == "node2"
    assert "node4" in record["interested"]
    for peer in ("node1", "node4"):
        told = ask("peers")[peer]
        assert {"gaps", "repaired", "repairs", "lag", "refusals"} <= told.keys()
        assert told["synced"]
    assert ask("stats")["engine"]["records"] >= MASQUERADED


def test_no_agent_is_no_answer(lab: Lab) -> None:
    nobody = str(lab.host("node2").directory / "nobody.sock")
    command = [program("midoryu-ctl"), "flow-state", "stats", "--agent", nobody]
    assert run(command, check=False).returncode == UNREACHABLE


@pytest.mark.parametrize("host", ["node1", "node2", "node3", "node4"])
def test_killed_agent_costs_established_connections_no_packet(
    lab: Lab, sessions: list[Session], host: str
) -> None:
    assert broken(sessions) == []
    before = retransmitted(lab, "vm2") + retransmitted(lab, "server")
    stream = Stream(lab)

    lab.kill(host, "agent")
    assert broken(sessions) == []
    assert broken(sessions) == []
    lab.restore(host, "agent")
    assert broken(sessions) == []
    lab.wait_ready()
    assert broken(sessions) == []

    assert set(stream.lost().values()) == {0}
    assert retransmitted(lab, "vm2") + retransmitted(lab, "server") == before


def test_new_connections_work_once_killed_agents_are_back(
    lab: Lab, sessions: list[Session]
) -> None:
    for host in lab.hosts:
        lab.kill(host, "agent")
        lab.restore(host, "agent")
    lab.wait_ready()

    assert echo(lab, "vm2", "tcp", SERVER) == "ok"
    assert echo(lab, "server", "tcp", DNAT, 7007) == "ok"
    assert broken(sessions) == []


@pytest.mark.parametrize("host", ["node1", "node2", "node3"])
def test_killed_vswitchd_loses_no_connection(
    lab: Lab, sessions: list[Session], host: str
) -> None:
    kill_daemon(lab, host, "ovs-vswitchd")
    lab.restore(host, "ovs")
    lab.wait_ready()

    assert wait(lambda: echo(lab, "vm2", "tcp", SERVER) == "ok")
    assert wait(lambda: broken(sessions) == [])


def test_killed_local_ovsdb_loses_no_connection(
    lab: Lab, sessions: list[Session]
) -> None:
    # The userspace datapath stands still until ovs-vswitchd, which backs off up to
    # eight seconds, has its database again.
    kill_daemon(lab, "node2", "ovsdb-server")
    lab.restore("node2", "ovs")
    lab.wait_ready()

    assert wait(lambda: echo(lab, "vm2", "tcp", SERVER) == "ok", 20)
    assert wait(lambda: broken(sessions) == [], 20)


def test_new_connections_go_on_without_the_nsdb(
    lab: Lab, sessions: list[Session]
) -> None:
    lab.kill("nsdb")

    assert echo(lab, "vm2", "tcp", SERVER) == "ok"
    assert echo(lab, "vm2", "udp", SERVER) == "ok"
    assert echo(lab, "server", "tcp", DNAT) == "ok"
    assert broken(sessions) == []

    lab.restore("nsdb")
    assert wait(lambda: "tenant" in lab.ctl("show"))
    assert echo(lab, "vm2", "tcp", SERVER) == "ok"


def test_changes_made_after_the_nsdb_came_back_are_heard(lab: Lab) -> None:
    lab.kill("nsdb")
    lab.restore("nsdb")
    address = "203.0.113.30"
    spec = yaml.safe_load(FOUR_HOSTS.read_text())["topology"]
    first = lab.store.directory / "first.yaml"
    first.write_text(yaml.safe_dump(spec))
    spec["routers"]["tenant"]["floating"] = [{"address": address, "to": "10.0.1.12"}]
    del spec["networks"]["web"]["ports"]["vm2"]["egress"]
    changed = lab.store.directory / "changed.yaml"
    changed.write_text(yaml.safe_dump(spec))

    lab.ctl("apply", "-f", str(changed))
    ping = ["ping", "-c", "1", "-W", "1", address]
    reached = wait(lambda: lab.exec("server", ping, check=False).returncode == 0)
    lab.ctl("apply", "-f", str(first))

    assert reached


def test_lost_gateway_host_loses_no_connection(
    lab: Lab, sessions: list[Session]
) -> None:
    lab.exec("upstream", "ip route replace 203.0.113.0/24 via 192.0.2.6")
    lab.kill("node1", "host")

    assert wait(lambda: broken(sessions) == [], 20)
    assert echo(lab, "vm2", "tcp", SERVER) == "ok"

    lab.restore("node1", "host")
    lab.wait_ready()
    lab.exec("upstream", "ip route replace 203.0.113.0/24 via 192.0.2.2")
    assert wait(lambda: broken(sessions) == [], 20)


def test_agent_of_a_stopped_switch_comes_back_by_itself(lab: Lab) -> None:
    lab.kill("node2", "ovs")
    assert lab.host("node2").is_running("agent")
    lab.restore("node2", "ovs")
    lab.wait_ready()

    assert wait(lambda: echo(lab, "vm2", "tcp", SERVER) == "ok")
