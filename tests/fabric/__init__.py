# SPDX-License-Identifier: Apache-2.0
"""The fabric simulation: many engines, a bad network, one seed, and what must hold.

Decides what goes wrong and when, and judges what comes of it. `net` has hosts (a real
engine and a model switch each), the underlay and the NSDB; `world` the topology; `talk`
the traffic and the judgement of every packet; `disturbance` what breaks; `judge` what
records and flows must say when nothing is under way; `run` plays a seed; `python -m
tests.fabric` (`tools/fabric`) plays many.

Never looks at a clock, a thread or the outside: everything random comes from one
generator, events are ordered by (time, serial), so a seed is a run.

Invariants, after every packet: no two live connections look alike to a server; who
receives a packet sees its own connection as it was from the beginning; nobody comes in
whom policy forbids; no exception leaves an engine. After every disturbance and its
bound (design, section 9): each established connection carries a packet each way within
a few retransmissions, all concerned hosts have equal records, and every flow that
stands does what its agent and its record say.

That it finds bugs, with faults put in on purpose (4 hosts, one simulated minute):
return keys not indexed: seed 1; a UDP connection's NAT port freed at once: seed 1; a
record replaced by an older version of itself: seed 2.
"""
