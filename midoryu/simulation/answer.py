# SPDX-License-Identifier: Apache-2.0
"""What a router says about a packet: ICMP errors, resets, echo replies.

Everything leaves by the vport where the packet reached the router. `packet.build` makes
the frames; here it is decided whether one may be sent, and from which address.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from midoryu.packet import build, field, protocol
from midoryu.packet.address import is_group_mac, is_v4
from midoryu.packet.packet import Packet
from midoryu.simulation.neighbor import source_address
from midoryu.simulation.outcome import Consumed, Drop, Outcome, Reason
from midoryu.simulation.walk import Walk
from midoryu.topology.model import Vport


class Complaint(Enum):
    """An ICMP error by its meaning, in both families.

    The value is (ICMP type, code, ICMPv6 type, code).

    Source: RFC 792; RFC 1812, section 5.2.7.1; RFC 4443, section 3.
    """

    NO_ROUTE = (3, 0, 1, 0)
    HOST_UNREACHABLE = (3, 1, 1, 3)
    PORT_UNREACHABLE = (3, 3, 1, 4)
    PROHIBITED = (3, 13, 1, 1)
    TTL_EXCEEDED = (11, 0, 3, 0)
    TOO_BIG = (3, 4, 2, 0)


_QUERIES: Final = (
    (protocol.ICMP, protocol.ICMP_ECHO_REQUEST),
    (protocol.ICMPV6, protocol.ICMPV6_ECHO_REQUEST),
)


def complain(
    walk: Walk, vport: Vport, complaint: Complaint, reason: Reason, *, mtu: int = 0
) -> Outcome:
    """Send an ICMP error about the packet, where the RFCs let a router send one.

    Returns:
        Consumed when an error went out, Drop when it must not.
    """
    packet = walk.as_arrived()
    # An error quotes the packet, so each one needs its own.
    walk.fields |= field.PAYLOAD
    if walk.generated or not build.may_send_error(packet):
        return Drop(reason)
    type4, code4, type6, code6 = complaint.value
    v4 = is_v4(packet.headers.ip_src)
    walk.emit(
        vport.key,
        build.icmp_error(
            packet,
            mac_src=vport.mac,
            mac_dst=packet.headers.eth_src,
            ip_src=_speaker(walk, vport, packet, complaint),
            icmp_type=type4 if v4 else type6,
            code=code4 if v4 else code6,
            mtu=mtu,
        ),
    )
    if walk.steps is not None:
        walk.note(walk.world.topology.vport_name(vport.key), "icmp", complaint.name)
    return Consumed(reason)


def _speaker(walk: Walk, vport: Vport, packet: Packet, complaint: Complaint) -> int:
    """Return the address that a router complains with.

    What was sent to one of its own addresses (a port of a VIP, too) is answered from
    there, all else from the link's.

    Source: RFC 4443, section 2.2; RFC 1122, section 3.2.1.3; RFC 1812, section 4.3.2.4.
    """
    asked = packet.headers.ip_dst
    router = walk.world.topology.router(vport.device)
    own = router is not None and asked in router.local
    if own or complaint is Complaint.PORT_UNREACHABLE:
        return asked
    return source_address(vport, packet.headers.ip_src)


def refuse(walk: Walk, vport: Vport, reason: Reason) -> Outcome:
    """Answer a packet that nobody takes: reset TCP, complain about others."""
    packet = walk.as_arrived()
    if packet.ip_proto != protocol.TCP or packet.ip_frag:
        kind = (
            Complaint.PORT_UNREACHABLE
            if reason in (Reason.LOCAL, Reason.NO_MEMBER)
            else Complaint.PROHIBITED
        )
        return complain(walk, vport, kind, reason)
    walk.fields |= field.PAYLOAD
    if packet.tcp_flags & protocol.TCP_RST:
        return Drop(reason)
    walk.emit(
        vport.key,
        build.tcp_reset(packet, mac_src=vport.mac, mac_dst=packet.headers.eth_src),
    )
    return Consumed(reason)


def turn_back(walk: Walk, vport: Vport, reason: Reason) -> Outcome:
    """Refuse a packet in the name of its destination, which is what a network can do.

    The answer has the refused packet's addresses turned round, and leaves by the vport
    where that entered the network. `Walk.arrive` was called there.
    """
    packet = walk.as_arrived()
    walk.fields |= field.PAYLOAD
    macs = {
        "mac_src": packet.headers.eth_dst,
        "mac_dst": packet.headers.eth_src,
    }
    if packet.ip_proto == protocol.TCP and walk.is_ip and not packet.ip_frag:
        if packet.tcp_flags & protocol.TCP_RST or is_group_mac(packet.headers.eth_dst):
            return Drop(reason)
        walk.emit(vport.key, build.tcp_reset(packet, **macs))
        return Consumed(reason)
    if not build.may_send_error(packet):
        return Drop(reason)
    type4, code4, type6, code6 = Complaint.PROHIBITED.value
    v4 = is_v4(packet.headers.ip_src)
    walk.emit(
        vport.key,
        build.icmp_error(
            packet,
            ip_src=packet.headers.ip_dst,
            icmp_type=type4 if v4 else type6,
            code=code4 if v4 else code6,
            **macs,
        ),
    )
    return Consumed(reason)


def deliver(walk: Walk, vport: Vport) -> Outcome:
    """Take a packet for the router itself: answer echo, refuse others."""
    packet = walk.packet
    if packet.ip_frag:
        return Consumed(Reason.REASSEMBLY)
    walk.fields |= field.IP_PROTO
    if (packet.ip_proto, packet.headers.l4_src) not in _QUERIES:
        return refuse(walk, vport, Reason.LOCAL)
    walk.fields |= field.PAYLOAD
    packet = walk.as_arrived()
    walk.emit(
        vport.key,
        build.echo_reply(packet, mac_src=vport.mac, mac_dst=packet.headers.eth_src),
    )
    return Consumed(Reason.ANSWERED)
