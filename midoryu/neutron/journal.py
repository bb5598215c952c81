# SPDX-License-Identifier: Apache-2.0
"""The journal: which units have to be looked at again.

An entry is written in the transaction that changes the resource and deleted once the
NSDB has the rows; `sync` does the work between.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from neutron_lib.db import api as db_api
from oslo_utils import timeutils

from midoryu.compat import SLOTS
from midoryu.neutron.model import JournalEntry
from midoryu.neutron.unit import Unit


@dataclass(frozen=True, **SLOTS)
class Entry:
    """One entry as a value."""

    seq: int
    unit: Unit
    attempts: int


def record(context: Any, units: Iterable[Unit]) -> None:
    """Note units as changed, in the caller's transaction (or one of its own)."""
    wanted = sorted(set(units))
    if not wanted:
        return
    with db_api.CONTEXT_WRITER.using(context):
        for unit in wanted:
            entry = JournalEntry(unit=unit, created_at=timeutils.utcnow(), attempts=0)
            context.session.add(entry)
        context.session.flush()


def pending(context: Any, limit: int, *, retries: bool = False) -> list[Entry]:
    """List the oldest entries; with `retries` those, too, that were refused before."""
    with db_api.CONTEXT_READER.using(context):
        query = context.session.query(
            JournalEntry.seq, JournalEntry.unit, JournalEntry.attempts
        )
        if not retries:
            query = query.filter(JournalEntry.attempts == 0)
        rows = query.order_by(JournalEntry.attempts, JournalEntry.seq).limit(limit)
        return [Entry(int(row.seq), row.unit, row.attempts) for row in rows]


@db_api.retry_db_errors
def finish(context: Any, entries: Iterable[Entry]) -> None:
    """Delete entries whose units are written."""
    numbers = [entry.seq for entry in entries]
    if not numbers:
        return
    with db_api.CONTEXT_WRITER.using(context):
        found = context.session.query(JournalEntry)
        found.filter(JournalEntry.seq.in_(numbers)).delete(synchronize_session=False)


@db_api.retry_db_errors
def postpone(context: Any, entries: Iterable[Entry]) -> None:
    """Count a refusal, so that only the worker tries these again."""
    numbers = [entry.seq for entry in entries]
    with db_api.CONTEXT_WRITER.using(context):
        found = context.session.query(JournalEntry)
        found.filter(JournalEntry.seq.in_(numbers)).update(
            {JournalEntry.attempts: JournalEntry.attempts + 1},
            synchronize_session=False,
        )


def oldest_age_s(context: Any) -> float:
    """Return how old the oldest entry is, in seconds; 0 with none."""
    with db_api.CONTEXT_READER.using(context):
        query = context.session.query(JournalEntry.created_at)
        row = query.order_by(JournalEntry.seq).first()
    if row is None:
        return 0.0
    age: datetime.timedelta = timeutils.utcnow() - row.created_at
    return age.total_seconds()
