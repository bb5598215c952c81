# SPDX-License-Identifier: Apache-2.0
"""The journal: keeps connection records on disk while the packet path does not wait.

The hub's thread calls `read` once, then `record`, which only appends to a queue. A
thread of the operating system collects what comes within 50 ms and writes it with one
transaction of `journal_file`. Whatever happens to the file, the agent goes on.

That thread must not log: eventlet's locks are no locks between real threads. What it
has to say waits in `take_reports` for the hub's thread.
"""

from __future__ import annotations

import contextlib
import logging
import time
import traceback
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from eventlet import patcher

from midoryu.agent.journal_file import (
    DamagedError,
    Instant,
    JournalFile,
    Row,
    UnusableError,
    age_s,
    set_aside,
)
from midoryu.engine.effect import JournalWrite

# Real ones, also where eventlet has put its own in their place.
_threading: Final = patcher.original("threading")
_sleep: Final = patcher.original("time").sleep

CHUNK: Final = 5000
_BATCH_S: Final = 0.05
_BATCH: Final = 2000
_QUEUE: Final = 100_000
_RETRY_S: Final = 30.0
_PRUNE_S: Final = 600.0
_MAX_REPORTS: Final = 100
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"

Report = tuple[int, str]


def clock() -> Callable[[], Instant]:
    """Return a clock whose readings mean something to later processes."""
    boot_id = b""
    with contextlib.suppress(OSError), open(_BOOT_ID, "rb") as file:
        boot_id = file.read(64)
    boot = zlib.crc32(boot_id)
    return lambda: Instant(
        boot, time.clock_gettime(time.CLOCK_BOOTTIME), max(time.time(), 0.0)
    )


class Journal:
    """One agent's journal. `read`, then `start`, then `record`; `close` at the end."""

    def __init__(
        self,
        path: str,
        limit_bytes: int,
        *,
        lifetime_s: float = 7440.0,
        now: Callable[[], Instant] | None = None,
        retry_s: float = _RETRY_S,
        queue_limit: int = _QUEUE,
    ) -> None:
        """Keep records in a file; nothing is opened yet.

        Args:
            path: of the file; next to it stand PATH-wal, PATH-shm, PATH.bad-1 to -3.
            limit_bytes: what records may take; above it the oldest ones go.
            lifetime_s: longest lifetime of any record, in seconds.
            now: the clock.
            retry_s: seconds between two tries on a file that cannot be used.
            queue_limit: records that wait to be written, at most.
        """
        self.path = path
        self._limit_bytes = limit_bytes
        self._lifetime_s = lifetime_s
        self._now = now or clock()
        self._retry_s = retry_s
        self._queue_limit = queue_limit
        # Appending to and taking from a deque needs no lock, so a signal handler that
        # interrupts `record` can close the journal.
        self._queue: deque[JournalWrite] = deque()
        self._batch: dict[int, Row | None] = {}
        self._file: JournalFile | None = None
        self._thread: Any = None
        # Released to wake the thread up: unlike those of `threading` that build on it,
        # a bare lock may be released by a signal handler amidst the same call.
        self._sleeping = _threading.Lock()
        self._sleeping.acquire()
        self._closing = False
        self._reports: deque[Report] = deque(maxlen=_MAX_REPORTS)
        self._causes: set[str] = set()
        self._retry_at = 0.0
        self._prune_at = 0.0
        self._trouble = ""
        self.counters: dict[str, int | float] = dict.fromkeys(
            (
                "records_read",
                "records_damaged",
                "records_written",
                "records_removed",
                "records_dropped",
                "records_expired",
                "records_evicted",
                "batches",
                "failures",
                "files_set_aside",
            ),
            0,
        )
        self.counters["longest_batch_ms"] = 0.0

    # ------------------------------------------------------------ the hub's thread

    def read(self) -> Iterator[tuple[tuple[bytes, float], ...]]:
        """Yield (entry, age in seconds) of all records, at most 5,000 at a time.

        Those older than the longest lifetime are removed; damaged ones as well.
        """
        try:
            file = self._open()
            for rows, damaged in file.read(CHUNK) if file else ():
                self._batch.update(dict.fromkeys(damaged))
                self.counters["records_damaged"] += len(damaged)
                now = self._now()
                aged = [(row.entry, age_s(row.written, now)) for row in rows.values()]
                live = tuple(one for one in aged if one[1] <= self._lifetime_s)
                self.counters["records_read"] += len(live)
                if live:
                    yield live
        except (DamagedError, UnusableError) as error:
            self._failed(error)
        if self._file is not None and self._file.lost_pages:
            self._report(
                f"the last {self._file.lost_pages} pages of its write-ahead log are "
                "cut off or damaged: what was written last may be missing"
            )
        if self.counters["records_damaged"]:
            count = self.counters["records_damaged"]
            self._report(f"{count} records have wrong checksums and are left out")

    def start(self) -> None:
        """Start the thread that writes."""
        self._thread = _threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def record(self, writes: Iterable[JournalWrite]) -> None:
        """Have records kept or forgotten soon. Never waits, never raises."""
        if self._closing:
            return
        self._queue.extend(writes)
        while len(self._queue) > self._queue_limit:
            self._drop(1)
            self._queue.popleft()
        self._wake()

    def take_reports(self) -> list[Report]:
        """Return what there is to log: (level as in logging, message)."""
        reports = []
        while self._reports:
            reports.append(self._reports.popleft())
        return reports

    def stats(self) -> dict[str, object]:
        """Return counters for the control socket."""
        return {
            "path": self.path,
            "state": self._trouble or "working",
            "records_waiting": len(self._queue) + len(self._batch),
            **self.counters,
        }

    def close(self, timeout_s: float = 1.0) -> bool:
        """Write what waits, but not longer than this; tell whether all is written.

        May be called by a signal handler.
        """
        self._closing = True
        if self._thread is None:
            self._run()
        else:
            self._wake()
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return False
        return not self._queue and not self._batch

    def _wake(self) -> None:
        if self._sleeping.locked():
            # Somebody may have been faster: then it is awake already.
            with contextlib.suppress(RuntimeError):
                self._sleeping.release()

    # ------------------------------------------------------------ the journal's thread

    def _run(self) -> None:
        try:
            while not self._closing:
                self._wait()
                self._step()
            self._retry_at = 0.0
            while self._step() and self._queue:
                pass
            if self._file is not None:
                self._file.close()
        except Exception:
            # Whatever it is, it must not end the agent.
            self._trouble = "ended by a fault"
            self._closing = True
            self._report(f"ended by a fault\n{traceback.format_exc()}")

    def _wait(self) -> None:
        """Sleep until there is something to write, then let a batch gather."""
        if not self._queue and not self._closing:
            due = max(self._retry_at, 0.0 if self._batch else self._prune_at)
            wait_s = min(max(due - self._now().up_s, _BATCH_S), _PRUNE_S)
            # A wake-up since the last time is still there, so none gets lost.
            self._sleeping.acquire(timeout=wait_s)
        if len(self._queue) < _BATCH and not self._closing:
            _sleep(_BATCH_S)

    def _step(self) -> bool:
        """Write one batch; tell whether the file took it."""
        now = self._now()
        self._collect(now)
        if now.up_s < self._retry_at:
            return False
        try:
            file = self._file or self._open()
            if file is None:
                return False
            self._write(file)
            self._tidy(file, now)
        except (DamagedError, UnusableError) as error:
            self._failed(error)
            return False
        self._works()
        return True

    def _collect(self, now: Instant) -> None:
        """Move what waits into the batch; the newest of each record counts."""
        batch = self._batch
        size = len(batch) + _BATCH
        while self._queue and len(batch) < max(size, _BATCH):
            write = self._queue.popleft()
            batch.pop(write.connection, None)
            row = Row(write.entry, now) if write.entry else None
            batch[write.connection] = row
        while len(batch) > self._queue_limit:
            self._drop(1)
            del batch[next(iter(batch))]

    def _write(self, file: JournalFile) -> None:
        if not self._batch:
            return
        start = time.perf_counter()
        file.write(self._batch)
        took_ms = round((time.perf_counter() - start) * 1000, 3)
        counters = self.counters
        counters["longest_batch_ms"] = max(counters["longest_batch_ms"], took_ms)
        counters["batches"] += 1
        removed = sum(row is None for row in self._batch.values())
        counters["records_removed"] += removed
        counters["records_written"] += len(self._batch) - removed
        self._batch.clear()
        evicted = file.evict()
        if evicted:
            counters["records_evicted"] += evicted
            self._once("over its limit: the oldest records go (journal_limit_mb)")

    def _tidy(self, file: JournalFile, now: Instant) -> None:
        if now.up_s < self._prune_at:
            return
        self._prune_at = now.up_s + _PRUNE_S
        self.counters["records_expired"] += file.prune(self._lifetime_s, now)

    # ------------------------------------------------------------ failures

    def _open(self) -> JournalFile | None:
        """Open the file; a damaged one is set aside for an empty one."""
        try:
            try:
                self._file = JournalFile(self.path, self._limit_bytes)
            except DamagedError as error:
                self._put_aside(error)
                self._file = JournalFile(self.path, self._limit_bytes)
        except (UnusableError, DamagedError) as error:
            self._unusable(error)
        return self._file

    def _failed(self, error: DamagedError | UnusableError) -> None:
        """Close the file; the batch stays and is tried again."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if isinstance(error, DamagedError):
            try:
                self._put_aside(error)
            except UnusableError as second:
                self._unusable(second)
        else:
            self._unusable(error)

    def _put_aside(self, error: DamagedError) -> None:
        aside = set_aside(self.path)
        self.counters["files_set_aside"] += 1
        self._report(f"{error}: set aside as {aside}, going on with an empty one")

    def _unusable(self, error: Exception) -> None:
        self.counters["failures"] += 1
        self._retry_at = self._now().up_s + self._retry_s
        self._trouble = f"cannot be used: {error}"
        self._once(f"{error}: going on without it, trying again")

    def _works(self) -> None:
        if self._trouble:
            self._trouble = ""
            self._causes.clear()
            self._report("can be used again", logging.INFO)

    def _drop(self, count: int) -> None:
        self.counters["records_dropped"] += count
        self._once("too much waits to be written: the oldest is not journalled")

    def _once(self, cause: str) -> None:
        if cause not in self._causes:
            self._causes.add(cause)
            self._report(cause)

    def _report(self, message: str, level: int = logging.WARNING) -> None:
        self._reports.append((level, f"journal {self.path}: {message}"))
