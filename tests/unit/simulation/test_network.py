# SPDX-License-Identifier: Apache-2.0
"""Where frames go on one virtual switch, and what it answers itself."""

from __future__ import annotations

from typing import Any

import pytest

from midoryu.packet import field
from midoryu.packet.address import parse_ip, parse_mac
from midoryu.simulation.outcome import (
    Consumed,
    Drop,
    ErrorDrop,
    Flood,
    MacSeen,
    NeighborSeen,
    Reason,
    Simulation,
)
from midoryu.topology import model
from midoryu.topology.tag import flood_tag, mac_tag
from midoryu.translation.flows import is_installable
from tests.helpers import frames
from tests.helpers.builder import Builder
from tests.helpers.frames import ARP, Ether
from tests.helpers.worlds import FAMILIES, V4, V6, Family, Overlay, seen, two_networks

MAC = "02:00:00:00:00:{:02d}"
STRANGER = "02:dd:00:00:00:09"


def plain_switch() -> Overlay:
    """Three vports without addresses: everything has to be learned."""
    b = Builder()
    b.network("n")
    for number in (1, 2, 3):
        b.vport(f"n/p{number}", host="node1")
    return Overlay(b)


def question(family: Family, src: str, target: str, **fields: Any) -> bytes:
    if family.is_v6:
        return frames.neighbor_solicitation(src, target, **fields)
    return frames.arp(src, target, **fields)


@FAMILIES
def test_known_unicast_leaves_by_its_vport_unchanged(family: Family) -> None:
    overlay = Overlay(two_networks(family))
    frame = frames.udp(
        family.ip(1, 11), family.ip(1, 13), eth_src=MAC.format(1), eth_dst=MAC.format(3)
    )

    simulation = overlay.send("a/vm1", frame)

    assert overlay.names(simulation) == ("a/vm3",)
    assert bytes(seen(simulation)) == frame
    assert simulation.hops == 0


def test_plain_switching_reads_no_ip_header() -> None:
    overlay = plain_switch()
    overlay.learn(overlay.send("n/p2", frames.udp(eth_src=frames.MAC_2)))

    simulation = overlay.send("n/p1", frames.udp())

    assert overlay.names(simulation) == ("n/p2",)
    assert set(field.names(simulation.fields)) == {
        "in_port",
        "eth_dst",
        "eth_src",
        "eth_type",
        "vlan",
    }


def test_unknown_unicast_floods_all_other_vports() -> None:
    overlay = plain_switch()

    simulation = overlay.send("n/p1", frames.udp())

    assert sorted(overlay.names(simulation)) == ["n/p2", "n/p3"]
    key = overlay.key("n")
    assert {flood_tag(key), mac_tag(key, parse_mac(frames.MAC_2))} <= simulation.tags


def test_source_is_learned_where_it_is() -> None:
    overlay = plain_switch()

    simulation = overlay.send("n/p1", frames.udp())

    mac = parse_mac(frames.MAC_1)
    assert simulation.learned == [MacSeen(overlay.key("n"), mac, overlay.key("n/p1"))]


def test_source_known_already_is_not_learned_again() -> None:
    overlay = plain_switch()
    overlay.carry("n/p1", frames.udp())

    assert overlay.send("n/p1", frames.udp()).learned == []


def test_learned_mac_moves() -> None:
    overlay = plain_switch()
    overlay.carry("n/p2", frames.udp(eth_src=frames.MAC_2, eth_dst=frames.MAC_1))
    overlay.carry("n/p3", frames.udp(eth_src=frames.MAC_2, eth_dst=frames.MAC_1))

    assert overlay.names(overlay.send("n/p1", frames.udp())) == ("n/p3",)


def test_mac_that_the_topology_knows_cannot_be_stolen() -> None:
    overlay = Overlay(two_networks(V4))
    frame = frames.udp(eth_src=MAC.format(3), eth_dst=MAC.format(1))

    simulation = overlay.send("a/vm1", frame)

    assert simulation.learned == []


@pytest.mark.parametrize("eth_dst", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:05"])
def test_group_destination_floods(eth_dst: str) -> None:
    overlay = plain_switch()

    simulation = overlay.send("n/p2", frames.udp(eth_dst=eth_dst))

    assert sorted(overlay.names(simulation)) == ["n/p1", "n/p3"]


def test_group_source_is_dropped() -> None:
    overlay = plain_switch()

    simulation = overlay.send("n/p1", frames.udp(eth_src="03:00:00:00:00:01"))

    assert simulation.outcome == Drop(Reason.BAD_SOURCE_MAC)


def test_destination_behind_the_same_vport_is_dropped() -> None:
    overlay = plain_switch()
    overlay.carry("n/p1", frames.udp(eth_src=frames.MAC_2, eth_dst=frames.MAC_1))

    simulation = overlay.send("n/p1", frames.udp())

    assert simulation.outcome == ErrorDrop(Reason.SAME_VPORT)


def test_vport_that_is_administratively_down_neither_takes_nor_gives() -> None:
    b = Builder()
    b.network("n")
    for number in (1, 2, 3):
        b.vport(f"n/p{number}", host="node1")
    b.put(model.Vport(b.key("n/p2"), "p2", b.key("n"), up=False))
    overlay = Overlay(b)

    assert overlay.names(overlay.send("n/p1", frames.udp())) == ("n/p3",)
    assert overlay.send("n/p2", frames.udp()).outcome == Drop(Reason.ADMIN_DOWN)


def test_network_that_is_administratively_down_drops() -> None:
    b = Builder()
    b.network("n", up=False)
    b.vport("n/p1")
    overlay = Overlay(b)

    simulation = overlay.send("n/p1", frames.udp())

    assert simulation.outcome == Drop(Reason.ADMIN_DOWN)


def test_lone_vport_floods_to_nobody() -> None:
    b = Builder()
    b.network("n")
    b.vport("n/p1")

    simulation = Overlay(b).send("n/p1", frames.udp())

    assert simulation.outcome == Drop(Reason.NO_VPORT)


def test_flood_crosses_a_link_between_networks() -> None:
    b = Builder()
    for network in ("n", "m"):
        b.network(network)
        b.vport(f"{network}/p1")
        b.vport(f"{network}/link")
    b.link("n/link", "m/link")
    overlay = Overlay(b)

    assert overlay.names(overlay.send("n/p1", frames.udp())) == ("m/p1",)


# Addresses that the topology knows.


@FAMILIES
@pytest.mark.parametrize("who", ["vm", "router"])
def test_known_address_is_answered_by_the_network(family: Family, who: str) -> None:
    overlay = Overlay(two_networks(family))
    mine, target = family.ip(1, 11), family.ip(1, 13 if who == "vm" else 1)
    mac = MAC.format(3) if who == "vm" else overlay.mac("r/a")

    simulation = overlay.send(
        "a/vm1", question(family, mine, target, eth_src=MAC.format(1))
    )

    assert simulation.outcome == Consumed(Reason.ANSWERED)
    names, answer = overlay.said(simulation)
    assert names == ("a/vm1",)
    assert (answer[Ether].dst, answer[Ether].src) == (MAC.format(1), mac)
    if family.is_v6:
        said = answer["ICMPv6ND_NA"]
        assert (said.tgt, said.payload.lladdr) == (target, mac)
        assert (said.S, said.O) == (1, 1)
        assert (who == "router") == said.R
    else:
        said = answer[ARP]
        assert (said.op, said.psrc, said.hwsrc) == (2, target, mac)
        assert (said.pdst, said.hwdst) == (mine, MAC.format(1))


@FAMILIES
def test_question_about_an_unknown_address_floods(family: Family) -> None:
    overlay = Overlay(two_networks(family))
    frame = question(family, family.ip(1, 11), family.ip(1, 77), eth_src=MAC.format(1))

    assert overlay.names(overlay.send("a/vm1", frame)) == ("a/vm3",)


@FAMILIES
def test_flow_of_one_flooded_question_tells_it_from_others(family: Family) -> None:
    b = Builder()
    b.network("n")
    b.vport("n/p1")
    b.vport("n/p2", mac=MAC.format(2), ip=family.ip(1, 2))
    frame = question(family, family.ip(1, 1), family.ip(1, 77), eth_src=MAC.format(1))

    unknown = Overlay(b).send("n/p1", frame)

    assert isinstance(unknown.outcome, Flood)
    target = field.ND_TARGET if family.is_v6 else field.IP_DST
    needed = target | field.IP_SRC | field.IP_PROTO
    assert not is_installable(unknown) or unknown.fields & needed == needed


@pytest.mark.parametrize("family", [V4, V6], ids=["gratuitous", "DAD"])
def test_probe_for_an_own_address_is_not_answered(family: Family) -> None:
    overlay = Overlay(two_networks(family))
    target = family.ip(1, 13)
    src = "::" if family.is_v6 else target
    frame = question(family, src, target, eth_src=STRANGER)

    simulation = overlay.send("a/vm1", frame)

    assert isinstance(simulation.outcome, Flood)
    assert simulation.emissions == []


@FAMILIES
def test_owner_that_asks_for_its_own_address_gets_no_answer(family: Family) -> None:
    overlay = Overlay(two_networks(family))
    frame = question(family, family.ip(1, 99), family.ip(1, 13), eth_src=STRANGER)

    assert overlay.send("a/vm3", frame).emissions == []


@FAMILIES
def test_router_hears_questions_on_its_network(family: Family) -> None:
    overlay = Overlay(two_networks(family))
    claimed = family.ip(1, 99)
    frame = question(family, claimed, family.ip(1, 77), eth_src=STRANGER)

    simulation = overlay.send("a/vm1", frame)

    heard = NeighborSeen(overlay.key("r"), parse_ip(claimed), parse_mac(STRANGER))
    assert heard in simulation.learned


def claim(family: Family, ip: str) -> bytes:
    if family.is_v6:
        return frames.neighbor_solicitation(ip, family.ip(1, 77), eth_src=STRANGER)
    return frames.arp(ip, family.ip(1, 77), eth_src=STRANGER)


@FAMILIES
def test_router_believes_nothing_about_other_subnets(family: Family) -> None:
    overlay = Overlay(two_networks(family))

    simulation = overlay.send("a/vm1", claim(family, family.ip(2, 99)))

    assert _heard(simulation) == []


@FAMILIES
def test_router_believes_nothing_about_its_own_address(family: Family) -> None:
    overlay = Overlay(two_networks(family))

    simulation = overlay.send("a/vm1", claim(family, family.ip(1, 1)))

    assert _heard(simulation) == []


def _heard(simulation: Simulation) -> list[object]:
    return [one for one in simulation.learned if isinstance(one, NeighborSeen)]


def test_new_router_address_touches_flooded_questions() -> None:
    overlay = Overlay(two_networks(V4))
    flooded = overlay.send(
        "a/vm1", frames.arp(V4.ip(1, 11), V4.ip(1, 77), eth_src=MAC.format(1))
    )

    added = model.FloatingIp(
        "f", overlay.key("r"), parse_ip(V4.ip(1, 77)), parse_ip(V4.ip(2, 12))
    )

    assert overlay.change(added) & flooded.tags
