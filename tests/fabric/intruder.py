# SPDX-License-Identifier: Apache-2.0
"""Who tries to get in where policy, or a missing record, forbids it.

`talk` has the traffic that may; both come in by the same gateways.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from midoryu.packet.address import parse_ip
from midoryu.packet.protocol import TCP, UDP
from midoryu.state.connection import FourTuple, reverse
from tests.fabric.frame import ACK, SYN, Mark
from tests.fabric.machine import InvariantError

if TYPE_CHECKING:
    from tests.fabric.talk import Traffic


class Intruders:
    """All of a run."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._numbers: set[int] = set()

    def intrude(self) -> None:
        """Let one try."""
        traffic = self._traffic
        rng, number = traffic.rng, traffic.openings.new_number()
        self._numbers.add(number)
        public = [one for one in traffic.cloud.world.vms if one.is_public]
        client = parse_ip("2001:db8:99::66")
        vm = rng.choice(public)
        proto, flags = rng.choice(((TCP, SYN), (TCP, ACK), (TCP, SYN | ACK), (UDP, 0)))
        ends: FourTuple = (client, vm.v6, 50000 + rng.randrange(99), 22)
        known = [t for t in traffic.live if t.kind == "out4" and t.seen is not None]
        if known and rng.random() < 0.6:
            # At the translation of a live connection, but from somebody else.
            talk = rng.choice(known)
            assert talk.seen is not None
            proto = talk.ip_proto if talk.ip_proto in (TCP, UDP) else UDP
            ends = (parse_ip("198.51.100.66"), talk.seen[0], 4444, talk.seen[2])
        traffic.counts["intrusions tried"] += 1
        if rng.random() < 0.3:
            # As if they had sent something there.
            traffic.errors.intrude(number, proto, reverse(ends))
            return
        traffic.emit(proto, ends, Mark(number, False, 1), None, flags)

    def judge(self, number: int, vport: str, *, is_error: bool) -> None:
        """Judge what came out; that an intruder is told something is no fault.

        Raises:
            InvariantError: one came in.
        """
        told = is_error and vport.startswith("provider")
        if number in self._numbers and not told:
            raise InvariantError(f"intruder {number} came in at {vport}")
