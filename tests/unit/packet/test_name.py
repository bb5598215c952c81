# SPDX-License-Identifier: Apache-2.0
"""Domain names on the wire."""

from __future__ import annotations

import pytest

from midoryu.errors import DecodeError
from midoryu.packet.name import decode_name, encode_name, encode_names, text_of


def test_name_is_labels_with_lengths_and_a_zero() -> None:
    assert encode_name("web.example.") == b"\x03web\x07example\0"
    assert encode_names(("a", "b")) == b"\x01a\0\x01b\0"


@pytest.mark.parametrize("name", ["a..b", "x" * 64, "é", ".".join(["abcdefg"] * 40)])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="domain name"):
        encode_name(name)


def test_pointer_goes_back_to_an_earlier_name() -> None:
    message = b"\x07Example\0\x03www\xc0\x00"

    labels, end = decode_name(message, 9)

    assert text_of(labels) == "www.example"
    assert end == len(message)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x03ww",
        b"\xc0",
        b"\xc0\x00",
        b"\xc0\x02\x01a\0",
        b"\x01a\xc0\x00",
        b"\x40" + b"a" * 70,
    ],
    ids=[
        "nothing",
        "cut",
        "half a pointer",
        "itself",
        "forward",
        "a circle",
        "long label",
    ],
)
def test_garbage_is_refused(message: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_name(message, 0)
