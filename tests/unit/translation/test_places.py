# SPDX-License-Identifier: Apache-2.0
"""Which ofport a vport has, and where other hosts are."""

from __future__ import annotations

from midoryu.packet.address import parse_ip
from midoryu.topology.snapshot import Topology
from midoryu.translation.places import Places
from tests.helpers.builder import cloud


def places() -> Places:
    return Places(cloud().topology())


def test_bound_vport_is_found_both_ways() -> None:
    known = places()

    known.bind(7, 12)

    assert known.ofport_by_vport == {7: 12}
    assert known.vport_by_ofport == {12: 7}


def test_vport_that_gets_another_ofport_leaves_the_old_one() -> None:
    known = places()
    known.bind(7, 12)

    known.bind(7, 13)

    assert known.ofport_by_vport == {7: 13}
    assert known.vport_by_ofport == {13: 7}


def test_unbinding_tells_the_ofport_that_is_free_now() -> None:
    known = places()
    known.bind(7, 12)

    assert known.unbind(7) == 12
    assert known.unbind(7) is None
    assert not known.ofport_by_vport
    assert not known.vport_by_ofport


def test_ofport_that_another_vport_took_stays_with_it() -> None:
    known = places()
    known.bind(7, 12)
    known.bind(8, 12)

    known.unbind(7)

    assert known.vport_by_ofport == {12: 8}


def test_underlay_address_of_a_host() -> None:
    b = cloud()
    known = Places(b.topology())

    assert known.underlay(b.key("node2")) == parse_ip("172.31.0.2")
    assert known.underlay(999) == 0


def test_a_sub_port_shares_its_parents_ofport_by_tag() -> None:
    places = Places(Topology())
    places.bind(7, 11)
    places.bind(8, 11, 101)

    assert places.vport_by_ofport == {11: 7}
    assert places.vport_by_tag == {(11, 101): 8}
    assert (places.at(7), places.at(8), places.at(9)) == ((11, 0), (11, 101), None)
    places.bind(8, 12, 102)
    assert places.vport_by_tag == {(12, 102): 8}
    assert places.unbind(8) == 12
    assert (places.vport_by_tag, places.tag_by_vport) == ({}, {})
    assert places.vport_by_ofport == {11: 7}
