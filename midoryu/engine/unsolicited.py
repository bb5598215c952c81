# SPDX-License-Identifier: Apache-2.0
"""TCP SYNs from outside that nobody waits for: silence first, an answer later.

The endpoint inside may be about to call the same peer (simultaneous open), so nothing
is said for six seconds. If it has not by then, the sender is told that the port cannot
be reached. Few wait at a time: a scan is not answered packet by packet.

Source: RFC 5382, section 4.3, REQ-4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, Union

from midoryu.engine.event import PacketIn
from midoryu.packet import protocol
from midoryu.simulation.outcome import Drop, Reason, Simulation

# SYNs that wait, over all vports; more are dropped for good.
MAX_SYNS: Final = 64
_MASK: Final = protocol.TCP_SYN | protocol.TCP_ACK | protocol.TCP_RST | protocol.TCP_FIN


class Unsolicited(NamedTuple):
    """One SYN that waits for its answer."""

    event: PacketIn
    vport: int
    due: float


_Key = tuple[int, int, int, int, int]


class UnsolicitedSyns:
    """The SYNs that wait, oldest first.

    Args:
        wait_s: seconds of silence; 0: they are never answered.
    """

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._waiting: dict[_Key, Unsolicited] = {}

    def note(
        self, event: PacketIn, vport: int, simulation: Simulation, now: float
    ) -> None:
        """Keep a SYN that found no binding; one that is sent again is the same."""
        packet = simulation.packet
        if not self._wait_s or simulation.outcome != Drop(Reason.NO_BINDING):
            return
        is_syn = packet.tcp_flags & _MASK == protocol.TCP_SYN
        if packet.ip_proto != protocol.TCP or not is_syn or packet.ip_frag:
            return
        headers = packet.headers
        ends = headers.ip_src, headers.ip_dst, headers.l4_src, headers.l4_dst
        key = (vport, *ends)
        if key not in self._waiting and len(self._waiting) < MAX_SYNS:
            self._waiting[key] = Unsolicited(event, vport, now + self._wait_s)

    def take_due(self, now: float) -> Iterator[Unsolicited]:
        """Take out those whose silence is over."""
        for key in [key for key, one in self._waiting.items() if one.due <= now]:
            yield self._waiting.pop(key)

    def deadline(self) -> Union[float, None]:
        """Return when the oldest one is due."""
        return next((one.due for one in self._waiting.values()), None)
