# SPDX-License-Identifier: Apache-2.0
"""Layer 2 services on real switches: floods, trunks, multicast, addresses that move."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from midoryu.lab.capture import CapturedFrame
from midoryu.lab.lab import Lab
from tests.functional.lab_tools import LABS, LabMaker, pings, send_frames, wait
from tests.helpers import frames

A1 = "02:00:00:00:01:11"
EVERYBODY = "ff:ff:ff:ff:ff:ff"
RED = ("a1", "a2", "b1", "b2", "c1", "tap")
GROUP, GROUP_MAC = "239.1.2.3", "01:00:5e:01:02:03"
VIP, VIP_MAC = "10.0.1.100", "00:00:5e:00:01:07"


@pytest.fixture(scope="module")
def lab(module_lab: LabMaker) -> Lab:
    return module_lab(LABS / "l2.yaml")


@contextlib.contextmanager
def watched(lab: Lab, *machines: str) -> Iterator[dict[str, list[CapturedFrame]]]:
    """Capture at machines; after the block the frames are there."""
    captures = {name: lab.capture(name) for name in machines}
    found: dict[str, list[CapturedFrame]] = {name: [] for name in machines}
    with contextlib.ExitStack() as stack:
        for capture in captures.values():
            stack.enter_context(capture)
        yield found
    for name, capture in captures.items():
        found[name] += capture.frames()


def carrying(found: list[CapturedFrame], text: bytes) -> int:
    return sum(text in frame.data for frame in found)


def test_a_flood_crosses_the_underlay_once_for_each_host(lab: Lab) -> None:
    texts = [b"flood number %d" % number for number in range(5)]
    sent = [
        frames.udp(
            "10.0.1.11", "10.0.1.255", eth_src=A1, eth_dst=EVERYBODY, payload=text
        )
        for text in texts
    ]
    underlay = lab.capture("n1", expression="ip proto 47")
    with underlay, watched(lab, *RED) as found:
        send_frames(lab, "a1", "eth0", sent)

    for text in texts:
        seen = {name: carrying(found[name], text) for name in RED if name != "a1"}
        assert seen == dict.fromkeys(seen, 1)
        assert carrying(underlay.frames(), text) == 2


def test_a_trunk_talks_with_its_sub_networks_other_machine(lab: Lab) -> None:
    lab.exec("blue2", "ip neigh replace 10.0.2.11 lladdr 02:00:00:00:02:11 dev eth0")
    call = frames.icmp_echo(
        "10.0.2.11",
        "10.0.2.21",
        eth_src="02:00:00:00:02:11",
        eth_dst="02:00:00:00:02:21",
        vlan=101,
        payload=b"is blue there?",
    )
    with watched(lab, "a1", "blue2") as found:
        for _ in range(3):
            send_frames(lab, "a1", "eth0", [call])
        wait(lambda: False, 0.3)

    came = [f.data for f in found["blue2"] if b"is blue there" in f.data]
    assert [data[12:14] for data in came] == [b"\x08\x00"] * 6
    answers = [f.data for f in found["a1"] if f.data[26 + 12 : 27 + 12] == b"\0"]
    tagged = [data for data in answers if b"is blue there" in data]
    assert [data[12:16] for data in tagged] == [b"\x81\x00\x00\x65"] * 3


def test_a_tag_that_nobody_has_and_frames_of_the_link_do_not_pass(lab: Lab) -> None:
    sent = [
        frames.udp(eth_src=A1, eth_dst=EVERYBODY, vlan=77, payload=b"wrong tag"),
        frames.udp(
            eth_src=A1, eth_dst="01:80:c2:00:00:0e", payload=b"of the link alone"
        ),
        frames.udp(
            "10.0.1.11", "10.0.1.255", eth_src=A1, eth_dst=EVERYBODY, payload=b"the end"
        ),
    ]
    with watched(lab, "b1") as found:
        send_frames(lab, "a1", "eth0", sent)
        wait(lambda: False, 0.3)

    assert carrying(found["b1"], b"the end") == 1
    assert carrying(found["b1"], b"wrong tag") == 0
    assert carrying(found["b1"], b"of the link") == 0


_LISTEN = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 5007))
group = socket.inet_aton("239.1.2.3") + socket.inet_aton(sys.argv[1])
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
time.sleep(60)
"""


def multicast_reaches(lab: Lab, text: bytes) -> list[str]:
    sent = frames.udp(
        "10.0.1.11", GROUP, eth_src=A1, eth_dst=GROUP_MAC, payload=text, dport=5007
    )
    with watched(lab, "a2", "b1", "b2", "c1") as found:
        send_frames(lab, "a1", "eth0", [sent])
        wait(lambda: False, 0.3)
    return [name for name in found if carrying(found[name], text)]


def test_a_group_goes_only_to_machines_whose_kernel_joined(lab: Lab) -> None:
    assert multicast_reaches(lab, b"nobody listens") == []
    child = lab.popen("b1", ["python3", "-c", _LISTEN, "10.0.1.21"])
    try:
        assert wait(lambda: "239.1.2.3" in lab.exec("b1", "ip maddr").stdout)
        reached: list[str] = []

        def arrives() -> bool:
            reached[:] = multicast_reaches(lab, b"to who asked")
            return reached == ["b1"]

        assert wait(arrives), reached
        assert f"{GROUP} b1" in lab.ctl("show", "network", "red")
    finally:
        child.terminate()
        child.wait(10)
    # The kernel says that it leaves, is asked once more, and keeps silent.
    assert wait(lambda: multicast_reaches(lab, b"to nobody again") == [], 15)


def announce(mac: str) -> bytes:
    """Make a gratuitous ARP for the virtual address."""
    return frames.arp(VIP, VIP, eth_src=mac, eth_dst=EVERYBODY)


def answers_at(lab: Lab, machine: str, mac: str) -> None:
    lab.exec(machine, f"ip link add link eth0 name vip address {mac} type macvlan")
    lab.exec(machine, f"ip addr add {VIP}/24 dev vip")
    lab.exec(machine, "sysctl -qw net.ipv4.conf.all.arp_ignore=1")
    lab.exec(machine, "ip link set vip up")


def test_a_virtual_address_follows_one_gratuitous_arp_to_another_host(
    lab: Lab,
) -> None:
    answers_at(lab, "b1", VIP_MAC)
    try:
        send_frames(lab, "b1", "vip", [announce(VIP_MAC)])
        assert wait(lambda: pings(lab, "a2", VIP, count=1) == 1)
        lab.exec("b1", "ip link del vip")
        answers_at(lab, "c1", VIP_MAC)
        send_frames(lab, "c1", "vip", [announce(VIP_MAC)])
        with watched(lab, "b1") as found:
            assert pings(lab, "a2", VIP, count=5) >= 4
            assert pings(lab, "b2", VIP, count=5) >= 4
        late = [f for f in found["b1"] if f.data[:6] == bytes.fromhex("00005e000107")]
        assert len(late) <= 1
    finally:
        for machine in ("b1", "c1"):
            lab.exec(machine, "ip link del vip", check=False)
