# SPDX-License-Identifier: Apache-2.0
"""The order in which a lab comes up.

`lab` calls it, and removes everything when it fails.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from midoryu.lab import process, wire
from midoryu.lab.database import NsdbNode
from midoryu.lab.error import LabError
from midoryu.lab.host import HostNode
from midoryu.lab.readiness import Readiness
from midoryu.lab.shell import inside, run
from midoryu.lab.spec import Host, LabSpec, Machine
from midoryu.lab.store import Store

_WORKERS = 4
Report = Callable[[str], None]


class Builder:
    """Brings one lab up."""

    def __init__(
        self,
        spec: LabSpec,
        store: Store,
        hosts: Mapping[str, HostNode],
        nsdb: NsdbNode,
    ) -> None:
        self.spec = spec
        self.store = store
        self.hosts = hosts
        self.nsdb = nsdb

    def build(self, *, agents: bool, timeout_s: float, report: Report) -> None:
        """Bring everything up and wait until the agents have every vport up.

        What is made on the way to a failure stays; `timeout_s` limits the waiting.

        Raises:
            LabError: a step failed, or the agents are not ready in time.
        """
        start = time.monotonic()
        names = wire.namespaces(self.spec, self.store)
        wire.refuse_taken_namespaces(names)
        self.store.begin(self.spec, names, agents)
        report(f"{len(names)} namespaces, {len(self.spec.links)} links")
        wire.make_namespaces(names)
        wire.set_up_kernels(self.spec, self.store)
        wire.lay(self.spec, self.store)
        wire.set_up_underlay(self.spec, self.store)
        wire.set_up_nsdb_link(self.spec, self.store)
        key_file = self.store.directory / "flow-state.key"
        key_file.touch(mode=0o600)
        key_file.write_text(secrets.token_hex(32) + "\n")
        with ThreadPoolExecutor(_WORKERS) as pool:
            try:
                self._start_nodes(pool, agents, report)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                # A worker may be waiting for a command that never ends.
                process.end_all(names)
                raise
        for machine in self.spec.machines:
            self._run_commands(machine)
        if agents:
            report("waiting for the agents")
            for node in self.hosts.values():
                node.start_agent()
            Readiness(self.hosts).wait(timeout_s)
        report(f"up after {time.monotonic() - start:.1f} s")

    def _start_nodes(
        self, pool: ThreadPoolExecutor, agents: bool, report: Report
    ) -> None:
        database = pool.submit(self._start_database, agents, report)
        list(pool.map(self._start_host, self.spec.hosts))
        report(f"{len(self.hosts)} hosts with Open vSwitch")
        list(pool.map(self._start_machine, self.spec.machines))
        report(f"{len(self.spec.machines)} machines")
        database.result()

    def _start_database(self, agents: bool, report: Report) -> None:
        if not (agents or self.spec.topology_text):
            return
        self.nsdb.start()
        if self.spec.topology_text:
            path = self.store.directory / "topology.yaml"
            path.write_text(self.spec.topology_text)
            try:
                self.nsdb.ctl("apply", "-f", str(path))
            except LabError as problem:
                message = str(problem).replace(str(path), self.spec.topology_source)
                raise LabError(message) from problem
        report("NSDB with the topology")

    def _start_host(self, host: Host) -> None:
        wire.set_up_host_links(self.spec, self.store, host)
        self.hosts[host.name].start_ovs()

    def _start_machine(self, machine: Machine) -> None:
        wire.set_up_machine(self.spec, self.store, machine)
        for line in machine.setup:
            self._shell(machine, line)

    def _shell(self, machine: Machine, line: str) -> None:
        command = inside(self.store.namespace(machine.name), ["sh", "-c", line])
        result = run(command, check=False, directory=self._directory(machine))
        if result.returncode != 0:
            said = (result.stderr or result.stdout).strip()
            raise LabError(f"{machine.name}: setup `{line}` failed: {said}")

    def _run_commands(self, machine: Machine) -> None:
        for number, line in enumerate(machine.run, start=1):
            directory = self._directory(machine)
            namespace = self.store.namespace(machine.name)
            log = directory / f"run-{number}.log"
            process.start(namespace, ["sh", "-c", line], log, directory)

    def _directory(self, machine: Machine) -> Path:
        directory = self.store.node_directory(machine.name)
        directory.mkdir(parents=True, exist_ok=True)
        return directory
