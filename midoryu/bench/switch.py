# SPDX-License-Identifier: Apache-2.0
"""A switch without packets: speaks OpenFlow 1.3 to one controller and counts.

A process of its own (`python -m midoryu.bench.switch PORT DPID`). Each line on its
standard input is an order in JSON, each line on its standard output the result.
A packet-in counts as done with the packet-out that is not flow state; where several
are outstanding, answers are taken to come in the order of the questions.

Source: OpenFlow 1.3.5, section 7.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from midoryu.bench import world

_HELLO, _ECHO, _FEATURES, _CONFIG = 0, 2, 5, 7
_PACKET_IN, _PACKET_OUT, _FLOW_MOD, _MULTIPART, _BARRIER = 10, 13, 14, 18, 20
_PORT_DESC: Final = 13
_LOST_AFTER_S: Final = 1.0
_HEAD: Final = struct.Struct(">BBHI")


class Switch:
    """One connection to a controller."""

    def __init__(self, port: int, dpid: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._dpid = dpid
        self._buffer = b""
        self._number = dict.fromkeys(("teach", *world.KINDS), 0)
        self.flow_mods = 0
        self.states = 0
        self.packets = 0
        self._socket.sendall(_message(_HELLO, 0, b""))

    def serve(self, seconds: float) -> None:
        """Answer the controller for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._receive(left)

    def load(
        self, kind: str, outstanding: int, seconds: float, limit: int
    ) -> dict[str, Any]:
        """Send packet-ins, so many at a time, for so long; return what was seen."""
        messages = self._messages(kind, limit)
        self.serve(0.02)
        self.flow_mods = self.states = self.packets = 0
        sent: deque[float] = deque()
        waits: list[float] = []
        lost = next_ = 0
        clock = time.perf_counter
        start = last = clock()
        while (now := clock()) - start < seconds:
            count = min(outstanding - len(sent), limit - next_)
            if count > 0:
                self._socket.sendall(b"".join(messages[next_ : next_ + count]))
                sent.extend([now] * count)
                next_ += count
            if not sent:
                break
            before = self.packets
            self._receive(_LOST_AFTER_S)
            now = clock()
            done = min(self.packets - before, len(sent))
            if done:
                last = now
                waits += [now - sent.popleft() for _ in range(done)]
            elif now - last > _LOST_AFTER_S:
                lost += len(sent)
                sent.clear()
                last = now
        spent = clock() - start
        self._number[kind] += next_
        self.serve(0.05)
        return _result(waits, spent, lost, self)

    def _messages(self, kind: str, limit: int) -> list[bytes]:
        make: Callable[[int], tuple[int, bytes]] = world.teaching
        if kind != "teach":
            make = lambda number: world.packet(kind, number)  # noqa: E731
        first = self._number[kind]
        return [_packet_in(*make(first + n)) for n in range(limit)]

    def _receive(self, timeout_s: float) -> None:
        if not select.select([self._socket], [], [], timeout_s)[0]:
            return
        data = self._socket.recv(1 << 18)
        if not data:
            raise SystemExit("the controller closed the connection")
        buffer = self._buffer + data
        at, size = 0, len(buffer)
        while size - at >= 8:
            _, kind, length, xid = _HEAD.unpack_from(buffer, at)
            if size - at < length:
                break
            if kind == _PACKET_OUT:
                self._packet_out(buffer, at)
            elif kind == _FLOW_MOD:
                self.flow_mods += 1
            else:
                self._answer(kind, xid, buffer[at + 8 : at + length])
            at += length
        self._buffer = buffer[at:]

    def _packet_out(self, buffer: bytes, at: int) -> None:
        # The last action is the output; its port tells flow state from packets.
        end = at + 24 + int.from_bytes(buffer[at + 16 : at + 18], "big")
        if buffer[end - 16 : end - 8] == b"\0\0\0\x10\0\0\0\x02":
            self.states += 1
        else:
            self.packets += 1

    def _answer(self, kind: int, xid: int, body: bytes) -> None:
        answer = b""
        if kind == _ECHO:
            answer = _message(3, xid, body)
        elif kind == _FEATURES:
            features = struct.pack(">QIBB2xII", self._dpid, 0, 254, 0, 0x4F, 0)
            answer = _message(6, xid, features)
        elif kind == _CONFIG:
            answer = _message(8, xid, b"\0\0\xff\xff")
        elif kind == _BARRIER:
            answer = _message(21, xid, b"")
        elif kind == _MULTIPART:
            # Neither ports nor flows: nobody here needs to know of any.
            answer = _message(19, xid, body[:2] + b"\0" * 6)
        if answer:
            self._socket.sendall(answer)


def _message(kind: int, xid: int, body: bytes) -> bytes:
    return _HEAD.pack(4, kind, 8 + len(body), xid) + body


def _packet_in(in_port: int, frame: bytes) -> bytes:
    match = struct.pack(">HHII4x", 1, 12, 0x80000004, in_port)
    head = struct.pack(">IHBBQ", 0xFFFF_FFFF, len(frame), 0, 10, 0)
    return _message(_PACKET_IN, 0, head + match + b"\0\0" + frame)


def _result(
    waits: list[float], spent: float, lost: int, switch: Switch
) -> dict[str, Any]:
    done = len(waits)
    waits = sorted(waits) or [0.0]
    return {
        "done": done,
        "lost": lost,
        "rate": done / spent if spent else 0.0,
        "p50": waits[len(waits) // 2],
        "p99": waits[len(waits) * 99 // 100],
        "p99.9": waits[len(waits) * 999 // 1000],
        "flow_mods": switch.flow_mods,
        "states": switch.states,
    }


def main() -> None:
    """Connect, then take orders until the input ends."""
    switch = Switch(int(sys.argv[1]), int(sys.argv[2]))
    while True:
        # The controller's echo requests want an answer between two orders, too.
        if not select.select([sys.stdin], [], [], 0)[0]:
            switch.serve(0.01)
            continue
        line = sys.stdin.readline()
        if not line:
            return
        print(json.dumps(switch.load(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
