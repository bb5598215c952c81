# SPDX-License-Identifier: Apache-2.0
"""The maintenance worker: a process of `neutron-periodic-workers`.

Writes what API processes could not, compares everything from time to time, and tells
Neutron what the hosts report (`status`, `agents`). Several may run at once, one for
each API host: all they do may be done twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Union

from neutron_lib import context as neutron_context
from neutron_lib import worker
from oslo_config import cfg

from midoryu.errors import NsdbError
from midoryu.neutron import journal
from midoryu.neutron.agents import AgentReporter
from midoryu.neutron.migrating import MigrationWatcher
from midoryu.neutron.status import StatusWatcher
from midoryu.neutron.sync import Synchronizer

LOG = logging.getLogger(__name__)

_TICK_S: Final = 0.2
"""Between two looks at what agents wrote."""
_MIGRATIONS_S: Final = 0.5
"""Between two looks for inactive bindings."""
_AGENTS_S: Final = 20.0
"""Between two reports of agents; Neutron holds one for dead after 75 s."""


class MaintenanceWorker(worker.BaseWorker):
    """Keeps Neutron and the NSDB together."""

    def __init__(self, sync: Synchronizer) -> None:
        super().__init__(worker_process_count=1, desc="midoryu maintenance")
        self._sync = sync
        self._stop = threading.Event()
        self._thread: Union[threading.Thread, None] = None

    def start(self, **kwargs: Any) -> None:
        """Begin."""
        super().start(**kwargs)
        self._sync.store.start()
        self._thread = threading.Thread(
            target=self._run, name="midoryu-maintenance", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def wait(self) -> None:
        """Wait for the end."""
        self._stop.wait()

    def reset(self) -> None:
        """Go on: options are read at the start only."""

    def _run(self) -> None:
        conf = cfg.CONF.midoryu
        watcher, reporter = StatusWatcher(self._sync.store), AgentReporter()
        migrations = MigrationWatcher()
        jobs: list[tuple[float, Callable[[], None]]] = [
            (_TICK_S, watcher.run),
            (_MIGRATIONS_S, lambda: migrations.run(self._sync)),
            (_AGENTS_S, lambda: reporter.run(self._sync.store)),
            (conf.maintenance_interval_s, self._write_what_is_left),
            (conf.check_interval_s or float("inf"), self._compare),
        ]
        due = [0.0] * len(jobs)
        while not self._stop.wait(_TICK_S):
            for number, (interval_s, job) in enumerate(jobs):
                if time.monotonic() >= due[number] and self._do(job):
                    due[number] = time.monotonic() + interval_s

    @staticmethod
    def _do(job: Callable[[], None]) -> bool:
        """Do a job; return whether it was done. A failed one comes again."""
        try:
            job()
        except NsdbError as problem:
            LOG.debug("later: %s", problem)
            return False
        except Exception:  # the one catch-all of this process: the next turn may work
            LOG.exception("maintenance failed")
            time.sleep(1.0)
            return False
        return True

    def _write_what_is_left(self) -> None:
        context = neutron_context.get_admin_context()
        # Younger entries are about to be written by the calls that made them.
        if journal.oldest_age_s(context) < 1.0:
            return
        self._sync.flush(context)
        self._sync.flush(context, retries=True)

    def _compare(self) -> None:
        context = neutron_context.get_admin_context()
        changes = self._sync.repair(context)
        if changes:
            LOG.warning("repaired %d rows of the NSDB", len(changes))
