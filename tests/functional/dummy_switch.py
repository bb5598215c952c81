# SPDX-License-Identifier: Apache-2.0
"""A real ovs-vswitchd on dummy devices: frames in by hand, frames out by file.

The judge of the model switch: it takes the same flows, as bytes, and the same frames.
Source: ovs-vswitchd(8), "--enable-dummy"; OVS's own tests work the same way.
"""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

from midoryu.openflow import flow as of
from midoryu.openflow import wire
from tests.helpers.fabric import Fabric

OVS_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
_HELLO = struct.pack(">BBHI", 4, 0, 8, 1)
_ECHO_REQUEST, _ECHO_REPLY, _ERROR, _BARRIER_REPLY = 2, 3, 1, 21


class DummySwitch:
    """One bridge with dummy ports; `close` leaves nothing behind."""

    def __init__(self, ports: Iterable[int]) -> None:
        self.dir = Path(tempfile.mkdtemp(prefix="mrd-"))
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._ports = sorted(ports)
        self._connection: Optional[socket.socket] = None
        try:
            self._start()
            self._connection = self._connect()
        except BaseException:
            self.close()
            raise

    def install(self, mods: Iterable[of.FlowMod]) -> None:
        """Send flow mods and wait until the switch has carried them out.

        Raises:
            AssertionError: the switch refused one.
        """
        assert self._connection is not None
        data = b"".join(
            wire.encode_flow_mod(mod, number) for number, mod in enumerate(mods, 10)
        )
        self._connection.sendall(data + wire.encode_barrier(5))
        while True:
            kind, body = self._read()
            assert kind != _ERROR, f"refused: {body[:16].hex()}"
            if kind == _ECHO_REQUEST:
                self._connection.sendall(struct.pack(">BBHI", 4, _ECHO_REPLY, 8, 0))
            if kind == _BARRIER_REPLY:
                return

    def send(self, frame: bytes, in_port: int) -> list[tuple[int, bytes]]:
        """Let a frame come in; return (port, frame) of all that left."""
        before = {port: len(self._sent(port)) for port in self._ports}
        self._control("netdev-dummy/receive", f"p{in_port}", frame.hex())
        self._control("revalidator/wait")
        found = []
        for port in self._ports:
            found += [(port, sent) for sent in self._sent(port)[before[port] :]]
        return found

    def close(self) -> None:
        """End the daemons and remove their files."""
        if self._connection is not None:
            self._connection.close()
        for daemon in reversed(self._daemons):
            daemon.terminate()
            daemon.wait(10)
        shutil.rmtree(self.dir, ignore_errors=True)

    def _start(self) -> None:
        database = self.dir / "conf.db"
        subprocess.run(["ovsdb-tool", "create", database, OVS_SCHEMA], check=True)
        socket_path = self.dir / "db.sock"
        self._spawn("ovsdb-server", str(database), f"--remote=punix:{socket_path}")
        self._wait(socket_path)
        bridge = ["add-br", "br0", "--", "set", "bridge", "br0", "datapath-type=dummy"]
        bridge += ["fail-mode=secure", "protocols=OpenFlow13"]
        self._configure("--no-wait", "init")
        self._configure("--no-wait", *bridge)
        self._spawn(
            "ovs-vswitchd",
            f"unix:{socket_path}",
            "--enable-dummy=override",
            "--disable-system",
        )
        for port in self._ports:
            options = f"options:tx_pcap={self.dir}/p{port}.pcap"
            add = ["add-port", "br0", f"p{port}", "--", "set", "interface", f"p{port}"]
            self._configure(*add, "type=dummy", options, f"ofport_request={port}")

    def _spawn(self, program: str, *arguments: str) -> None:
        command = [program, *arguments, f"--unixctl={self.dir}/{program}.ctl"]
        command += [f"--log-file={self.dir}/{program}.log", "-vconsole:off"]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        environment["OVS_RUNDIR"] = str(self.dir)
        self._daemons.append(subprocess.Popen(command, env=environment))

    def _configure(self, *arguments: str) -> None:
        remote = f"--db=unix:{self.dir}/db.sock"
        subprocess.run(
            ["ovs-vsctl", remote, "--timeout=20", *arguments], check=True, timeout=30
        )

    def _control(self, *arguments: str) -> None:
        target = f"{self.dir}/ovs-vswitchd.ctl"
        subprocess.run(
            ["ovs-appctl", "-t", target, *arguments],
            check=True,
            timeout=20,
            stdout=subprocess.DEVNULL,
        )

    def _connect(self) -> socket.socket:
        path = self.dir / "br0.mgmt"
        self._wait(path)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(_HELLO)
        return connection

    @staticmethod
    def _wait(path: Path) -> None:
        deadline = time.monotonic() + 15
        while not path.exists():
            assert time.monotonic() < deadline, f"{path} did not come"
            time.sleep(0.02)

    def _read(self) -> tuple[int, bytes]:
        head = self._exactly(8)
        _, kind, length, _ = struct.unpack(">BBHI", head)
        return kind, self._exactly(length - 8)

    def _exactly(self, size: int) -> bytes:
        assert self._connection is not None
        data = b""
        while len(data) < size:
            more = self._connection.recv(size - len(data))
            assert more, "the switch hung up"
            data += more
        return data

    def _sent(self, port: int) -> list[bytes]:
        path = self.dir / f"p{port}.pcap"
        data = path.read_bytes() if path.exists() else b""
        frames, at = [], 24
        while at + 16 <= len(data):
            (size,) = struct.unpack_from("<I", data, at + 8)
            frames.append(data[at + 16 : at + 16 + size])
            at += 16 + size
        return frames


@contextmanager
def copies(fabric: Fabric) -> Iterator[dict[str, DummySwitch]]:
    """Give real switches the meters and flows of the model switches of two hosts."""
    made: dict[str, DummySwitch] = {}
    try:
        for name in ("node1", "node2"):
            model = fabric.hosts[name].switch
            made[name] = DummySwitch(model.ports)
            meters = model.meters.values()
            made[name].install([*meters, *map(of.InstallFlow, model.flows())])
        yield made
    finally:
        for switch in made.values():
            switch.close()
