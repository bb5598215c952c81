# SPDX-License-Identifier: Apache-2.0
"""Which record a key leads to, and who has a key that two records claim.

`table` keeps the records themselves, and their age.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from midoryu.compat import SLOTS
from midoryu.state.connection import (
    Connection,
    Direction,
    FourTuple,
    StateKey,
    TranslationKind,
    direction_of,
    reverse,
    state_keys,
    translate,
)

# Bits of a hash that count: longer integers take 16 bytes more.
_CODE: Final = (1 << 60) - 1
# Two records of one client's tuple, used this far apart, are not of one connection.
_REUSE_S: Final = 1.0
# Keys with a hash that another key has. Addresses with one hash are easy to make, and
# looking among them is slow, so there are few; a key too many is not found.
_MAX_EXACT: Final = 256


class Hit(NamedTuple):
    """A record found, and which way the packet goes that found it."""

    connection: Connection
    direction: Direction


@dataclass(**SLOTS)
class TableCounters:
    """What the table had to decide."""

    conflicts: int = 0
    """Keys claimed by two records."""
    collisions: int = 0
    """Keys not taken because too many different ones have one hash."""
    refused: int = 0
    """Records not taken because the table was full of established ones."""
    evicted: int = 0
    """Unreplied records dropped to make room."""
    over_share: int = 0
    """Of these, the ones whose vport had more than its share."""
    expired: int = 0
    """Records that reached the end of their lifetime."""


class KeyIndex:
    """Every key that leads to a record."""

    def __init__(self) -> None:
        self.counters = TableCounters()
        # Code of a key's ends -> record, for all devices that see these ends: half as
        # many places as keys, and a number takes a third of what a key does.
        self._index: dict[int, Connection] = {}
        # Code of a key -> record, where the place of its ends is another record's:
        # addresses that two tenants have, and keys that were won.
        self._narrow: dict[int, Connection] = {}
        # Where that place is another key's, too.
        self._exact: dict[StateKey, Connection] = {}
        # Id -> ids of records that claim a key of that one, too.
        self._rivals: dict[int, set[int]] = {}
        self.targets: dict[int, int] = {}
        """Address that records translate destinations to -> how many records do."""

    def find(self, key: StateKey) -> Hit | None:
        """Find the record that a packet belongs to, by what one device sees of it."""
        if self._narrow or self._exact:
            hit = self._find_apart(key)
            if hit is not None:
                return hit
        connection = self._index.get(hash(key[1:]) & _CODE)
        if connection is not None:
            direction = direction_of(connection, key)
            if direction is not None:
                return Hit(connection, direction)
        return None

    def may_find(self, code: int) -> bool:
        """Tell whether a key of these ends may lead to a record.

        Args:
            code: low 60 bits of the hash of a key without its device; only where the
                table is plain.
        """
        return code in self._index

    def _claim(self, connection: Connection, keys: Iterable[StateKey]) -> None:
        for one in connection.translations:
            if one.kind is TranslationKind.DESTINATION:
                self.targets[one.address] = self.targets.get(one.address, 0) + 1
        self._take_keys(connection, keys)

    def _take_keys(self, connection: Connection, keys: Iterable[StateKey]) -> None:
        index = self._index
        for key in keys:
            code = hash(key[1:]) & _CODE
            other = index.get(code)
            if other is None and not self._narrow and not self._exact:
                index[code] = connection
                continue
            hit = self.find(key)
            if hit is not None and hit.connection is not connection:
                mine, others = connection.id, hit.connection.id
                self._rivals.setdefault(mine, set()).add(others)
                self._rivals.setdefault(others, set()).add(mine)
            if hit is None and other is None:
                index[code] = connection
            elif hit is None or (
                hit.connection is not connection
                and self._wins(connection, hit.connection, key)
            ):
                self._claim_apart(connection, key)

    def _hand_over(
        self, gone: int, rivals: Iterable[int], records: Mapping[int, Connection]
    ) -> None:
        """Let others have the keys that a record has had and they claim, too."""
        for rival in sorted(rivals):
            if gone not in records and rival in self._rivals:
                self._rivals[rival].discard(gone)
            if rival in records:
                keys = [key for key, _ in state_keys(records[rival])]
                self._take_keys(records[rival], keys)

    def _claim_apart(self, connection: Connection, key: StateKey) -> None:
        """Claim a key whose ends lead to another record.

        That its own place is taken as well happens by chance never, by a hostile VM
        often.
        """
        code = hash(key) & _CODE
        other = self._narrow.get(code)
        if other is None or direction_of(other, key) is not None:
            self._narrow[code] = connection
        elif key not in self._exact and len(self._exact) >= _MAX_EXACT:
            self.counters.collisions += 1
        else:
            self._exact[key] = connection

    def _wins(self, connection: Connection, other: Connection, key: StateKey) -> bool:
        """Decide which of two records has a key that both claim.

        A reply that overtook the record of its connection was taken for the beginning
        of another one: the record that expected it has the key. A client that uses its
        port again is known by the translation that it has now, and a translation by the
        client that has it now: the record in use later has the key. Where each is the
        other's reply, and in all other cases, the lower id has it.
        """
        if connection.id == other.id:
            return True
        self.counters.conflicts += 1
        mine, others = direction_of(connection, key), direction_of(other, key)
        if mine is not others and not _mirror(connection, other):
            return mine is Direction.RETURN
        pause_s = connection.last_used - other.last_used
        if abs(pause_s) >= _REUSE_S and _ends(connection) != _ends(other):
            return pause_s > 0
        return connection.id < other.id

    def _drop_keys(self, connection: Connection) -> tuple[StateKey, ...]:
        for _, kind, address, _ in connection.translations:
            if kind is TranslationKind.DESTINATION:
                self.targets[address] -= 1
                if not self.targets[address]:
                    del self.targets[address]
        keys = tuple(key for key, _ in state_keys(connection))
        for key in keys:
            code = hash(key[1:]) & _CODE
            if self._index.get(code) is connection:
                del self._index[code]
            code = hash(key) & _CODE
            if self._narrow and self._narrow.get(code) is connection:
                del self._narrow[code]
            if self._exact and self._exact.get(key) is connection:
                del self._exact[key]
        return keys

    def _find_apart(self, key: StateKey) -> Hit | None:
        for connection in (
            self._narrow.get(hash(key) & _CODE),
            self._exact.get(key),
        ):
            if connection is not None:
                direction = direction_of(connection, key)
                if direction is not None:
                    return Hit(connection, direction)
        return None


def _mirror(one: Connection, other: Connection) -> bool:
    """Tell whether each of two connections looks like the return of the other."""
    return (
        reverse(_final(one)) == other.original
        and reverse(_final(other)) == one.original
    )


def _ends(connection: Connection) -> tuple[FourTuple, FourTuple]:
    """Return how a connection looks at both ends."""
    return connection.original, _final(connection)


def _final(connection: Connection) -> FourTuple:
    """Return the tuple of forward packets as they leave."""
    tuple4 = connection.original
    for translation in connection.translations:
        tuple4 = translate(tuple4, translation)
    return tuple4
