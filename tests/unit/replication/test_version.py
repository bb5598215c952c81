# SPDX-License-Identifier: Apache-2.0
"""Versions and wishes survive the wire; what no sender may write is refused."""

from __future__ import annotations

import pytest

from midoryu.errors import DecodeError
from midoryu.replication.entry import Context, Kind, decode_entries
from midoryu.replication.version import (
    VERSION_BYTES,
    WANT_MAX,
    Version,
    Want,
    decode_versions,
    decode_wants,
    encode_versions,
    encode_wants,
)
from midoryu.replication.wire import entries_bytes

CONTEXT = Context(sender=2, now=0.0)


def test_versions_and_wishes_are_read_as_they_were_written() -> None:
    versions = [Version(1, 5, 0xFFFF_FFFF), Version((1 << 64) - 1, 0xFF_FFFF, 0)]
    data = encode_versions(versions) + encode_wants([3, 4])
    entries = list(decode_entries(memoryview(data), CONTEXT))
    assert entries == [*versions, Want(3), Want(4)]
    assert (data[0], len(encode_versions(versions))) == (
        Kind.VERSION,
        3 + 2 * VERSION_BYTES,
    )


def test_the_largest_list_of_wishes_fits_the_narrowest_underlay() -> None:
    assert len(encode_wants(range(1, WANT_MAX + 1))) <= entries_bytes(576)


@pytest.mark.parametrize("body", [b"\0" * 16, b"\1" * 15, b"\1" * 17])
def test_versions_that_nobody_may_write_are_refused(body: bytes) -> None:
    with pytest.raises(DecodeError):
        list(decode_versions(memoryview(body)))


@pytest.mark.parametrize("body", [b"\0" * 8, b"\1" * 7])
def test_wishes_that_nobody_may_write_are_refused(body: bytes) -> None:
    with pytest.raises(DecodeError):
        list(decode_wants(memoryview(body)))
