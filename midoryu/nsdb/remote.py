# SPDX-License-Identifier: Apache-2.0
"""How to reach a database server: connection strings and certificates.

`client` and `session` both connect through here.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ovs.db.data
import ovs.db.idl
import ovs.jsonrpc
import ovs.stream

from midoryu.compat import SLOTS
from midoryu.errors import ConfigError
from midoryu.nsdb.json_parser import use_fast_parser
from midoryu.nsdb.schema import schema_helper

_SCHEMES = ("unix", "tcp", "ssl")


@dataclass(frozen=True, **SLOTS)
class Certificates:
    """Files in PEM form, for `ssl:` connections; empty names for none."""

    private_key: str = ""
    certificate: str = ""
    ca_cert: str = ""


def check_connection(connection: str) -> None:
    """Refuse what is no comma-separated list of remotes.

    Raises:
        ConfigError: a remote is not `unix:PATH`, `tcp:HOST:PORT` or `ssl:HOST:PORT`.
    """
    for remote in connection.split(","):
        scheme, _, rest = remote.partition(":")
        host, _, port = rest.rpartition(":")
        if scheme not in _SCHEMES or not rest:
            good = False
        elif scheme == "unix":
            good = True
        else:
            good = bool(host) and port.isdecimal() and 0 < int(port) <= 0xFFFF
        if not good:
            raise ConfigError(
                f"{remote!r} is not unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT"
            )


def use_certificates(connection: str, files: Certificates) -> None:
    """Set the certificates of all `ssl:` connections of this process.

    Raises:
        ConfigError: a file is missing or holds something else, only some of the three
            are named, or none while the connection needs them.
    """
    names = (files.private_key, files.certificate, files.ca_cert)
    needs_them = any(remote.startswith("ssl:") for remote in connection.split(","))
    if not any(names) and not needs_them:
        return
    for name in names:
        if not name:
            raise ConfigError("private key, certificate and CA certificate go together")
        if not Path(name).is_file():
            raise ConfigError(f"{name}: no such file")
    _check_files(files)
    ovs.stream.Stream.ssl_set_private_key_file(files.private_key)
    ovs.stream.Stream.ssl_set_certificate_file(files.certificate)
    ovs.stream.Stream.ssl_set_ca_cert_file(files.ca_cert)


def _check_files(files: Certificates) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_cert_chain(files.certificate, files.private_key)
        context.load_verify_locations(files.ca_cert)
    except OSError as problem:
        names = f"{files.certificate}, {files.private_key}, {files.ca_cert}"
        raise ConfigError(
            f"no certificate, its key and an authority in {names}: {problem}"
        ) from problem


class TrackingIdl(ovs.db.idl.Idl):  # type: ignore[misc]
    """An IDL that collects which rows changed, and whether all were read again."""

    def __init__(self, connection: str, helper: Any = None) -> None:
        check_connection(connection)
        use_fast_parser()
        helper = schema_helper() if helper is None else helper
        super().__init__(connection, helper, leader_only=False)
        self.dirty: set[tuple[str, Any]] = set()
        """Table and UUID of each row that changed since somebody cleared this."""
        self._shared: dict[tuple[Any, object], Any] = {}
        self._held_since: object = None

    def hold(self, lock: str) -> None:
        """Hold a lock of the server for as long as the connection lives (`presence`).

        Asked for once in each connection. Nothing waits for the answer: whoever has it
        is who asked first, and transactions do not depend on it.
        """
        if self._held_since != self._last_seqno:
            self._held_since = self._last_seqno
            self._session.send(ovs.jsonrpc.Message.create_request("lock", [lock]))

    def _Idl__row_update(self, table: Any, row: Any, row_json: dict[str, Any]) -> bool:  # noqa: N802
        """Take a row's columns over (called by the IDL, which has no other hook).

        Flags and references come as few different values in very many rows; the IDL
        never changes a value in place, so those rows share it. At 50,000 vports that
        halves the replica.
        """
        changed = False
        for name, value in row_json.items():
            column = table.columns.get(name)
            if column is None:
                continue
            is_reference = type(value) is list and value[0] == "uuid"
            if is_reference or type(value) is bool:
                key = (column, value[1] if is_reference else value)
                datum = self._shared.get(key)
                if datum is None:
                    datum = ovs.db.data.Datum.from_json(column.type, value)
                    self._shared[key] = datum
            else:
                datum = ovs.db.data.Datum.from_json(column.type, value)
            if name not in row._data or datum != row._data[name]:
                row._data[name] = datum
                changed = changed or column.alert
        return changed

    def notify(self, event: str, row: Any, updates: Any = None) -> None:
        """Note a changed row (called by the IDL)."""
        self.dirty.add((row._table.name, row.uuid))

    def used_keys(self, table: str) -> Iterator[int]:
        """Go through the keys that a table's rows have; not of rows just inserted."""
        rows = self.tables[table].rows.values()
        return (row.key for row in rows if row._data is not None)

    @property
    def is_complete(self) -> bool:
        """Whether the replica holds the server's whole database."""
        return bool(self.state == self.IDL_S_MONITORING)

    @property
    def is_connected(self) -> bool:
        """Whether a server is there and its database is here."""
        return self.is_complete and bool(self._session.is_connected())
