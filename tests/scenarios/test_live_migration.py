# SPDX-License-Identifier: Apache-2.0
"""A machine moves to another host: shut until it speaks there, then all goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from midoryu.topology.model import Put, Vport, VportReady, VportStatus
from tests.helpers import frames
from tests.helpers.builder import cloud
from tests.helpers.fabric import Fabric
from tests.scenarios.test_main_job import from_outside, from_vm, only, other

VM2 = "02:00:00:00:00:02"
SUB = "02:00:00:00:00:12"


def garp(mac: str = VM2) -> bytes:
    ask = frames.ARP(op=1, hwsrc=mac, psrc="10.0.1.2", pdst="10.0.1.2")
    return bytes(frames.Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ask)


def rarp() -> bytes:
    head = frames.Ether(src=VM2, dst="ff:ff:ff:ff:ff:ff", type=0x8035)
    return bytes(head / frames.ARP(op=3, hwsrc=VM2, hwdst=VM2))


def advert() -> bytes:
    head = frames.Ether(src=VM2, dst="33:33:00:00:00:01")
    ip = frames.IPv6(src="fe80::2", dst="ff02::1", hlim=255)
    return bytes(head / ip / frames.ICMPv6ND_NA(tgt="fe80::2", O=1))


def bind(fabric: Fabric, host: str, migrating_to: str = "") -> None:
    key = fabric.builder.key("web/vm2")
    row = fabric._rows[Vport, key]
    to = fabric.hosts[migrating_to].key if migrating_to else 0
    fabric.change(Put(replace(row, host=fabric.hosts[host].key, migrating_to=to)))


def status(fabric: Fabric) -> VportStatus:
    row = fabric._rows[VportStatus, fabric.builder.key("web/vm2")]
    assert isinstance(row, VportStatus)
    return row


def ready(fabric: Fabric) -> list[str]:
    names = {host.key: name for name, host in fabric.hosts.items()}
    rows = [r for (kind, _), r in fabric._rows.items() if kind is VportReady]
    return [names[row.host] for row in rows]


class Moving:
    """vm2 at node2 with a connection to the outside, about to go to node3."""

    def __init__(self) -> None:
        self.fabric = fabric = Fabric(cloud())
        fabric.advance(3.0)
        self.uplink, self.packet = only(self.speak())
        bind(fabric, "node2", "node3")
        fabric.plug("web/vm2", "node3")
        fabric.advance(0.2)

    def speak(self, host: str = "node2", **fields: object) -> list:  # type: ignore[type-arg]
        frame = from_vm(self.fabric.builder, 2, **fields)
        return self.fabric.send_at(host, "web/vm2", frame)

    def answer(self) -> list[str]:
        """Let the outside speak, by the other gateway; return who let it out."""
        gateway = other(self.uplink)
        port = self.packet.headers.l4_src
        frame = from_outside(gateway, dport=port, flags="PA", payload=b"x")
        back = self.fabric.send_at(f"node{gateway}", f"provider/uplink{gateway}", frame)
        assert [one.vport for one in back] == ["web/vm2"] * len(back)
        return self.fabric.delivered_at


@pytest.fixture
def moving() -> Moving:
    return Moving()


def test_the_new_host_is_ready_and_shut_while_the_old_one_carries(
    moving: Moving,
) -> None:
    assert ready(moving.fabric) == ["node3"]
    assert moving.answer() == ["node2"]
    assert moving.speak("node3", flags="A", payload=b"x") == []
    assert moving.fabric.hosts["node3"].packet_ins == 0
    assert only(moving.speak(flags="A", payload=b"x"))[0] == moving.uplink


def test_records_are_at_the_new_host_before_the_machine_is(moving: Moving) -> None:
    assert len(moving.fabric.records("node3")) == 1
    only(moving.speak(sport=40001))
    assert len(moving.fabric.records("node3")) == 2


@pytest.mark.parametrize("announcement", [garp(), rarp(), advert()])
def test_an_announcement_opens_the_new_host_and_shuts_the_old_one(
    moving: Moving, announcement: bytes
) -> None:
    moving.fabric.send_at("node3", "web/vm2", announcement)

    assert status(moving.fabric).host == moving.fabric.hosts["node3"].key
    assert ready(moving.fabric) == []
    assert moving.answer() == ["node3"]
    _, seen = only(moving.speak("node3", flags="A", payload=b"x"))
    assert seen.headers.l4_src == moving.packet.headers.l4_src
    assert moving.speak("node2", flags="A", payload=b"x") == []


def test_somebody_elses_announcement_opens_nothing(moving: Moving) -> None:
    moving.fabric.send_at("node3", "web/vm2", garp("02:00:00:00:00:99"))

    assert ready(moving.fabric) == ["node3"]
    assert moving.answer() == ["node2"]


@pytest.mark.parametrize("then", ["", "node2"], ids=["bound", "other way round"])
@pytest.mark.parametrize("announced", [True, False], ids=["announced", "silent"])
def test_a_binding_that_is_activated_carries_whoever_spoke_before(
    moving: Moving, announced: bool, then: str
) -> None:
    if announced:
        moving.fabric.send_at("node3", "web/vm2", garp())
    bind(moving.fabric, "node3", then)

    assert moving.answer() == ["node3"]
    assert not status(moving.fabric).early
    assert ready(moving.fabric) == []
    # What the old interface still sends is an echo.
    moving.fabric.send_at("node2", "web/vm2", garp())
    assert moving.answer() == ["node3"]
    moving.fabric.unplug("web/vm2", "node2")
    bind(moving.fabric, "node3")
    assert moving.answer() == ["node3"]


def test_a_migration_that_is_given_up_leaves_all_as_it_was(moving: Moving) -> None:
    bind(moving.fabric, "node2")

    assert ready(moving.fabric) == []
    moving.fabric.send_at("node3", "web/vm2", garp())
    assert moving.answer() == ["node2"]
    moving.fabric.unplug("web/vm2", "node3")
    assert moving.answer() == ["node2"]


def test_a_machine_that_has_spoken_is_carried_though_its_agent_restarts(
    moving: Moving,
) -> None:
    moving.fabric.send_at("node3", "web/vm2", garp())
    moving.fabric.stop("node3")
    moving.fabric.start("node3")
    moving.fabric.advance(3.0)

    assert moving.answer() == ["node3"]
    assert status(moving.fabric).early


def test_a_machine_may_go_back_where_it_came_from(moving: Moving) -> None:
    moving.fabric.send_at("node3", "web/vm2", garp())
    moving.fabric.unplug("web/vm2", "node2")
    bind(moving.fabric, "node3")
    bind(moving.fabric, "node3", "node2")
    moving.fabric.plug("web/vm2", "node2")

    assert ready(moving.fabric) == ["node2"]
    assert moving.answer() == ["node3"]
    moving.fabric.send_at("node2", "web/vm2", garp())
    assert moving.answer() == ["node2"]


def test_sub_ports_go_with_their_parent() -> None:
    builder = cloud()
    builder.network("blue")
    parent = builder.key("web/vm2")
    builder.vport("blue/sub", mac=SUB, ip="10.0.2.2", parent=parent, vlan=101)
    builder.vport("blue/vm9", host="node4", mac="02:00:00:00:00:09", ip="10.0.2.9")
    fabric = Fabric(builder)
    fabric.advance(3.0)
    bind(fabric, "node2", "node3")
    fabric.plug("web/vm2", "node3")
    fields = {"src": "10.0.2.2", "dst": "10.0.2.9", "eth_src": SUB}
    tagged = frames.tcp(**fields, eth_dst="02:00:00:00:00:09", vlan=101)

    assert len(fabric.send_at("node2", "web/vm2", tagged)) == 1
    assert fabric.send_at("node3", "web/vm2", tagged) == []
    fabric.send_at("node3", "web/vm2", garp())
    assert fabric.send_at("node2", "web/vm2", tagged) == []
    assert len(fabric.send_at("node3", "web/vm2", tagged)) == 1


def test_twenty_migrations_leave_no_flow_behind(moving: Moving) -> None:
    def base(name: str) -> set[object]:
        flows = moving.fabric.hosts[name].switch.flows()
        return {one.match for one in flows if not one.idle_timeout_s}

    places = ["node3", "node2"] * 10
    before = base("node3")
    for count, place in enumerate(places):
        old = places[count - 1]
        if count:
            bind(moving.fabric, old, place)
            moving.fabric.plug("web/vm2", place)
        moving.fabric.send_at(place, "web/vm2", garp())
        bind(moving.fabric, place)
        moving.fabric.unplug("web/vm2", old)
        moving.fabric.advance(0.2)
    assert moving.answer() == ["node2"]
    assert ready(moving.fabric) == []
    assert len(base("node3")) <= len(before)
