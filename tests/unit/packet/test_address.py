# SPDX-License-Identifier: Apache-2.0
"""Addresses: text at the rims, numbers inside."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midoryu.packet.address import (
    MAC_BROADCAST,
    Prefix,
    format_ip,
    format_mac,
    is_forged,
    is_group_mac,
    is_link_local,
    is_multicast_ip,
    is_v4,
    link_local_of,
    multicast_mac,
    parse_ip,
    parse_mac,
    parse_prefix,
    prefix_mask,
    solicited_node,
)

V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6).filter(lambda ip: ip.ipv4_mapped is None)  # type: ignore[union-attr]


@given(V4 | V6)
def test_an_address_comes_back_in_its_family(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    address = parse_ip(str(ip))
    assert format_ip(address) == str(ip)
    assert is_v4(address) is (ip.version == 4)
    is_broadcast = str(ip) == "255.255.255.255"
    assert is_multicast_ip(address) is (ip.is_multicast or is_broadcast)
    if ip.version == 6:
        assert is_link_local(address) is ip.is_link_local


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.256", "fd00::g", "10.0.0.1/24"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        parse_ip(text)


def test_a_mapped_address_is_to_be_written_as_ipv4() -> None:
    with pytest.raises(ValueError, match="write it as IPv4"):
        parse_ip("::ffff:10.0.0.1")


@given(V4, st.integers(0, 32), V4)
def test_a_prefix_contains_what_the_standard_library_says(
    ip: ipaddress.IPv4Address, length: int, other: ipaddress.IPv4Address
) -> None:
    network = ipaddress.ip_network(f"{ip}/{length}", strict=False)
    prefix = parse_prefix(f"{ip}/{length}", strict=False)
    assert str(prefix) == str(network)
    assert prefix.contains(parse_ip(str(ip)))
    assert prefix.contains(parse_ip(str(other))) is (other in network)
    assert prefix.value & prefix.mask == prefix.value


def test_prefixes_of_two_families_do_not_meet() -> None:
    everything = parse_prefix("0.0.0.0/0")
    assert not everything.contains(parse_ip("fd00::1"))
    assert parse_prefix("10.0.0.1") == Prefix(parse_ip("10.0.0.1"), 128)
    assert str(parse_prefix("fd00::/8")) == "fd00::/8"
    assert str(parse_prefix("::/0")) == "::/0"


def test_host_bits_are_refused_unless_they_may_be_there() -> None:
    with pytest.raises(ValueError, match="host bits"):
        parse_prefix("10.0.0.1/24")
    assert str(parse_prefix("10.0.0.1/24", strict=False)) == "10.0.0.0/24"


def test_masks_have_leading_ones() -> None:
    assert prefix_mask(0) == 0
    assert prefix_mask(128) == (1 << 128) - 1
    assert prefix_mask(1) == 1 << 127


@given(st.integers(0, (1 << 48) - 1))
def test_a_mac_comes_back(mac: int) -> None:
    text = format_mac(mac)
    assert parse_mac(text) == parse_mac(text.upper()) == mac
    assert is_group_mac(mac) is bool(int(text[:2], 16) & 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "02:00:00:00:00",
        "02:00:00:00:00:0",
        "02-00-00-00-00-01",
        "zz:00:00:00:00:01",
        "+2:00:00:00:00:01",
        "0_:00:00:00:00:01",
    ],
)
def test_what_is_no_mac_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a MAC address"):
        parse_mac(text)


def test_addresses_that_are_made_from_others() -> None:
    # RFC 4291, appendix A and section 2.7.1; RFC 1112, section 6.4; RFC 2464.
    local = link_local_of(parse_mac("34:56:78:9a:bc:de"))
    assert format_ip(local) == "fe80::3656:78ff:fe9a:bcde"
    node = solicited_node(parse_ip("4037::1:800:200e:8c6c"))
    assert format_ip(node) == "ff02::1:ff0e:8c6c"
    assert format_mac(multicast_mac(node)) == "33:33:ff:0e:8c:6c"
    assert format_mac(multicast_mac(parse_ip("239.129.1.2"))) == "01:00:5e:01:01:02"
    assert is_group_mac(MAC_BROADCAST)


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1", "127.9.9.9", "224.0.0.1", "239.9.9.9", "240.0.0.1", "::1", "ff02::1"],
)
def test_no_machine_sends_from(text: str) -> None:
    assert is_forged(parse_ip(text), to_group=False)
    assert is_forged(parse_ip(text), to_group=True)


@pytest.mark.parametrize("text", ["0.0.0.0", "0.1.2.3", "::"])
def test_machines_without_an_address_send_to_groups_only(text: str) -> None:
    assert is_forged(parse_ip(text), to_group=False)
    assert not is_forged(parse_ip(text), to_group=True)


@pytest.mark.parametrize(
    "text",
    ["1.0.0.1", "126.0.0.1", "128.0.0.1", "223.9.9.9", "::2", "fe80::1", "fd00::1"],
)
def test_machines_send_from(text: str) -> None:
    assert not is_forged(parse_ip(text), to_group=False)
