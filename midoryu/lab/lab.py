# SPDX-License-Identifier: Apache-2.0
"""The verbs of a lab: up, exec, capture, kill, restore, loss, status, down.

`cli` offers them at the terminal; tests, demo and benchmarks use `Lab` itself.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from midoryu.lab import file, process, wire
from midoryu.lab.builder import Builder
from midoryu.lab.capture import Capture
from midoryu.lab.database import NsdbNode
from midoryu.lab.error import LabError
from midoryu.lab.host import HostNode
from midoryu.lab.readiness import Readiness
from midoryu.lab.shell import environment, inside, run
from midoryu.lab.spec import LabSpec, Machine
from midoryu.lab.store import Store

HOST_PARTS = ("agent", "ovs", "host", "link")
Report = Callable[[str], None]


class Lab:
    """One lab, made from a file or a mapping, or (`attach`) found running.

    As a context manager it is up inside the block and down after it.
    """

    def __init__(
        self,
        source: Union[str, Path, dict[str, Any]],
        *,
        name: Optional[str] = None,
        agents: bool = True,
        report: Report = lambda line: None,
    ) -> None:
        if isinstance(source, dict):
            spec, own_name = file.from_mapping(source)
        else:
            spec, own_name = file.load(source)
        self._init(spec, Store(name or own_name), agents, report)

    def _init(self, spec: LabSpec, store: Store, agents: bool, report: Report) -> None:
        self.spec = spec
        self.store = store
        self.agents = agents
        self.report = report
        self.hosts = {h.name: HostNode(spec, store, h) for h in spec.hosts}
        self.nsdb = NsdbNode(spec, store)
        self._children: list[subprocess.Popen[str]] = []

    @classmethod
    def attach(cls, name: str, *, report: Report = lambda line: None) -> Lab:
        """Return the lab called `name` that is up.

        Raises:
            LabError: there is none, or it is not completely up.
        """
        store = Store(name)
        spec, plan = store.spec(), store.plan()
        if plan is None or plan.phase != "up":
            raise LabError(f"lab `{name}` is not completely up; tools/lab down")
        lab = cls.__new__(cls)
        lab._init(spec, store, plan.agents, report)
        return lab

    def __enter__(self) -> Lab:
        """Bring the lab up."""
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the lab down."""
        self.down()

    def up(self, *, timeout_s: float = 60.0) -> None:
        """Bring everything up and wait until the agents have every vport up.

        `timeout_s` limits the waiting for the agents. What a crashed `up` of the
        same name left behind is removed first; on failure nothing stays behind.

        Raises:
            LabError: a lab of this name is up, or a step failed.
        """
        with self.store.lock():
            self._clear_remains()
            try:
                builder = Builder(self.spec, self.store, self.hosts, self.nsdb)
                builder.build(
                    agents=self.agents, timeout_s=timeout_s, report=self.report
                )
                self.store.finish()
            except BaseException:
                self._remove()
                raise

    def down(self) -> None:
        """End every process and remove every namespace and file; twice is fine.

        Raises:
            LabError: something cannot be removed.
        """
        take_down(self.store)
        self._reap()

    def exec(
        self,
        name: str,
        argv: Union[str, Sequence[str]],
        timeout: float = 30.0,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the namespace of a host or machine, to its end.

        A string is split as a shell would. `timeout` is in seconds.

        Raises:
            LabError: no such node, or (with `check`) the command failed.
        """
        command = shlex.split(argv) if isinstance(argv, str) else list(argv)
        full = inside(self.namespace(name), command)
        return run(full, timeout_s=timeout, check=check)

    def popen(
        self, name: str, argv: Union[str, Sequence[str]], **options: Any
    ) -> subprocess.Popen[str]:
        """Start a command in the namespace of a node; `down` ends it.

        Text streams; stdout and stderr are pipes unless `options` say otherwise.

        Raises:
            LabError: no such node.
        """
        command = shlex.split(argv) if isinstance(argv, str) else list(argv)
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "env": environment(),
            **options,
        }
        child = subprocess.Popen(inside(self.namespace(name), command), **options)
        self._children.append(child)
        return child

    def capture(
        self,
        name: str,
        interface: Optional[str] = None,
        expression: str = "",
        path: Optional[Path] = None,
        count: int = 0,
    ) -> Capture:
        """Return a capture at a node, to be used as a context manager.

        Without `interface`: a host's underlay, or a machine's first interface.

        Raises:
            LabError: no such node.
        """
        namespace = self.namespace(name)
        if interface is None:
            machine = self._machine(name)
            first = machine.interfaces[0].name if machine else wire.UNDERLAY_DEVICE
            interface = "br0" if name == "underlay" else first
        target = path or self._capture_file(name)
        return Capture(namespace, interface, expression, target, count)

    def kill(self, name: str, part: str = "agent") -> None:
        """Break a part of a host: agent, ovs, host or link; or the `nsdb`.

        `link` takes the host off the underlay without a sign to it; `host` kills all
        its daemons and takes its underlay and uplink interfaces down.

        Raises:
            LabError: no such host or part.
        """
        if name == "nsdb":
            return self.nsdb.kill()
        node = self.host(name)
        _check_part(part)
        if part == "link":
            wire.cut(self.store, node.host)
        if part in ("agent", "host"):
            node.kill_agent()
        if part in ("ovs", "host"):
            node.kill_ovs()
        if part == "host":
            wire.set_devices(self.store, name, node.outer_devices(), "down")
        return None

    def restore(self, name: str, part: str = "host") -> None:
        """Bring a part of a host back: agent, ovs, link, or (`host`) all; or `nsdb`.

        Raises:
            LabError: no such host or part, or it does not start.
        """
        if name == "nsdb":
            return self.nsdb.start()
        node = self.host(name)
        _check_part(part)
        if part in ("link", "host"):
            wire.join(self.store, node.host)
        if part == "host":
            wire.set_devices(self.store, name, node.outer_devices(), "up")
        if part in ("ovs", "host"):
            node.start_ovs()
        if part == "agent" or (part == "host" and self.agents):
            node.start_agent()
        return None

    def loss(self, name: str, percent: float, *, state_only: bool = False) -> None:
        """Drop a share of a host's underlay packets, both ways; 0 ends it.

        `percent` is 0..100. With `state_only` only flow-state packets are dropped,
        found by their DSCP.

        Raises:
            LabError: no such host, or a share out of range.
        """
        node = self.host(name)
        if not 0 <= percent <= 100:
            raise LabError(f"loss of {percent:g} %: must be within 0..100")
        dscp = node.flow_state_dscp() if state_only else -1
        wire.set_loss(self.store, node.host, percent, dscp=dscp)

    def status(self) -> dict[str, Any]:
        """Return what runs, as JSON-able values."""
        plan = self.store.plan()
        readiness = Readiness(self.hosts)
        hosts = {
            name: {
                "namespace": node.namespace,
                "ip": node.host.ip,
                "ovsdb": node.is_running("ovsdb-server"),
                "ovs": node.is_running("ovs-vswitchd"),
                "agent": node.is_running("agent"),
                "vports": readiness.vports_of(node),
            }
            for name, node in self.hosts.items()
        }
        machines = {
            m.name: {
                "namespace": self.store.namespace(m.name),
                "kind": "vm" if m.name in self.spec.vms else "outside",
                "interfaces": {i.name: list(i.ips) for i in m.interfaces},
            }
            for m in self.spec.machines
        }
        return {
            "name": self.store.name,
            "phase": plan.phase if plan else "down",
            "directory": str(self.store.directory),
            "nsdb": {"running": self.nsdb.is_running(), "remote": self.nsdb.remote},
            "hosts": hosts,
            "machines": machines,
        }

    def host(self, name: str) -> HostNode:
        """Return a host.

        Raises:
            LabError: there is none of this name.
        """
        if name not in self.hosts:
            known = ", ".join(self.hosts)
            raise LabError(
                f"no host `{name}` in lab `{self.store.name}`; hosts: {known}"
            )
        return self.hosts[name]

    def namespace(self, name: str) -> str:
        """Return the network namespace of a host, machine, `nsdb` or `underlay`.

        Raises:
            LabError: there is no such node.
        """
        known = [*self.hosts, *(m.name for m in self.spec.machines)]
        known += file.RESERVED_NAMES
        if name not in known:
            raise LabError(
                f"nothing called `{name}` in lab `{self.store.name}`; "
                f"there are: {', '.join(known)}"
            )
        return self.store.namespace(name)

    def agent_query(self, host: str, query: str, **arguments: str) -> Any:
        """Ask a host's agent through its control socket.

        Raises:
            LabError: no such host, or no answer.
        """
        return self.host(host).agent_query(query, arguments)

    def ctl(self, *arguments: str) -> str:
        """Run midoryu-ctl on the lab's NSDB; return what it prints.

        Raises:
            LabError: it failed.
        """
        return self.nsdb.ctl(*arguments)

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Wait until every running agent has its vports up and heard the others.

        Raises:
            LabError: not in time; tells what is missing and the end of a log.
        """
        running = {n: h for n, h in self.hosts.items() if h.is_running("agent")}
        Readiness(running).wait(timeout_s)

    def _clear_remains(self) -> None:
        plan = self.store.plan()
        if plan is None:
            return
        if plan.phase == "up":
            raise LabError(
                f"lab `{self.store.name}` is up already; first: "
                f"tools/lab down --name {self.store.name}"
            )
        self.report("removing what an interrupted `up` left")
        _remove_all(self.store)
        self.store.directory.mkdir(parents=True, exist_ok=True)

    def _machine(self, name: str) -> Optional[Machine]:
        return next((m for m in self.spec.machines if m.name == name), None)

    def _capture_file(self, name: str) -> Path:
        directory = self.store.directory / "captures"
        directory.mkdir(exist_ok=True)
        number = sum(1 for _ in directory.iterdir()) + 1
        path = directory / f"{name}-{number}.pcap"
        # Taken from now on: two captures may be made before either begins.
        path.touch()
        return path

    def _remove(self) -> None:
        _remove_all(self.store)
        self._reap()

    def _reap(self) -> None:
        for child in self._children:
            child.kill()
            child.communicate()
        self._children.clear()


def take_down(store: Store) -> None:
    """Remove a lab completely, in whatever state it is; nothing there is fine.

    Raises:
        LabError: something cannot be removed, or another process is changing the lab.
    """
    if store.directory.exists():
        with store.lock():
            _remove_all(store)


def _remove_all(store: Store) -> None:
    plan = store.plan()
    if plan is not None:
        process.end_all(plan.namespaces)
        wire.remove_namespaces(plan.namespaces)
    store.remove()


def _check_part(part: str) -> None:
    if part not in HOST_PARTS:
        raise LabError(f"`{part}` is no part of a host; parts: {', '.join(HOST_PARTS)}")
