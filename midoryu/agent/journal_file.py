# SPDX-License-Identifier: Apache-2.0
"""The journal's file: connection records in SQLite, each with its time and checksum.

Knows no thread and no log; `journal` runs it and decides what a failure means.

SQLite in WAL mode: a batch is in the file entirely or not at all after SIGKILL, and
after a power loss all up to the last checkpoint, at least, is. (100,000 upserts took
1.2 s here, LMDB 0.6 s; reading them back 0.1 s. LMDB maps its file, so that a damaged
file or a full disk can end the process.)

Source: SQLite, "Write-Ahead Logging" and "PRAGMA Statements".
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from midoryu.errors import MidoryuError

APPLICATION_ID: Final = 0x4D52_4A4C  # "MRJL"
VERSION: Final = 1
KEPT_ASIDE: Final = 3

_SCHEMA: Final = (
    "CREATE TABLE records (id INTEGER PRIMARY KEY, boot INTEGER NOT NULL, "
    "up_ms INTEGER NOT NULL, wall_ms INTEGER NOT NULL, entry BLOB NOT NULL, "
    "crc INTEGER NOT NULL)"
)
# One statement gives the interpreter's lock back once, however many rows it has; older
# SQLites take at most 999 parameters.
_ROWS: Final = 166
_IDS: Final = 996
_CHECKED: Final = struct.Struct("!QIqq")
_WAL_HEADER_BYTES: Final = 32
#  Frame of the write-ahead log: page 32 | commit 32 | salt 64 | checksum 64 | the page
_WAL_FRAME: Final = struct.Struct("!8x8s8x")
_ID_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF
_BUSY, _LOCKED = 5, 6
_LEAST_BYTES: Final = 512
_PROBE_BYTES: Final = 65536


class UnusableError(MidoryuError):
    """The file cannot be used now, but its contents are not to blame."""


class DamagedError(MidoryuError):
    """The file holds something else than a journal of this version."""


class Instant(NamedTuple):
    """A moment on the clocks that a file can be asked about later."""

    boot: int
    """Which start of the machine, 32 bits."""
    up_s: float
    """Seconds since that start; nothing sets this clock."""
    wall_s: float
    """Seconds since 1970; may be set at any time."""


class Row(NamedTuple):
    """A record as it stands in the file."""

    entry: bytes
    written: Instant


def age_s(written: Instant, now: Instant) -> float:
    """Return how old a record is.

    After a restart of the agent alone the uptime tells, whatever happened to the wall
    clock. After one of the machine the wall clock has to; one that went back makes
    records look new, never old.
    """
    if written.boot == now.boot and written.up_s <= now.up_s:
        return now.up_s - written.up_s
    return max(now.wall_s - written.wall_s, 0.0)


class JournalFile:
    """An open journal. When a method raises, close it."""

    def __init__(self, path: str, limit_bytes: int) -> None:
        """Open or make the file.

        Raises:
            DamagedError: it is no sound journal of this version; see `set_aside`.
            UnusableError: it cannot be opened or made.
        """
        self.path = path
        self.lost_pages = 0
        """Pages of the write-ahead log that were not sound at the opening."""
        self._limit_bytes = limit_bytes
        _make(path)
        self._database: Any = None
        try:
            self._open()
        except (UnusableError, DamagedError):
            self.close()
            raise

    def _open(self) -> None:
        with _told(self.path, at_open=True):
            self._database = sqlite3.connect(
                self.path,
                timeout=1.0,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=2 * _ROWS,
            )
            self._database.text_factory = bytes
            self._set("mmap_size", 0)
            self._set("trusted_schema", 0)
            self._set("cell_size_check", 1)
            self._check_size()
            is_new = self._set("page_count") == 0
            if is_new:
                self._create()
            self._check()
            self._set("journal_mode", "WAL")
            self._set("synchronous", "NORMAL")
            self._set("journal_size_limit", 1 << 24)
            self._page_bytes = self._set("page_size")
            if not is_new:
                self._look_for_lost_pages()
            # A file that cannot be written shall say so now.
            self._set("user_version", VERSION)

    def _set(self, name: str, value: int | str | None = None) -> Any:
        """Set a pragma, or read it."""
        text = f"PRAGMA {name}" if value is None else f"PRAGMA {name} = {value}"
        # To its end: a statement that is under way holds locks.
        rows = self._database.execute(text).fetchall()
        return rows[0][0] if rows else None

    def _create(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        self._set("application_id", APPLICATION_ID)
        self._set("user_version", VERSION)
        self._database.execute(_SCHEMA)
        self._database.execute("COMMIT")

    def _check_size(self) -> None:
        # SQLite takes a file of one byte for an empty one.
        size = os.stat(self.path).st_size
        if 0 < size < _LEAST_BYTES:
            raise DamagedError(f"only {size} bytes long")

    def _check(self) -> None:
        if self._set("application_id") != APPLICATION_ID:
            raise DamagedError("not a journal of midoryu")
        version = self._set("user_version")
        if version != VERSION:
            raise DamagedError(f"format version {version}, want {VERSION}")
        schema = self._database.execute("SELECT sql FROM sqlite_master").fetchall()
        if schema != [(_SCHEMA.encode(),)]:
            raise DamagedError("other tables than a journal has")
        found = bytes(self._set("quick_check(1)") or b"")
        if found != b"ok":
            words = found.decode("utf-8", "replace")
            raise DamagedError(" ".join(words.replace("*", "").split()))

    def _look_for_lost_pages(self) -> None:
        """Count the pages of the write-ahead log from the first one that is not sound.

        SQLite leaves them out without a word: they look like a commit that was cut off.

        Source: SQLite, "Database File Format", section 4 (the write-ahead log).
        """
        checkpoint = self._database.execute("PRAGMA wal_checkpoint(PASSIVE)")
        sound = max(checkpoint.fetchall()[0][1], 0)
        written = _wal_frames(f"{self.path}-wal", self._page_bytes)
        self.lost_pages = max(written - sound, 0)

    def read(self, rows: int) -> Iterator[tuple[dict[int, Row], list[int]]]:
        """Yield the records by id, so many at a time, and the ids of damaged ones."""
        with _told(self.path):
            cursor = self._database.execute(
                "SELECT id, boot, up_ms, wall_ms, entry, crc FROM records"
            )
        while True:
            with _told(self.path):
                values = cursor.fetchmany(rows)
            if not values:
                return
            sound = {value[0] & _ID_MASK: _row(*value) for value in values}
            damaged = [id_ for id_, row in sound.items() if row is None]
            yield {id_: row for id_, row in sound.items() if row is not None}, damaged

    def write(self, rows: Mapping[int, Row | None]) -> None:
        """Put records in the place of those with the same id; None removes one.

        All of them or, when it raises, none.
        """
        values = [_values(id_, row) for id_, row in rows.items() if row is not None]
        gone = [_signed(id_) for id_, row in rows.items() if row is None]
        with _told(self.path):
            execute = self._database.execute
            execute("BEGIN IMMEDIATE")
            for start in range(0, len(values), _ROWS):
                some = values[start : start + _ROWS]
                marks = ",".join(["(?,?,?,?,?,?)"] * len(some))
                flat = [value for row in some for value in row]
                execute(f"INSERT OR REPLACE INTO records VALUES {marks}", flat)
            for start in range(0, len(gone), _IDS):
                ids = gone[start : start + _IDS]
                marks = ",".join("?" * len(ids))
                execute(f"DELETE FROM records WHERE id IN ({marks})", ids)
            execute("COMMIT")

    def prune(self, lifetime_s: float, now: Instant) -> int:
        """Remove what was written longer ago than any record lives; return how many."""
        up_ms = int((now.up_s - lifetime_s) * 1000)
        wall_ms = int((now.wall_s - lifetime_s) * 1000)
        with _told(self.path):
            cursor = self._database.execute(
                "DELETE FROM records WHERE CASE boot WHEN ? THEN up_ms < ? "
                "ELSE wall_ms < ? END",
                (now.boot, up_ms, wall_ms),
            )
        return int(cursor.rowcount)

    def evict(self) -> int:
        """Remove the oldest records while the limit is passed; return how many."""
        removed = 0
        while self.used_bytes() > self._limit_bytes:
            with _told(self.path):
                count = self._database.execute("SELECT count(*) FROM records")
                share = count.fetchone()[0] // 8 + 1
                cursor = self._database.execute(
                    "DELETE FROM records WHERE id IN "
                    "(SELECT id FROM records ORDER BY wall_ms LIMIT ?)",
                    (share,),
                )
            if cursor.rowcount < 1:
                break
            removed += cursor.rowcount
        return removed

    def used_bytes(self) -> int:
        """Return what the records take; the file never shrinks below what it had."""
        with _told(self.path):
            pages = self._set("page_count") - self._set("freelist_count")
        return int(pages * self._page_bytes)

    def close(self) -> None:
        """Close the file; what `write` returned from is in it."""
        database, self._database = self._database, None
        if database is not None:
            with contextlib.suppress(sqlite3.Error):
                database.close()


def set_aside(path: str) -> str:
    """Rename a damaged file to PATH.bad-1; at most three of them are kept.

    Returns:
        Its new name.

    Raises:
        UnusableError: it cannot be renamed.
    """
    try:
        for number in range(KEPT_ASIDE - 1, 0, -1):
            _rename(f"{path}.bad-{number}", f"{path}.bad-{number + 1}")
        _rename(path, f"{path}.bad-1")
        for suffix in ("-shm", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + suffix)
    except OSError as error:
        raise UnusableError(f"cannot set it aside: {error.strerror}") from error
    return f"{path}.bad-1"


def _wal_frames(path: str, page_bytes: int) -> int:
    """Count the frames of a write-ahead log that belong to its newest generation."""
    frame_bytes = _WAL_FRAME.size + page_bytes
    count, newest = 0, None
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            for start in range(_WAL_HEADER_BYTES, size - frame_bytes + 1, frame_bytes):
                file.seek(start)
                salt = _WAL_FRAME.unpack(file.read(_WAL_FRAME.size))[0]
                if salt != (newest := newest or salt):
                    break
                count += 1
    except (OSError, struct.error):
        return count  # no log, or one that is being cut: nothing to tell about
    return count


def _rename(old: str, new: str) -> None:
    """Rename a file and its write-ahead log, which holds the newest part of it."""
    if not os.path.lexists(old):
        return
    os.replace(old, new)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{new}-wal")
    with contextlib.suppress(FileNotFoundError):
        os.rename(f"{old}-wal", f"{new}-wal")


def _make(path: str) -> None:
    """Make the file when there is none, for its owner alone."""
    try:
        directory = os.path.dirname(path)
        if directory:
            os.makedirs(directory, mode=0o755, exist_ok=True)
        # A pipe would block, a device would obey: only a regular file is opened.
        if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
            raise UnusableError("not a regular file")
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        os.close(os.open(path, flags, 0o600))
    except (OSError, ValueError) as error:
        raise UnusableError(getattr(error, "strerror", None) or str(error)) from error


@contextlib.contextmanager
def _told(path: str, *, at_open: bool = False) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code not in (_BUSY, _LOCKED):
            _probe(path)
            # At the opening nobody else has the file (the control socket sees to that),
            # so with a disk that can be written it is what is in the file.
            if at_open:
                raise DamagedError(str(error)) from error
        raise UnusableError(str(error)) from error
    except (sqlite3.Error, UnicodeDecodeError, MemoryError, OverflowError) as error:
        # Even the error's words may be taken from what is in the file.
        raise DamagedError(str(error) or type(error).__name__) from error
    except OSError as error:
        raise UnusableError(error.strerror or str(error)) from error


def _probe(path: str) -> None:
    """See whether there is a disk that takes what is written.

    Raises:
        UnusableError: there is not.
    """
    probe = f"{path}.probe"
    try:
        with open(probe, "wb") as file:
            file.write(bytes(_PROBE_BYTES))
    except OSError as error:
        raise UnusableError(error.strerror or str(error)) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(probe)


def _signed(id_: int) -> int:
    """Fit 64 bits without a sign into SQLite's integers, which have one."""
    return id_ - (1 << 64) if id_ >> 63 else id_


def _values(id_: int, row: Row) -> tuple[Any, ...]:
    boot, up_s, wall_s = row.written
    up_ms, wall_ms = int(up_s * 1000), int(wall_s * 1000)
    crc = zlib.crc32(row.entry, zlib.crc32(_CHECKED.pack(id_, boot, up_ms, wall_ms)))
    return _signed(id_), boot, up_ms, wall_ms, row.entry, crc


def _row(id_: int, boot: Any, up_ms: Any, wall_ms: Any, entry: Any, crc: Any) -> Any:
    """Return the row, or None when its checksum says no."""
    try:
        head = _CHECKED.pack(id_ & _ID_MASK, boot, up_ms, wall_ms)
        if zlib.crc32(entry, zlib.crc32(head)) != crc:
            return None
    except (struct.error, TypeError):
        return None
    return Row(bytes(entry), Instant(boot, up_ms / 1000, wall_ms / 1000))
