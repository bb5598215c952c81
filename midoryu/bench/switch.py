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
from collections.abc import Callable, Mapping
from typing import Any, Final, Union

from midoryu.bench import world
from midoryu.bench.peer import StatePeer, records_in
from midoryu.openflow.pipeline import ECHO_MAC, ECHOED_MAC

_HELLO, _ECHO, _FEATURES, _CONFIG = 0, 2, 5, 7
_PACKET_IN, _PACKET_OUT, _FLOW_MOD, _MULTIPART, _BARRIER = 10, 13, 14, 18, 20
_PORT_DESC: Final = 13
# Messages made between two looks at what the controller has sent: milliseconds.
_DEAF: Final = 500
_LOST_AFTER_S: Final = 1.0
_DRAINED_S: Final = 0.1
_ECHO_MAC: Final = ECHO_MAC.to_bytes(6, "big")
_ECHOED_MAC: Final = ECHOED_MAC.to_bytes(6, "big")
_HEAD: Final = struct.Struct(">BBHI")


class Switch:
    """One connection to a controller."""

    def __init__(self, port: int, dpid: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._dpid = dpid
        self._buffer = b""
        self._number = dict.fromkeys(("teach", *world.KINDS, *world.PEER_KINDS), 0)
        self._peer: Union[StatePeer, None] = None
        self._is_sending = False
        self._later: list[bytes] = []
        self.records = 0
        self.flow_mods = 0
        self.states = 0
        self.packets = 0
        self._socket.sendall(_message(_HELLO, 0, b""))

    def serve(self, seconds: float) -> None:
        """Answer the controller for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._receive(left)

    def order(self, keys: Mapping[str, int], **what: Any) -> dict[str, Any]:
        """Do what a line of the standard input says."""
        if keys and self._peer is None:
            self._peer = StatePeer(keys)
        if what["kind"] == "state-import":
            return self.import_state(what["limit"])
        if what.pop("is_flood", False):
            return self.flood(what["kind"], what["seconds"], what["limit"])
        if what["kind"] == "return":
            self._push(self._number["return"], what["limit"])
        return self.load(**what)

    def import_state(self, limit: int) -> dict[str, Any]:
        """Push so many records at once; done when a packet behind them comes out."""
        assert self._peer is not None
        first = self._number["state-import"]
        self._number["state-import"] += limit
        frames = self._peer.pushes(first, limit)
        data = b"".join(_packet_in(world.STATE_OFPORT, frame, 0) for frame in frames)
        data += self._messages("l3", 1)[0]
        self._number["l3"] += 1
        self.serve(0.02)
        self._clear()
        start = time.perf_counter()
        self._send_while_receiving(data)
        end = time.perf_counter() + 10 * _LOST_AFTER_S
        while not self.packets and time.perf_counter() < end:
            self._receive(0.1)
        spent = time.perf_counter() - start
        waits = [spent / limit] * limit if self.packets else []
        return _result(waits, spent, limit - len(waits), self)

    def flood(self, kind: str, seconds: float, rate: int) -> dict[str, Any]:
        """Send packet-ins at a rate, answered or not; drop what the socket refuses.

        As Open vSwitch does. `drained` is how long answers come after the last one.
        """
        messages = self._messages(kind, int(rate * seconds))
        self._clear()
        sent = refused = 0
        start = time.perf_counter()
        self._socket.setblocking(False)
        while (spent := time.perf_counter() - start) < seconds:
            due = min(int(spent * rate), len(messages))
            if due > sent:
                burst = b"".join(messages[sent:due])
                refused += (
                    due - sent - self._send_some(burst, len(burst) // (due - sent))
                )
                sent = due
            self._receive(0.0005)
        self._socket.setblocking(True)
        done = self.packets
        last = stop = time.perf_counter()
        while time.perf_counter() - last < _DRAINED_S:
            before = self.packets
            self._receive(0.01)
            last = time.perf_counter() if self.packets > before else last
        self._number[kind] += sent
        self.serve(0.05)
        result = _result([0.0] * done, seconds, sent - self.packets, self)
        return {**result, "refused": refused, "drained": last - stop}

    def _send_some(self, data: bytes, each: int) -> int:
        """Send whole messages without waiting; return how many went."""
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            return 0
        if sent % each:
            self._socket.setblocking(True)
            self._socket.sendall(data[sent : sent + each - sent % each])
            self._socket.setblocking(False)
        return -(-sent // each)

    def _push(self, first: int, count: int) -> None:
        """Let the controller import the records that packets are about to need."""
        assert self._peer is not None
        for frame in self._peer.pushes(first, count):
            self._send_while_receiving(_packet_in(world.STATE_OFPORT, frame, 0))
        self.serve(0.3)

    def _send_while_receiving(self, data: bytes) -> None:
        view = memoryview(data)
        self._is_sending = True
        while view:
            ready = select.select([self._socket], [self._socket], [])
            if ready[0]:
                self._receive(0.0)
            if ready[1]:
                view = view[self._socket.send(view[:65536]) :]
        self._is_sending = False
        self._socket.sendall(b"".join(self._later))
        self._later.clear()

    def _clear(self) -> None:
        self.flow_mods = self.states = self.packets = self.records = 0

    def load(
        self, kind: str, outstanding: int, seconds: float, limit: int
    ) -> dict[str, Any]:
        """Send packet-ins, so many at a time, for so long; return what was seen."""
        messages = self._messages(kind, limit)
        self.serve(0.02)
        self._clear()
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
        if kind == "return":
            make = world.answer
        elif kind != "teach":
            make = lambda number: world.packet(kind, number)  # noqa: E731
        first = self._number[kind]
        messages = []
        for n in range(limit):
            messages.append(_packet_in(*make(first + n)))
            if n % _DEAF == 0:
                # Whoever does not answer for long is taken for cut off.
                self._receive(0.0)
        return messages

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
            length = int.from_bytes(buffer[at + 2 : at + 4], "big")
            if buffer.startswith(_ECHO_MAC, end):
                # Other hosts' switches send these back by themselves.
                back = _ECHOED_MAC + buffer[end + 6 : at + length]
                self._say(_packet_in(world.STATE_OFPORT, back, 0))
                return
            self.states += 1
            self.records += records_in(buffer[end : at + length])
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
            self._say(answer)

    def _say(self, message: bytes) -> None:
        """Send a message of its own, not within one that is half sent."""
        if self._is_sending:
            self._later.append(message)
        else:
            self._socket.sendall(message)


def _message(kind: int, xid: int, body: bytes) -> bytes:
    return _HEAD.pack(4, kind, 8 + len(body), xid) + body


def _packet_in(in_port: int, frame: bytes, table: int = 10) -> bytes:
    match = struct.pack(">HHII4x", 1, 12, 0x80000004, in_port)
    head = struct.pack(">IHBBQ", 0xFFFF_FFFF, len(frame), 0, table, 0)
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
        "records": switch.records,
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
        print(json.dumps(switch.order(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
