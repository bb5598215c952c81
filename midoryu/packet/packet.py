# SPDX-License-Identifier: Apache-2.0
"""The values that a decoded frame becomes.

`Packet` is what arrived and is never changed; `Headers` is the small set of fields that
virtual devices may rewrite, on the way through the topology. `codec` makes both.
"""

from __future__ import annotations

from dataclasses import dataclass

from midoryu.compat import SLOTS
from midoryu.packet.protocol import TCP


@dataclass(**SLOTS)
class Headers:
    """The header fields that a device may rewrite."""

    eth_dst: int
    """48-bit MAC address."""
    eth_src: int
    """48-bit MAC address."""
    ip_src: int = 0
    """128-bit address; ARP sender protocol address; 0 where there is none."""
    ip_dst: int = 0
    """128-bit address; ARP target protocol address; 0 where there is none."""
    l4_src: int = 0
    """Source port; ICMP type; 0 where there is none."""
    l4_dst: int = 0
    """Destination port; ICMP code; 0 where there is none."""
    icmp_id: int = 0
    """Identifier of an ICMP query (RFC 792, RFC 4443), else 0."""
    ip_ttl: int = 0
    """IPv4 time to live or IPv6 hop limit."""
    ip_tos: int = 0
    """The whole DSCP/ECN octet."""

    def copy(self) -> Headers:
        """Return an independent copy."""
        # `dataclasses.replace` takes four times as long, and each packet pays it.
        return Headers(
            self.eth_dst,
            self.eth_src,
            self.ip_src,
            self.ip_dst,
            self.l4_src,
            self.l4_dst,
            self.icmp_id,
            self.ip_ttl,
            self.ip_tos,
        )


@dataclass(**SLOTS)
class Packet:
    """One frame, decoded as far as a decision can need."""

    frame: bytes
    """All bytes from the Ethernet destination on, without FCS."""
    headers: Headers
    """Fields as they arrived."""
    eth_type: int
    """Ethertype behind an optional VLAN tag."""
    vlan: int = 0
    """0 untagged; otherwise 0x1000 | VID (the CFI bit marks presence, as in OVS)."""
    ip_proto: int = 0
    """IP protocol (of the last extension header for IPv6); ARP operation."""
    ip_frag: int = 0
    """FRAG_NONE, FRAG_FIRST or FRAG_LATER."""
    tcp_flags: int = 0
    """Low 8 flag bits (RFC 9293, section 3.1)."""
    l3: int = 0
    """Offset of the layer 3 header in the frame, bytes; 0 where unknown ethertype."""
    l4: int = 0
    """Offset of the layer 4 header, bytes; 0 where there is none (later fragment)."""
    l3_length: int = 0
    """Length of the IP packet with its header, bytes (padding excluded)."""
    arp_sha: int = 0
    """ARP sender hardware address."""
    arp_tha: int = 0
    """ARP target hardware address."""
    nd_target: int = 0
    """Target address of a neighbour solicitation or advertisement, else 0."""
    nd_mac: int = 0
    """Source (NS) or target (NA) link-layer address option, 0 where absent."""
    embedded: Embedded | None = None
    """What an ICMP error quotes; None for other packets and for a cut quote."""
    borrowed: bool = False
    """A later fragment that has ports and flags of its first (`fragment.lend`)."""


@dataclass(**SLOTS)
class Embedded:
    """The start of the packet that an ICMP error quotes.

    Source: RFC 792; RFC 4443, section 2.4; RFC 5508, section 4.
    """

    ip_src: int
    """Source of the quoted packet, 128-bit."""
    ip_dst: int
    """Destination of the quoted packet, 128-bit."""
    ip_proto: int
    """Protocol of the quoted packet."""
    l4_src: int
    """Quoted source port; for an ICMP query its identifier."""
    l4_dst: int
    """Quoted destination port; for an ICMP query its identifier."""
    icmp_type: int
    """Type of a quoted ICMP query, else 0."""
    l3: int
    """Offset of the quoted IP header in the frame, bytes."""
    l4: int
    """Offset of the quoted layer 4 header in the frame, bytes."""


def has_tcp_data(packet: Packet) -> bool:
    """Tell whether a TCP segment has more than its header."""
    if packet.ip_proto != TCP or not packet.l4:
        return False
    header_bytes = packet.frame[packet.l4 + 12] >> 4 << 2
    return packet.l3 + packet.l3_length > packet.l4 + header_bytes
