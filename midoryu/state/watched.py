# SPDX-License-Identifier: Apache-2.0
"""Vports whose records are kept account of, while a flood at them is dropped widely.

`table` tells of every record that it takes; `engine.refusals` watches vports.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from midoryu.state.connection import (
    Connection,
    FourTuple,
    StateKey,
    reverse,
    translate,
)

# Destination ports are looked up by blocks of 64.
_BLOCK_SHIFT: Final = 6


class Way(NamedTuple):
    """How packets of a record look when they come in, in one direction."""

    ip_proto: int
    tuple4: FourTuple

    @property
    def block(self) -> int:
        """The block of 64 ports that the destination port is in."""
        return self.tuple4[3] >> _BLOCK_SHIFT


# (protocol, block) -> ids
_Buckets = dict[tuple[int, int], dict[int, None]]


class Watched:
    """Ids of the records that come in or leave at watched vports."""

    def __init__(self) -> None:
        self._vports: dict[int, _Buckets] = {}

    def __bool__(self) -> bool:
        """Tell whether any vport is watched."""
        return bool(self._vports)

    def add(self, vport: int, records: Iterable[Connection]) -> None:
        """Watch a vport; `records` are all that there are now."""
        if vport not in self._vports:
            buckets = self._vports[vport] = {}
            for one in records:
                _enter(buckets, vport, one)

    def remove(self, vport: int) -> None:
        """Watch a vport no more."""
        self._vports.pop(vport, None)

    def note(self, connection: Connection) -> tuple[StateKey, ...]:
        """Note a new or changed record; return the keys of watched vports it is at."""
        keys = []
        for vport, buckets in self._vports.items():
            if _enter(buckets, vport, connection):
                keys.append(watch_key(vport))
        return tuple(keys)

    def ways(
        self,
        vport: int,
        known: Mapping[int, Connection],
        ip_proto: int | None = None,
        block: int | None = None,
    ) -> Iterator[Way]:
        """Yield how packets of records look that come in at a watched vport.

        Args:
            vport: the vport.
            known: all records by id; others are forgotten here, too.
            ip_proto: only of this protocol; None for all.
            block: only with a destination port in this block; None for all.
        """
        for (proto, its_block), ids in list(self._vports[vport].items()):
            if ip_proto not in (None, proto) or block not in (None, its_block):
                continue
            for connection_id in list(ids):
                connection = known.get(connection_id)
                if connection is None:
                    del ids[connection_id]
                    continue
                for way in ways_of(connection, vport):
                    if way.ip_proto == proto and way.block == its_block:
                        yield way
            if not ids:
                del self._vports[vport][proto, its_block]


def ways_of(connection: Connection, vport: int) -> list[Way]:
    """List how a record's packets look that come in at a vport: forward, return.

    Where a first packet was flooded, or answered by a router, nobody knows where the
    return packets come in; but not where the first one did, as a flood leaves that out.
    """
    ways = []
    egress = connection.egress_vport
    if connection.ingress_vport == vport:
        ways.append(Way(connection.ip_proto, connection.original))
    if egress not in (0, vport) or (ways and not egress):
        return ways
    final = connection.original
    for translation in connection.translations:
        final = translate(final, translation)
    ways.append(Way(connection.ip_proto, reverse(final)))
    return ways


def _enter(buckets: _Buckets, vport: int, connection: Connection) -> bool:
    ways = ways_of(connection, vport)
    for way in ways:
        buckets.setdefault((way.ip_proto, way.block), {})[connection.id] = None
    return bool(ways)


def watch_key(vport: int) -> StateKey:
    """Return what `note` names where a record is at a watched vport.

    No packet has it; flows that no record of the vport may meet carry it as a tag.
    """
    return (-1, 0, vport, 0, 0, 0)
