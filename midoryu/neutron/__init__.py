# SPDX-License-Identifier: Apache-2.0
"""OpenStack: Neutron's resources become rows of the NSDB.

Decides: which rows a Neutron resource has, and when they are written. Never decides
what a packet does, and never speaks to a host: agents learn everything from the NSDB.

    API call ── same DB transaction ──► journal: which units are dirty
        └─ after the commit ──► sync.flush
                 journal ─► source (Neutron's DB now) ─► items ─► writer ─► NSDB
    worker (neutron-periodic-workers): the journal again, whole comparison, port status

A *unit* is what is written as a whole: one network, port, security group, address
group or router (`unit`). `network`, `port`, `security`, `router` are pure: Neutron's
dictionaries in, `nsdb.item` items out. `source` reads Neutron's database for them,
`store` holds the connection, `writer` makes rows equal items.

`octavia` is a stranger among these: Octavia's API calls it, and its rows come from what
that says (`octavia_tree`), not from Neutron's database. It shares `store` and `writer`.

Invariants:
- A change and its journal entry are one database transaction; the entry goes only after
  the NSDB took the rows. So a process may die anywhere.
- What is written is read from Neutron's database at that moment, not remembered from
  the call: a journal entry says "look again", so the order of entries does not matter.
- A writer first verifies the NSDB's revision, then reads Neutron's database; of two
  writers at once (threads, workers, API hosts) the server lets one through, and the
  other reads again. So older knowledge never replaces newer.
- Rows carry `external_ids` `neutron:unit`; topology files and commands leave them.
- An API call does not fail because the NSDB is away.
"""
