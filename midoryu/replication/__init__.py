# SPDX-License-Identifier: Apache-2.0
"""Replication: connection records travel straight from host to host.

Decides how a record looks on the wire (`record`, `entry`, `wire`), what one peer has
been sent and has sent (`outbox`, `inbox`), and when to repeat, to ask and to greet
(`session`, with the peers of `roster`). It measures who is silent (`liveness`),
and asks whether packets come and go (`echo`).
It never decides *who* is interested in a connection, and never touches the table of
connections: the engine gives it records and peers, and takes records and datagrams.

Each (sender, receiver) pair is a stream of numbered datagrams. Nobody waits: a datagram
is sent and forgotten, save for a bounded ring of its entries. The receiver sees a gap
at the next datagram and asks (NACK); a lost last datagram shows at the next heartbeat,
which comes 20, 100 and 500 ms after a burst and stops at the acknowledgement. What the
ring no longer holds is fetched by a sync: everything the peer has for this host.

    sender                         receiver
      | 1 records ------------------> |
      | 2 records -----------X        |
      | 3 records ------------------> |  2 is missing
      | <-------------------- NACK 2  |
      | 2 records ------------------> |
      | heartbeat: last 3 ----------> |  20 ms after the burst
      | <--------------------- ack 3  |  silence until the next record

Invariants:

1. Entries of one datagram are given to the engine once, whatever the network repeats.
2. A datagram of an earlier life of the sender or to an earlier life of the receiver
   (their epochs) changes nothing.
3. Pairs that share nothing exchange a hello every 30 s and nothing else.
4. Any bytes are a message or a counted refusal; memory for one peer is bounded.

A record keeps its owner; every host knows its id, and the last write by an id wins.
Who changed one may die before all have heard: touches say of which version the sender's
record is (`version`), and who is behind asks for it.

Sources: RFC 3208 (NACK-based repair, heartbeats), RFC 1982 (serial numbers), RFC 7693
(BLAKE2), RFC 3927 (IPv4 link-local).
"""
