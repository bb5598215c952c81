# SPDX-License-Identifier: Apache-2.0
"""The entries of a state packet: values <-> bytes.

`wire` puts entries into frames. All numbers are big-endian; an age is the time since
the last use in tenths of a second, so that hosts' clocks need not agree.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple, Union

from midoryu.compat import SLOTS
from midoryu.errors import DecodeError
from midoryu.replication.record import (
    AGE_MAX,
    ENTRY_HEADER,
    checked_id,
    decode_age,
    decode_phase,
    decode_record,
    encode_age,
    read,
    read_all,
)
from midoryu.replication.record import encode_record as encode_record
from midoryu.replication.version import (
    VERSION_KIND,
    WANT_KIND,
    Version,
    Want,
    decode_versions,
    decode_wants,
)
from midoryu.state.connection import Connection, Phase, StateKey

# Bytes of an answer to a probe that travel: a status line fits.
MAX_PROBE_BYTES: Final = 256


class Kind(IntEnum):
    """What an entry is. A receiver skips kinds that it does not know."""

    RECORD = 1
    TOUCH = 2
    REMOVE = 3
    HELLO = 4
    SYNC_REQUEST = 5
    SYNC_DONE = 6
    NACK = 7
    HEARTBEAT = 8
    QUERY = 9
    UNKNOWN = 10
    NOTICE = 11
    PROBE_ANSWER = 12
    VERSION = VERSION_KIND
    WANT = WANT_KIND


# The headers of entries and the bodies of records: `record`.
#  TOUCH body: many of  id 64 | phase 8 | age 24
_TOUCH: Final = struct.Struct("!QI")
#  REMOVE body: many of  id 64
_ID: Final = struct.Struct("!Q")
#  NACK body: many of  first missing 32 | last missing 32
#  HEARTBEAT body: last number sent 32 | oldest number that can be repeated 32
_PAIR: Final = struct.Struct("!II")
#  HELLO body: flags 8: answer me (bit 0)
_HELLO: Final = struct.Struct("!B")
#  SYNC_REQUEST, SYNC_DONE body: number of the request 32
_NUMBER: Final = struct.Struct("!I")

#  QUERY body: number 32 | many of  device 32 | ip_proto 8 | source 128 |
#              destination 128 | source port 16 | destination port 16
_STATE_KEY: Final = struct.Struct("!IB16s16sHH")
#  UNKNOWN body: number of the query 32
#  NOTICE body: many of  host 32 | is alive 8
_NOTICE: Final = struct.Struct("!IB")
#  PROBE_ANSWER body: id 64 | what 8 | TCP flags 8 | sequence 32 | acknowledgment 32 |
#                     data
_PROBE: Final = struct.Struct("!QBBII")

_SERIAL_MASK: Final = 0xFFFF_FFFF


class Record(NamedTuple):
    """A whole connection; `last_used` is on the clock of who holds the value."""

    connection: Connection


class Touch(NamedTuple):
    """A connection was used."""

    id: int
    phase: Phase
    last_used: float
    """Instant on the clock of who holds the value."""
    version: Union[Version, None] = None
    """State of the record, where it is no longer the first; travels on its own."""


class Remove(NamedTuple):
    """A connection is over."""

    id: int


class Hello(NamedTuple):
    """A greeting: warms the underlay path and shows the sender's epoch."""

    wants_answer: bool


class SyncRequest(NamedTuple):
    """Asks for every record that the receiver has for the sender."""

    number: int


class SyncDone(NamedTuple):
    """Everything that was asked for has been sent."""

    number: int


class Nack(NamedTuple):
    """Datagrams that did not arrive."""

    first: int
    last: int


class Heartbeat(NamedTuple):
    """What the sender has sent, and asks for an acknowledgement."""

    last: int
    """Last number sent."""
    oldest: int
    """Oldest number that can still be repeated; `last + 1` when none."""


class Query(NamedTuple):
    """Asks for the record that is found by any of these keys."""

    number: int
    """To be quoted in the answer."""
    keys: tuple[StateKey, ...]


class Unknown(NamedTuple):
    """Says that there is no record for a query."""

    number: int


class Notice(NamedTuple):
    """Says what a gateway found out about a fellow."""

    host: int
    """Host key."""
    alive: bool


class ProbeAnswer(NamedTuple):
    """What a load-balancer member answered to a probe of the receiver."""

    id: int
    """Record of the probe."""
    what: int
    """0 a TCP segment, 1 an answer of another protocol, 2 an ICMP error."""
    flags: int = 0
    sequence: int = 0
    acknowledgment: int = 0
    payload: bytes = b""
    """At most 256 bytes."""


Entry = Union[
    Record,
    Touch,
    Remove,
    Hello,
    SyncRequest,
    SyncDone,
    Nack,
    Heartbeat,
    Query,
    Unknown,
    Notice,
    ProbeAnswer,
    Version,
    Want,
]


@dataclass(frozen=True, **SLOTS)
class Context:
    """What the bytes of an entry leave out."""

    sender: int
    """Host key of the sender."""
    now: float
    """The receiver's clock."""


def encode_touches(touches: Sequence[Touch], now: float) -> bytes:
    """Build one TOUCH entry for several connections."""
    return _entry(
        Kind.TOUCH,
        b"".join(
            _TOUCH.pack(one.id, one.phase << 24 | encode_age(one.last_used, now))
            for one in touches
        ),
    )


def encode_removes(ids: Sequence[int]) -> bytes:
    """Build one REMOVE entry for several connections."""
    return _entry(Kind.REMOVE, struct.pack(f"!{len(ids)}Q", *ids))


def encode_hello(hello: Hello) -> bytes:
    """Build a HELLO entry."""
    return _entry(Kind.HELLO, _HELLO.pack(hello.wants_answer))


def encode_sync_request(number: int) -> bytes:
    """Build a SYNC_REQUEST entry."""
    return _entry(Kind.SYNC_REQUEST, _NUMBER.pack(number))


def encode_sync_done(number: int) -> bytes:
    """Build a SYNC_DONE entry."""
    return _entry(Kind.SYNC_DONE, _NUMBER.pack(number))


def encode_nacks(nacks: Iterable[Nack]) -> bytes:
    """Build one NACK entry for several gaps."""
    return _entry(Kind.NACK, b"".join(map(_encode_pair, nacks)))


def encode_heartbeat(heartbeat: Heartbeat) -> bytes:
    """Build a HEARTBEAT entry."""
    return _entry(Kind.HEARTBEAT, _encode_pair(heartbeat))


def encode_query(query: Query) -> bytes:
    """Build a QUERY entry."""
    keys = b"".join(
        _STATE_KEY.pack(
            device,
            ip_proto,
            source.to_bytes(16, "big"),
            destination.to_bytes(16, "big"),
            source_port,
            destination_port,
        )
        for device, ip_proto, source, destination, source_port, destination_port in (
            query.keys
        )
    )
    return _entry(Kind.QUERY, _NUMBER.pack(query.number) + keys)


def encode_unknown(number: int) -> bytes:
    """Build an UNKNOWN entry."""
    return _entry(Kind.UNKNOWN, _NUMBER.pack(number))


def encode_notices(notices: Iterable[Notice]) -> bytes:
    """Build one NOTICE entry about several hosts."""
    return _entry(Kind.NOTICE, b"".join(_NOTICE.pack(*one) for one in notices))


def encode_probe_answer(answer: ProbeAnswer) -> bytes:
    """Build a PROBE_ANSWER entry."""
    *numbers, payload = answer
    return _entry(Kind.PROBE_ANSWER, _PROBE.pack(*numbers) + payload[:MAX_PROBE_BYTES])


def decode_entries(data: memoryview, context: Context) -> Iterator[Entry]:
    """Read the entries of one packet, skipping those of unknown kinds.

    Raises:
        DecodeError: an entry is cut short, or holds what no sender may write.
    """
    position, end = 0, len(data)
    while position < end:
        if end - position < ENTRY_HEADER.size:
            raise DecodeError(f"entry header cut short at byte {position}")
        kind, length = ENTRY_HEADER.unpack_from(data, position)
        position += ENTRY_HEADER.size
        if length > end - position:
            raise DecodeError(f"entry of kind {kind} longer than the packet")
        decode = _DECODERS.get(kind)
        if decode is not None:
            yield from decode(data[position : position + length], context)
        position += length


def _decode_record(body: memoryview, context: Context) -> Iterator[Entry]:
    yield Record(decode_record(body, context.sender, context.now))


def _decode_touches(body: memoryview, context: Context) -> Iterator[Entry]:
    for id_, phase_age in read_all(_TOUCH, body):
        yield Touch(
            checked_id(id_),
            decode_phase(phase_age >> 24),
            decode_age(phase_age & AGE_MAX, context.now),
        )


def _decode_removes(body: memoryview, context: Context) -> Iterator[Entry]:
    return (Remove(checked_id(id_)) for (id_,) in read_all(_ID, body))


def _decode_hello(body: memoryview, context: Context) -> Iterator[Entry]:
    (flags,) = read(_HELLO, body, 0)
    yield Hello(bool(flags & 1))


def _decode_sync_request(body: memoryview, context: Context) -> Iterator[Entry]:
    yield SyncRequest(*read(_NUMBER, body, 0))


def _decode_sync_done(body: memoryview, context: Context) -> Iterator[Entry]:
    yield SyncDone(*read(_NUMBER, body, 0))


def _decode_nacks(body: memoryview, context: Context) -> Iterator[Entry]:
    return (Nack(*pair) for pair in read_all(_PAIR, body))


def _decode_heartbeat(body: memoryview, context: Context) -> Iterator[Entry]:
    yield Heartbeat(*read(_PAIR, body, 0))


def _decode_query(body: memoryview, context: Context) -> Iterator[Entry]:
    (number,) = read(_NUMBER, body, 0)
    keys: list[StateKey] = []
    for device, ip_proto, source, destination, *ports in read_all(
        _STATE_KEY, body[_NUMBER.size :]
    ):
        ends = int.from_bytes(source, "big"), int.from_bytes(destination, "big")
        keys.append((device, ip_proto, *ends, ports[0], ports[1]))
    yield Query(number, tuple(keys))


def _decode_unknown(body: memoryview, context: Context) -> Iterator[Entry]:
    yield Unknown(*read(_NUMBER, body, 0))


def _decode_notices(body: memoryview, context: Context) -> Iterator[Entry]:
    return (Notice(host, bool(alive)) for host, alive in read_all(_NOTICE, body))


def _decode_probe(body: memoryview, context: Context) -> Iterator[Entry]:
    id_, what, flags, sequence, acknowledgment = read(_PROBE, body, 0)
    payload = bytes(body[_PROBE.size :])
    id_ = checked_id(id_)
    yield ProbeAnswer(id_, what, flags, sequence, acknowledgment, payload)


_DECODERS: Final[dict[int, Callable[[memoryview, Context], Iterator[Entry]]]] = {
    Kind.RECORD: _decode_record,
    Kind.TOUCH: _decode_touches,
    Kind.REMOVE: _decode_removes,
    Kind.HELLO: _decode_hello,
    Kind.SYNC_REQUEST: _decode_sync_request,
    Kind.SYNC_DONE: _decode_sync_done,
    Kind.NACK: _decode_nacks,
    Kind.HEARTBEAT: _decode_heartbeat,
    Kind.QUERY: _decode_query,
    Kind.UNKNOWN: _decode_unknown,
    Kind.NOTICE: _decode_notices,
    Kind.PROBE_ANSWER: _decode_probe,
    Kind.VERSION: lambda body, _: decode_versions(body),
    Kind.WANT: lambda body, _: decode_wants(body),
}


def _entry(kind: Kind, body: bytes) -> bytes:
    return ENTRY_HEADER.pack(kind, len(body)) + body


def _encode_pair(numbers: tuple[int, int]) -> bytes:
    """Encode two datagram numbers, modulo 2**32."""
    return _PAIR.pack(numbers[0] & _SERIAL_MASK, numbers[1] & _SERIAL_MASK)
