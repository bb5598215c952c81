# SPDX-License-Identifier: Apache-2.0
"""One host of the lab: its Open vSwitch and its agent.

`lab` brings it up, kills parts of it and restores them; `wire` made its interfaces.
Bridges: `br-phy` carries the underlay address, as the userspace datapath needs it for
tunnels, and forwards like a plain switch; `br-int` is the agent's.

Source: Open vSwitch documentation, "Connecting VMs Using Tunnels (Userspace)".
"""

from __future__ import annotations

import json
import shlex
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from midoryu.lab import process, wire
from midoryu.lab.error import LabError
from midoryu.lab.shell import inside, program, run, script
from midoryu.lab.spec import Host, LabSpec, Settings
from midoryu.lab.store import Store
from midoryu.nsdb.file_link import stable_mac
from midoryu.packet.address import format_mac

BRIDGE = "br-int"
UNDERLAY_BRIDGE = "br-phy"
_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
_MAX_REPLY_BYTES = 1 << 26


class HostNode:
    """The daemons of one host."""

    def __init__(self, spec: LabSpec, store: Store, host: Host) -> None:
        self.spec = spec
        self.store = store
        self.host = host
        self.name = host.name
        self.namespace = store.namespace(host.name)
        self.directory = store.node_directory(host.name)
        self.ovsdb = f"unix:{self.directory}/ovs/db.sock"
        self.control_socket = self.directory / "agent.sock"
        self.agent_log = self.directory / "agent.log"
        self.ovs_log = self.directory / "ovs" / "ovs-vswitchd.log"
        self.journal = self.directory / "journal.db"
        """Where the agent keeps its records; heeded at its next start."""
        self.agent_prefix: tuple[str, ...] = ()
        """Put before the agent's command line, `env NAME=VALUE` say."""

    def start_ovs(self) -> None:
        """Start ovsdb-server and ovs-vswitchd, whichever does not run, with bridges.

        Raises:
            LabError: one does not start.
        """
        run_directory = self.directory / "ovs"
        run_directory.mkdir(parents=True, exist_ok=True)
        if not self.is_running("ovsdb-server"):
            self._start_ovsdb_server(run_directory)
        if not self.is_running("ovs-vswitchd"):
            self._daemon("ovs-vswitchd", f"unix:{run_directory}/db.sock")
        self.ovs_vsctl(*self._wanted_bridges())
        self._give_address()

    def start_agent(self) -> None:
        """Start the agent if it does not run; it may take a while to be ready."""
        if self.is_running("agent"):
            return
        config = self.directory / "midoryu.conf"
        config.write_text(self.agent_config())
        self.control_socket.unlink(missing_ok=True)
        arguments = ["--config-file", config, "--log-file", self.agent_log]
        command = [*self.agent_prefix, program("ryu-manager")]
        command += [*map(str, arguments), "midoryu.agent"]
        out = self.directory / "agent.out"
        pid = process.start(self.namespace, command, out)
        (self.directory / "agent.pid").write_text(f"{pid}\n")

    def agent_config(self) -> str:
        """Return the text of the agent's configuration file."""
        nsdb = f"unix:{self.store.node_directory('nsdb')}/nsdb.sock"
        if self.spec.nsdb.tcp:
            ip = self.spec.nsdb.ip
            nsdb = f"tcp:[{ip}]:6641" if ":" in ip else f"tcp:{ip}:6641"
        own: Settings = (
            ("agent", "host", self.name),
            ("agent", "local_ip", self.host.ip),
            ("agent", "bridge", BRIDGE),
            ("agent", "datapath_type", "netdev"),
            ("agent", "ovsdb", self.ovsdb),
            ("agent", "control_socket", str(self.control_socket)),
            ("nsdb", "connection", nsdb),
            ("flow_state", "journal", str(self.journal)),
            ("flow_state", "key_file", str(self.store.directory / "flow-state.key")),
        )
        sections: dict[str, dict[str, str]] = {}
        for section, option, value in own + self.host.settings:
            sections.setdefault(section, {})[option] = value
        lines = []
        for section, options in sections.items():
            lines.append(f"[{section}]")
            lines += [f"{option} = {value}" for option, value in options.items()]
        return "\n".join(lines) + "\n"

    def is_running(self, daemon: str) -> bool:
        """Tell whether `agent`, `ovsdb-server` or `ovs-vswitchd` runs."""
        return process.lives_in(self._pid(daemon), self.namespace)

    def kill_agent(self) -> None:
        """Kill the agent (-9)."""
        process.end(self._pid("agent"), self.namespace)

    def kill_ovs(self) -> None:
        """Kill ovs-vswitchd and ovsdb-server (-9)."""
        process.end(self._pid("ovs-vswitchd"), self.namespace)
        process.end(self._pid("ovsdb-server"), self.namespace)

    def outer_devices(self) -> list[str]:
        """Return the interfaces that go down with the host: underlay and uplinks."""
        uplinks = [p.device for p in self.spec.plugs(self.name) if p.uplink]
        return [wire.UNDERLAY_DEVICE, *uplinks]

    def ovs_vsctl(self, *arguments: str, timeout_s: int = 15) -> str:
        """Run ovs-vsctl on this host's database; return what it prints.

        Raises:
            LabError: it failed.
        """
        base = ["ovs-vsctl", f"--db={self.ovsdb}", f"--timeout={timeout_s}"]
        return run([*base, *arguments], timeout_s=timeout_s + 5).stdout

    def ovs_ofctl(self, command: str, *arguments: str, bridge: str = BRIDGE) -> str:
        """Run `ovs-ofctl COMMAND BRIDGE ARGUMENTS` (OpenFlow 1.3); return its output.

        Raises:
            LabError: it failed.
        """
        target = f"unix:{self.directory}/ovs/{bridge}.mgmt"
        base = ["ovs-ofctl", "-O", "OpenFlow13", command, target]
        return run([*base, *arguments]).stdout

    def ovs_appctl(self, *arguments: str) -> str:
        """Run ovs-appctl on this host's ovs-vswitchd; return what it prints.

        Raises:
            LabError: it failed.
        """
        target = f"--target={self.directory}/ovs/ovs-vswitchd.ctl"
        return run(["ovs-appctl", "--timeout=10", target, *arguments]).stdout

    def agent_query(
        self, query: str, arguments: Mapping[str, str], *, timeout_s: float = 5.0
    ) -> Any:
        """Ask the agent through its control socket.

        Raises:
            LabError: it does not answer, or answers with an error.
        """
        request = json.dumps({"query": query, "arguments": dict(arguments)}) + "\n"
        try:
            answer = json.loads(_exchange(self.control_socket, request, timeout_s))
        except (OSError, ValueError) as problem:
            raise LabError(f"{self.name}: agent does not answer: {problem}") from None
        if not isinstance(answer, dict) or "result" not in answer:
            reason = answer.get("error") if isinstance(answer, dict) else answer
            raise LabError(f"{self.name}: agent refused `{query}`: {reason}")
        return answer["result"]

    def log_lines(self) -> list[str]:
        """Return what the agent logged, then what it printed beyond that."""
        texts = [
            path.read_text(errors="replace").splitlines() if path.exists() else []
            for path in (self.agent_log, self.directory / "agent.out")
        ]
        logged = set(texts[0])
        return texts[0] + [line for line in texts[1] if line not in logged]

    def flow_state_dscp(self) -> int:
        """Return the DSCP that this host's state packets carry."""
        chosen = [
            value
            for section, option, value in self.host.settings
            if (section, option) == ("flow_state", "dscp") and value.isdigit()
        ]
        return int(chosen[-1]) if chosen else 46

    def _start_ovsdb_server(self, run_directory: Path) -> None:
        database = run_directory / "conf.db"
        if not database.exists():
            run(["ovsdb-tool", "create", str(database), _SCHEMA])
        remote = f"--remote=punix:{run_directory}/db.sock"
        self._daemon("ovsdb-server", str(database), remote)

    def _daemon(self, name: str, *arguments: str) -> None:
        directory = self.directory / "ovs"
        command = [
            name,
            *arguments,
            f"--pidfile={directory}/{name}.pid",
            f"--unixctl={directory}/{name}.ctl",
            f"--log-file={directory}/{name}.log",
            "-vconsole:off",
            "-vsyslog:off",
            "--no-chdir",
            "--detach",
        ]
        names = ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR")
        run(inside(self.namespace, command), env=dict.fromkeys(names, str(directory)))

    def _wanted_bridges(self) -> list[str]:
        """Return one ovs-vsctl transaction; the lab never touches flows."""
        outer, mtu = UNDERLAY_BRIDGE, self.spec.underlay.mtu_bytes
        commands = [
            f"--may-exist add-br {outer}",
            f"set bridge {outer} datapath_type=netdev fail_mode=standalone",
            # Like a NIC: a host that lost its database keeps its address.
            f"set bridge {outer} other-config:hwaddr={_mac(self.name)}",
            f"--may-exist add-port {outer} {wire.UNDERLAY_DEVICE}",
            f"set interface {outer} mtu_request={mtu}",
            f"--may-exist add-br {BRIDGE}",
            f"set bridge {BRIDGE} datapath_type=netdev fail_mode=secure",
        ]
        for plug in self.spec.plugs(self.name):
            commands.append(f"--may-exist add-port {BRIDGE} {plug.device}")
            iface_id = shlex.quote(f'external_ids:iface-id="{plug.iface_id}"')
            commands.append(f"set interface {plug.device} {iface_id}")
        return shlex.split(" -- ".join(commands))

    def _give_address(self) -> None:
        """Give `br-phy` its address: the device is new after each vswitchd start."""
        ip = f"{self.host.ip}/{self.spec.underlay.prefix_length}"
        ipv6 = f"net.ipv6.conf.{UNDERLAY_BRIDGE}.disable_ipv6=0"
        commands: list[Sequence[str]] = [
            *([["sysctl", "-qw", ipv6]] if ":" in ip else []),
            ["ip", "addr", "replace", ip, "dev", UNDERLAY_BRIDGE],
            ["ip", "link", "set", "dev", UNDERLAY_BRIDGE, "up"],
            ["ethtool", "-K", UNDERLAY_BRIDGE, "tx", "off"],
        ]
        script(self.namespace, commands, self.name)

    def _pid(self, daemon: str) -> Any:
        directory = self.directory if daemon == "agent" else self.directory / "ovs"
        return process.read_pid(directory / f"{daemon}.pid")


def _mac(host: str) -> str:
    return json.dumps(format_mac(stable_mac(f"{UNDERLAY_BRIDGE} {host}")))


def _exchange(path: Path, request: str, timeout_s: float) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(str(path))
        connection.sendall(request.encode())
        answer = bytearray()
        while not answer.endswith(b"\n"):
            piece = connection.recv(1 << 16)
            if not piece:
                break
            answer += piece
            if len(answer) > _MAX_REPLY_BYTES:
                raise ValueError("the answer is too long")
        return answer.decode()
