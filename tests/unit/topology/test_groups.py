# SPDX-License-Identifier: Apache-2.0
"""Members of groups, one by one against the whole."""

from __future__ import annotations

from typing import Any

from midoryu.packet.address import parse_ip, parse_prefix
from midoryu.topology import model
from midoryu.topology.model import Gone, Put, Rule, RuleAction
from midoryu.topology.tag import chain_tag, member_tag
from tests.helpers.builder import Builder

ONE, TWO = parse_ip("10.0.1.11"), parse_ip("10.0.1.12")


def addresses(*texts: str, key: str = "g") -> model.AddressGroup:
    return model.AddressGroup(key, key, frozenset(map(parse_prefix, texts)))


def two_vms() -> Builder:
    b = Builder()
    b.network("a")
    for number in (1, 2):
        b.vport(
            f"a/vm{number}", mac=f"02:00:00:00:00:0{number}", ip=f"10.0.1.1{number}"
        )
    return b


def vports(b: Builder, *names: str, key: str = "p") -> model.PortGroup:
    return model.PortGroup(key, key, frozenset(b.key(name) for name in names))


def test_group_holds_hosts_and_networks() -> None:
    topology = Builder().topology()
    topology.apply([Put(addresses("10.0.1.11", "192.0.2.0/24"))])

    assert topology.groups.holds("g", ONE)
    assert topology.groups.holds("g", parse_ip("192.0.2.7"))
    assert not topology.groups.holds("g", TWO)
    assert topology.groups.of(ONE, ()) == {"g"}


def test_default_prefix_of_ipv6_holds_no_ipv4() -> None:
    topology = Builder().topology()
    topology.apply([Put(addresses("::/0"))])

    assert topology.groups.holds("g", parse_ip("2001:db8::1"))
    assert not topology.groups.holds("g", ONE)


def test_member_that_comes_or_goes_touches_itself_alone() -> None:
    topology = Builder().topology()
    topology.apply([Put(addresses("10.0.1.11"))])

    assert topology.apply([Put(addresses("10.0.1.11", "10.0.1.12"))]) == {
        member_tag(TWO)
    }
    assert topology.apply([Put(addresses("10.0.1.12"))]) == {member_tag(ONE)}
    assert not topology.groups.holds("g", ONE)


def test_network_that_comes_touches_the_chains_that_ask() -> None:
    topology = Builder().topology()
    chain = model.Chain("c", "c", (Rule(RuleAction.DROP, source_group="g"),))
    topology.apply([Put(chain), Put(addresses("10.0.1.11"))])

    tags = topology.apply([Put(addresses("10.0.1.11", "10.0.2.0/24"))])

    assert tags == {chain_tag("c")}


def test_port_group_has_the_addresses_of_its_vports() -> None:
    b = two_vms()
    topology = b.topology()
    topology.apply([Put(vports(b, "a/vm1"))])
    assert topology.groups.holds("p", ONE)
    assert not topology.groups.holds("p", TWO)

    tags = topology.apply([Put(vports(b, "a/vm1", "a/vm2"))])

    assert tags == {member_tag(TWO)}
    assert topology.groups.holds("p", TWO)


def test_port_group_may_come_before_its_vports() -> None:
    b = two_vms()
    topology = Builder().topology()
    topology.apply([Put(vports(b, "a/vm1"))])

    topology.apply([Put(row) for row in b.rows])

    assert topology.groups.holds("p", ONE)


def test_address_that_a_vport_gets_or_loses_follows_it() -> None:
    b = two_vms()
    topology = b.topology()
    topology.apply([Put(vports(b, "a/vm1"))])
    moved = b.vport("a/vm1", mac="02:00:00:00:00:01", ip="10.0.1.99")

    tags = topology.apply([Put(moved)])

    assert {member_tag(ONE), member_tag(parse_ip("10.0.1.99"))} <= tags
    assert not topology.groups.holds("p", ONE)
    assert topology.groups.holds("p", parse_ip("10.0.1.99"))

    topology.apply([Gone(model.Vport, moved.key)])
    assert not topology.groups.holds("p", parse_ip("10.0.1.99"))


def test_allowed_addresses_count_too() -> None:
    b = two_vms()
    allowed: Any = ((0, parse_prefix("10.0.9.0/24")),)
    b.vport("a/vm1", mac="02:00:00:00:00:01", ip="10.0.1.11", allowed=allowed)
    topology = b.topology()
    topology.apply([Put(vports(b, "a/vm1"))])

    assert topology.groups.holds("p", parse_ip("10.0.9.1"))


def test_address_of_two_vports_stays_until_the_last_one_goes() -> None:
    b = two_vms()
    b.vport("a/vm2", mac="02:00:00:00:00:02", ip="10.0.1.11")
    topology = b.topology()
    topology.apply([Put(vports(b, "a/vm1", "a/vm2"))])

    topology.apply([Put(vports(b, "a/vm2"))])
    assert topology.groups.holds("p", ONE)

    topology.apply([Gone(model.PortGroup, "p")])
    assert not topology.groups.holds("p", ONE)


def test_ten_thousand_members_are_one_look_up() -> None:
    topology = Builder().topology()
    many = [f"10.{n >> 8}.{n & 255}.1" for n in range(10_000)]
    topology.apply([Put(addresses(*many))])

    tags = topology.apply([Put(addresses(*many, "10.0.1.11"))])

    assert tags == {member_tag(ONE)}
    assert topology.groups.of(ONE, ()) == {"g"}
