# SPDX-License-Identifier: Apache-2.0
"""The connection record: what must live as long as the connection does.

`table` keeps records and ages them, `nat` chooses ports for new ones, and
`replication` carries them to other hosts.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from midoryu.compat import SLOTS
from midoryu.packet import protocol

# (device key, ip_proto, source, destination, source port, destination port) as a packet
# presents itself to that device. Ports of an ICMP query: see `query_ports`.
StateKey = tuple[int, int, int, int, int, int]
# (source, destination, source port, destination port)
FourTuple = tuple[int, int, int, int]


class Direction(IntEnum):
    """Which way a packet of a connection goes."""

    FORWARD = 0
    RETURN = 1


class Phase(IntEnum):
    """Lifetime class of a connection; the number is its code on the wire."""

    TCP_TRANSITORY = 0
    TCP_ESTABLISHED = 1
    UDP_UNREPLIED = 2
    UDP = 3
    ICMP = 4
    OTHER = 5
    TCP_CLOSING = 6


class TranslationKind(IntEnum):
    """Which end of the tuple a translation rewrites; the number is its wire code."""

    SOURCE = 0
    DESTINATION = 1
    FLOATING_SOURCE = 2
    FLOATING_DESTINATION = 3


class Translation(NamedTuple):
    """One rewrite that a device makes to forward packets (undone for return ones)."""

    device: int
    """Key of the router."""
    kind: TranslationKind
    """Which end."""
    address: int
    """New address, 128-bit."""
    port: int
    """New port (ICMP: identifier)."""


@dataclass(**SLOTS, eq=False)
class Connection:
    """One connection, as every host of its interested set knows it."""

    id: int
    """64 random-looking bits, never 0; unique in the cloud."""
    ip_proto: int
    """IP protocol number."""
    original: FourTuple
    """Tuple of forward packets at the ingress device."""
    ingress_device: int
    """Key of the network or router where forward packets enter."""
    ingress_vport: int
    """Key of the exterior vport where forward packets enter."""
    egress_device: int
    """Key of the device where forward packets leave."""
    egress_vport: int
    """Key of the vport where forward packets leave; 0 when flooded."""
    translations: tuple[Translation, ...]
    """In the order in which a forward packet meets them."""
    owner: int
    """Key of the host that made it."""
    phase: Phase
    """Lifetime class now."""
    last_used: float = 0.0
    """Instant of the last known packet, on this host's monotonic clock."""
    bucket: int = 0
    """Where the table's timer wheel has it, 0 for nowhere; only `table` looks."""
    version: int = 0
    """How often it was changed, 24 bits; see `supersedes`."""


# A version that has come to this end stays there.
VERSION_MAX: Final = 0xFF_FFFF


def supersedes(one: Connection, other: Connection) -> bool:
    """Tell which of two records with one id is in force, wherever they meet.

    Two gateways may change one record at once, and a repaired datagram may bring an old
    state of it late: the version decides, then the places, so that all hosts agree.
    """
    return _rank(one) > _rank(other)


def mark_of(connection: Connection) -> int:
    """Return 32 bits that differ where `supersedes` would prefer one of two records.

    Two gateways may have given one version to different states; nearly always the mark
    shows it.
    """
    text = repr([connection.ingress_vport, connection.egress_vport])
    text += repr([connection.ingress_device, connection.egress_device])
    text += repr([list(map(int, one)) for one in connection.translations])
    return zlib.crc32(text.encode())


def _rank(connection: Connection) -> tuple[object, ...]:
    return (
        connection.version,
        connection.ingress_vport,
        connection.egress_vport,
        connection.ingress_device,
        connection.egress_device,
        connection.translations,
    )


# Query and reply types of ICMP and ICMPv6 (RFC 792, RFC 950, RFC 4443).
_REPLY_OF: Final[dict[tuple[int, int], int]] = {
    (protocol.ICMP, 8): 0,
    (protocol.ICMP, 13): 14,
    (protocol.ICMP, 15): 16,
    (protocol.ICMP, 17): 18,
    (protocol.ICMPV6, 128): 129,
}
_QUERY_OF: Final = {
    (proto, reply): query for (proto, query), reply in _REPLY_OF.items()
}


def query_ports(ip_proto: int, icmp_type: int, icmp_id: int) -> tuple[int, int] | None:
    """Give an ICMP query or reply the two "ports" that identify its connection.

    A query comes from "port" identifier to "port" query type; its reply the other way,
    so that reversing a tuple works as it does for TCP.

    Returns:
        (source port, destination port), or None where the type is no query or reply.

    Source: RFC 5508, section 3.1 (query sessions).
    """
    if (ip_proto, icmp_type) in _REPLY_OF:
        return icmp_id, icmp_type
    query = _QUERY_OF.get((ip_proto, icmp_type))
    return None if query is None else (query, icmp_id)


def opposite_type(ip_proto: int, icmp_type: int) -> int:
    """Return the type of the reply to an ICMP query, or the other way round."""
    kind = (ip_proto, icmp_type)
    return _REPLY_OF.get(kind, _QUERY_OF.get(kind, icmp_type))


def translate(tuple4: FourTuple, translation: Translation) -> FourTuple:
    """Apply one translation to the tuple of a forward packet."""
    source, destination, source_port, destination_port = tuple4
    if translation.kind in (TranslationKind.SOURCE, TranslationKind.FLOATING_SOURCE):
        return translation.address, destination, translation.port, destination_port
    return source, translation.address, source_port, translation.port


def reverse(tuple4: FourTuple) -> FourTuple:
    """Swap the two ends."""
    source, destination, source_port, destination_port = tuple4
    return destination, source, destination_port, source_port


def state_keys(connection: Connection) -> tuple[tuple[StateKey, Direction], ...]:
    """List every key by which a packet of the connection can find its record.

    1. forward, at the ingress device, as it came in;
    2. forward, at each translating device, as it reaches that device;
    3. return, at the egress device: the final tuple reversed;
    4. return, at each translating device, with later translations undone.
    """
    proto = connection.ip_proto
    forward = connection.original
    if not connection.translations:
        # Nearly all records have no translation or one: these have no loop.
        return (
            ((connection.ingress_device, proto, *forward), Direction.FORWARD),
            ((connection.egress_device, proto, *reverse(forward)), Direction.RETURN),
        )
    if len(connection.translations) == 1:
        (one,) = connection.translations
        back = reverse(translate(forward, one))
        if back != forward:
            return _keys_around(connection, one.device, back)
    keys: dict[StateKey, Direction] = {
        (connection.ingress_device, proto, *forward): Direction.FORWARD  # 1
    }
    returns: list[tuple[int, FourTuple]] = []
    for index, translation in enumerate(connection.translations):
        device = translation.device
        if not index or connection.translations[index - 1].device != device:
            keys.setdefault((device, proto, *forward), Direction.FORWARD)  # 2
        forward = translate(forward, translation)
        following = connection.translations[index + 1 : index + 2]
        if not following or following[0].device != device:
            returns.append((device, reverse(forward)))
    keys.setdefault(
        (connection.egress_device, proto, *reverse(forward)), Direction.RETURN
    )  # 3
    for device, tuple4 in returns:
        keys.setdefault((device, proto, *tuple4), Direction.RETURN)  # 4
    return tuple(keys.items())


def _keys_around(
    connection: Connection, device: int, back: FourTuple
) -> tuple[tuple[StateKey, Direction], ...]:
    """List the keys of a connection that one device translates."""
    proto, forward = connection.ip_proto, connection.original
    keys: list[tuple[StateKey, Direction]] = [
        ((connection.ingress_device, proto, *forward), Direction.FORWARD)
    ]
    if device != connection.ingress_device:
        keys.append(((device, proto, *forward), Direction.FORWARD))
    keys.append(((connection.egress_device, proto, *back), Direction.RETURN))
    if device != connection.egress_device:
        keys.append(((device, proto, *back), Direction.RETURN))
    return tuple(keys)


def direction_of(connection: Connection, key: StateKey) -> Direction | None:
    """Tell which way a packet goes that presents a key; None where it is no key of it.

    The same as looking the key up in `state_keys`, without making them all for a
    connection with one translation at most.
    """
    translations = connection.translations
    if len(translations) > 1:
        return dict(state_keys(connection)).get(key)
    device, ip_proto, *ends = key
    if ip_proto != connection.ip_proto:
        return None
    at = translations[0].device if translations else connection.ingress_device
    forward = connection.original
    tuple4 = tuple(ends)
    if tuple4 == forward and device in (connection.ingress_device, at):
        return Direction.FORWARD
    if translations:
        forward = translate(forward, translations[0])
    else:
        at = connection.egress_device
    if tuple4 == reverse(forward) and device in (connection.egress_device, at):
        return Direction.RETURN
    return None
