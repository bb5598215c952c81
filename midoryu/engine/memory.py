# SPDX-License-Identifier: Apache-2.0
"""What the journal on disk, and the switch, keep for the next agent of this host.

`state_lane` says which records came, changed or ended; the rim writes them in batches
and hands them back at the next start. A record that no peer has also stands in its
flows, as a note (`adoption` reads it): a lost journal then loses no connection.
"""

from __future__ import annotations

from typing import Union

from midoryu.engine.core import Core
from midoryu.engine.effect import Effects, JournalWrite
from midoryu.engine.event import JournalRead
from midoryu.errors import DecodeError
from midoryu.openflow.flow import Flow
from midoryu.replication.entry import Context, Record, decode_entries, encode_record
from midoryu.replication.record import ENTRY_HEADER
from midoryu.state.connection import Connection

_INFO = 20
# The journal's entries name the owner always, whoever reads them.
_NOBODY = 0


def remember(core: Core, connection: Connection, effects: Effects, now: float) -> None:
    """Have the journal keep a record as it is now."""
    if core.config.journal:
        entry = encode_record(connection, _NOBODY, now)
        effects.journal.append(JournalWrite(connection.id, entry))


def forget(core: Core, connection_id: int, effects: Effects) -> None:
    """Have the journal forget a record."""
    if core.config.journal:
        effects.journal.append(JournalWrite(connection_id, b""))


def refresh(
    core: Core, connection: Connection, sweep: int, effects: Effects, now: float
) -> None:
    """Renew the age of a record that is in use, a few times in its lifetime.

    Args:
        core: the engine's core.
        connection: a record that flows serve.
        sweep: counts the calls for all records; each record has its turns.
        effects: gets the write.
        now: monotonic seconds.
    """
    lifetime_s = core.connections.lifetime_s(connection.phase)
    turns = max(1, int(lifetime_s / 3 / core.config.touch_interval_s))
    if connection.id % turns == sweep % turns:
        remember(core, connection, effects, now)


def note(core: Core, connection_id: int, now: float) -> bytes:
    """Return what a flow keeps of its record: all, where both ends are on this host.

    Then no peer has it, whether or not an ingress set says that one should.
    """
    connection = core.connections.get(connection_id)
    here = core.places.ofport_by_vport
    if (
        connection is None
        or connection.ingress_vport not in here
        or connection.egress_vport not in here
    ):
        return b""
    return encode_record(connection, _NOBODY, now)


def noted(core: Core, flow: Flow, now: float) -> Union[Connection, None]:
    """Return the record that a flow of an earlier agent keeps, None for none."""
    if not flow.note:
        return None
    # The switch has filled the note up with zeros.
    _, length = ENTRY_HEADER.unpack_from(flow.note.ljust(ENTRY_HEADER.size, b"\0"))
    entry = memoryview(flow.note)[: ENTRY_HEADER.size + length]
    try:
        records = list(decode_entries(entry, Context(_NOBODY, now)))
    except DecodeError:
        records = []
    for record in records:
        if isinstance(record, Record):
            return record.connection
    core.counters["notes refused"] += 1
    return None


def read(core: Core, event: JournalRead, effects: Effects, now: float) -> None:
    """Take in what an earlier agent of this host knew, as far as it is still alive."""
    taken = 0
    for entry, age_s in event.entries:
        try:
            records = list(decode_entries(memoryview(entry), Context(_NOBODY, now)))
        except DecodeError:
            core.counters["journal entries refused"] += 1
            continue
        for record in records:
            if isinstance(record, Record):
                taken += _take(core, record.connection, now - age_s, effects, now)
    core.counters["connections from the journal"] += taken
    effects.log.append((_INFO, f"{taken} records from the journal"))


def _take(
    core: Core, connection: Connection, last_used: float, effects: Effects, now: float
) -> bool:
    connection.last_used = min(connection.last_used, last_used)
    lifetime_s = core.connections.lifetime_s(connection.phase)
    if connection.last_used + lifetime_s <= now:
        return False
    if core.connections.get(connection.id) is not None:
        # A peer's word is newer than the journal's.
        return False
    keys = core.connections.insert(connection, now)
    core.nat.commit(connection, now)
    core.invalidate(keys, effects, now)
    return bool(keys)
