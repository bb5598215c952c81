# SPDX-License-Identifier: Apache-2.0
"""Frames: decode them, change their headers, make new ones.

What the room decides: what the bytes of a frame mean (`codec`, with `icmp` for what
only ICMP carries), and which bytes a changed header field makes (`rewrite`). `build`
makes whole frames: ARP and neighbour discovery, ICMP errors, replies. `packet` and
`field` are the values that all other rooms speak of, `address` and `protocol` their
numbers, `checksum` the arithmetic.

What it never does: decide where a packet goes, know virtual devices, or keep anything
between two calls. It is called by every room above it and calls none.

    frame ─► codec.decode ─► Packet (as it arrived; never changed)
                               │ .headers.copy() ─► devices change Headers
    frame ◄─ rewrite(packet, headers, embedded) ◄─┘

Invariants:

- any bytes become a `Packet` or a `DecodeError` that says what is wrong and where;
- fields mean what they mean to OVS (ovs-fields(7)): ports are 0 in later fragments, the
  protocol of a later IPv6 fragment is 44, a frame without ethertype has 0x05FF, either
  VLAN ethertype counts as a tag. A flow matches the packet that it was made from;
- `rewrite` touches only fields that differ, and updates checksums incrementally, so
  that a packet that came with a wrong checksum leaves with a wrong one;
- an IPv6 header with an IPv4-mapped address is refused, as inside midoryu such an
  address *is* IPv4.

Sources: RFC 791, 792, 826, 1071, 1624, 1812, 3128, 4443, 4861, 5508, 8200, 9293;
IEEE 802.1Q; ovs-fields(7).
"""
