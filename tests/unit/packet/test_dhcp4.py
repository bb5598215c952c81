# SPDX-License-Identifier: Apache-2.0
"""DHCPv4 messages, with scapy as the other opinion."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.dhcp import BOOTP, DHCP

from midoryu.errors import DecodeError
from midoryu.packet import dhcp4
from midoryu.packet.address import parse_ip


def discover(**fields: Any) -> bytes:
    options = [("message-type", "discover"), ("param_req_list", [1, 3]), "end"]
    head = BOOTP(chaddr=b"\x02\0\0\0\0\x01", xid=7, **fields)
    return bytes(head / DHCP(options=options))


def test_message_of_another_maker_is_read() -> None:
    message = dhcp4.decode(discover(flags=0x8000))

    assert (message.type, message.xid, message.mac) == (
        dhcp4.DISCOVER,
        7,
        0x02 << 40 | 1,
    )
    assert message.flags == dhcp4.BROADCAST_FLAG
    assert message.options[dhcp4.PARAMETER_LIST] == b"\x01\x03"


def test_another_maker_reads_what_is_written() -> None:
    message = dhcp4.Message(dhcp4.BOOT_REPLY, 7, 1, yours=0x0A000001)
    message.options = {53: b"\x02", 1: b"\xff\xff\xff\0"}

    read = BOOTP(dhcp4.encode(message))

    assert read.yiaddr == "10.0.0.1"
    assert ("subnet_mask", "255.255.255.0") in read[DHCP].options


def test_long_option_is_cut_in_pieces_and_put_together_again() -> None:
    message = dhcp4.Message(dhcp4.BOOT_REPLY, 7, 1, options={119: b"x" * 300})

    assert dhcp4.decode(dhcp4.encode(message, 1000)).options[119] == b"x" * 300


def test_what_does_not_fit_is_left_out() -> None:
    options = {53: b"\x05", 200: b"y" * 250, 201: b"z" * 250}
    message = dhcp4.Message(dhcp4.BOOT_REPLY, 7, 1, options=options)

    data = dhcp4.encode(message)

    assert len(data) <= dhcp4.DEFAULT_MAX_BYTES
    assert set(dhcp4.decode(data).options) == {53, 200}


def test_options_go_on_in_file_and_server_name() -> None:
    data = bytearray(discover())
    data[108:111] = bytes((12, 1, 65))
    data[44:47] = bytes((15, 1, 66))
    whole = bytes(data[:240]) + bytes((52, 1, 3)) + bytes(data[240:])

    message = dhcp4.decode(whole)

    assert (message.options[12], message.options[15]) == (b"A", b"B")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        discover()[:239],
        discover()[:236] + b"nope" + discover()[240:],
        discover(htype=6),
        discover(op=3),
        discover()[:240] + bytes((53, 9, 1)),
        discover()[:240] + bytes((53, 2, 1, 1, 255)),
    ],
    ids=["nothing", "cut", "cookie", "hardware", "op", "option cut", "type"],
)
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        dhcp4.decode(data)


def test_route_has_the_significant_bytes_of_its_prefix() -> None:
    routes = {(parse_ip("10.9.0.0"), 12): parse_ip("10.0.0.1"), (0, 0): 0}

    data = dhcp4.encode_routes(routes)

    assert data == bytes((12, 10, 9, 10, 0, 0, 1, 0, 0, 0, 0, 0))
