# SPDX-License-Identifier: Apache-2.0
"""The queue of writes: batches them into transactions and sees each one through.

One transaction is under way at a time; `client` calls `step` whenever the IDL ran. A
batch that the server refuses is tried again one by one, so that one bad write cannot
take others with it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final

import ovs.db.idl

from midoryu.engine.effect import LeaseBlock, NsdbWrite
from midoryu.engine.event import WriteRefused
from midoryu.errors import NsdbError
from midoryu.nsdb.key import KeyAllocator
from midoryu.nsdb.replica import Replica
from midoryu.nsdb.thin_idl import ThinIdl
from midoryu.nsdb.thin_row import ZERO_UUID
from midoryu.nsdb.write import RefusedError, RowWriter, Wish, wish_key
from midoryu.packet.address import format_ip
from midoryu.topology import model

LOG = logging.getLogger(__name__)

BATCH: Final = 500
"""Writes of one transaction at most."""
ATTEMPTS: Final = 20
"""How often one write is tried while the database keeps changing under it."""
_DONE: Final = (ovs.db.idl.Transaction.SUCCESS, ovs.db.idl.Transaction.UNCHANGED)


class Writer:
    """Sends writes and the host's own row."""

    def __init__(
        self, idl: ThinIdl, replica: Replica, *, host: str, underlay: int
    ) -> None:
        self._idl = idl
        self._replica = replica
        self._host = host
        self._underlay = underlay
        self._waiting: dict[tuple[object, ...], Wish] = {}
        self._one_by_one = 0
        self._leases = 0
        self._transaction: Any = None
        self._sent: dict[tuple[object, ...], Wish] = {}
        self._seqno = 0
        self._registration_seqno = -1
        self._refused: list[WriteRefused] = []

    def add(self, writes: Iterable[NsdbWrite]) -> None:
        """Queue writes; a later one about the same row replaces an earlier one.

        Each wish for any free block is for one more.
        """
        for write in writes:
            key = wish_key(write)
            if isinstance(write, LeaseBlock) and not write.block:
                self._leases += 1
                key = (*key, "more", self._leases)
            self._waiting.pop(key, None)
            self._waiting[key] = Wish(write)

    @property
    def has_work(self) -> bool:
        """Whether `step` would send something now."""
        if self._transaction is not None or not self._idl.is_connected:
            return False
        if self._is_registered():
            return bool(self._waiting)
        return bool(self._registration_seqno != self._idl.change_seqno)

    def step(self) -> list[WriteRefused]:
        """See to the transaction under way, and send the next."""
        if self._transaction is not None:
            self._look()
        if self._transaction is None and self._idl.is_connected:
            if not self._is_registered():
                self._register()
            elif self._waiting:
                self._send()
        refused, self._refused = self._refused, []
        return refused

    def _look(self) -> None:
        status = self._transaction.commit()
        if status == ovs.db.idl.Transaction.INCOMPLETE:
            return
        sent, self._sent = self._sent, {}
        error = self._transaction.get_error()
        self._transaction = None
        if status in _DONE:
            return
        if status != ovs.db.idl.Transaction.TRY_AGAIN:
            self._judge(sent, str(error))
        self._put_back(sent)

    def _judge(self, sent: dict[tuple[object, ...], Wish], error: str) -> None:
        """Drop what can never succeed from a refused batch."""
        if not sent:
            LOG.error("the NSDB refused the row of host %s: %s", self._host, error)
            return
        if len(sent) > 1:
            self._one_by_one = len(sent)
            return
        ((key, wish),) = sent.items()
        wish.attempts += 1
        is_stuck = self._seqno == self._idl.change_seqno and not wish.block
        if is_stuck or wish.attempts >= ATTEMPTS:
            del sent[key]
            self._refuse(wish, error)

    def _put_back(self, sent: dict[tuple[object, ...], Wish]) -> None:
        newer = self._waiting
        self._waiting = {**{k: v for k, v in sent.items() if k not in newer}, **newer}

    def _refuse(self, wish: Wish, reason: str) -> None:
        LOG.warning("the NSDB cannot take %s: %s", wish.write, reason)
        self._refused.append(WriteRefused(wish.write, reason))

    def _begin(self) -> Any:
        self._transaction = ovs.db.idl.Transaction(self._idl)
        self._seqno = self._idl.change_seqno
        return self._transaction

    def _send(self) -> None:
        size = 1 if self._one_by_one else BATCH
        self._one_by_one = max(0, self._one_by_one - 1)
        writer = RowWriter(self._begin(), self._replica, self._host)
        for key in list(self._waiting)[:size]:
            wish = self._waiting.pop(key)
            try:
                writer.put(wish)
            except RefusedError as problem:
                self._refuse(wish, str(problem))
            else:
                self._sent[key] = wish
        self._look()

    def _is_registered(self) -> bool:
        own = self._replica.find(model.Host, self._host)
        return isinstance(own, model.Host) and own.underlay == self._underlay

    def _register(self) -> None:
        if self._registration_seqno == self._idl.change_seqno:
            return  # refused a moment ago, and nothing changed since
        self._registration_seqno = self._idl.change_seqno
        transaction = self._begin()
        table = self._idl.tables["Host"]
        views = self._idl.store["Host"].views()
        uuids = (view.uuid for view in views if view.name == self._host)
        row = table.rows.get(next(uuids, ZERO_UUID))
        try:
            if row is None:
                keys = KeyAllocator(self._idl, transaction)
                key = keys.allocate("Host", self._host)
                row = transaction.insert(table)
                row.key, row.name = key, self._host
            row.underlay = [format_ip(self._underlay)] if self._underlay else []
        except NsdbError as problem:
            LOG.error("cannot register host %s: %s", self._host, problem)
            transaction.abort()
        self._look()
