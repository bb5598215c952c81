# SPDX-License-Identifier: Apache-2.0
"""Two gateways' uplinks in one switch out there: frames are counted on its ports."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest
import yaml

from midoryu.lab.capture import Capture
from midoryu.lab.lab import Lab
from tests.functional.lab_tools import (
    LABS,
    SERVE,
    LabMaker,
    opened,
    pings,
    send_frames,
    wait,
)
from tests.helpers import frames

EVERYBODY = "ff:ff:ff:ff:ff:ff"
VM2 = "02:00:00:00:01:12"
STATION = {4: "203.0.113.1", 6: "2001:db8:113::1"}
PORTS = ("p1", "p2")


@pytest.fixture(scope="module")
def lab(module_lab: LabMaker) -> Lab:
    spec = yaml.safe_load((LABS / "segment.yaml").read_text())
    spec["outside"]["station"]["run"] = [SERVE]
    return module_lab(spec)


@contextlib.contextmanager
def on_uplinks(lab: Lab) -> Iterator[dict[str, Capture]]:
    captures = {port: lab.capture("switch", interface=port) for port in PORTS}
    with contextlib.ExitStack() as stack:
        for capture in captures.values():
            stack.enter_context(capture)
        yield captures


def count(captures: dict[str, Capture], text: bytes) -> dict[str, int]:
    return {
        port: sum(text in one.data for one in capture.frames())
        for port, capture in captures.items()
    }


@pytest.mark.parametrize("family", [4, 6])
def test_pings_through_two_uplinks_cost_a_few_frames(lab: Lab, family: int) -> None:
    with on_uplinks(lab) as captures:
        assert pings(lab, "vm1", STATION[family]) == 3
    numbers = {port: len(capture.frames()) for port, capture in captures.items()}
    # Three requests, three answers, ARP or ND, and what kernels say at their start.
    assert 6 <= numbers["p1"] < 40, numbers
    assert numbers["p2"] < 40, numbers


def test_a_broadcast_from_inside_passes_one_uplink_and_ends_at_the_other(
    lab: Lab,
) -> None:
    text = b"who is out there?"
    frame = frames.udp(
        "203.0.113.12", "203.0.113.255", eth_src=VM2, eth_dst=EVERYBODY, payload=text
    )
    heard = lab.capture("station")
    with on_uplinks(lab) as captures, heard:
        for _ in range(5):
            send_frames(lab, "vm2", "eth0", [frame])
        wait(lambda: False, 0.5)
    # Out of one, and the switch floods it into the other, where it ends.
    assert count(captures, text) == {"p1": 5, "p2": 5}
    assert count({"eth0": heard}, text) == {"eth0": 5}


def test_a_broadcast_from_outside_arrives_once(lab: Lab) -> None:
    text = b"who is in there?"
    frame = frames.udp(
        "203.0.113.1",
        "203.0.113.255",
        eth_src="02:00:00:00:09:09",
        eth_dst=EVERYBODY,
        payload=text,
    )
    heard = lab.capture("vm2")
    with on_uplinks(lab) as captures, heard:
        for _ in range(5):
            send_frames(lab, "station", "eth0", [frame])
        wait(lambda: False, 0.5)
    assert count({"eth0": heard}, text) == {"eth0": 5}
    assert count(captures, text) == {"p1": 5, "p2": 5}


@pytest.mark.parametrize("family", [4, 6])
def test_a_machine_beside_the_other_uplink_uses_that(lab: Lab, family: int) -> None:
    assert pings(lab, "vm2", STATION[family]) == 3
    with on_uplinks(lab) as captures:
        assert pings(lab, "vm2", STATION[family], "-p", "c0ffee77") == 3
    assert count(captures, bytes.fromhex("c0ffee77") * 4) == {"p1": 0, "p2": 6}


def test_sources_that_cannot_be_are_dropped_where_a_flow_stands(lab: Lab) -> None:
    assert pings(lab, "vm2", "203.0.113.2") == 3
    found = lab.exec("vm2", "ip -j neigh show 203.0.113.2").stdout
    router = json.loads(found)[0]["lladdr"]
    flows = lab.host("g2").ovs_ofctl("dump-flows", "table=10")
    assert "nw_src=127.0.0.0/8" in flows

    def arrive(source: str) -> int:
        text = f"from {source}!".encode()
        frame = frames.udp(
            source, "10.0.1.11", eth_src=VM2, eth_dst=router, payload=text
        )
        heard = lab.capture("vm1", expression="udp")
        with heard:
            send_frames(lab, "vm2", "eth0", [frame])
            wait(lambda: False, 0.3)
        return count({"eth0": heard}, text)["eth0"]

    assert arrive("203.0.113.12") == arrive("203.0.113.77") == 1
    for source in ("127.0.0.1", "224.0.0.5", "0.0.0.0", "10.0.1.1", "203.0.113.255"):
        assert arrive(source) == 0, source


def test_connections_live_on_when_the_designated_gateway_dies(lab: Lab) -> None:
    assert pings(lab, "vm1", STATION[4]) == 3
    with opened(lab, "vm1", "tcp", STATION[4]) as session:
        assert session.exchange().ok
        lab.kill("g1", "host")
        try:
            assert session.exchange().ok
            assert pings(lab, "vm1", STATION[4]) == 3
            assert pings(lab, "vm1", STATION[6]) == 3
        finally:
            lab.restore("g1", "host")
            lab.wait_ready()
        assert session.exchange().ok
