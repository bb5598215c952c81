# SPDX-License-Identifier: Apache-2.0
"""The virtual topology: what operators asked for, and what agents reported about it.

Decides nothing about packets: it answers questions (which vport has this MAC, which
routes lead there, what does this chain say). `model` holds the rows as immutable values
(those of one subject in `rule`, `service`, `l2` and `balancer_row`), `rows` keeps them,
`snapshot` puts them together, `tags_of` says what a changed row touches; `routes`,
`chains`, `nat` and `balancer` are the compiled forms that the simulation reads,
`segment` knows several ways to one outside segment, `tag` names what a flow may depend
on.

Invariants:

* Rows come and go in any order; a row whose parent is missing is simply not found.
* A view (network, router, chain) is compiled at its first use and dropped when a row
  that it was made from changes, so that one changed row costs one view.
* `Topology.apply` returns the tags of everything that could have become wrong.

One owner (the engine) changes a `Topology`, between simulations only.
"""
