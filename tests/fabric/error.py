# SPDX-License-Identifier: Apache-2.0
"""ICMP errors about the traffic: who gets them, and what they quote.

An error comes from either end of a connection, or from a router outside, by any
gateway; whoever receives it must find its own packet quoted. `talk` sends these too.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from midoryu.packet.address import format_ip, is_v4, parse_ip
from midoryu.packet.protocol import TCP, UDP
from midoryu.state.connection import FourTuple, reverse
from tests.fabric import frame
from tests.fabric.frame import Mark, SeenError
from tests.fabric.machine import InvariantError

if TYPE_CHECKING:
    from tests.fabric.opening import Talk
    from tests.fabric.talk import Traffic

# A router outside that complains about packets of ours.
_ROUTER4, _ROUTER6 = parse_ip("198.51.100.1"), parse_ip("2001:db8:99::1")
# Set in the serial of a quoted packet that only an error has.
_ERROR: Final = 1 << 31
_PAUSE_S: Final = 0.04
# In calm, an error arrives in at most so many tries.
_TRIES: Final = 8


class _Sent(NamedTuple):
    source: int
    returns: bool
    """The error goes to the client."""


class Errors:
    """All errors of a run."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._sent: dict[int, _Sent] = {}
        self._serial = 0
        self._wanted: dict[tuple[int, bool], int] = {}
        """(connection, to its client) -> tries so far."""

    def demand(self, talk: Talk) -> None:
        """Send errors to both ends, again and again until they arrive."""
        for returns in (False, True):
            if returns or talk.ip_proto in (TCP, UDP):
                self._wanted[talk.number, returns] = 0
                self._try(talk, returns)

    def missing(self) -> str:
        """Name an error that should have come and did not; "" for none."""
        for (number, returns), tries in self._wanted.items():
            talk = self._traffic.talks.get(number)
            if talk is not None and not talk.is_over:
                way = "client" if returns else "server"
                text = self._traffic.describe(talk)
                return f"no error came to the {way} in {tries} tries: {text}"
        self._wanted.clear()
        return ""

    def _try(self, talk: Talk, returns: bool) -> None:
        tries = self._wanted.get((talk.number, returns))
        if tries is None or talk.is_over or tries >= _TRIES:
            return
        self._wanted[talk.number, returns] = tries + 1
        self.send(talk, returns=returns)
        again = partial(self._try, talk, returns)
        self._traffic.cloud.loop.after(_PAUSE_S, again)

    def send(self, talk: Talk, *, returns: bool) -> None:
        """Complain once about a packet that an end has sent, to that end."""
        assert talk.seen is not None
        self._serial += 1
        about = talk.seen if returns else reverse(talk.ends)
        sender = talk.server if returns else talk.client
        source = about[1]
        if sender is None and self._traffic.rng.random() < 0.5:
            source = _ROUTER4 if is_v4(source) else _ROUTER6
        self._sent[self._serial] = _Sent(source, returns)
        mark = Mark(talk.number, not returns, _ERROR | self._serial)
        quoted = frame.make_packet(talk.ip_proto, about, mark)
        self._enter(quoted, source, about[0], sender=talk, returns=returns)

    def _enter(
        self, quoted: bytes, source: int, to: int, *, sender: Talk, returns: bool
    ) -> None:
        vm = sender.server if returns else sender.client
        vport, eth_src, eth_dst = self._traffic.way_in(vm, to)
        made = frame.make_error(quoted, source, to, eth_src=eth_src, eth_dst=eth_dst)
        self._traffic.counts["ICMP errors"] += 1
        self._traffic.cloud.enter(vport, made)

    def intrude(self, number: int, proto: int, about: FourTuple) -> None:
        """Complain from outside about a packet that nobody has sent."""
        source = _ROUTER4 if is_v4(about[0]) else _ROUTER6
        mark = Mark(number, False, _ERROR | 1)
        quoted = frame.make_packet(proto, about, mark)
        vport, eth_src, eth_dst = self._traffic.way_in(None, about[0])
        made = frame.make_error(
            quoted, source, about[0], eth_src=eth_src, eth_dst=eth_dst
        )
        self._traffic.cloud.enter(vport, made)

    def arrived(self, vport: str, seen: SeenError, talk: Talk) -> None:
        """Judge an error that came out of the cloud."""
        sent = self._sent.get(seen.mark.serial & ~_ERROR)
        if not seen.mark.serial & _ERROR or sent is None or talk.seen is None:
            return
        self._traffic.counts["ICMP errors delivered"] += 1
        self._wanted.pop((talk.number, sent.returns), None)
        receiver = talk.client if sent.returns else talk.server
        if (receiver.vport if receiver else "provider") != (
            vport if receiver else vport[:8]
        ):
            self._wrong(talk, sent, f"at {vport}")
        mine, other = talk.ends, talk.seen
        if not sent.returns:
            mine, other = reverse(other), reverse(mine)
        # Who hides behind another address inside, says it from there.
        source = mine[1] if mine[1] != other[1] else sent.source
        if not seen.sound:
            self._wrong(talk, sent, "with a wrong checksum")
        if (seen.ip_proto, seen.ends) != (talk.ip_proto, mine):
            self._wrong(talk, sent, f"quotes {seen.ends}")
        if (seen.source, seen.destination) != (source, mine[0]):
            ends = f"{format_ip(seen.source)} to {format_ip(seen.destination)}"
            self._wrong(talk, sent, f"from {ends}")

    def _wrong(self, talk: Talk, sent: _Sent, text: str) -> None:
        way = "client" if sent.returns else "server"
        about = self._traffic.describe(talk)
        raise InvariantError(f"an error to the {way} comes {text}: {about}")
