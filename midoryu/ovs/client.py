# SPDX-License-Identifier: Apache-2.0
"""The local OVSDB: makes the bridge as it shall be, and reports what is on it.

`run` never waits: it takes what the server said, repairs what differs (`repair`), and
returns what changed for the agent. The caller owns the thread and calls `wait`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Union

import ovs.db.idl

from midoryu.compat import SLOTS
from midoryu.engine.event import InterfacesChanged
from midoryu.ovs import repair
from midoryu.ovs.schema import SCHEMA
from midoryu.ovs.settings import STATE_PORT, TUNNEL_PORT, OvsSettings

_Transaction = ovs.db.idl.Transaction
_PROBE_MS: Final = 5000


@dataclass(frozen=True, **SLOTS)
class BridgeReady:
    """The bridge stands as wanted and both tunnel ports have their numbers."""

    dpid: int
    """OpenFlow datapath id of the bridge."""
    gre_ofport: int
    """Ofport of the tunnel port."""
    state_ofport: int
    """Ofport of the flow-state port."""


@dataclass(frozen=True, **SLOTS)
class OvsWarning:
    """Something about the local OVS that an operator should know."""

    message: str
    """One line."""


OvsEvent = Union[
    BridgeReady,
    InterfacesChanged,
    OvsWarning,
]


class OvsdbClient:
    """Keeps one bridge of one OVSDB server as `OvsSettings` say."""

    def __init__(self, settings: OvsSettings) -> None:
        self._settings = settings
        helper = ovs.db.idl.SchemaHelper(schema_json=SCHEMA)
        helper.register_all()
        self._idl = ovs.db.idl.Idl(settings.ovsdb, helper, probe_interval=_PROBE_MS)
        self._seqno = -1
        self._transaction: Any = None
        self._to_mark: set[str] = set()
        self._ready: BridgeReady | None = None
        self._interfaces: dict[str, int] | None = None
        self._warned: set[str] = set()

    def run(self) -> list[OvsEvent]:
        """Take what the server sent, repair the bridge, and return what changed."""
        self._idl.run()
        if not self._idl.has_ever_connected():
            return []
        events = self._finish_transaction()
        changed = self._idl.change_seqno != self._seqno
        if self._transaction is None and (changed or self._to_mark):
            events += self._repair()
            if changed:
                self._seqno = self._idl.change_seqno
                events += self._report()
        return events

    def wait(self, poller: Any) -> None:
        """Have the poller wake up when `run` has something to do."""
        self._idl.wait(poller)
        if self._transaction is not None:
            self._transaction.wait(poller)

    def iface_ids(self, ofports: Iterable[int]) -> list[str]:
        """Return the iface-ids of interfaces, as last reported."""
        wanted = set(ofports)
        known = (self._interfaces or {}).items()
        return [iface_id for iface_id, ofport in known if ofport in wanted]

    def mark_installed(self, iface_ids: Iterable[str]) -> None:
        """Write `midoryu-installed` at interfaces whose flows are in."""
        self._to_mark.update(iface_ids)

    def is_connected(self) -> bool:
        """Tell whether the server has been reached and has answered."""
        return bool(
            self._idl.has_ever_connected() and self._idl._session.is_connected()
        )

    def close(self) -> None:
        """Leave the server; the bridge stays as it is."""
        self._idl.close()

    # ------------------------------------------------------------ writing

    def _finish_transaction(self) -> list[OvsEvent]:
        """See whether the server has answered the transaction under way."""
        if self._transaction is None:
            return []
        status = self._transaction.commit()
        if status == _Transaction.INCOMPLETE:
            return []
        error = self._transaction.get_error()
        self._transaction = None
        if status in (_Transaction.SUCCESS, _Transaction.UNCHANGED):
            return []
        self._seqno = -1  # look at everything again
        if status == _Transaction.TRY_AGAIN:
            return []
        return self._warn([f"OVSDB refused a change of the bridge: {error}"])

    def _repair(self) -> list[OvsEvent]:
        self._transaction = _Transaction(self._idl)
        repair.repair_bridge(self._idl, self._transaction, self._settings)
        marked = repair.mark_installed(self._idl, self._settings.bridge, self._to_mark)
        self._to_mark -= marked
        return self._finish_transaction()

    # ------------------------------------------------------------ reading

    def _report(self) -> list[OvsEvent]:
        bridge = repair.find_bridge(self._idl, self._settings.bridge)
        if bridge is None:
            return []
        events: list[OvsEvent] = []
        interfaces = repair.interfaces_of(bridge)
        ready = _ready(bridge, interfaces)
        if ready is not None and ready != self._ready:
            self._ready = ready
            events.append(ready)
        ofports, duplicates = repair.ofport_by_iface_id(interfaces)
        events += self._warn(duplicates)
        events += self._warn(repair.errors_of(interfaces))
        if ofports != self._interfaces:
            self._interfaces = ofports
            events.append(InterfacesChanged(dict(ofports)))
        return events

    def _warn(self, messages: list[str]) -> list[OvsEvent]:
        new = [message for message in messages if message not in self._warned]
        self._warned.update(new)
        return [OvsWarning(message) for message in new]


def _ready(bridge: Any, interfaces: list[Any]) -> BridgeReady | None:
    ofports = {row.name: row.ofport[0] for row in interfaces if row.ofport}
    gre, state = ofports.get(TUNNEL_PORT, -1), ofports.get(STATE_PORT, -1)
    if gre <= 0 or state <= 0 or not bridge.datapath_id:
        return None
    return BridgeReady(int(bridge.datapath_id[0], 16), gre, state)
