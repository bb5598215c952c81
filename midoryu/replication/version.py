# SPDX-License-Identifier: Apache-2.0
"""The entries by which hosts find out who has an old state of a record.

A touch tells of a connection's use, not of its state. VERSION follows it in the same
datagram and says which state the sender has; WANT asks for a record by its id. `entry`
decodes both among the other kinds. A receiver that knows neither skips them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from midoryu.replication.record import ENTRY_HEADER, checked_id, read_all

VERSION_KIND: Final = 13
"""Number of the entry's kind (`entry.Kind.VERSION`)."""
WANT_KIND: Final = 14
"""Number of the entry's kind (`entry.Kind.WANT`)."""

#  VERSION body: many of  id 64 | version 32 | mark of the state 32
_VERSION: Final = struct.Struct("!QII")
#  WANT body: many of  id 64
_ID: Final = struct.Struct("!Q")

VERSION_BYTES: Final = _VERSION.size
"""Bytes for one record in a VERSION entry."""
WANT_MAX: Final = 32
"""Ids in one WANT entry at most: they fit a datagram."""


class Version(NamedTuple):
    """Which state of a record the sender has; a touch without one is of version 0."""

    id: int
    version: int
    """How often the record was changed, see `Connection.version`."""
    mark: int
    """Tells two states of one version apart, see `connection.mark_of`."""


class Want(NamedTuple):
    """Asks for the record with this id."""

    id: int


def encode_versions(versions: Sequence[Version]) -> bytes:
    """Build one VERSION entry for several records."""
    body = b"".join(_VERSION.pack(*one) for one in versions)
    return ENTRY_HEADER.pack(VERSION_KIND, len(body)) + body


def encode_wants(ids: Sequence[int]) -> bytes:
    """Build one WANT entry for several records."""
    body = struct.pack(f"!{len(ids)}Q", *ids)
    return ENTRY_HEADER.pack(WANT_KIND, len(body)) + body


def decode_versions(body: memoryview) -> Iterator[Version]:
    """Read the body of a VERSION entry.

    Raises:
        DecodeError: it is cut short, or holds what no sender may write.
    """
    for id_, version, mark in read_all(_VERSION, body):
        yield Version(checked_id(id_), version, mark)


def decode_wants(body: memoryview) -> Iterator[Want]:
    """Read the body of a WANT entry.

    Raises:
        DecodeError: it is cut short, or holds what no sender may write.
    """
    return (Want(checked_id(id_)) for (id_,) in read_all(_ID, body))
