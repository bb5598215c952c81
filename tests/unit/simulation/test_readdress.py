# SPDX-License-Identifier: Apache-2.0
"""Translations of a packet under way, and of what an ICMP error quotes."""

from __future__ import annotations

import pytest

from midoryu.packet.address import parse_ip
from midoryu.simulation.readdress import set_destination, set_source
from tests.helpers import frames
from tests.helpers.worlds import FAMILIES, Family
from tests.unit.simulation.test_walk import walk_of

NEW = "198.51.100.1"


@FAMILIES
def test_ends_and_ports_change(family: Family) -> None:
    walk = walk_of(frames.tcp(family.ip(1, 11), family.ip(2, 12), 1000, 80))
    one, other = parse_ip(family.nat_ip(1)), parse_ip(family.nat_ip(2))

    set_source(walk, one, 5000)
    set_destination(walk, other, 8080)

    headers = walk.headers
    assert (headers.ip_src, headers.l4_src) == (one, 5000)
    assert (headers.ip_dst, headers.l4_dst) == (other, 8080)


@pytest.mark.parametrize("counts", [False, True])
def test_the_identifier_of_a_query_changes_where_it_counts(*, counts: bool) -> None:
    walk = walk_of(frames.icmp_echo(identifier=7))
    if counts:
        walk.count_id()

    set_source(walk, parse_ip(NEW), 99)

    assert walk.headers.icmp_id == (99 if counts else 7)


def test_an_answers_identifier_is_its_destination() -> None:
    walk = walk_of(frames.icmp_echo(identifier=7, reply=True))
    walk.count_id()
    set_source(walk, parse_ip(NEW), 98)
    assert walk.headers.icmp_id == 7
    set_destination(walk, parse_ip(NEW), 99)
    assert walk.headers.icmp_id == 99


def test_an_errors_quote_goes_the_other_way() -> None:
    sent = frames.udp(frames.IP_1, frames.IP_2, 1000, 53)
    walk = walk_of(frames.icmp_error(sent[14:], frames.IP_2, frames.IP_1))

    set_source(walk, parse_ip(NEW), 5353)
    assert walk.quoted is not None
    assert (walk.quoted.ip_dst, walk.quoted.l4_dst) == (parse_ip(NEW), 5353)
    assert walk.headers.ip_src == parse_ip(NEW)

    set_destination(walk, parse_ip("10.9.9.9"), 4444)
    assert (walk.quoted.ip_src, walk.quoted.l4_src) == (parse_ip("10.9.9.9"), 4444)
    assert walk.headers.ip_dst == parse_ip("10.9.9.9")


def test_who_complains_from_inside_keeps_its_address_in_the_quote_only() -> None:
    sent = frames.udp(frames.IP_1, frames.IP_2, 1000, 53)
    walk = walk_of(frames.icmp_error(sent[14:], "10.0.0.77", frames.IP_1))

    # The quoted destination already has this address: it is not the sender's.
    set_source(walk, parse_ip(frames.IP_2), 53)

    assert walk.headers.ip_src == parse_ip("10.0.0.77")
