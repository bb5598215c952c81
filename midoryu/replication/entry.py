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
from typing import Any, Final, NamedTuple, Union

from midoryu.compat import SLOTS
from midoryu.errors import DecodeError
from midoryu.packet.address import V4_MAPPED
from midoryu.state.connection import (
    Connection,
    Phase,
    StateKey,
    Translation,
    TranslationKind,
)


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


#  Entry:      kind 8 | length 16 (of the body) | body
ENTRY_HEADER: Final = struct.Struct("!BH")

#  RECORD body:
#   id 64
#   ip_proto 8 | flags 8: phase (bits 0-2), owner follows (3), addresses are IPv6 (4)
#   source 32 or 128 | destination 32 or 128 | source port 16 | destination port 16
#   ingress device 32 | ingress vport 32 | egress device 32 | egress vport 32
#   age 24 | number of translations 8
#   owner 32                                      only when it is not the sender
#   each translation: device 32 | kind 8 (bit 7: IPv6) | address 32 or 128 | port 16
_RECORD_V4: Final = struct.Struct("!BHQBBIIHHIIIII")
_RECORD_V4_BODY: Final = struct.Struct("!QBBIIHHIIIII")
_RECORD_V6_BODY: Final = struct.Struct("!QBB16s16sHHIIIII")
_TRANSLATION_V4: Final = struct.Struct("!IBIH")
_TRANSLATION_V6: Final = struct.Struct("!IB16sH")
_OWNER: Final = struct.Struct("!I")
_PHASE_MASK: Final = 0x07
_OWNER_FOLLOWS: Final = 0x08
_IPV6: Final = 0x10
_FLAGS_KNOWN: Final = 0x1F
_TRANSLATION_IPV6: Final = 0x80

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

# Ages are carried in 24 bits of tenths of a second (19 days).
_AGE_MAX: Final = 0xFF_FFFF
_TENTHS: Final = 10
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
]


@dataclass(frozen=True, **SLOTS)
class Context:
    """What the bytes of an entry leave out."""

    sender: int
    """Host key of the sender."""
    now: float
    """The receiver's clock."""


def encode_record(connection: Connection, sender: int, now: float) -> bytes:
    """Build a RECORD entry.

    Raises:
        ValueError: a number does not fit its field.
    """
    try:
        return _encode_record(connection, sender, now)
    except (struct.error, OverflowError) as error:
        raise ValueError(f"connection {connection.id:#x}: {error}") from error


def _encode_record(connection: Connection, sender: int, now: float) -> bytes:
    source, destination, source_port, destination_port = connection.original
    tail = b"".join(map(_encode_translation, connection.translations))
    flags = int(connection.phase)
    if connection.owner != sender:
        flags |= _OWNER_FOLLOWS
        tail = _OWNER.pack(connection.owner) + tail
    age_count = _age(connection.last_used, now) << 8 | len(connection.translations)
    if source >> 32 == 0xFFFF and destination >> 32 == 0xFFFF:
        return (
            _RECORD_V4.pack(
                Kind.RECORD,
                _RECORD_V4_BODY.size + len(tail),
                connection.id,
                connection.ip_proto,
                flags,
                source & 0xFFFF_FFFF,
                destination & 0xFFFF_FFFF,
                source_port,
                destination_port,
                connection.ingress_device,
                connection.ingress_vport,
                connection.egress_device,
                connection.egress_vport,
                age_count,
            )
            + tail
        )
    body = _RECORD_V6_BODY.pack(
        connection.id,
        connection.ip_proto,
        flags | _IPV6,
        source.to_bytes(16, "big"),
        destination.to_bytes(16, "big"),
        source_port,
        destination_port,
        connection.ingress_device,
        connection.ingress_vport,
        connection.egress_device,
        connection.egress_vport,
        age_count,
    )
    return ENTRY_HEADER.pack(Kind.RECORD, len(body) + len(tail)) + body + tail


def encode_touches(touches: Sequence[Touch], now: float) -> bytes:
    """Build one TOUCH entry for several connections."""
    return _entry(
        Kind.TOUCH,
        b"".join(
            _TOUCH.pack(one.id, one.phase << 24 | _age(one.last_used, now))
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
    if len(body) < _RECORD_V4_BODY.size:
        raise DecodeError(f"record of {len(body)} bytes")
    flags = body[9]
    is_v6 = flags & _IPV6
    if flags & ~_FLAGS_KNOWN:
        raise DecodeError(f"record with unknown flags {flags:#x}")
    layout = _RECORD_V6_BODY if is_v6 else _RECORD_V4_BODY
    if len(body) < layout.size:
        raise DecodeError(f"IPv6 record of {len(body)} bytes")
    fields = layout.unpack_from(body)
    id_, ip_proto, _, source, destination, source_port, destination_port = fields[:7]
    if is_v6:
        source = int.from_bytes(source, "big")
        destination = int.from_bytes(destination, "big")
    else:
        source |= V4_MAPPED
        destination |= V4_MAPPED
    position, owner = layout.size, context.sender
    if flags & _OWNER_FOLLOWS:
        owner = _read(_OWNER, body, position)[0]
        position += _OWNER.size
    age, count = fields[11] >> 8, fields[11] & 0xFF
    translations, position = _decode_translations(body, position, count)
    if position != len(body):
        raise DecodeError(f"{len(body) - position} bytes too many in a record")
    yield Record(
        Connection(
            _checked_id(id_),
            ip_proto,
            (source, destination, source_port, destination_port),
            fields[7],
            fields[8],
            fields[9],
            fields[10],
            translations,
            owner,
            _phase(flags & _PHASE_MASK),
            context.now - age / _TENTHS,
        )
    )


def _decode_translations(
    body: memoryview, position: int, count: int
) -> tuple[tuple[Translation, ...], int]:
    translations = []
    for _ in range(count):
        if position + 5 > len(body):
            raise DecodeError("translation cut short")
        if body[position + 4] & _TRANSLATION_IPV6:
            layout = _TRANSLATION_V6
            device, code, raw, port = _read(layout, body, position)
            address = int.from_bytes(raw, "big")
        else:
            layout = _TRANSLATION_V4
            device, code, address, port = _read(layout, body, position)
            address |= V4_MAPPED
        kind = _KINDS.get(code & ~_TRANSLATION_IPV6)
        if kind is None:
            raise DecodeError(f"translation of unknown kind {code}")
        translations.append(Translation(device, kind, address, port))
        position += layout.size
    return tuple(translations), position


def _decode_touches(body: memoryview, context: Context) -> Iterator[Entry]:
    for id_, phase_age in _read_all(_TOUCH, body):
        age = phase_age & _AGE_MAX
        yield Touch(
            _checked_id(id_), _phase(phase_age >> 24), context.now - age / _TENTHS
        )


def _decode_removes(body: memoryview, context: Context) -> Iterator[Entry]:
    return (Remove(_checked_id(id_)) for (id_,) in _read_all(_ID, body))


def _decode_hello(body: memoryview, context: Context) -> Iterator[Entry]:
    (flags,) = _read(_HELLO, body, 0)
    yield Hello(bool(flags & 1))


def _decode_sync_request(body: memoryview, context: Context) -> Iterator[Entry]:
    yield SyncRequest(*_read(_NUMBER, body, 0))


def _decode_sync_done(body: memoryview, context: Context) -> Iterator[Entry]:
    yield SyncDone(*_read(_NUMBER, body, 0))


def _decode_nacks(body: memoryview, context: Context) -> Iterator[Entry]:
    return (Nack(*pair) for pair in _read_all(_PAIR, body))


def _decode_heartbeat(body: memoryview, context: Context) -> Iterator[Entry]:
    yield Heartbeat(*_read(_PAIR, body, 0))


def _decode_query(body: memoryview, context: Context) -> Iterator[Entry]:
    (number,) = _read(_NUMBER, body, 0)
    keys: list[StateKey] = []
    for device, ip_proto, source, destination, *ports in _read_all(
        _STATE_KEY, body[_NUMBER.size :]
    ):
        ends = int.from_bytes(source, "big"), int.from_bytes(destination, "big")
        keys.append((device, ip_proto, *ends, ports[0], ports[1]))
    yield Query(number, tuple(keys))


def _decode_unknown(body: memoryview, context: Context) -> Iterator[Entry]:
    yield Unknown(*_read(_NUMBER, body, 0))


def _decode_notices(body: memoryview, context: Context) -> Iterator[Entry]:
    return (Notice(host, bool(alive)) for host, alive in _read_all(_NOTICE, body))


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
}
_KINDS: Final[dict[int, TranslationKind]] = {int(one): one for one in TranslationKind}
_PHASES: Final[dict[int, Phase]] = {int(one): one for one in Phase}


def _entry(kind: Kind, body: bytes) -> bytes:
    return ENTRY_HEADER.pack(kind, len(body)) + body


def _encode_pair(numbers: tuple[int, int]) -> bytes:
    """Encode two datagram numbers, modulo 2**32."""
    return _PAIR.pack(numbers[0] & _SERIAL_MASK, numbers[1] & _SERIAL_MASK)


def _encode_translation(translation: Translation) -> bytes:
    device, kind, address, port = translation
    if address >> 32 == 0xFFFF:
        return _TRANSLATION_V4.pack(device, kind, address & 0xFFFF_FFFF, port)
    code = kind | _TRANSLATION_IPV6
    return _TRANSLATION_V6.pack(device, code, address.to_bytes(16, "big"), port)


def _age(last_used: float, now: float) -> int:
    return min(max(int((now - last_used) * _TENTHS + 0.5), 0), _AGE_MAX)


def _phase(code: int) -> Phase:
    phase = _PHASES.get(code)
    if phase is None:
        raise DecodeError(f"unknown phase {code}")
    return phase


def _checked_id(id_: int) -> int:
    if not id_:
        raise DecodeError("connection id 0")
    return id_


def _read(layout: struct.Struct, body: memoryview, position: int) -> tuple[Any, ...]:
    if position + layout.size > len(body):
        raise DecodeError("entry cut short")
    return layout.unpack_from(body, position)


def _read_all(layout: struct.Struct, body: memoryview) -> Iterator[tuple[Any, ...]]:
    if len(body) % layout.size:
        raise DecodeError(f"list of {len(body)} bytes, not a multiple of {layout.size}")
    return layout.iter_unpack(body)
