# SPDX-License-Identifier: Apache-2.0
"""The connection to the NSDB that a Neutron process keeps, and an index of its rows.

One for each process, shared by its threads under one lock. A thread of its own answers
the server's probes while nobody asks anything. `writer` changes rows through it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Union

from midoryu.errors import NsdbError
from midoryu.neutron.label import UNIT_KEY
from midoryu.neutron.unit import Unit
from midoryu.nsdb.item import COLUMNS, ItemId, item_of
from midoryu.nsdb.presence import connected_hosts
from midoryu.nsdb.remote import Certificates
from midoryu.nsdb.session import Session, UnreachableError

LOG = logging.getLogger(__name__)

_PUMP_S: Final = 1.0
"""Between two looks at the connection; the server's probes allow 5 s."""


class Index(Mapping[ItemId, Any]):
    """The wanted rows by table and name, and what units own."""

    def __init__(self) -> None:
        self._rows: dict[ItemId, Any] = {}
        self._id_by_uuid: dict[Any, ItemId] = {}
        self._unit_by_id: dict[ItemId, Unit] = {}
        self._ids_by_unit: dict[Unit, set[ItemId]] = {}

    def __getitem__(self, item_id: ItemId) -> Any:
        return self._rows[item_id]

    def __iter__(self) -> Iterator[ItemId]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def units(self) -> Iterable[Unit]:
        """Units that own at least one row."""
        return self._ids_by_unit.keys()

    def owner(self, item_id: ItemId) -> Union[Unit, None]:
        """Return the unit of a row."""
        return self._unit_by_id.get(item_id)

    def owned_by(self, unit: Unit) -> frozenset[ItemId]:
        """Return the rows of a unit."""
        return frozenset(self._ids_by_unit.get(unit, ()))

    def update(
        self, tables: Mapping[str, Any], dirty: Iterable[tuple[str, Any]]
    ) -> None:
        """Take over rows that changed, by table and UUID."""
        changed = [(table, uuid) for table, uuid in dirty if table in COLUMNS]
        for _, uuid in changed:
            self._forget(uuid)
        for table, uuid in changed:
            row = tables[table].rows.get(uuid)
            if row is not None:
                self._add(item_of(table, row).id, row)

    def _forget(self, uuid: Any) -> None:
        item_id = self._id_by_uuid.pop(uuid, None)
        if item_id is None:
            return
        if item_id in self._rows and self._rows[item_id].uuid == uuid:
            del self._rows[item_id]
            unit = self._unit_by_id.pop(item_id, None)
            if unit is not None:
                owned = self._ids_by_unit[unit]
                owned.discard(item_id)
                if not owned:
                    del self._ids_by_unit[unit]

    def _add(self, item_id: ItemId, row: Any) -> None:
        self._rows[item_id] = row
        self._id_by_uuid[row.uuid] = item_id
        unit = row.external_ids.get(UNIT_KEY)
        if unit is not None:
            self._unit_by_id[item_id] = unit
            self._ids_by_unit.setdefault(unit, set()).add(item_id)


class _Connection(Session):
    """A session that keeps an index."""

    def __init__(
        self, connection: str, timeout_s: float, certificates: Certificates
    ) -> None:
        super().__init__(connection, timeout_s=timeout_s, certificates=certificates)
        self.index = Index()
        self.refresh()

    @property
    def is_connected(self) -> bool:
        return self._idl.is_connected

    def refresh(self) -> set[tuple[str, Any]]:
        """Read what the server sent; return which rows changed."""
        self._idl.run()
        return self.note_changes()

    def note_changes(self) -> set[tuple[str, Any]]:
        """Take what was read already into the index; return which rows changed."""
        dirty, self._idl.dirty = self._idl.dirty, set()
        self.index.update(self._idl.tables, dirty)
        return dirty


class Store:
    """The NSDB as this process sees it."""

    def __init__(
        self,
        connection: str,
        *,
        timeout_s: float,
        certificates: Certificates = Certificates(),  # noqa: B008 (a frozen value)
    ) -> None:
        """Prepare; the first use connects."""
        self._settings = connection, timeout_s, certificates
        self._lock = threading.RLock()
        self._session: Union[_Connection, None] = None
        self._stop = threading.Event()
        self._pump: Union[threading.Thread, None] = None

    def connected_hosts(self, hosts: Iterable[str]) -> frozenset[str]:
        """Return those of some hosts whose agents are connected to the NSDB.

        Raises:
            NsdbError: the NSDB does not answer.
        """
        connection, timeout_s, _ = self._settings
        return connected_hosts(connection, hosts, timeout_s=timeout_s)

    def start(self) -> None:
        """Keep the connection alive from a thread of its own."""
        if self._pump is None:
            self._pump = threading.Thread(
                target=self._keep_alive, name="midoryu-nsdb", daemon=True
            )
            self._pump.start()

    def close(self) -> None:
        """End the connection and the thread."""
        self._stop.set()
        if self._pump is not None:
            self._pump.join()
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None

    def transact(self, change: Callable[[Any, Mapping[str, Any], Index], bool]) -> bool:
        """Let `change` fill a transaction and commit it; again if others interfere.

        `change` gets the transaction, the tables and the index of their rows, and
        answers whether there is anything to commit.

        Raises:
            NsdbError: the server refused for good.
            UnreachableError: it does not answer, or did not a moment ago.
        """
        with self._lock:
            session = self._ready()

            def fill(transaction: Any) -> bool:
                session.note_changes()
                return change(transaction, session.tables, session.index)

            return session.transact(fill)

    def read(self, look: Callable[[Mapping[str, Any], Index], Any]) -> Any:
        """Let `look` see the rows.

        Raises:
            UnreachableError: the server does not answer.
        """
        with self._lock:
            session = self._ready()
            session.refresh()
            return look(session.tables, session.index)

    def _ready(self) -> _Connection:
        if self._session is None:
            connection, timeout_s, certificates = self._settings
            self._session = _Connection(connection, timeout_s, certificates)
        self._session.refresh()
        if not self._session.is_connected:
            raise UnreachableError("the NSDB is away")
        return self._session

    def _keep_alive(self) -> None:
        was_there = True
        while not self._stop.wait(_PUMP_S):
            try:
                with self._lock:
                    self._ready()
                if not was_there:
                    LOG.info("the NSDB is there again")
                was_there = True
            except NsdbError as problem:
                if was_there:
                    LOG.warning("no NSDB: %s", problem)
                was_there = False
