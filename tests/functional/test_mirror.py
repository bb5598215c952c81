# SPDX-License-Identifier: Apache-2.0
"""A mirror on real switches: a machine on a third host sees what another one sees."""

from __future__ import annotations

import pytest

from midoryu.lab.lab import Lab
from tests.functional.lab_tools import LABS, LabMaker, pings, send_frames, wait
from tests.helpers import frames


@pytest.fixture(scope="module")
def lab(module_lab: LabMaker) -> Lab:
    return module_lab(LABS / "qos.yaml")


@pytest.mark.parametrize(
    ("peer", "ip"),
    [("fast", "10.0.1.21"), ("slow", "10.0.1.11"), ("fast", "fd00:1::21")],
    ids=["another host", "the same host", "IPv6"],
)
def test_both_directions_are_copied_once(lab: Lab, peer: str, ip: str) -> None:
    kind = "icmp6 and ip6[40] >= 128 and ip6[40] <= 129" if ":" in ip else "icmp"
    with lab.capture("tap", expression=kind) as copies:
        with lab.capture("near", expression=kind) as real:
            assert pings(lab, "near", ip) == 3
        wait(lambda: False, 0.3)

    seen = [frame.data for frame in real.frames()]
    assert len(seen) == 6
    assert sorted(frame.data for frame in copies.frames()) == sorted(seen)


def test_what_the_overlay_drops_is_copied_too(lab: Lab) -> None:
    dropped = frames.udp(
        eth_src="02:00:00:00:01:12",
        eth_dst="01:80:c2:00:00:0e",
        payload=b"nobody else sees it",
    )
    with lab.capture("tap") as copies:
        send_frames(lab, "near", "eth0", [dropped, dropped])
        wait(lambda: False, 0.3)

    assert [f.data for f in copies.frames()].count(dropped) == 2


def test_traffic_of_others_is_not_copied(lab: Lab) -> None:
    with lab.capture("tap", expression="icmp") as copies:
        assert pings(lab, "slow", "10.0.1.21") == 3

    assert copies.frames() == []
