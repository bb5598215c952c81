# SPDX-License-Identifier: Apache-2.0
"""The RECORD entry of a state packet: one whole connection <-> bytes.

`entry` has the other kinds, and uses what records and touches share: ids, phases, ages.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

from midoryu.errors import DecodeError
from midoryu.packet.address import V4_MAPPED
from midoryu.state.connection import Connection, Phase, Translation, TranslationKind

KIND: Final = 1
"""Number of the entry's kind (`entry.Kind.RECORD`)."""

#  Entry:      kind 8 | length 16 (of the body) | body
ENTRY_HEADER: Final = struct.Struct("!BH")

#  RECORD body:
#   id 64
#   ip_proto 8 | flags 8: phase (bits 0-2), owner follows (3), addresses are IPv6 (4),
#                        version follows (5)
#   source 32 or 128 | destination 32 or 128 | source port 16 | destination port 16
#   ingress device 32 | ingress vport 32 | egress device 32 | egress vport 32
#   age 24 | number of translations 8
#   owner 32                                      only when it is not the sender
#   version 24                                    only when it is not 0
#   each translation: device 32 | kind 8 (bit 7: IPv6) | address 32 or 128 | port 16
_RECORD_V4: Final = struct.Struct("!BHQBBIIHHIIIII")
_RECORD_V4_ONE: Final = struct.Struct("!BHQBBIIHHIIIIIIBIH")
_RECORD_V4_BODY: Final = struct.Struct("!QBBIIHHIIIII")
_RECORD_V6_BODY: Final = struct.Struct("!QBB16s16sHHIIIII")
_TRANSLATION_V4: Final = struct.Struct("!IBIH")
_TRANSLATION_V6: Final = struct.Struct("!IB16sH")
_OWNER: Final = struct.Struct("!I")
_VERSION: Final = struct.Struct("!BH")
_PHASE_MASK: Final = 0x07
_OWNER_FOLLOWS: Final = 0x08
_IPV6: Final = 0x10
_VERSION_FOLLOWS: Final = 0x20
_FLAGS_KNOWN: Final = 0x3F
_TRANSLATION_IPV6: Final = 0x80

# Ages are carried in 24 bits of tenths of a second (19 days).
AGE_MAX: Final = 0xFF_FFFF
_TENTHS: Final = 10
_KINDS: Final[dict[int, TranslationKind]] = {int(one): one for one in TranslationKind}
_PHASES: Final[dict[int, Phase]] = {int(one): one for one in Phase}


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
    if (
        len(connection.translations) == 1
        and source >> 32 == destination >> 32 == 0xFFFF
        and connection.owner == sender
        and not connection.version
    ):
        # Nearly all that are pushed: at once.
        device, kind, address, port = connection.translations[0]
        if address >> 32 == 0xFFFF:
            return _RECORD_V4_ONE.pack(
                KIND,
                _RECORD_V4_BODY.size + _TRANSLATION_V4.size,
                connection.id,
                connection.ip_proto,
                connection.phase,
                source & 0xFFFF_FFFF,
                destination & 0xFFFF_FFFF,
                source_port,
                destination_port,
                connection.ingress_device,
                connection.ingress_vport,
                connection.egress_device,
                connection.egress_vport,
                encode_age(connection.last_used, now) << 8 | 1,
                device,
                kind,
                address & 0xFFFF_FFFF,
                port,
            )
    tail = b"".join(map(_encode_translation, connection.translations))
    flags = int(connection.phase)
    if connection.version:
        flags |= _VERSION_FOLLOWS
        tail = _VERSION.pack(*divmod(connection.version, 1 << 16)) + tail
    if connection.owner != sender:
        flags |= _OWNER_FOLLOWS
        tail = _OWNER.pack(connection.owner) + tail
    age_count = encode_age(connection.last_used, now) << 8 | len(
        connection.translations
    )
    if source >> 32 == 0xFFFF and destination >> 32 == 0xFFFF:
        return (
            _RECORD_V4.pack(
                KIND,
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
    return ENTRY_HEADER.pack(KIND, len(body) + len(tail)) + body + tail


def _encode_translation(translation: Translation) -> bytes:
    device, kind, address, port = translation
    if address >> 32 == 0xFFFF:
        return _TRANSLATION_V4.pack(device, kind, address & 0xFFFF_FFFF, port)
    code = kind | _TRANSLATION_IPV6
    return _TRANSLATION_V6.pack(device, code, address.to_bytes(16, "big"), port)


def decode_record(body: memoryview, sender: int, now: float) -> Connection:
    """Read the body of a RECORD entry; its age is put on the receiver's clock.

    Raises:
        DecodeError: it is cut short, or holds what no sender may write.
    """
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
    position, owner = layout.size, sender
    if flags & _OWNER_FOLLOWS:
        owner = read(_OWNER, body, position)[0]
        position += _OWNER.size
    version = 0
    if flags & _VERSION_FOLLOWS:
        high, low = read(_VERSION, body, position)
        version = high << 16 | low
        position += _VERSION.size
    age, count = fields[11] >> 8, fields[11] & 0xFF
    translations, position = _decode_translations(body, position, count)
    if position != len(body):
        raise DecodeError(f"{len(body) - position} bytes too many in a record")
    return Connection(
        checked_id(id_),
        ip_proto,
        (source, destination, source_port, destination_port),
        fields[7],
        fields[8],
        fields[9],
        fields[10],
        translations,
        owner,
        decode_phase(flags & _PHASE_MASK),
        decode_age(age, now),
        version=version,
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
            device, code, raw, port = read(layout, body, position)
            address = int.from_bytes(raw, "big")
        else:
            layout = _TRANSLATION_V4
            device, code, address, port = read(layout, body, position)
            address |= V4_MAPPED
        kind = _KINDS.get(code & ~_TRANSLATION_IPV6)
        if kind is None:
            raise DecodeError(f"translation of unknown kind {code}")
        translations.append(Translation(device, kind, address, port))
        position += layout.size
    return tuple(translations), position


def encode_age(last_used: float, now: float) -> int:
    """Count the tenths of a second since the last use, as far as 24 bits go."""
    return min(max(int((now - last_used) * _TENTHS + 0.5), 0), AGE_MAX)


def decode_age(tenths: int, now: float) -> float:
    """Return the instant of the last use on the clock of `now`."""
    return now - tenths / _TENTHS


def decode_phase(code: int) -> Phase:
    """Return a phase by its number.

    Raises:
        DecodeError: there is none.
    """
    phase = _PHASES.get(code)
    if phase is None:
        raise DecodeError(f"unknown phase {code}")
    return phase


def checked_id(id_: int) -> int:
    """Return a connection id that may be one.

    Raises:
        DecodeError: it is 0.
    """
    if not id_:
        raise DecodeError("connection id 0")
    return id_


def read(layout: struct.Struct, body: memoryview, position: int) -> tuple[Any, ...]:
    """Read one structure at a place.

    Raises:
        DecodeError: the bytes end before.
    """
    if position + layout.size > len(body):
        raise DecodeError("entry cut short")
    return layout.unpack_from(body, position)


def read_all(layout: struct.Struct, body: memoryview) -> Iterator[tuple[Any, ...]]:
    """Read a list of one structure.

    Raises:
        DecodeError: the last one is cut short.
    """
    if len(body) % layout.size:
        raise DecodeError(f"list of {len(body)} bytes, not a multiple of {layout.size}")
    return layout.iter_unpack(body)
