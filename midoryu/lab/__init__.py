# SPDX-License-Identifier: Apache-2.0
"""The lab: hosts, VMs and outside machines as network namespaces on one machine.

Decides how a lab file becomes namespaces, veth pairs, Open vSwitch daemons, one NSDB
and one agent per host. `tools/lab`, the functional tests, the demo and the benchmarks
all use it. `tools/lab --help` and `file.py` describe the lab file.

Never does the agent's work: it makes `br-int` only so that interfaces can be plugged
in, and sets no flow, no controller and no tunnel port. It never touches the network of
the machine that it runs on: every interface lives in a namespace of the lab.

Reads left to right: `file` (lab file, read with `nsdb.document`, ->
`spec` values, with what `overlay` says of the topology) -> `lab` (the verbs), which
uses `wire` (namespaces and links), `host` (one host's daemons), `database` (the NSDB),
`capture`, and the plumbing `shell`, `process` and `store`.

Invariants:

- A lab is written down (`store`) before its first namespace is made, and everything it
  starts runs inside its own namespaces. So `down` finds all of it by the written list
  of namespaces, whatever died when.
- No interface of a lab is ever in the machine's own namespace; names cannot collide
  with anything outside the lab.
- A process is only ended when it lives in one of the lab's namespaces.

Sources: ip-netns(8), veth(4), nft(8), ovs-vswitchd(8), and the Open vSwitch guide
"Connecting VMs Using Tunnels (Userspace)" for the underlay bridge.
"""
