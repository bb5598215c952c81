# SPDX-License-Identifier: Apache-2.0
"""The simulation: one packet's whole way through the virtual topology.

`outcome` is the first file to read, then `simulator`. `simulator` moves a packet from
device to device; each device has its file: `network`, `router`; what devices do on the
way: `multicast` (snooping), `segment` (several ways to one outside segment), `port`
(port security), `filter` (chains, by the `condition` of each rule), `nat` (with
`apart`, for two connections that a server could not tell apart), `balancer` (with
`binding`, what a translation does, `chosen`, what a record says of a choice, and
`probe`, the way of a health probe), `neighbor` (ARP and ND), `answer` (ICMP errors and
replies), `services` (DHCP by `dhcp` and `dhcp_v6`, router advertisements by
`advertise`, DNS by `resolver`, metadata). `walk` is the packet under way through a
`world`: its headers, what was read, what was learned; `tuples` tells connections apart,
`readdress` translates. At its end `record` says what becomes of its connection, and
`result` makes the `Simulation`.

It decides where a packet leaves and how it looks then. It never changes what it is
given: topology, connection records and NAT tables are read only, so a simulation that
has to wait is run again from scratch. It knows vports, never ofports, hosts' addresses,
tunnel keys or tables.

Invariants:

* A header field that was not read does not change the outcome. But for sources that
  cannot be (loopback, multicast, a router's own): the switch drops these itself, and no
  flow is narrowed for their sake.
* Everything that was looked up, found or not, is in the tags.

Fragments: only the first one of a datagram has ports. A walk notes when they were asked
for (`needs_first`); the engine lends them to the later fragments, and no flow stands
for any fragment of such a datagram. What is addressed to a device itself is put
together.

A router holds a packet against the MTU of the link that it leaves by only where that is
smaller than the one that it came by (`size`); the flow then checks the size.

Uplinks of one network that are in one ingress set are ways to one outside segment: what
goes to everybody passes one of them, the designated one, in and out (`segment`).

Members of one ingress set are equal ways in, on different devices too: a record is
looked for at the device where a packet comes in, then at those of its vport's fellows,
and stays with the vport that it names. Two things are not shared: what one of these
devices translates by itself, and connections that came in by a vport that has left the
set since.

A load balancer's VIP is a DNAT rule that chooses. A network translates after its
ingress chain and before its egress chain.

The order of things in a router: DNAT (and the undoing of SNAT), ingress chain, local
addresses, route, TTL, egress chain, SNAT (and the undoing of DNAT), next hop. Filters
thus see the addresses of the inside, as in Linux.

A refusal that is told (`reject`) comes from a router itself, and from a network as if
the destination had answered. Where rules changed since a connection was let in, its
packets are asked anew as its first one was, return packets by the chain of the other
way; what a stateless rule accepts is not tracked.

ARP and neighbour discovery pass chains unless a rule names them (by `ethertype: arp`
or by their ICMPv6 types); what a router itself says (ICMP errors, echo replies, ARP)
is not filtered at all.
"""
