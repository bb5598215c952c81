# SPDX-License-Identifier: Apache-2.0
"""The agent: the Ryu application `midoryu.agent`, the rim around the engine.

Decides nothing about packets. It joins the engine with its three neighbours:

    ovs-vswitchd ── OpenFlow ──► connection ─► switch ─┐            ┌─► state pushes,
    local OVSDB ── ovs.client ─► pump ─────────────────┼─► driver ──┤   flow mods,
    NSDB ──────── nsdb.client ─► pump ─────────────────┘  (engine)  └─► packet outs
    control socket ────────────► control ──────────────────┤
    records on disk ───────────► journal ──────────────────┘
    midoryu-metadata ◄── helper (keeps it alive, and nothing else)

Invariants: one thread, the hub's, owns the engine, and `driver` calls it once at a
time (the journal's thread writes its file, nothing else); everything of one `Effects`
goes out in the order pushes, flow mods, packets, on one connection; nothing waits for
the NSDB or the disk; the listener is on loopback and serves the local bridge only;
ending the agent changes nothing in the switch or the NSDB. It is the only room that
imports Ryu (or os_ken), through `framework`.

Source: OpenFlow 1.3.5; OVS, ovs-vswitchd.conf.db(5).
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import signal
import time
import traceback
from typing import Any, ClassVar

from midoryu.agent import garbage, helper
from midoryu.agent.config import AgentConfig
from midoryu.agent.connection import serve
from midoryu.agent.control import ControlServer
from midoryu.agent.driver import Driver
from midoryu.agent.framework import RyuApp, app_manager, controller, hub, ofp_handler
from midoryu.agent.journal import Journal
from midoryu.agent.key_file import KeyFile, Keys
from midoryu.agent.pump import Pump
from midoryu.agent.resolver import Resolver
from midoryu.agent.silence import Neighbor, watch
from midoryu.engine.effect import NsdbWrite, SetVportStatus
from midoryu.engine.event import JournalRead, KeysChanged
from midoryu.errors import MidoryuError
from midoryu.ovs.client import BridgeReady, OvsdbClient, OvsWarning

LOG = logging.getLogger(__name__)
_FLUSH_S = 1.0
_REPORT_S = 1.0

__all__ = ["MidoryuAgent"]


class MidoryuAgent(RyuApp):  # type: ignore[misc]
    """The application that `ryu-manager ... midoryu.agent` runs."""

    OFP_VERSIONS: ClassVar[list[int]] = [4]
    config: ClassVar[AgentConfig | None] = None
    """Set by `cmd` before the application starts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.config is None:
            _die("name midoryu.agent on the command line of midoryu's ryu-manager")
            raise AssertionError
        for warning in self.config.warnings:
            LOG.warning("%s", warning)
        engine = self.config.engine
        carried = engine.mtu_bytes - engine.tunnel_overhead_bytes
        LOG.info("underlay MTU %d bytes, networks %d", engine.mtu_bytes, carried)
        try:
            self._build(self.config)
        except MidoryuError as error:
            _die(str(error))

    def _build(self, config: AgentConfig) -> None:
        engine = importlib.import_module("midoryu.engine.engine")
        self.driver = Driver(
            engine.Engine(config.engine, time.monotonic()),
            call_later=hub.spawn_after,
            fail=_die,
        )
        # Ryu's listener looks for this name when it starts.
        controller.datapath_connection_factory = functools.partial(
            serve, self.driver.switch
        )
        self._ovs = OvsdbClient(config.ovs)
        self._ovs_pump = Pump(self._ovs, self._from_ovs)
        self._to_mark: set[int] = set()
        self.driver.status_written = self._mark_later
        self.driver.resolve = Resolver(self.driver.handle_and_send).resolve
        self._nsdb = _nsdb_client(config)
        self._nsdb_pump: Pump | None = None
        if self._nsdb is not None:
            self._nsdb_pump = Pump(self._nsdb, self.driver.handle_and_send)
            self.driver.write = self._write
        self._control = ControlServer(config.control_socket, self.driver.inspect)
        self._journal = self._read_journal(config)

    def _read_journal(self, config: AgentConfig) -> Journal | None:
        """Give the engine its memory back, before the switch and the NSDB speak.

        The control socket is ours by now, so no other agent has the journal.
        """
        if not config.journal:
            return None
        journal = Journal(
            config.journal,
            config.journal_limit_bytes,
            lifetime_s=max(config.engine.lifetimes_s),
        )
        self.driver.journal = journal.record
        self.driver.journal_stats = journal.stats
        for entries in journal.read():
            self.driver.handle(JournalRead(entries))
        count = journal.counters["records_read"]
        LOG.info("%d connection records read from %s", count, config.journal)
        return journal

    def start(self) -> None:
        """Start the green threads; Ryu calls this once."""
        super().start()
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        self._watch_keys()
        hub.spawn(_or_die, self._ovs_pump.run)
        if self._nsdb_pump is not None:
            hub.spawn(_or_die, self._nsdb_pump.run)
        hub.spawn(self._control.serve)
        hub.spawn(watch, self._neighbors(), hub.sleep)
        hub.spawn(garbage.keep_short, hub.sleep)
        if self.config is not None and self.config.metadata_command:
            hub.spawn(helper.keep, self.config.metadata_command, hub.sleep)
        if self._journal is not None:
            self._journal.start()
            hub.spawn(_log_reports, self._journal)
        LOG.info("midoryu agent of host %s started", self.config_host())

    def _watch_keys(self) -> None:
        """Take new keys of flow state while running; SIGHUP only makes it quick."""
        assert self.config is not None
        keys = self.config.engine.state_keys
        file = KeyFile(self.config.key_file, keys, self._keys_changed)
        look = file.look if self.config.key_file else _nothing
        signal.signal(signal.SIGHUP, lambda *_: hub.spawn_after(0.0, look))
        if self.config.key_file:
            hub.spawn(file.watch, hub.sleep)

    def _keys_changed(self, keys: Keys) -> None:
        self.driver.handle_and_send(KeysChanged(keys))

    def config_host(self) -> str:
        """Return this host's name."""
        return self.config.engine.host if self.config is not None else ""

    def _neighbors(self) -> list[Neighbor]:
        """List who has to answer, and what to say where one does not."""
        assert self.config is not None
        ovs, nsdb = self.config.ovs, self.config.nsdb.connection
        database = f"no answer from Open vSwitch's database at {ovs.ovsdb}"
        switch = (
            f"bridge {ovs.bridge} has not come to 127.0.0.1:{ovs.openflow_port}: "
            "does ovs-vswitchd run?"
        )
        found: list[Neighbor] = [
            (self._ovs.is_connected, database),
            (self.driver.switch.is_ready, switch),
        ]
        if self._nsdb is not None:
            client = self._nsdb
            found.append((lambda: client.is_connected, f"no answer from {nsdb} (NSDB)"))
        return found

    def _from_ovs(self, event: object) -> None:
        if isinstance(event, BridgeReady):
            self.driver.switch.bridge_ready(event)
        elif isinstance(event, OvsWarning):
            LOG.warning("%s", event.message)
        else:
            self.driver.handle_and_send(event)  # type: ignore[arg-type]

    def _write(self, writes: list[NsdbWrite]) -> None:
        if self._nsdb is None or self._nsdb_pump is None:
            return
        self._nsdb.write(writes)
        self._nsdb_pump.wake()

    def _mark_later(self, status: SetVportStatus) -> None:
        """Mark a vport's interface once its flows have left for the switch."""
        if not status.up:
            return
        if not self._to_mark:
            hub.spawn_after(0.0, self._mark_installed)
        self._to_mark.add(status.vport)

    def _mark_installed(self) -> None:
        rows: Any = self.driver.inspect("vports", {})
        ofports = [row["ofport"] for row in rows if row["key"] in self._to_mark]
        self._to_mark.clear()
        self._ovs.mark_installed(self._ovs.iface_ids(ofports))
        self._ovs_pump.wake()

    def _stop(self, number: int, _frame: object) -> None:
        """End at once: flows go on in the switch, and nothing is taken back."""
        LOG.info("midoryu agent ends (signal %d)", number)
        self._control.close()
        if self._journal is not None and not self._journal.close(_FLUSH_S):
            LOG.warning("the journal was not written to its end")
        logging.shutdown()
        os._exit(0)


def _nsdb_client(config: AgentConfig) -> Any:
    try:
        module = importlib.import_module("midoryu.nsdb.client")
    except ModuleNotFoundError as error:
        if error.name not in ("midoryu.nsdb.client",):
            raise
        LOG.warning("no NSDB client: only what OVS says is known")
        return None
    nsdb = config.nsdb
    return module.NsdbClient(
        nsdb.connection,
        host=config.engine.host,
        underlay=config.underlay,
        private_key=nsdb.private_key,
        certificate=nsdb.certificate,
        ca_cert=nsdb.ca_cert,
        pause=lambda: hub.sleep(0),
    )


def _nothing() -> None:
    """Do nothing: a SIGHUP must not end an agent that has no key file."""


def _log_reports(journal: Journal) -> None:
    """Log what the journal's own thread, which must not, has to say."""
    while True:
        for level, message in journal.take_reports():
            LOG.log(level, "%s", message)
        hub.sleep(_REPORT_S)


def _or_die(run: Any) -> None:
    """Run what the agent cannot be without."""
    try:
        run()
    except Exception:
        LOG.critical("%s", traceback.format_exc())
        _die(f"{run.__qualname__} ended")


def _die(reason: str) -> None:
    """End the process so that its supervisor starts a fresh one."""
    LOG.critical("midoryu agent: %s", reason)
    logging.shutdown()
    os._exit(1)


# Ryu's own handler does the handshake; the agent needs none of its events.
app_manager.require_app(ofp_handler.__name__)
