# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from midoryu.nsdb.dhcp_option import parse_option


@pytest.mark.parametrize(
    ("text", "code", "data"),
    [
        ("mtu=1400", 26, b"\x05\x78"),
        ("26=1400", 26, b"\x05\x78"),
        ("tftp-server=10.0.0.1", 66, b"10.0.0.1"),
        ("bootfile-name=a=b", 67, b"a=b"),
        ("150=10.0.0.1,10.0.0.2", 150, bytes((10, 0, 0, 1, 10, 0, 0, 2))),
        ("224=10.0.0.1", 224, bytes((10, 0, 0, 1))),
        ("224=hello", 224, b"hello"),
        ("224=0x0a0B", 224, b"\x0a\x0b"),
        ("domain-search=a.b,c", 119, b"\x01a\x01b\0\x01c\0"),
        (
            "classless-static-route=10.9.0.0/16,10.0.0.1",
            121,
            b"\x10\x0a\x09\x0a\0\0\x01",
        ),
    ],
)
def test_option_is_a_code_and_data(text: str, code: int, data: bytes) -> None:
    assert parse_option(text, v4=True) == (code, data)


def test_ipv6_has_names_of_its_own() -> None:
    address = bytes.fromhex("fd00" + "0" * 27 + "1")

    assert parse_option("dns-server=fd00::1", v4=False) == (23, address)


@pytest.mark.parametrize(
    "text",
    [
        "mtu",
        "nonsense=1",
        "53=1",
        "255=x",
        "mtu=70000",
        "mtu=x",
        "router=fd00::1",
        "9=0xz",
    ],
)
def test_what_is_no_option_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_option(text, v4=True)
