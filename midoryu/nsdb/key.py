# SPDX-License-Identifier: Apache-2.0
"""Integer keys of hosts, networks, routers and ports, from one number space.

Whoever inserts such a row allocates its key in the same transaction: `Cloud.next_key`
is verified, so of two allocations at once the server lets one through and the other
starts over. Keys go upward and are used again only after the whole space was: a packet
under way must not meet a new port with the key of an old one.
"""

from __future__ import annotations

from typing import Any, Final

from midoryu.errors import NsdbError
from midoryu.nsdb.schema import MAX_KEY

KEYED_TABLES: Final = ("Host", "Network", "Router", "Port")


class KeyAllocator:
    """Hands out keys within one transaction."""

    def __init__(self, idl: Any, transaction: Any) -> None:
        self._idl = idl
        self._transaction = transaction
        self._cloud: Any = None
        self.revision = 0
        """`Cloud.revision` before this transaction."""
        self._next = 1
        self._used: set[int] = set()

    def allocate(self) -> int:
        """Return a key that no row has.

        Raises:
            NsdbError: all 16 million are taken.
        """
        cloud = self.cloud()
        key = self._next
        for _ in range(MAX_KEY):
            if key not in self._used:
                break
            key = key % MAX_KEY + 1
        else:
            raise NsdbError("every key is taken")
        self._used.add(key)
        self._next = key % MAX_KEY + 1
        cloud.next_key = self._next
        return key

    def cloud(self) -> Any:
        """Return the one row of `Cloud`, verified, or made where there is none."""
        if self._cloud is None:
            self._cloud = self._verified_cloud()
        return self._cloud

    def _verified_cloud(self) -> Any:
        tables = self._idl.tables
        for name in KEYED_TABLES:
            for row in tables[name].rows.values():
                if row._data is not None:
                    self._used.add(row.key)
        cloud = next(iter(tables["Cloud"].rows.values()), None)
        if cloud is None:
            # The table holds one row at most: a second insert at once is refused.
            cloud = self._transaction.insert(tables["Cloud"])
            cloud.next_key = 1
            return cloud
        cloud.verify("next_key")
        cloud.verify("revision")
        self._next, self.revision = int(cloud.next_key), int(cloud.revision)
        return cloud
