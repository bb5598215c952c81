# SPDX-License-Identifier: Apache-2.0
"""The packet under way: its headers now, what was read, found and learned so far.

`simulator` makes one for each packet; devices work on it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Union

from midoryu.packet import field, protocol
from midoryu.packet.codec import decode
from midoryu.packet.packet import Embedded, Headers, Packet
from midoryu.packet.rewrite import EmbeddedRewrite, rewrite
from midoryu.simulation.chosen import is_outdated
from midoryu.simulation.outcome import (
    Emission,
    GroupSeen,
    Lookup,
    MacSeen,
    NeighborSeen,
    RuleLog,
    Step,
)
from midoryu.simulation.tuples import PORT_PROTOCOLS as PORT_PROTOCOLS
from midoryu.simulation.tuples import is_lone_reply, quoted_tuple, tuple_of
from midoryu.simulation.world import READ_PROTO, READ_TUPLE, World
from midoryu.state.connection import (
    Connection,
    Direction,
    FourTuple,
    StateKey,
    Translation,
    reverse,
)
from midoryu.state.lifetime import TcpVerdict, tcp_verdict
from midoryu.state.table import Hit
from midoryu.topology.model import (
    CT_ESTABLISHED,
    CT_INVALID,
    CT_NEW,
    CT_RELATED,
    Masquerade,
    Vport,
)
from midoryu.topology.tag import Tag


class Walk:
    """One packet on its way."""

    __slots__ = (
        "_arrived",
        "_looked_up",
        "_missed",
        "assumed",
        "bypassed",
        "devices",
        "emissions",
        "fields",
        "generated",
        "headers",
        "hit",
        "hops",
        "id_counts",
        "ingress",
        "is_ip",
        "judged",
        "learned",
        "limit",
        "mss",
        "logs",
        "looked",
        "lookup",
        "masquerade",
        "needs_first",
        "packet",
        "quoted",
        "seems_answer",
        "steps",
        "tags",
        "tracked",
        "translations",
        "unfinished",
        "world",
    )

    def __init__(
        self,
        packet: Packet,
        ingress: Vport,
        world: World,
        *,
        generated: bool = False,
        trace: bool = False,
    ) -> None:
        self.packet = packet
        self.ingress = ingress
        """Vport where it came into the overlay (or left the device that made it)."""
        self.world = world
        self.generated = generated
        """A virtual device made it: no filter, no connection."""
        self.headers = packet.headers.copy()
        self.quoted: Union[Embedded, None] = (
            replace(packet.embedded) if packet.embedded is not None else None
        )
        self.fields = field.IN_PORT | field.ETH_TYPE | field.VLAN
        self.looked = 0
        """What was read only to look its record up, or to pick a NAT port. Whoever
        decides anything by a field notes it in `fields`, even where it is in here:
        `replay` relies on that."""
        self.masquerade: Union[Masquerade, None] = None
        """The rule that gave it its source."""
        self.tags: set[Tag] = set()
        self.is_ip = packet.eth_type in (protocol.ETH_IPV4, protocol.ETH_IPV6)
        """It is IPv4 or IPv6."""
        self.hops = 0
        self.devices = 0
        self.hit: Union[Hit, None] = None
        """The record that it belongs to, once looked up and found."""
        self.unfinished: Union[Connection, None] = None
        """The record of an earlier packet that a device on the way has answered."""
        self.tracked = False
        """A stateful filter or a NAT was on the way."""
        self.limit = 0
        """The smallest MTU that it was held against, bytes; 0 for none."""
        self.mss = 0
        """What its MSS option is lowered to, bytes; 0 leaves it alone."""
        self.needs_first = False
        """It is a fragment, and what becomes of it depends on what the first one says
        about layer 4."""
        self.judged = False
        """A filter went by its TCP flags."""
        self.bypassed = False
        """The chain that was asked last accepted it by a stateless rule."""
        self.assumed = 0
        """CT_* bit that filters shall go by instead of its own state; 0 for none."""
        self.logs: list[RuleLog] = []
        """What rules that log decided about it."""
        self.seems_answer = False
        """It comes from a port that DNAT leads to, and no record is known."""
        self.translations: list[Translation] = []
        """Translations made on this way, in order."""
        self.emissions: list[Emission] = []
        self.learned: list[Union[MacSeen, NeighborSeen, GroupSeen]] = []
        self.lookup: Union[Lookup, None] = None
        self.steps: Union[list[Step], None] = [] if trace else None
        self._arrived: tuple[Headers, Union[Embedded, None]] = (self.headers, None)
        self._looked_up = False
        self._missed: list[StateKey] = []
        self.id_counts = False
        """An ICMP query's identifier is part of its tuple: something translates it."""

    def note(self, device: str, verb: str, detail: str = "") -> None:
        """Leave a line in the trace (callers ask for `steps` first, it costs)."""
        if self.steps is not None:
            self.steps.append(Step(device, verb, detail))

    # What kind of packet it is.

    @property
    def is_error(self) -> bool:
        """It is an ICMP error that quotes another packet."""
        return self.quoted is not None

    @property
    def is_neighbor_talk(self) -> bool:
        """It is ARP or neighbour discovery."""
        packet = self.packet
        if packet.eth_type == protocol.ETH_ARP:
            return True
        if packet.eth_type != protocol.ETH_IPV6:
            return False
        self.fields |= field.IP_PROTO
        if packet.ip_proto != protocol.ICMPV6:
            return False
        self.fields |= field.L4_SRC
        kind = packet.headers.l4_src
        return protocol.ND_ROUTER_SOLICITATION <= kind <= protocol.ND_ADVERTISEMENT

    # Its connection.

    def tuple4(self) -> FourTuple:
        """Return the tuple by which its connection knows it here and now.

        For an ICMP error this is the tuple of a packet of the quoted connection that
        travels the same way as the error.
        """
        return self._tuple4(with_id=self.id_counts)

    def original_tuple4(self) -> FourTuple:
        """Return the tuple as it came in, in the form that its record is kept by."""
        packet = self.packet
        return tuple_of(packet.ip_proto, packet.headers, with_id=self.id_counts)

    def _tuple4(self, *, with_id: bool, as_it_came: bool = False) -> FourTuple:
        quoted = self.packet.embedded if as_it_came else self.quoted
        if quoted is not None:
            return reverse(quoted_tuple(quoted, with_id=with_id))
        headers = self.packet.headers if as_it_came else self.headers
        return tuple_of(self.packet.ip_proto, headers, with_id=with_id)

    @property
    def ip_proto(self) -> int:
        """Protocol of its connection (an ICMP error belongs to what it quotes)."""
        return self.packet.ip_proto if self.quoted is None else self.quoted.ip_proto

    def track(self) -> None:
        """Make it one of a tracked connection, and look that up."""
        self.tracked = True
        if not self._looked_up:
            self.look_up()

    def look_up(self) -> None:
        """Look its connection up where it came in, once."""
        if not self._looked_up:
            self._looked_up = True
            if self.hit is not None:
                return
            # A floating address may have changed the headers since.
            if self._find(self.ingress.device, as_it_came=True) is None:
                for device in self.world.topology.devices_beside(self.ingress.key):
                    if self._find(device, as_it_came=True, beside=True) is not None:
                        return

    def find_at(self, device: int) -> Union[Hit, None]:
        """Look its connection up as it presents itself to a device.

        A look-up that misses leaves its key among the tags: when that state arrives,
        the flow goes. An ICMP query is first looked for without its identifier, which
        OpenFlow cannot match; only NAT makes the identifier count.
        """
        return self._find(device, as_it_came=False)

    def _find(
        self, device: int, *, as_it_came: bool, beside: bool = False
    ) -> Union[Hit, None]:
        """Look its connection up at a device.

        With `beside` it could have come in there as well, but did not: what that device
        translates by itself is no connection of this one's.
        """
        self._read_tuple()
        connections, proto = self.world.connections, self.ip_proto
        with_ids = (False, True) if self._has_id() else (False,)
        keys: list[StateKey] = [
            (device, proto, *self._tuple4(with_id=with_id, as_it_came=as_it_came))
            for with_id in with_ids
        ]
        for key in keys:
            self.tags.add(key)
            hit = connections.find(key)
            made = hit.connection.translations if beside and hit is not None else ()
            if any(one.device == device for one in made):
                continue
            if hit is None or self._is_unfinished(hit) or self._begins_anew(hit):
                self._missed.append(key)
            else:
                self.hit = hit
                if key is not keys[0]:
                    self.count_id()
                return hit
        return None

    def _is_unfinished(self, hit: Hit) -> bool:
        """Tell whether a record knows only a part of the way, and keep it if so.

        A device answered an earlier packet behind a NAT (its time ran out there, say).
        The record leads answers back; a packet that goes farther is a new one to
        whatever filters and translates beyond.
        """
        connection = hit.connection
        if (
            connection.egress_vport
            or not connection.translations
            or not connection.ingress_vport
            or hit.direction is not Direction.FORWARD
            or self.is_error
        ):
            return False
        self.unfinished = connection
        return True

    def _begins_anew(self, hit: Hit) -> bool:
        """Tell whether it uses a closed connection's ends, whose server has left.

        A record outlives its connection. Who opens another one from the same port to
        the same VIP meanwhile gets a server that is there; its record takes the old
        one's place.
        """
        flags = self.packet.tcp_flags
        if (
            self.packet.ip_proto != protocol.TCP
            or flags & (protocol.TCP_SYN | protocol.TCP_ACK) != protocol.TCP_SYN
            or hit.direction is not Direction.FORWARD
            or not is_outdated(self.world.topology, hit.connection)
        ):
            return False
        self.unfinished = hit.connection
        return True

    def _has_id(self) -> bool:
        return self.ip_proto in (protocol.ICMP, protocol.ICMPV6)

    def count_id(self) -> None:
        """Make the identifier of an ICMP query part of its connection's tuple."""
        if self._has_id():
            self.id_counts = True
            self.fields |= field.ICMP_ID

    def _read_tuple(self) -> None:
        self.looked |= READ_TUPLE
        if self.packet.ip_frag:
            self.fields |= field.IP_FRAG
            self.needs_first = True
        if self.quoted is not None:
            self.fields |= field.PAYLOAD

    def ct_state(self) -> int:
        """Return its connection state, one of the CT_* bits."""
        if self.assumed:
            return self.assumed
        self.look_up()
        if self.hit is not None:
            return CT_RELATED if self.is_error else CT_ESTABLISHED
        if self.is_error or is_lone_reply(self.packet):
            return CT_INVALID
        if self.packet.ip_proto == protocol.TCP:
            self.judged = True
            verdict = tcp_verdict(self.packet.tcp_flags)
            if verdict is not TcpVerdict.NEW:
                self.fields |= field.TCP_FLAGS
            if verdict is TcpVerdict.INVALID:
                return CT_INVALID
        return CT_NEW

    @property
    def is_beginning(self) -> bool:
        """It may be the first packet of a connection."""
        if self.is_error or is_lone_reply(self.packet):
            return False
        return (
            self.packet.ip_proto != protocol.TCP
            or tcp_verdict(self.packet.tcp_flags) is TcpVerdict.NEW
        )

    def missed_keys(self) -> tuple[StateKey, ...]:
        """List the keys by which its record was looked for in vain, in order."""
        return tuple(self._missed)

    @property
    def is_later_fragment(self) -> bool:
        """It is a fragment whose layer 4 header nobody has seen."""
        if self.is_ip:
            self.fields |= field.ETH_TYPE | field.IP_FRAG
        packet = self.packet
        if not packet.ip_frag:
            return False
        self.needs_first = True
        return packet.ip_frag == protocol.FRAG_LATER and not packet.borrowed

    def read_protocol(self) -> None:
        """Note that the IP protocol was read.

        A switch sees another one in later IPv6 fragments, so all fragments must come to
        whoever knows the first one (ovs-fields(7), nw_proto).
        """
        self.fields |= READ_PROTO
        if self.packet.eth_type == protocol.ETH_IPV6:
            self.fields |= field.IP_FRAG
            if self.packet.ip_frag:
                self.needs_first = True

    def travels(self, direction: Direction) -> bool:
        """Tell whether it belongs to a record and goes that way."""
        return self.hit is not None and self.hit.direction is direction

    def arrive(self) -> None:
        """Keep how it looks before a router changes it."""
        quoted = self.quoted
        self._arrived = (self.headers.copy(), replace(quoted) if quoted else None)

    def as_arrived(self) -> Packet:
        """Return the packet as it reached the router where it is.

        What a router says about a packet, it says about what its sender knows: not
        about the router's own translations.
        """
        headers, quoted = self._arrived
        if quoted is None:
            return decode(rewrite(self.packet, headers))
        embedded = EmbeddedRewrite.of(quoted)
        return decode(rewrite(self.packet, headers, embedded))

    def emit(self, vport: int, frame: bytes) -> None:
        """Let a device send a frame out of one of its vports."""
        self.emissions.append(Emission(vport, frame))
