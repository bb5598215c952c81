# SPDX-License-Identifier: Apache-2.0
"""Vports whose records are kept account of, while a flood at them is dropped widely.

`table` tells of every record that it takes; `engine.refusals` watches vports.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from midoryu.state.connection import Connection, StateKey


class Watched:
    """Ids of the records that come in or leave at watched vports."""

    def __init__(self) -> None:
        self._ids: dict[int, dict[int, None]] = {}

    def __bool__(self) -> bool:
        """Tell whether any vport is watched."""
        return bool(self._ids)

    def add(self, vport: int, records: Iterable[Connection]) -> None:
        """Watch a vport; `records` are all that there are now."""
        if vport not in self._ids:
            self._ids[vport] = {
                one.id: None
                for one in records
                if vport in (one.ingress_vport, one.egress_vport)
            }

    def remove(self, vport: int) -> None:
        """Watch a vport no more."""
        self._ids.pop(vport, None)

    def note(self, connection: Connection) -> tuple[StateKey, ...]:
        """Note a new or changed record; return the keys of watched vports it is at."""
        keys = []
        for vport in {connection.ingress_vport, connection.egress_vport}:
            ids = self._ids.get(vport)
            if ids is not None:
                ids[connection.id] = None
                keys.append(watch_key(vport))
        return tuple(keys)

    def records(self, vport: int, known: Mapping[int, Connection]) -> list[Connection]:
        """List the records of a watched vport that are still known."""
        ids = self._ids[vport]
        for connection_id in [one for one in ids if one not in known]:
            del ids[connection_id]
        found = [known[connection_id] for connection_id in ids]
        return [one for one in found if vport in (one.ingress_vport, one.egress_vport)]


def watch_key(vport: int) -> StateKey:
    """Return what `note` names where a record is at a watched vport.

    No packet has it; flows that no record of the vport may meet carry it as a tag.
    """
    return (-1, 0, vport, 0, 0, 0)
