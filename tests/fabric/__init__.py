# SPDX-License-Identifier: Apache-2.0
"""The fabric simulation: many engines, a bad network, one seed, and what must hold.

Decides what goes wrong and when, and judges what comes of it. `net` has hosts (a real
engine and a model switch each), the underlay and the NSDB (`database`); `world` the
topology; `opening` which connections there are, `talk` their traffic and the judgement
of every packet, `error` ICMP errors about them, `intruder` who may not come in;
`disturbance` what breaks, `silence` who idles for how long; `judge` what records and
flows must say when nothing is under way; `run` plays a seed; `python -m tests.fabric`
(`tools/fabric`) plays many. In every third seed the uplinks are on two routers.

Never looks at a clock, a thread or the outside: everything random comes from one
generator, events are ordered by (time, serial), so a seed is a run.

Invariants, after every packet: no two live connections look alike to a server; who
receives a packet sees its own connection as it was from the beginning, and an ICMP
error quotes what its receiver sent; who calls a VIP comes to a member of its pool, and
stays with it; nobody comes in whom policy forbids; no exception leaves an engine. After
every disturbance and its bound (design, section 9): each established connection carries
a packet and an ICMP error each way within a few tries, all concerned hosts have equal
records, every flow that stands does what its agent and its record say, whoever leases a
port knows the connection that uses it, and who has idled for longer than its lifetime
is gone everywhere, with its journal entry, its port and at last the port's block.

That it finds bugs, with faults put in on purpose (4 hosts, one simulated minute):
return keys not indexed: seed 1; a UDP connection's NAT port freed at once: seed 1; a
record replaced by an older version of itself: seed 2; the quoted port of an ICMP error
not translated: seed 1; no touches to peers: seed 2; records not sent to who leases the
port: seed 1 of `--only migration --minutes 0.5`; a block given back that is in use:
seed 1; records not looked for at other routers of the ingress set: seed 3.
"""
