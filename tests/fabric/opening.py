# SPDX-License-Identifier: Apache-2.0
"""Which connection opens next: every kind that the world has, and ports that collide.

`talk` asks, lets it speak and judges what arrives.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from midoryu.packet.address import parse_ip
from midoryu.packet.protocol import ICMP, ICMPV6, TCP, UDP
from midoryu.state.connection import FourTuple
from tests.fabric import frame
from tests.fabric.world import (
    DNAT4,
    FLOATING4,
    LAN_VIP,
    SERVERS4,
    SERVERS6,
    VIP4,
    VIP6,
    Vm,
)

_CLIENT4, _CLIENT6 = "198.51.100.77", "2001:db8:99::77"
_VIPS = {"vip4": VIP4, "vip6": VIP6, "vip lan": LAN_VIP, "vip hairpin": VIP4}


@dataclass
class Talk:
    """One connection, as its two ends know it."""

    number: int
    kind: str
    ip_proto: int
    ends: FourTuple
    """As its client sends it."""
    client: Vm | None
    """None for a client outside."""
    server: Vm | None
    """None for a server outside, and until one was chosen."""
    is_balanced: bool = False
    """It calls a VIP."""
    plan: list[tuple[bool, int]] = field(default_factory=list)
    """Messages to come before free talk: (returns, flags)."""
    seen: FourTuple | None = None
    """As its server sees it."""
    is_established: bool = False
    is_over: bool = False
    is_closing: bool = False
    serial: int = 0
    under_way: tuple[bool, int] | None = None
    first_sent: float = 0.0
    tries: int = 0
    label: str = ""
    turns: int = 0
    opened_at: float = 0.0
    last_at: float = 0.0
    """When its last packet was sent."""
    heard_at: float = 0.0
    """When its last packet arrived."""
    is_asleep: bool = False
    """It says nothing for a while, or never again."""


class Openings:
    """Chooses new connections.

    Args:
        vms: all of them.
        rng: of the run.
        talks: tells which connections there are.
    """

    def __init__(
        self,
        vms: list[Vm],
        rng: random.Random,
        talks: Callable[[], Iterable[Talk]],
    ) -> None:
        self._vms = vms
        self._rng = rng
        self._talks = talks
        self._numbers = 1
        self._next_port = 20000

    def new_number(self) -> int:
        """Return a number that no connection has."""
        self._numbers += 1
        return self._numbers

    def choose(self) -> Talk | None:
        """Return a new connection of a random kind, None where it is one already."""
        rng, vms = self._rng, self._vms
        vm = rng.choice(vms)
        kind = rng.choice(
            ("out4",) * 4
            + ("dnat", "floating", "east", "out6", "out6", "in6")
            + ("vip4", "vip6", "vip lan", "vip hairpin")
        )
        proto = rng.choice((TCP, TCP, UDP))
        if kind == "out4":
            proto = rng.choice((TCP, TCP, UDP, ICMP))
            return self._outward(kind, proto, vm, vm.v4, parse_ip(rng.choice(SERVERS4)))
        if kind == "out6":
            proto = rng.choice((TCP, TCP, UDP, ICMPV6))
            return self._outward(kind, proto, vm, vm.v6, parse_ip(rng.choice(SERVERS6)))
        if kind == "dnat":
            server = vms[0] if proto == TCP else vms[1]
            port = 8080 if proto == TCP else 5353
            return self._inward(kind, proto, server, parse_ip(DNAT4), port)
        port = 80 if proto == TCP else 53
        if kind == "floating":
            return self._inward(kind, proto, vms[2], parse_ip(FLOATING4), port)
        if kind == "in6":
            vm = rng.choice([one for one in vms if one.is_public])
            return self._inward(kind, proto, vm, vm.v6, port)
        if kind.startswith("vip"):
            return self._balanced(kind, proto, vm, port)
        other = rng.choice([one for one in vms if one is not vm])
        # Two addresses of one family on one link: no router, no NAT.
        ends = (vm.v4, other.v4, rng.randrange(30000, 39000), port)
        return self._new(kind, proto, ends, vm, other)

    def _outward(
        self, kind: str, proto: int, vm: Vm, source: int, server: int
    ) -> Talk | None:
        # Few ports, so that two VMs often want the same one.
        port = 40000 + self._rng.randrange(4)
        if proto in frame.QUERY:
            return self._new(kind, proto, (source, server, port, port), vm, None)
        to = 80 if proto == TCP else 53
        return self._new(kind, proto, (source, server, port, to), vm, None)

    def _inward(self, kind: str, proto: int, vm: Vm, to: int, port: int) -> Talk:
        self._next_port = 20000 + (self._next_port - 19999) % 9000
        client = parse_ip(_CLIENT6 if kind.endswith("6") else _CLIENT4)
        talk = self._new(kind, proto, (client, to, self._next_port, port), None, vm)
        assert talk is not None
        return talk

    def _balanced(self, kind: str, proto: int, vm: Vm, port: int) -> Talk | None:
        talk: Talk | None
        if kind in ("vip4", "vip6"):
            talk = self._inward(kind, proto, vm, parse_ip(_VIPS[kind]), port)
            talk.server = None
        else:
            source_port = self._rng.randrange(30000, 39000)
            ends = (vm.v4, parse_ip(_VIPS[kind]), source_port, port)
            talk = self._new(kind, proto, ends, vm, None)
        if talk is not None:
            talk.is_balanced = True
        return talk

    def _new(
        self,
        kind: str,
        proto: int,
        ends: FourTuple,
        client: Vm | None,
        server: Vm | None,
    ) -> Talk | None:
        if any(
            (t.ip_proto, t.ends) == (proto, ends)
            for t in self._talks()
            if not t.is_over
        ):
            return None
        return Talk(self.new_number(), kind, proto, ends, client, server)
