# SPDX-License-Identifier: Apache-2.0
"""The network state database: schema, client, topology files.

Decides: how the topology is kept in a stock `ovsdb-server` (`midoryu.ovsschema`), and
how rows become values of `topology.model` and back. Never decides: what a packet does.

Two users. The agent has a `client.NsdbClient`: `run` turns what the server sent into
engine events, `write` queues what the engine learned; neither blocks. Commands have a
`session.Session`: it waits for the database, and for its one transaction.
The agent keeps rows as tuples (`thin_row`): a large cloud has very many. Commands use
the IDL of package `ovs`.

    topology file --topology_file--> items --apply--> rows (one transaction)
                  <-----export------ items <-----item----- rows
    rows --thin_idl--> tuples --rows, replica--> model changes --client--> engine
    effect.NsdbWrite --writer, write--> rows

Invariants:
- The first `TopologyChanged` holds everything; later ones hold true differences only. A
  lost connection, a restarted server or another database never looks like an empty one.
- One number space of keys for hosts, networks, routers and ports; a key is allocated in
  the transaction that inserts its row, and follows from its name: a database that was
  lost and filled again has the same keys.
- References are UUIDs with the right strength, so the server itself refuses a dangling
  one: strong where the row makes no sense without the other, weak for a port's peer and
  for members of port groups. Learned rows (`Mac`, `Arp`, `Port_Status`, `Port_Ready`,
  `Nat_Lease`) are deleted in the transaction that deletes what they are about.
- A bad row is counted and skipped; it never hides another.

Sources: RFC 7047 (OVSDB); ovsdb-server(7) for monitor_cond_since.
"""

import warnings

with warnings.catch_warnings():
    # Package ovs imports eventlet, which announces its own end on every start; a
    # command's user can do nothing about it.
    warnings.simplefilter("ignore")
    import ovs.poller  # noqa: F401
