# SPDX-License-Identifier: Apache-2.0
"""Packet captures in the lab's namespaces, with tcpdump.

`lab` offers it as a context manager. The packets are raw frames with a time; whoever
wants layers decodes them.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from midoryu.compat import SLOTS
from midoryu.lab.error import LabError
from midoryu.lab.shell import environment, inside

# Source: pcap-savefile(5), section "Per-file header".
_MAGIC_MICROSECONDS = 0xA1B2C3D4
_MAGIC_NANOSECONDS = 0xA1B23C4D


@dataclass(frozen=True, **SLOTS)
class CapturedFrame:
    """One frame as it was on the wire."""

    time: float
    """Seconds since 1970."""
    data: bytes
    """The frame from its Ethernet header on."""


class Capture:
    """A running or finished capture; use it as a context manager."""

    def __init__(
        self,
        namespace: str,
        interface: str,
        expression: str = "",
        path: Optional[Path] = None,
        count: int = 0,
    ) -> None:
        self.namespace = namespace
        self.interface = interface
        self.expression = expression
        self.count = count
        """Ends the capture after this many packets; 0 is without end."""
        self._own_file = path is None
        self.path = path or _temporary_file()
        self._process: Optional[subprocess.Popen[bytes]] = None

    def __enter__(self) -> Capture:
        """Start; packets from now on are seen.

        Raises:
            LabError: tcpdump does not start (wrong interface or filter).
        """
        self._process = self._spawn()
        said = self._wait_until_it_listens(self._process)
        if said is not None:
            self._process.wait()
            raise LabError(f"capture at {self.namespace} {self.interface}: {said}")
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; the file is complete afterwards."""
        self.stop()

    def stop(self) -> None:
        """Stop; the file is complete afterwards. Twice is fine."""
        if self._process is None:
            return
        if self._process.poll() is None:
            # One reading cycle of tcpdump, so that what was sent is also written.
            time.sleep(0.05)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGINT)
        try:
            self._process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._process = None

    def wait(self, timeout_s: float) -> bool:
        """Wait for `count` packets; tell whether they came in time."""
        if self._process is None:
            return True
        try:
            self._process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def frames(self) -> list[CapturedFrame]:
        """Return what was captured so far, oldest first.

        Raises:
            LabError: the file is no capture.
        """
        return list(_read(self.path.read_bytes(), str(self.path)))

    def packets(self) -> list[Any]:
        """Return what was captured so far as scapy packets (with their `time`).

        Raises:
            LabError: scapy is not installed (it is in the extra `test`).
        """
        try:
            from scapy.layers.l2 import Ether
        except ImportError as problem:
            raise LabError("scapy is not installed") from problem
        packets = []
        for frame in self.frames():
            packet = Ether(frame.data)
            packet.time = frame.time
            packets.append(packet)
        return packets

    def remove(self) -> None:
        """Remove the file, if the capture made up its name."""
        if self._own_file:
            self.path.unlink(missing_ok=True)

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = ["tcpdump", "-i", self.interface, "-w", str(self.path)]
        command += ["-U", "--immediate-mode", "-n", "-s", "0", "-Z", "root"]
        command += ["-c", str(self.count)] if self.count else []
        command += [self.expression] if self.expression else []
        return subprocess.Popen(
            inside(self.namespace, command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment(),
        )

    @staticmethod
    def _wait_until_it_listens(process: subprocess.Popen[bytes]) -> Optional[str]:
        """Return None once tcpdump listens, or what it said when it gave up."""
        assert process.stderr is not None
        said = b""
        deadline = time.monotonic() + 10
        while b"listening on" not in said:
            ready, _, _ = select.select([process.stderr], [], [], 0.5)
            piece = os.read(process.stderr.fileno(), 4096) if ready else b""
            said += piece
            if (ready and not piece) or time.monotonic() > deadline:
                process.kill()
                process.communicate()
                return said.decode(errors="replace").strip() or "tcpdump did not start"
        return None


def _temporary_file() -> Path:
    descriptor, name = tempfile.mkstemp(prefix="midoryu-", suffix=".pcap")
    os.close(descriptor)
    return Path(name)


def _read(data: bytes, name: str) -> Iterator[CapturedFrame]:
    """Decode a capture file; an unfinished last packet is left out.

    Source: pcap-savefile(5).
    """
    if len(data) < 24:
        return
    order = "<" if data[0] in (0xD4, 0x4D) else ">"
    (magic,) = struct.unpack_from(order + "I", data)
    if magic not in (_MAGIC_MICROSECONDS, _MAGIC_NANOSECONDS):
        raise LabError(f"{name}: not a capture file")
    unit = 1e-6 if magic == _MAGIC_MICROSECONDS else 1e-9
    offset = 24
    while offset + 16 <= len(data):
        seconds, part, length, _ = struct.unpack_from(order + "IIII", data, offset)
        start, offset = offset + 16, offset + 16 + length
        if offset <= len(data):
            yield CapturedFrame(seconds + part * unit, data[start:offset])
