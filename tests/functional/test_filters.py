# SPDX-License-Identifier: Apache-2.0
"""Filters of a network as its VMs see them: refused, let in, and cut off."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from midoryu.lab.lab import Lab
from tests.functional.lab_tools import LABS, LabMaker, counters, echo, opened, wait

VM2 = {"IPv4": "10.0.1.12", "IPv6": "fd00:1::12"}
FAMILIES = pytest.mark.parametrize("family", VM2)
FILE = LABS / "filters.yaml"


@pytest.fixture(scope="module")
def lab(module_lab: LabMaker) -> Lab:
    return module_lab(FILE)


@pytest.fixture
def topology(lab: Lab) -> Iterator[dict[str, Any]]:
    first = yaml.safe_load(FILE.read_text())["topology"]
    yield copy.deepcopy(first)
    apply(lab, first)
    assert wait(lambda: echo(lab, "vm1", "tcp", VM2["IPv4"]) == "ok")


def apply(lab: Lab, topology: dict[str, Any]) -> None:
    path = lab.store.directory / "changed.yaml"
    path.write_text(yaml.safe_dump(topology))
    lab.ctl("apply", "-f", str(path))


@FAMILIES
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_member_of_the_port_group_is_let_in(
    lab: Lab, family: str, protocol: str
) -> None:
    assert echo(lab, "vm1", protocol, VM2[family]) == "ok"


@FAMILIES
def test_stranger_is_refused_at_once(lab: Lab, family: str) -> None:
    assert "refused" in echo(lab, "vm3", "tcp", VM2[family]).lower()


@FAMILIES
def test_stranger_is_told_by_icmp_in_the_name_of_the_vm(lab: Lab, family: str) -> None:
    expression = "icmp6 and ip6[40] == 1" if family == "IPv6" else "icmp[0] == 3"
    with lab.capture("vm3", expression=expression) as capture:
        assert echo(lab, "vm3", "udp", VM2[family]) != "ok"
        assert wait(lambda: bool(capture.frames()), 3.0)

    frame = capture.frames()[0].data
    if family == "IPv4":
        assert frame[26:30] == bytes([10, 0, 1, 12])
        assert frame[34:36] == bytes([3, 13])
    else:
        assert frame[22:38].hex() == "fd00000100000000" + "0000000000000012"
        assert frame[54:56] == bytes([1, 1])


def test_refusal_is_logged_with_ends_and_vport(lab: Lab) -> None:
    echo(lab, "vm3", "tcp", VM2["IPv4"])
    log = lab.host("h1").agent_log
    # The kernels' own multicast reports are refused and logged as well.
    refusal = re.compile(
        rf"rule strangers: reject by chain in: protocol 6 \S+ port \d+ -> "
        rf"{re.escape(VM2['IPv4'])} port 7007 from vport web/vm3"
    )

    assert wait(lambda: bool(refusal.search(log.read_text())), 3.0)
    assert counters(lab, "h1")["rule log lines"] >= 1


def test_connection_ends_when_its_vm_leaves_the_group(
    lab: Lab, topology: dict[str, Any]
) -> None:
    with opened(lab, "vm1", "tcp", VM2["IPv4"]) as session:
        assert session.exchange().ok
        topology["port_groups"]["friends"] = ["web/vm3"]
        apply(lab, topology)
        assert wait(lambda: echo(lab, "vm3", "tcp", VM2["IPv4"]) == "ok")

        assert not session.exchange().ok


def test_connection_stays_where_the_chain_keeps_it(
    lab: Lab, topology: dict[str, Any]
) -> None:
    topology["chains"]["in"]["keep_live"] = True
    apply(lab, topology)
    with opened(lab, "vm1", "tcp", VM2["IPv4"]) as session:
        assert session.exchange().ok
        topology["port_groups"]["friends"] = ["web/vm3"]
        apply(lab, topology)
        assert wait(lambda: echo(lab, "vm3", "tcp", VM2["IPv4"]) == "ok")

        assert session.exchange().ok
    assert "refused" in echo(lab, "vm1", "tcp", VM2["IPv4"]).lower()
