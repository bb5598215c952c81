# SPDX-License-Identifier: Apache-2.0
"""The example labs come up with agents and do what their first lines promise."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest
import yaml

from midoryu.cli import ctl
from midoryu.lab.error import LabError
from midoryu.lab.lab import Lab

LABS = Path(__file__).parents[2] / "tools" / "labs"
LabMaker = Callable[..., Lab]

PING = "ping -c 3 -i 0.2 -W 2"
# A server may take a moment more than the lab to be there.
CURL = "curl -s --max-time 5 --retry 5 --retry-delay 1 --retry-connrefused"


@pytest.mark.parametrize(
    ("file", "machine", "command", "said"),
    [
        ("two-hosts.yaml", "vm1", f"{PING} 10.0.1.12", "3 received"),
        ("ipv6.yaml", "vm1", f"{PING} 2001:db8:2::12", "3 received"),
        ("ipv6.yaml", "vm1", f"{PING} 2001:db8:ff::10", "3 received"),
        ("four-hosts.yaml", "vm2", f"{CURL} 198.51.100.10", "hello from server"),
        ("four-hosts.yaml", "server", f"{CURL} 203.0.113.20", "hello from vm3"),
    ],
)
def test_example_does_what_it_says(
    make_lab: LabMaker, file: str, machine: str, command: str, said: str
) -> None:
    lab = make_lab(LABS / file)

    result = lab.exec(machine, command, check=False)

    assert said in result.stdout, result.stdout + result.stderr


def test_a_trace_says_where_a_packet_goes(
    make_lab: LabMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = make_lab(LABS / "four-hosts.yaml")
    agent = f"--agent={lab.host('node2').directory / 'agent.sock'}"
    assert "hello" in lab.exec("vm2", f"{CURL} 198.51.100.10").stdout

    ends = ["tcp", "10.0.1.12:4000"]
    assert ctl.main(["trace", "web/vm2", *ends, "198.51.100.10:80", agent]) == 0
    out = capsys.readouterr().out
    assert "leaves by   provider/uplink1 at node1" in out
    assert "leaves as   tcp 203.0.113.10:" in out
    assert ctl.main(["trace", "web/vm2", *ends, "10.0.1.13:22", agent]) == 0
    assert "outcome     drop: a filter dropped it" in capsys.readouterr().out
    assert ctl.main(["trace", "web/vm9", *ends, "10.0.1.13:22", agent]) == 1
    assert "there is no vport 'web/vm9'" in capsys.readouterr().err


def test_agent_comes_back_with_its_vports(make_lab: LabMaker) -> None:
    lab = make_lab(LABS / "two-hosts.yaml")

    lab.kill("node1", "agent")
    assert lab.status()["hosts"]["node1"]["vports"] is None
    with pytest.raises(LabError, match="node1: agent does not answer"):
        lab.agent_query("node1", "vports")
    lab.restore("node1", "agent")
    lab.wait_ready()

    assert lab.status()["hosts"]["node1"]["vports"] == ["web/vm1"]


def test_host_comes_back_whole(make_lab: LabMaker) -> None:
    lab = make_lab(LABS / "two-hosts.yaml")

    lab.kill("node2", "host")
    assert lab.exec("vm1", f"{PING} 10.0.1.12", check=False).returncode != 0
    lab.restore("node2")
    lab.wait_ready()

    assert lab.exec("vm1", f"{PING} 10.0.1.12", check=False).returncode == 0


def test_agents_reach_an_nsdb_over_tcp(make_lab: LabMaker) -> None:
    text = (LABS / "two-hosts.yaml").read_text()
    lab = make_lab(_with(text, {"nsdb": {"listen": "tcp"}}))

    connection = lab.host("node1").agent_config()

    assert "tcp:172.31.0.254:6641" in connection
    assert lab.exec("vm1", f"{PING} 10.0.1.12", check=False).returncode == 0


def test_agent_that_cannot_start_ends_up_with_its_log(make_lab: LabMaker) -> None:
    text = (LABS / "two-hosts.yaml").read_text()
    wrong = _with(text, {"agent": {"flow_state": {"dscp": 4711}}})

    with pytest.raises(LabError, match=r"(?s)node\d: the agent ended.*dscp"):
        make_lab(wrong)


def _with(text: str, extra: dict[str, object]) -> dict[str, object]:
    return {**yaml.safe_load(text), **extra}
