# SPDX-License-Identifier: Apache-2.0
"""The traffic: connections that open, talk both ways, fall silent and close.

A server answers what it saw; so what it sees must stay the same for the whole life of a
connection, and nobody else may look like it. One message of a connection is under way
at a time and is sent again until it arrives.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from functools import partial

from midoryu.packet.address import format_ip
from midoryu.packet.protocol import TCP
from midoryu.state.connection import FourTuple, reverse
from tests.fabric import frame
from tests.fabric.error import Errors
from tests.fabric.frame import ACK, FIN, PSH, SYN, Mark, SeenError
from tests.fabric.intruder import Intruders
from tests.fabric.machine import InvariantError
from tests.fabric.net import Cloud
from tests.fabric.opening import Openings, Talk
from tests.fabric.world import Vm

RTO_S = 0.04
# An opening that nobody answers is given up after so many tries.
_OPEN_TRIES = 60
# In calm, a message arrives in at most so many tries.
TRIES = 8
# What TCP says until it is established, then at its end: (returns, flags).
_OPENING = ((False, SYN), (True, SYN | ACK), (False, ACK))
_CLOSING = ((False, FIN | ACK), (True, FIN | ACK))
# All agents have heard of a changed row by then.
_HEARD_S = 0.1


class Traffic:
    """All connections of a run, and the judgement of each packet that arrives."""

    def __init__(self, cloud: Cloud, rng: random.Random) -> None:
        self.cloud = cloud
        self.rng = rng
        self.counts: Counter[str] = Counter()
        self.longest: dict[str, float] = {}
        """Kind of disturbance -> longest time until a message arrived, in seconds."""
        self.label = "calm"
        self.upstream = list(cloud.world.gateways)
        """Gateways that the upstream router uses."""
        self.talks: dict[int, Talk] = {}
        self.is_paused = False
        self.is_checking = False
        """All disturbances are over: messages must arrive soon."""
        self.left_pool = {cloud.world.vms[1].vport: 0.0}
        """VMs that are no members of the pool now -> since when."""
        self.past: list[tuple[int, FourTuple, float]] = []
        """What `uses` says of connections that were forgotten."""
        self._by_seen: dict[tuple[int, FourTuple], Talk] = {}
        self.openings = Openings(cloud.world.vms, rng, self.talks.values)
        self.errors = Errors(self)
        self.intruders = Intruders(self)
        cloud.delivered = self._delivered

    @property
    def live(self) -> list[Talk]:
        """Return the established connections that are not over."""
        return [t for t in self.talks.values() if t.is_established and not t.is_over]

    # Opening.

    def open(self) -> None:
        """Open a connection of a random kind."""
        talk = self.openings.choose()
        if talk is None:
            return
        self.talks[talk.number] = talk
        talk.opened_at = self.cloud.loop.now
        self.counts[f"opened: {talk.kind}"] += 1
        if talk.ip_proto == TCP:
            talk.plan = list(_OPENING)
        else:
            talk.plan = [(False, 0), (True, 0)]
        self._next_message(talk)

    # Sending.

    def _next_message(self, talk: Talk) -> None:
        if talk.is_over or talk.under_way is not None:
            return
        if not talk.plan:
            return
        talk.under_way = talk.plan.pop(0)
        talk.serial += 1
        talk.first_sent, talk.tries = self.cloud.loop.now, 0
        talk.label = self.label
        self._send(talk, talk.serial)

    def say(self, talk: Talk, *, returns: bool) -> None:
        """Let an end say something when it is its turn."""
        flags = (PSH | ACK) if talk.ip_proto == TCP else 0
        talk.plan.append((returns, flags))
        self._next_message(talk)

    def _send(self, talk: Talk, serial: int) -> None:
        if talk.is_over or talk.under_way is None or talk.serial != serial:
            return
        if self.is_checking and talk.is_established and talk.tries >= TRIES:
            raise InvariantError(f"lost: {self.describe(talk)}")
        if not talk.is_established and talk.tries >= _OPEN_TRIES:
            self.counts["openings given up"] += 1
            self._end(talk)
            return
        talk.tries += 1
        talk.last_at = self.cloud.loop.now
        self.counts["retransmissions"] += talk.tries > 1
        returns, flags = talk.under_way
        sender = talk.server if returns else talk.client
        ends = talk.ends
        if returns:
            assert talk.seen is not None
            ends = reverse(talk.seen)
        self.emit(
            talk.ip_proto, ends, Mark(talk.number, returns, serial), sender, flags
        )
        self.cloud.loop.after(RTO_S, partial(self._send, talk, serial))

    def emit(
        self, proto: int, ends: FourTuple, mark: Mark, sender: Vm | None, flags: int
    ) -> None:
        """Send a packet where its sender is, or by any gateway from outside."""
        self.counts["packets"] += 1
        vport, source, to = self.way_in(sender, ends[1])
        made = frame.make(proto, ends, mark, flags=flags, eth_src=source, eth_dst=to)
        self.cloud.enter(vport, made)

    def way_in(self, sender: Vm | None, to: int) -> tuple[str, int, int]:
        """Return the vport where a packet comes in, and its MAC addresses."""
        world = self.cloud.world
        if sender is not None:
            return sender.vport, sender.mac, world.lan_mac(to)
        gateway = self.rng.choice(self.upstream)
        vport = world.uplink(gateway)
        return vport, world.upstream_mac(gateway), world.uplink_mac(gateway)

    # Arriving.

    def _delivered(self, vport: str, host: str, data: bytes) -> None:
        seen = frame.read(data) or frame.read_error(data)
        if seen is None:
            return
        number = seen.mark.connection
        is_error = isinstance(seen, SeenError)
        self.intruders.judge(number, vport, is_error=is_error)
        talk = self.talks.get(number)
        if talk is None or talk.is_over:
            return
        if isinstance(seen, SeenError):
            self.errors.arrived(vport, seen, talk)
            return
        self.counts["packets delivered"] += 1
        if talk.is_balanced and not seen.mark.returns:
            self._chosen(talk, vport)
        receiver = talk.client if seen.mark.returns else talk.server
        outside = vport.startswith("provider")
        if (receiver is None) != outside or (receiver and receiver.vport != vport):
            raise InvariantError(f"at {vport} instead: {self.describe(talk)}")
        if seen.mark.returns:
            if seen.ends != reverse(talk.ends):
                text = f"the client sees {_show(seen.ends)}"
                raise InvariantError(f"{text}: {self.describe(talk)}")
        else:
            self._arrive_at_server(talk, seen.ends)
        if talk.under_way is not None and seen.mark.serial == talk.serial:
            self._arrived(talk)

    def _chosen(self, talk: Talk, vport: str) -> None:
        """Take over which member of a pool a connection has come to."""
        if talk.is_established or (talk.server and talk.server.vport == vport):
            return
        (talk.server,) = (vm for vm in self.cloud.world.vms if vm.vport == vport)
        left_at = self.left_pool.get(vport)
        if left_at is not None and talk.opened_at > left_at + _HEARD_S:
            raise InvariantError(f"to {vport}, no member: {self.describe(talk)}")

    def _arrive_at_server(self, talk: Talk, ends: FourTuple) -> None:
        if talk.seen is not None and talk.seen != ends:
            if talk.is_established:
                text = f"the server sees {_show(ends)}"
                raise InvariantError(f"{text} now: {self.describe(talk)}")
            self._by_seen.pop((talk.ip_proto, talk.seen), None)
        key = (talk.ip_proto, ends)
        other = self._by_seen.get(key)
        if other is not None and other is not talk and not other.is_over:
            text = f"one translation for two: {self.describe(talk)}"
            raise InvariantError(f"{text} and {self.describe(other)}")
        self._by_seen[key] = talk
        talk.seen = ends

    def _arrived(self, talk: Talk) -> None:
        now, label = self.cloud.loop.now, talk.label
        talk.heard_at = now
        if talk.is_established:
            gap = now - talk.first_sent
            self.longest[label] = max(self.longest.get(label, 0.0), gap)
        talk.under_way = None
        if talk.plan:
            self.cloud.loop.after(0.001, partial(self._next_message, talk))
            return
        if not talk.is_established:
            talk.is_established = True
            self.counts["established"] += 1
        if talk.is_closing:
            self._end(talk)
            return
        self._think(talk)

    def _think(self, talk: Talk) -> None:
        """Plan the next turn: soon, or after a silence."""
        if talk.is_asleep:
            return
        pause = self.rng.expovariate(1 / 0.08)
        if self.rng.random() < 0.05:
            pause += 3 * self.rng.random()
        talk.turns += 1
        self.cloud.loop.after(pause, partial(self._turn, talk, talk.turns))

    def _turn(self, talk: Talk, turn: int) -> None:
        if talk.is_over or talk.turns != turn or talk.under_way is not None:
            return
        if self.is_paused:
            self.cloud.loop.after(0.2, partial(self._turn, talk, turn))
            return
        if self.rng.random() < 0.02:
            talk.is_closing = True
            if talk.ip_proto == TCP:
                talk.plan = list(_CLOSING)
                self._next_message(talk)
            else:
                self._end(talk)
            return
        if self.rng.random() < 0.1:
            self.errors.send(talk, returns=self.rng.random() < 0.5)
        self.say(talk, returns=self.rng.random() < 0.5)

    def _end(self, talk: Talk) -> None:
        talk.is_over = True
        talk.under_way = None
        self.counts["ended"] += 1
        if talk.seen is not None and self._by_seen.get((talk.ip_proto, talk.seen)):
            del self._by_seen[(talk.ip_proto, talk.seen)]

    def expire(self, talk: Talk) -> None:
        """Take over that a connection has idled for its whole lifetime."""
        self.counts["expired"] += 1
        self._end(talk)

    def forget(self, number: int) -> None:
        """Forget a connection that is over."""
        self.past += _uses_of(self.talks.pop(number))

    def uses(self) -> Iterator[tuple[int, FourTuple, float]]:
        """Yield protocol, tuple and last use, by either end, of all connections."""
        yield from self.past
        for talk in self.talks.values():
            yield from _uses_of(talk)

    def describe(self, talk: Talk) -> str:
        """Name a connection for a report."""
        seen = f", server sees {_show(talk.seen)}" if talk.seen else ""
        way = "nothing" if talk.under_way is None else _WAYS[talk.under_way[0]]
        return (
            f"connection {talk.number} ({talk.kind}, protocol {talk.ip_proto}, "
            f"{_show(talk.ends)}{seen}; {way} under way, try {talk.tries})"
        )


_WAYS = {False: "forward", True: "return"}


def _uses_of(talk: Talk) -> Iterator[tuple[int, FourTuple, float]]:
    yield talk.ip_proto, talk.ends, talk.last_at
    if talk.seen is not None:
        # A return packet that overtook all records is taken for a first one.
        yield talk.ip_proto, reverse(talk.seen), talk.last_at


def _show(ends: FourTuple) -> str:
    return f"{format_ip(ends[0])}.{ends[2]} > {format_ip(ends[1])}.{ends[3]}"
