# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from midoryu.packet.address import parse_ip
from tests.helpers.worlds import V4, V6, Family
from tests.unit.engine.test_express import plan_of


@pytest.mark.parametrize(
    ("family", "address", "numbers"),
    [
        (V4, "203.0.113.1", (0xCB007101,)),
        (V6, "2001:db8::1", (0x20010DB8 << 32, 1)),
    ],
    ids=["IPv4", "IPv6"],
)
def test_an_address_is_as_many_numbers_as_its_messages_have_holes(
    family: Family, address: str, numbers: tuple[int, ...]
) -> None:
    assert plan_of(family).numbers_of(parse_ip(address)) == numbers
