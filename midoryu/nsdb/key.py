# SPDX-License-Identifier: Apache-2.0
"""Integer keys of hosts, networks, routers and ports, from one number space.

A key is computed from the row's table and name, and a taken one makes way for the next
that is free: a database that was lost and filled again from the topology file has the
keys it had, so tunnels, connection records and port leases of running hosts still hold.
A packet under way does not meet another port with the key of an old one, but for one
chance in 16 million.

Whoever inserts such a row allocates its key in the same transaction: `Cloud.next_key`
counts allocations and is verified, so of two at once the server lets one through and
the other starts over.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from midoryu.errors import NsdbError
from midoryu.nsdb.schema import MAX_KEY

KEYED_TABLES: Final = ("Host", "Network", "Router", "Port", "Mirror")


def key_of(table: str, name: str) -> int:
    """Return the key that a row of this name has unless it is taken, 1..`MAX_KEY`."""
    digest = hashlib.blake2s(f"{table} {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % MAX_KEY + 1


class KeyAllocator:
    """Hands out keys within one transaction."""

    def __init__(self, idl: Any, transaction: Any) -> None:
        self._idl = idl
        self._transaction = transaction
        self._cloud: Any = None
        self.revision = 0
        """`Cloud.revision` before this transaction."""
        self._count = 1
        self._used: set[int] = set()

    def allocate(self, table: str, name: str) -> int:
        """Return a key that no row has, the same for the same name wherever it can be.

        Args:
            table: one of `KEYED_TABLES`.
            name: what the row is called in a topology file.

        Raises:
            NsdbError: all 16 million are taken.
        """
        cloud = self.cloud()
        key = key_of(table, name)
        for _ in range(MAX_KEY):
            if key not in self._used:
                break
            key = key % MAX_KEY + 1
        else:
            raise NsdbError("every key is taken")
        self._used.add(key)
        self._count = self._count % MAX_KEY + 1
        cloud.next_key = self._count
        return key

    def cloud(self) -> Any:
        """Return the one row of `Cloud`, verified, or made where there is none."""
        if self._cloud is None:
            self._cloud = self._verified_cloud()
        return self._cloud

    def _verified_cloud(self) -> Any:
        tables = self._idl.tables
        for name in KEYED_TABLES:
            self._used.update(self._idl.used_keys(name))
        cloud = next(iter(tables["Cloud"].rows.values()), None)
        if cloud is None:
            # The table holds one row at most: a second insert at once is refused.
            cloud = self._transaction.insert(tables["Cloud"])
            cloud.next_key = 1
            return cloud
        cloud.verify("next_key")
        self._count = int(cloud.next_key)
        # Agents do not read it (`thin_idl`): it changes often and says nothing to them.
        if "revision" in tables["Cloud"].columns:
            cloud.verify("revision")
            self.revision = int(cloud.revision)
        return cloud
