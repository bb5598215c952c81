# SPDX-License-Identifier: Apache-2.0
"""What Neutron's own test classes need to run with our drivers and a real NSDB.

After each test the NSDB must say exactly what Neutron's database says.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from neutron_lib import context as neutron_context
from neutron_lib.plugins import constants as plugin_constants
from neutron_lib.plugins import directory
from oslo_config import cfg

from midoryu.conf import neutron as options
from midoryu.neutron import binding
from midoryu.neutron.migrating import MigrationWatcher
from midoryu.neutron.store import Index
from midoryu.neutron.sync import Synchronizer
from midoryu.neutron.writer import difference, write
from midoryu.nsdb.item import COLUMNS
from tests.functional.nsdb_server import Server


class _Nsdb:
    """One server for all suites of a process."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="midoryu-suite-"))
        self.server = Server(self.directory)
        assert self.server.start() == 0
        atexit.register(self.stop)

    def stop(self) -> None:
        self.server.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


_SERVERS: list[_Nsdb] = []


def remote() -> str:
    """Return where the NSDB of this process is."""
    if not _SERVERS:
        _SERVERS.append(_Nsdb())
    return _SERVERS[0].server.remote


def use_nsdb() -> None:
    """Point the drivers at it."""
    options.register_opts(cfg.CONF)
    cfg.CONF.set_override("nsdb_connection", remote(), "midoryu")
    physnets = ("physnet", "physnet1", "physnet2", "physnet3", "physical_network")
    found = [f"{name}:gateway" for name in (*physnets, "phys_net1", "phys_net2")]
    cfg.CONF.set_override("gateways", found, "midoryu")


def clear(sync: Synchronizer) -> None:
    """Delete every row of Neutron's from the NSDB."""

    def fill(transaction: Any, tables: Mapping[str, Any], index: Index) -> bool:
        wanted: dict[str, list[Any]] = {unit: [] for unit in tuple(index.units)}
        changes = difference(index, wanted)
        if changes:
            write(transaction, tables, index, changes=changes, wanted=wanted)
        return bool(changes)

    sync.store.transact(fill)


class WithNsdb:
    """Mixed in before a test class of Neutron's."""

    compared: tuple[str, ...] = tuple(COLUMNS)
    """Tables that are compared at the end."""
    uncompared: frozenset[str] = frozenset()
    """Tests that write Neutron's database themselves, or cut the drivers off."""

    def setUp(self) -> None:
        use_nsdb()
        # The hosts of these tests have no agents.
        patcher = mock.patch.object(binding.Binder, "is_alive", return_value=True)
        patcher.start()
        self.addCleanup(patcher.stop)  # type: ignore[attr-defined]
        super().setUp()  # type: ignore[misc]
        self.sync = the_sync()

    def tearDown(self) -> None:
        sync = self.sync
        try:
            context = neutron_context.get_admin_context()
            # What the worker does for bindings, of which nobody tells.
            MigrationWatcher().run(sync)
            sync.flush(context)
            left = [
                f"{c.item.id} {c.columns}"
                for c in sync.check(context)
                if c.item.table in self.compared
                and self._testMethodName not in self.uncompared  # type: ignore[attr-defined]
            ]
            clear(sync)
        finally:
            sync.store.close()
        super().tearDown()  # type: ignore[misc]
        assert not left, "the NSDB differs: " + "; ".join(left)


def the_sync() -> Synchronizer:
    """Return the synchronizer of the plugins that a test loaded."""
    manager = getattr(directory.get_plugin(), "mechanism_manager", None)
    drivers = getattr(manager, "mech_drivers", {})
    if "midoryu" in drivers:
        found: Synchronizer = drivers["midoryu"].obj.sync
        return found
    l3: Any = directory.get_plugin(plugin_constants.L3)
    own: Synchronizer = l3.sync
    return own
