# SPDX-License-Identifier: Apache-2.0
"""DHCPv6 messages, with scapy as the other opinion."""

from __future__ import annotations

import pytest
from scapy.layers.dhcp6 import (
    DUID_LL,
    DHCP6_Reply,
    DHCP6_Solicit,
    DHCP6OptClientId,
    DHCP6OptIA_NA,
    DHCP6OptIAAddress,
)

from midoryu.errors import DecodeError
from midoryu.packet import dhcp6
from midoryu.packet.address import parse_ip


def test_message_of_another_maker_is_read() -> None:
    client = DHCP6OptClientId(duid=DUID_LL(lladdr="02:00:00:00:00:01"))
    address = DHCP6OptIAAddress(addr="fd00::5")
    data = bytes(
        DHCP6_Solicit(trid=9) / client / DHCP6OptIA_NA(iaid=3, ianaopts=[address])
    )

    message = dhcp6.decode(data)

    assert (message.type, message.xid) == (dhcp6.SOLICIT, 9)
    assert message.get(dhcp6.CLIENT_ID) == dhcp6.link_layer_duid(0x02_00_00_00_00_01)
    assert message.associations() == (dhcp6.Association(3, (parse_ip("fd00::5"),)),)
    assert dhcp6.encode(message) == data


def test_another_maker_reads_what_is_written() -> None:
    ia = dhcp6.encode_association(
        3, [(parse_ip("fd00::5"), 100)], lease_s=100, status=0
    )
    data = dhcp6.encode(dhcp6.Message(dhcp6.REPLY, 9, ((dhcp6.IA_NA, ia),)))

    read = DHCP6_Reply(data)[DHCP6OptIA_NA]

    assert (read.iaid, read.T1, read.T2) == (3, 50, 80)
    assert read.ianaopts[0].addr == "fd00::5"


@pytest.mark.parametrize(
    "data",
    [
        b"\x01\0",
        b"\x0c\0\0\0",
        b"\x01\0\0\0\0\1\0\5ab",
        b"\x01\0\0\0\0\1\0\0",
        b"\x01\0\0\0\0\3\0\4abcd",
        b"\x01\0\0\0" + b"\0\x63\0\0" * 65,
    ],
    ids=["short", "relay", "option cut", "no DUID", "IA cut", "too many"],
)
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        dhcp6.decode(data)
