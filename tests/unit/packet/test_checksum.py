# SPDX-License-Identifier: Apache-2.0
"""Checksums against RFC examples and a word-by-word sum."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from midoryu.packet.address import parse_ip
from midoryu.packet.checksum import (
    adjust,
    crc32c,
    internet_checksum,
    ones_sum,
    transport_checksum,
)

# RFC 1071, section 3: the words 0001 f203 f4f5 f6f7 add up to ddf2.
EXAMPLE = bytes.fromhex("0001f203f4f5f6f7")


def word_by_word(data: bytes) -> int:
    """Sum as RFC 1071 writes it, to judge the short way by."""
    total = 0
    padded = data + bytes(len(data) & 1)
    for at in range(0, len(padded), 2):
        total += padded[at] << 8 | padded[at + 1]
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_the_sum_of_the_rfc_example() -> None:
    assert ones_sum(EXAMPLE) == 0xDDF2
    assert internet_checksum(EXAMPLE) == 0x220D


@given(st.binary(max_size=64))
def test_the_checksum_is_the_complement_of_the_sum_of_words(data: bytes) -> None:
    assert internet_checksum(data) == 0xFFFF ^ word_by_word(data)


def test_zero_and_minus_zero_are_told_apart() -> None:
    assert internet_checksum(bytes(4)) == 0xFFFF
    assert internet_checksum(b"\xff\xff") == 0


@given(st.binary(min_size=8, max_size=8), st.integers(0, 0xFFFF))
def test_an_adjusted_checksum_equals_a_new_one(data: bytes, new: int) -> None:
    # The first word stands still, so that the data is never all zero (RFC 1624).
    before, after = b"\x45\x00" + data, b"\x45\x00" + new.to_bytes(2, "big") + data[2:]
    old = int.from_bytes(data[:2], "big")
    assert adjust(internet_checksum(before), old, new) == internet_checksum(after)


def test_the_rfc_1624_example_does_not_become_minus_zero() -> None:
    # RFC 1624, section 4: HC = 0xDD2F, m = 0x5555, m' = 0x3285 gives 0x0000.
    assert adjust(0xDD2F, 0x5555, 0x3285) == 0


def test_a_udp_checksum_never_is_zero() -> None:
    src, dst = parse_ip("10.0.0.1"), parse_ip("10.0.0.2")
    zero = bytes(8)
    filler = transport_checksum(src, dst, 17, zero)
    segment = filler.to_bytes(2, "big") + zero[2:]
    assert transport_checksum(src, dst, 17, segment) == 0xFFFF


def test_crc32c_of_the_known_check_string() -> None:
    # The check value of CRC-32C (RFC 3720, appendix B.4 uses the same polynomial).
    assert crc32c(b"123456789") == 0xE3069283
