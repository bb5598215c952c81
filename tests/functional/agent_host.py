# SPDX-License-Identifier: Apache-2.0
"""One host for the agent's tests: a namespace, a real OVS, a real `ryu-manager`.

vm1 (veth v1p) ── v1 ── br-int ── mr-gre, mr-state ── br-phy 10.0.0.1 ── u1 ── u1p
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from midoryu.engine.effect import Effects
from tests.functional import stub_agent

PEER_MAC, PEER_IP, LOCAL_IP = "02:00:00:00:ee:02", "10.0.0.2", "10.0.0.1"
OVS_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def wait_for(what: Callable[[], Any], seconds: float = 15.0) -> Any:
    """Return the first true value; fail when it does not come in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = what()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


class AgentHost:
    """A host in a namespace of its own; `close` leaves nothing behind."""

    def __init__(self, tunnel_type: str = "gre") -> None:
        self.dir = Path(tempfile.mkdtemp(prefix="mrt-"))
        self.namespace = self.dir.name
        self.tunnel_type = tunnel_type
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self.run("ip", "netns", "add", self.namespace)
        try:
            self._links()
            self._start_ovs()
            self.raw = self._spawn("raw", sys.executable, "-u", HERE / "raw_frames.py")
            self.write_config()
        except BaseException:
            self.close()
            raise

    # ------------------------------------------------------------ parts

    def _links(self) -> None:
        self.inside("ip", "link", "set", "lo", "up")
        for near, far in (("v1", "v1p"), ("u1", "u1p")):
            self.inside("ip", "link", "add", near, "type", "veth", "peer", "name", far)
            for device in (near, far):
                self.inside("ip", "link", "set", device, "up")
                self.inside("sysctl", "-qw", f"net.ipv6.conf.{device}.disable_ipv6=1")

    def _start_ovs(self) -> None:
        self.run("ovsdb-tool", "create", self.dir / "conf.db", OVS_SCHEMA)
        self._spawn(
            "ovsdb",
            "ovsdb-server",
            self.dir / "conf.db",
            f"--remote=punix:{self.dir}/db.sock",
            f"--unixctl={self.dir}/ovsdb.ctl",
            "-vconsole:off",
        )
        wait_for((self.dir / "db.sock").exists)
        self.vsctl("--no-wait", "init")
        self.start_vswitchd()
        bridge = ("add-br", "br-phy", "--", "set", "bridge", "br-phy")
        self.vsctl(*bridge, "datapath_type=netdev", "--", "add-port", "br-phy", "u1")
        self.address_underlay()

    def start_vswitchd(self) -> None:
        """Start the switch."""
        self._spawn(
            "vswitchd",
            "ovs-vswitchd",
            f"unix:{self.dir}/db.sock",
            f"--unixctl={self.dir}/vswitchd.ctl",
            f"--pidfile={self.dir}/vswitchd.pid",
            "-vconsole:off",
            f"--log-file={self.dir}/vswitchd.log",
        )
        wait_for((self.dir / "vswitchd.pid").exists)

    def address_underlay(self) -> None:
        """Give the underlay's bridge its address, and the peer's MAC."""
        wait_for(lambda: self.inside_ok("ip", "link", "show", "br-phy"))
        self.inside("ip", "addr", "replace", f"{LOCAL_IP}/24", "dev", "br-phy")
        self.inside("ip", "link", "set", "br-phy", "up")
        ctl = ("ovs-appctl", "-t", f"{self.dir}/vswitchd.ctl")
        wait_for(lambda: LOCAL_IP in self.run(*ctl, "ovs/route/show"))
        self.run(*ctl, "tnl/neigh/set", "br-phy", PEER_IP, PEER_MAC)

    def stop(self, name: str) -> None:
        """End one process by its pid."""
        process = self._processes.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def write_config(self, text: str = "") -> None:
        """Write the agent's configuration file."""
        (self.dir / "midoryu.conf").write_text(
            f"[agent]\nhost = h1\nlocal_ip = {LOCAL_IP}\ndatapath_type = netdev\n"
            f"ovsdb = unix:{self.dir}/db.sock\ntunnel_type = {self.tunnel_type}\n"
            f"control_socket = {self.dir}/agent.sock\n{text}"
            f"[flow_state]\njournal = {self.dir}/journal.db\n"
            f"[nsdb]\nconnection = unix:{self.dir}/nsdb.sock\n"
        )

    def start_agent(self) -> subprocess.Popen[str]:
        """Start `ryu-manager midoryu.agent` around the stub engine."""
        agent = self._spawn(
            "agent",
            sys.executable,
            "-W",
            "ignore",
            HERE / "stub_agent.py",
            f"--config-file={self.dir}/midoryu.conf",
            f"--log-file={self.dir}/agent.log",
            "midoryu.agent",
        )
        there = (self.dir / "agent.sock").exists
        wait_for(lambda: there() or agent.poll() is not None)
        assert agent.poll() is None, (self.dir / "agent.out").read_text()
        return agent

    def close(self) -> None:
        """End every process by its pid, remove namespace and files."""
        for name in list(self._processes)[::-1]:
            self.stop(name)
        self.run("ip", "netns", "del", self.namespace)
        shutil.rmtree(self.dir)

    # ------------------------------------------------------------ commands

    def _spawn(self, name: str, *command: object) -> subprocess.Popen[str]:
        log = (self.dir / f"{name}.out").open("a")
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if name == "raw" else log,
            stderr=log,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OVS_RUNDIR": str(self.dir)},
        )
        log.close()
        self._processes[name] = process
        return process

    def run(self, *command: object) -> str:
        """Run a command; fail with its words when it fails."""
        done = subprocess.run(
            list(map(str, command)),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**os.environ, "OVS_RUNDIR": str(self.dir)},
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def inside(self, *command: object) -> str:
        """Run a command in the namespace."""
        return self.run("ip", "netns", "exec", self.namespace, *command)

    def inside_ok(self, *command: str) -> bool:
        """Tell whether a command in the namespace succeeds."""
        try:
            self.inside(*command)
        except AssertionError:
            return False
        return True

    def vsctl(self, *command: object) -> str:
        """Run `ovs-vsctl` on this host's OVSDB."""
        return self.run(
            "ovs-vsctl", "-t", "20", f"--db=unix:{self.dir}/db.sock", *command
        )

    def flows(self) -> str:
        """Show the integration bridge's flows."""
        return self.run(
            "ovs-ofctl", "-O", "OpenFlow13", "--no-stats", "dump-flows", "br-int"
        )

    # ------------------------------------------------------------ frames

    def send(self, device: str, frame: bytes) -> None:
        """Send a frame out of a device."""
        assert self._ask_raw(f"send {device} {frame.hex()}") == "sent"

    def watch(self, device: str) -> None:
        """Start to note what arrives at a device."""
        assert self._ask_raw(f"watch {device}") == "watching"

    def next_frame(self, device: str, seconds: float = 5.0) -> bytes | None:
        """Return the next frame that arrives at a watched device."""
        answer = self._ask_raw(f"next {device} {seconds}")
        return None if answer == "none" else bytes.fromhex(answer)

    def _ask_raw(self, line: str) -> str:
        assert self.raw.stdin is not None
        assert self.raw.stdout is not None
        self.raw.stdin.write(line + "\n")
        self.raw.stdin.flush()
        return self.raw.stdout.readline().strip()

    # ------------------------------------------------------------ the agent

    def ask(self, query: str, **arguments: str) -> Any:
        """Ask the agent's control socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(10)
            client.connect(str(self.dir / "agent.sock"))
            line = json.dumps({"query": query, "arguments": arguments})
            client.sendall(line.encode() + b"\n")
            with client.makefile("rb") as lines:
                answer = json.loads(lines.readline())
        assert "result" in answer, answer
        return answer["result"]

    def do(self, effects: Effects) -> None:
        """Have the agent carry out effects."""
        assert self.ask("do", effects=repr(effects))

    def events(self, kind: type) -> list[Any]:
        """List the events of one kind that reached the engine."""
        names = dict(stub_agent.NAMES)
        return [
            eval(text, names)  # noqa: S307
            for text in self.ask("events")
            if text.startswith(kind.__name__ + "(")
        ]

    def wait_ready(self) -> None:
        """Wait until the engine has the switch."""
        wait_for(lambda: self.ask("agent")["switch_ready"])
