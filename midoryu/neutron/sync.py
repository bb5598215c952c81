# SPDX-License-Identifier: Apache-2.0
"""From the journal to the NSDB, and the comparison of everything.

The drivers record in their transactions and flush after them; the worker flushes what
was left and checks. The order of things in here is what makes several writers safe: see
the room's design note.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from neutron_lib import context as neutron_context
from neutron_lib.db import api as db_api

from midoryu.errors import NsdbError
from midoryu.neutron import journal
from midoryu.neutron.journal import Entry
from midoryu.neutron.source import Source
from midoryu.neutron.store import Index, Store
from midoryu.neutron.unit import KINDS, Unit, kind_and_id
from midoryu.neutron.writer import difference, missing, write
from midoryu.nsdb.apply import Change
from midoryu.nsdb.item import Item
from midoryu.nsdb.session import UnreachableError

LOG = logging.getLogger(__name__)

BATCH: Final = 100
"""Journal entries that one transaction takes at most."""
_ROUNDS: Final = 20
"""Batches that one API call writes at most; others may have left it a long journal."""
# What data that no translation expects may raise; the unit waits, others go on.
_BAD_UNIT: Final = (NsdbError, KeyError, ValueError, TypeError)

_Plan = tuple[dict[Unit, list[Item]], list[Change]]
"""What units shall have, and how their rows differ from it."""


class Synchronizer:
    """Makes the NSDB say what Neutron's database says."""

    def __init__(self, store: Store, source: Source) -> None:
        self.store = store
        self.source = source

    def record(self, context: Any, units: Iterable[Unit]) -> None:
        """Note units as changed, within the caller's transaction."""
        journal.record(context, units)

    def flush(self, context: Any, *, retries: bool = False) -> bool:
        """Write what the journal has; return whether nothing is left to do.

        Within a transaction nothing is done: its changes do not count yet.
        """
        if db_api.is_session_active(context.session):
            return False
        admin = neutron_context.get_admin_context()
        try:
            for _ in range(_ROUNDS):
                if not self._write_batch(admin, retries=retries):
                    return True
        except UnreachableError as problem:
            LOG.warning("the NSDB gets changes later: %s", problem)
        return False

    def check(self, context: Any) -> list[Change]:
        """Compare everything; return what differs.

        Raises:
            NsdbError: the NSDB cannot be reached.
        """
        changes: list[Change] = self.store.read(
            lambda tables, index: self._everything(context, index)[1]
        )
        return changes

    def repair(self, context: Any) -> list[Change]:
        """Compare everything, and write what differs in one transaction.

        Raises:
            NsdbError: the NSDB cannot be reached, or refused.
        """
        changes: list[Change] = []

        def fill(transaction: Any, tables: Mapping[str, Any], index: Index) -> bool:
            wanted, changes[:] = self._everything(context, index)
            if changes:
                try:
                    write(transaction, tables, index, changes=changes, wanted=wanted)
                except KeyError as problem:
                    # Somebody deleted it between two looks at Neutron's database.
                    text = f"{problem.args[0]} went away meanwhile"
                    raise NsdbError(text) from problem
            return bool(changes)

        self.store.transact(fill)
        return changes

    def _everything(self, context: Any, index: Index) -> _Plan:
        # Others write units of other kinds (`octavia`).
        wanted: dict[Unit, list[Item]] = {
            unit: [] for unit in tuple(index.units) if kind_and_id(unit)[0] in KINDS
        }
        wanted.update(self.source.everything(context))
        return self._complete(context, index, wanted)

    def _write_batch(self, context: Any, *, retries: bool) -> bool:
        """Write the units of the oldest entries; return whether there were any."""
        entries: list[Entry] = []
        try:
            self._write(context, entries, only=(), retries=retries)
        except UnreachableError:
            raise
        except _BAD_UNIT as problem:
            LOG.info("a batch was refused, its units go one by one: %s", problem)
            self._one_by_one(context, entries)
        else:
            journal.finish(context, entries)
        return bool(entries) and not retries

    def _one_by_one(self, context: Any, entries: Iterable[Entry]) -> None:
        by_unit: dict[Unit, list[Entry]] = {}
        for entry in entries:
            by_unit.setdefault(entry.unit, []).append(entry)
        for unit, own in by_unit.items():
            try:
                self._write(context, own, only=(unit,), retries=True)
            except UnreachableError:
                raise
            except _BAD_UNIT as problem:
                LOG.error("the NSDB cannot take %s: %s", unit, problem)
                journal.postpone(context, own)
            else:
                journal.finish(context, own)

    def _write(
        self, context: Any, entries: list[Entry], *, only: Iterable[Unit], retries: bool
    ) -> None:
        chosen = tuple(only)

        def fill(transaction: Any, tables: Mapping[str, Any], index: Index) -> bool:
            if not chosen:
                entries[:] = journal.pending(context, BATCH, retries=retries)
                if not entries:
                    return False
            units = chosen or {entry.unit for entry in entries}
            wanted, changes = self._with_missing(context, index, units)
            # Written even when empty: it verifies the revision, without which
            # another's older knowledge could still be on its way.
            write(transaction, tables, index, changes=changes, wanted=wanted)
            return True

        self.store.transact(fill)

    def _with_missing(self, context: Any, index: Index, units: Iterable[Unit]) -> _Plan:
        """Plan the rows of units, and of those that they need and nobody wrote."""
        wanted = {unit: self.source.items(context, unit) for unit in sorted(units)}
        return self._complete(context, index, wanted)

    def _complete(
        self, context: Any, index: Index, wanted: dict[Unit, list[Item]]
    ) -> _Plan:
        while True:
            changes = difference(index, wanted)
            todo = missing(index, changes) - wanted.keys()
            if not todo:
                return wanted, changes
            for unit in sorted(todo):
                wanted[unit] = self.source.items(context, unit)
