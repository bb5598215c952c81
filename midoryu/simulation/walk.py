# SPDX-License-Identifier: Apache-2.0
"""The packet under way: its headers now, what was read, found and learned so far.

`simulator` makes one for each packet; devices work on it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple, Union

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
from midoryu.state.affinity import AffinityTable
from midoryu.state.connection import (
    Connection,
    Direction,
    FourTuple,
    StateKey,
    Translation,
    query_ports,
    reverse,
)
from midoryu.state.lifetime import TcpVerdict, tcp_verdict
from midoryu.state.nat import NatTable
from midoryu.state.table import ConnectionTable, Hit
from midoryu.topology.model import (
    CT_ESTABLISHED,
    CT_INVALID,
    CT_NEW,
    CT_RELATED,
    Masquerade,
    Vport,
)
from midoryu.topology.snapshot import Topology
from midoryu.topology.tag import Tag

# What must be matched together with each field (OpenFlow 1.3, section 7.2.3.8).
READ_IP_SRC: Final = field.ETH_TYPE | field.IP_SRC
READ_IP_DST: Final = field.ETH_TYPE | field.IP_DST
READ_PROTO: Final = field.ETH_TYPE | field.IP_PROTO
READ_L4_SRC: Final = READ_PROTO | field.L4_SRC
READ_L4_DST: Final = READ_PROTO | field.L4_DST
READ_TUPLE: Final = READ_IP_SRC | READ_IP_DST | READ_L4_SRC | READ_L4_DST

PORT_PROTOCOLS: Final = frozenset((protocol.TCP, protocol.UDP, protocol.SCTP))


class World(NamedTuple):
    """Everything that a simulation may look at; it changes none of it."""

    topology: Topology
    connections: ConnectionTable
    nat: NatTable
    affinity: Union[AffinityTable, None] = None
    """None where nobody keeps it."""


class Walk:
    """One packet on its way."""

    __slots__ = (
        "_arrived",
        "_id_counts",
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
        self._id_counts = False

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
        return self._tuple4(with_id=self._id_counts)

    def original_tuple4(self) -> FourTuple:
        """Return the tuple as it came in, in the form that its record is kept by."""
        return self._tuple4_of(self.packet.headers, with_id=self._id_counts)

    def _tuple4(self, *, with_id: bool, as_it_came: bool = False) -> FourTuple:
        quoted = self.packet.embedded if as_it_came else self.quoted
        if quoted is not None:
            return reverse(_quoted_tuple(quoted, with_id=with_id))
        headers = self.packet.headers if as_it_came else self.headers
        return self._tuple4_of(headers, with_id=with_id)

    def _tuple4_of(self, headers: Headers, *, with_id: bool) -> FourTuple:
        proto = self.packet.ip_proto
        source_port, destination_port = headers.l4_src, headers.l4_dst
        if proto not in PORT_PROTOCOLS:
            icmp_id = headers.icmp_id if with_id else 0
            ports = query_ports(proto, headers.l4_src, icmp_id)
            source_port, destination_port = ports if ports is not None else (0, 0)
        return headers.ip_src, headers.ip_dst, source_port, destination_port

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
            if beside and hit is not None and _is_translated(hit.connection, device):
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
            self._id_counts = True
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
        if self.is_error or self._is_lone_reply():
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
        if self.is_error or self._is_lone_reply():
            return False
        return (
            self.packet.ip_proto != protocol.TCP
            or tcp_verdict(self.packet.tcp_flags) is TcpVerdict.NEW
        )

    def missed_keys(self) -> tuple[StateKey, ...]:
        """List the keys by which its record was looked for in vain, in order."""
        return tuple(self._missed)

    def _is_lone_reply(self) -> bool:
        proto, kind = self.packet.ip_proto, self.packet.headers.l4_src
        if proto == protocol.ICMP:
            return kind == protocol.ICMP_ECHO_REPLY
        return proto == protocol.ICMPV6 and kind == protocol.ICMPV6_ECHO_REPLY

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

    # Rewrites.

    def set_source(self, address: int, port: int) -> None:
        """Translate the source (of an ICMP error: also the quoted destination)."""
        headers, quoted = self.headers, self.quoted
        if quoted is None:
            headers.ip_src = address
            if self.packet.ip_proto in PORT_PROTOCOLS:
                headers.l4_src = port
            elif self._id_counts and self._is_query():
                headers.icmp_id = port
            return
        if quoted.ip_dst != address:
            # Whoever inside says it: RFC 5508, section 4.2, REQ-5(c).
            headers.ip_src = address
        quoted.ip_dst = address
        if quoted.ip_proto in PORT_PROTOCOLS:
            quoted.l4_dst = port
        elif self._id_counts and not _quotes_query(quoted):
            quoted.l4_src = quoted.l4_dst = port

    def set_destination(self, address: int, port: int) -> None:
        """Translate the destination (of an ICMP error: also the quoted source)."""
        headers, quoted = self.headers, self.quoted
        if quoted is None:
            headers.ip_dst = address
            if self.packet.ip_proto in PORT_PROTOCOLS:
                headers.l4_dst = port
            elif self._id_counts and not self._is_query():
                headers.icmp_id = port
            return
        if headers.ip_dst == quoted.ip_src:
            headers.ip_dst = address
        quoted.ip_src = address
        if quoted.ip_proto in PORT_PROTOCOLS:
            quoted.l4_src = port
        elif self._id_counts and _quotes_query(quoted):
            quoted.l4_src = quoted.l4_dst = port

    def _is_query(self) -> bool:
        headers = self.headers
        ports = query_ports(self.packet.ip_proto, headers.l4_src, 0)
        return ports is not None and ports[1] != 0

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
        embedded = EmbeddedRewrite(
            ip_src=quoted.ip_src,
            ip_dst=quoted.ip_dst,
            l4_src=quoted.l4_src,
            l4_dst=quoted.l4_dst,
        )
        return decode(rewrite(self.packet, headers, embedded))

    def emit(self, vport: int, frame: bytes) -> None:
        """Let a device send a frame out of one of its vports."""
        self.emissions.append(Emission(vport, frame))


def _is_translated(connection: Connection, device: int) -> bool:
    return any(one.device == device for one in connection.translations)


def _quoted_tuple(quoted: Embedded, *, with_id: bool) -> FourTuple:
    if quoted.ip_proto in PORT_PROTOCOLS:
        return quoted.ip_src, quoted.ip_dst, quoted.l4_src, quoted.l4_dst
    icmp_id = quoted.l4_src if with_id else 0
    ports = query_ports(quoted.ip_proto, quoted.icmp_type, icmp_id)
    source_port, destination_port = ports if ports is not None else (0, 0)
    return quoted.ip_src, quoted.ip_dst, source_port, destination_port


def _quotes_query(quoted: Embedded) -> bool:
    ports = query_ports(quoted.ip_proto, quoted.icmp_type, 0)
    return ports is not None and ports[1] != 0
