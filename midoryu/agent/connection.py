# SPDX-License-Identifier: Apache-2.0
"""One OpenFlow connection: Ryu's handshake, our own receive and send loops.

Ryu reads eight bytes, then the rest, parses every message into objects and queues
events; that is most of a packet-in's cost. Here one `recv` takes what is there, the
messages that matter go as bytes to the owner (`switch.Switch`), the rest to Ryu.
"""

from __future__ import annotations

import contextlib
import logging
import socket as sockets
import struct
from collections import deque
from socket import SHUT_RDWR
from typing import Any, Final, Optional, Protocol

from midoryu.agent.framework import DEAD, MAIN, controller, hub, ofp_event
from midoryu.agent.framework import ofproto_parser as parser
from midoryu.agent.turns import Turns
from midoryu.openflow import wire

LOG = logging.getLogger(__name__)

_RECEIVE_BYTES: Final = 65536
# A switch that does not read: stop listening to it here, give it up there.
_SLOW_BYTES: Final = 1 << 20
_STUCK_BYTES: Final = 32 << 20
_SEND_TIMEOUT_S: Final = 5.0
# Messages handled before what they caused is sent: the records of so many fill one
# datagram to each peer, and the first of them waits for less than a millisecond.
_BATCH: Final = 16
# So much is handled in the order in which it came; more in turns of the ports.
_FEW_BYTES: Final = 4096
# Packets of vports that may wait: some 50 ms of work. More come only where the agent
# has more to do than it can.
_MAX_BACKLOG: Final = 1024
_TAKE_BYTES: Final = 256 << 10
# While packets wait for their turns, what they cause must not wait before the switch,
# where it goes in the order in which it came: an echo request follows each batch, and
# so many may lack their answer. A switch that does not answer is waited for this long.
_CREDIT: Final = 3
_CREDIT_WAIT_S: Final = 0.1
_ECHO_REPLY: Final = 3
_MARK: Final = struct.pack(">BBHI4s", 4, 2, 12, 0, b"turn")
# Receives that may follow each other while other green threads wait.
_TURNS: Final = 8
_OURS: Final = frozenset(
    (
        wire.PACKET_IN,
        wire.FLOW_REMOVED,
        wire.ERROR,
        wire.MULTIPART_REPLY,
        wire.BARRIER_REPLY,
    )
)


class Owner(Protocol):
    """Who gets the messages of a connection."""

    def connected(self, connection: Connection) -> None:
        """Take a connection whose handshake is done."""

    def disconnected(self, connection: Connection) -> None:
        """Forget a connection."""

    def receive(self, connection: Connection, kind: int, message: bytes) -> None:
        """Take one message of a kind that matters."""

    def flush(self) -> None:
        """Send what the messages since the last call caused."""

    def shed(self, ofport: int, count: int) -> None:
        """Note packets of a port that were left out because too many came."""


class Connection(controller.Datapath):  # type: ignore[misc]
    """A switch's connection, as Ryu knows it, with loops of its own."""

    def __init__(self, owner: Owner, socket: Any, address: Any) -> None:
        self._owner = owner
        self._served = False
        self._pending: deque[bytes] = deque()
        self._pending_bytes = 0
        self._wake = hub.Event()
        self._turns = Turns(_MAX_BACKLOG)
        self._unanswered = 0
        super().__init__(socket, address)

    def set_state(self, state: str) -> None:
        """Tell the owner when the handshake is done and when the connection ended."""
        before = self.state
        super().set_state(state)
        if state == MAIN and before != MAIN:
            self._served = True
            self._owner.connected(self)
        elif state == DEAD and before != DEAD:
            self._wake.set()
            if self._served:
                self._owner.disconnected(self)

    def close(self) -> None:
        """End the connection; whoever waits for it wakes up."""
        self.set_state(DEAD)
        with contextlib.suppress(OSError):
            self.socket.shutdown(SHUT_RDWR)

    # ------------------------------------------------------------ sending

    def send(self, buf: bytes, close_socket: bool = False) -> bool:
        """Send bytes in order, never waiting: what does not fit now goes later."""
        if self.state == DEAD:
            return False
        data = bytes(buf)
        if not self._pending:
            data = data[self._send_now(data) :]
        if data:
            self._pending.append(data)
            self._pending_bytes += len(data)
            self._wake.set()
        if self._pending_bytes > _STUCK_BYTES or close_socket:
            hub.spawn_after(0.0 if not close_socket else 0.2, self.close)
        return True

    def _send_now(self, data: bytes) -> int:
        raw = getattr(self.socket, "fd", None)
        if raw is None:
            return 0
        try:
            return int(raw.send(data))
        except OSError:  # would block, or broken: the send loop will see which
            return 0

    def _send_loop(self) -> None:
        try:
            while self.state != DEAD:
                self._wake.wait()
                self._wake.clear()
                while self._pending:
                    # Taken away only when sent: `send` must see that it has to wait.
                    with hub.Timeout(_SEND_TIMEOUT_S):
                        self.socket.sendall(self._pending[0])
                    self._pending_bytes -= len(self._pending.popleft())
        except (OSError, hub.Timeout):
            self.close()

    # ------------------------------------------------------------ receiving

    def _recv_loop(self) -> None:
        buffer = b""
        turn = 0
        # No timeout: `close` ends the wait.
        self.socket.settimeout(None)
        try:
            while self.state != DEAD:
                data = self._receive()
                if data is None:
                    break
                if self._turns or len(data) > _FEW_BYTES:
                    buffer = self._sort(buffer + data)
                    if self._unanswered < _CREDIT:
                        self._take_turns()
                else:
                    buffer = self._consume(buffer + data)
                turn += 1
                # Where nothing more has come, `recv` lets the others run.
                if turn % _TURNS == 0:
                    hub.sleep(0)
                self._let_drain()
        except OSError:
            pass
        finally:
            self.close()
            self.socket.close()

    def _receive(self) -> Optional[bytes]:
        """Take what is there; wait where nothing can be done meanwhile.

        Returns:
            None at the end of the connection.
        """
        if self._turns and self._unanswered < _CREDIT:
            return self._more()
        data: bytes
        if not self._turns:
            data = self.socket.recv(_RECEIVE_BYTES)
            return data or None
        self.socket.settimeout(_CREDIT_WAIT_S)
        try:
            data = self.socket.recv(_RECEIVE_BYTES)
        except sockets.timeout:
            self._unanswered = 0
            return b""
        finally:
            self.socket.settimeout(None)
        return data or None

    def _more(self) -> bytes:
        """Take what has come meanwhile, without waiting for any."""
        raw = getattr(self.socket, "fd", None)
        if raw is None:
            return b""
        try:
            data: bytes = raw.recv(_TAKE_BYTES)
        except OSError:  # nothing more; what is broken shows at the next receive
            return b""
        return data

    def _sort(self, buffer: bytes) -> bytes:
        """Let every whole message wait for its turn, return the rest."""
        start, size, add = 0, len(buffer), self._turns.add
        while size - start >= 8:
            length = int.from_bytes(buffer[start + 2 : start + 4], "big")
            if length < 8:
                self.close()
                return b""
            if size - start < length:
                break
            message = buffer[start : start + length]
            if message[1] == _ECHO_REPLY and message[8:] == _MARK[8:]:
                self._unanswered = max(self._unanswered - 1, 0)
            else:
                add(message)
            start += length
        for port, count in self._turns.take_shed().items():
            self._owner.shed(port, count)
        return buffer[start:]

    def _take_turns(self) -> None:
        """Handle the messages whose turn it is, as many as go to the engine at once."""
        take = self._turns.take
        for _ in range(_BATCH):
            message = take()
            if message is None or self.state == DEAD:
                break
            self._handle(message)
        self._owner.flush()
        self._unanswered += 1
        self.send(_MARK)

    def _let_drain(self) -> None:
        """Stop reading while the switch does not; the send loop bounds the wait."""
        while self._pending_bytes > _SLOW_BYTES and self.state != DEAD:
            hub.sleep(0.001)

    def _consume(self, buffer: bytes) -> bytes:
        """Handle every whole message, return the rest."""
        start, count, size = 0, 0, len(buffer)
        while size - start >= 8 and self.state != DEAD:
            length = int.from_bytes(buffer[start + 2 : start + 4], "big")
            if length < 8:
                self.close()
                return b""
            if size - start < length:
                break
            self._handle(buffer[start : start + length])
            start += length
            count += 1
            if count % _BATCH == 0:
                self._owner.flush()
        self._owner.flush()
        return buffer[start:]

    def _handle(self, message: bytes) -> None:
        if self.state == MAIN and message[1] in _OURS and message[0] == 4:
            self._owner.receive(self, message[1], message)
        elif message[1] == _ECHO_REPLY and message[8:] == _MARK[8:]:
            self._unanswered = max(self._unanswered - 1, 0)
        else:
            self._framework(message)

    def _framework(self, message: bytes) -> None:
        """Give a message to Ryu's handlers: hello, features, echo and the like."""
        version, kind, length, xid = parser.header(message)
        try:
            parsed = parser.msg(self, version, kind, length, xid, message)
        # Ryu's parsers trust their input: garbage raises anything.
        except Exception as problem:
            LOG.warning(
                "no OpenFlow from %s, connection ended: %r", self.address, problem
            )
            self.close()
            return
        if not parsed:
            return
        event = ofp_event.ofp_msg_to_ev(parsed)
        self.ofp_brick.send_event_to_observers(event, self.state)
        for event_handler in self.ofp_brick.get_handlers(event, self.state):
            event_handler(event)


def serve(owner: Owner, socket: Any, address: Any) -> None:
    """Take part in one connection until it ends; Ryu's listener calls this."""
    with contextlib.closing(Connection(owner, socket, address)) as connection:
        connection.serve()
