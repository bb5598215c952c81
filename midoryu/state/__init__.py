# SPDX-License-Identifier: Apache-2.0
"""Flow state: what this host remembers about live connections.

Decides which record a packet belongs to (`table`, `key_index`), how long a record lives
(`lifetime`), and which address and port a masqueraded connection gets (`nat`). It
never looks at a topology, a flow or a wire: it is given connections and gives them
back. `connection` is the record itself and says by which keys it is found.

One `Engine` owns one `ConnectionTable` and one `NatTable`; nothing here locks. Every
method that depends on time takes `now`, monotonic seconds.

Invariants:

1. A state key leads to one record; two records that claim one key are decided alike
   on every host (the lower id has it).
2. No two live connections share (protocol, NAT address, port, destination,
   destination port), and a host only gives out ports of blocks that it leased, so the
   same holds between hosts.
3. `NatTable.pick` changes nothing: a simulation can be thrown away and run again.
   A router whose masquerade lets the outside speak first (`NatTable.watch`) keeps who
   has which port, also while only such connections use it.
4. A record with installed flows (held) does not expire; a full table drops the oldest
   unreplied record, never an established one.

Sources: RFC 4787 (UDP), RFC 5382 (TCP), RFC 5508 (ICMP), RFC 7857 (updates to these).
"""
