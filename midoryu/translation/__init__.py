# SPDX-License-Identifier: Apache-2.0
"""The translation: from where a packet leaves the overlay to what the switch must do.

The only room that knows both worlds: vports and hosts on one side, ofports, tunnel keys
and underlay addresses on the other. `places` says what is where, `flows` makes matches
and actions. It never changes a simulation's outcome; a vport that is nowhere is left
out, and said so.

`flood` says when one copy is enough for a host.

Invariant: a packet that meets the installed flow leaves just as the simulated one did.
"""
