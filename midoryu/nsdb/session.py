# SPDX-License-Identifier: Apache-2.0
"""A command's side of the NSDB: connect, look, change once, go.

Unlike `client` it waits: for the database, and for the outcome of its transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import ovs.db.idl
import ovs.poller

from midoryu.errors import NsdbError
from midoryu.nsdb.remote import Certificates, TrackingIdl, use_certificates

ATTEMPTS: Final = 30
"""Transactions that are tried while others keep changing the same rows."""


class UnreachableError(NsdbError):
    """The NSDB did not answer in time."""


class Session:
    """A connection to the NSDB that holds the whole database."""

    def __init__(
        self,
        connection: str,
        *,
        timeout_s: float,
        certificates: Certificates = Certificates(),  # noqa: B008 (a frozen value)
    ) -> None:
        """Connect and read everything.

        Raises:
            ConfigError: the connection string or a certificate is wrong.
            UnreachableError: no answer within the timeout.
        """
        use_certificates(connection, certificates)
        self._connection = connection
        self._timeout_s = timeout_s
        self._idl = TrackingIdl(connection)
        try:
            self._wait(lambda: self._idl.is_connected)
        except UnreachableError:
            self.close()
            raise

    @property
    def tables(self) -> Mapping[str, Any]:
        """The IDL's tables."""
        tables: Mapping[str, Any] = self._idl.tables
        return tables

    def transact(self, change: Callable[[Any], bool]) -> bool:
        """Let `change` fill a transaction and commit it; again if others interfere.

        `change` gets the transaction; it answers whether there is anything to commit.

        Raises:
            NsdbError: the server refused for good; the text has its reason.
            UnreachableError: no answer within the timeout.
        """
        error = ""
        for _ in range(ATTEMPTS):
            seqno = self._idl.change_seqno
            transaction = ovs.db.idl.Transaction(self._idl)
            wanted = False
            try:
                wanted = change(transaction)
            finally:
                if not wanted:
                    transaction.abort()
            if not wanted:
                return False
            status = self._commit(transaction)
            if status in (transaction.SUCCESS, transaction.UNCHANGED):
                return True
            error = _reason(transaction)
            if status == transaction.ERROR and seqno == self._idl.change_seqno:
                raise NsdbError(f"the NSDB refused the change: {error}")
            if seqno == self._idl.change_seqno or not self._idl.is_connected:
                self._wait(
                    lambda before=seqno: (  # type: ignore[misc]
                        self._idl.is_connected and self._idl.change_seqno != before
                    )
                )
        raise NsdbError(f"others keep changing the same rows: {error}")

    def close(self) -> None:
        """End the connection."""
        self._idl.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _commit(self, transaction: Any) -> Any:
        status = transaction.commit()
        if status == transaction.INCOMPLETE:
            self._wait(lambda: transaction.commit() != transaction.INCOMPLETE)
            status = transaction.commit()
        return status

    def _wait(self, is_done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._timeout_s
        while True:
            self._idl.run()
            if is_done():
                return
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise UnreachableError(
                    f"no answer from {self._connection} in {self._timeout_s:g} s"
                )
            poller = ovs.poller.Poller()
            self._idl.wait(poller)
            poller.timer_wait(max(1, int(left_s * 1000)))
            poller.block()


def _reason(transaction: Any) -> str:
    error = transaction.get_error()
    return str(error) if error else "no reason given"
