# SPDX-License-Identifier: Apache-2.0
"""The engine: event + what is known + now -> effects.

The composition of all lower rooms, and the only place that changes what they know. It
owns the topology, the connection records, the NAT table, the index of flows and the
waiting room, all gathered in `core.Core`; nothing is shared with another thread.

    engine.Engine.handle        picks the lane by the event
      packet_lane, carrying     a frame from a vport: simulate, install, send
      express, switched,        the same for known kinds, from bytes to bytes
        answering
      state_lane                commit, push and import of flow state
      change_lane               topology, interfaces, the switch itself
    core, flow_index, waiting   what the lanes work on
    fragments                   datagrams whose fragments are under way
    balancing                   load balancers: affinity, connections that end
    unsaid                      what devices say, waiting for a next hop
    health, probe               load balancers: who looks at members, and how
    port_blocks, returning      answers to masqueraded connections, past the gateways
    standing                    flows for vports, floods and mirrors
    impostors                   flows against sources that are routers' own addresses
    segments                    which way to an outside segment stands for all
    gateways, paths             which hosts are dead, and to which the way is lost
    rerouting                   flows that lead elsewhere then
    subport                     frames of trunks
    moving                      machines that migrate: who carries, and since when
    snooping, minded            members of multicast groups
    adoption                    flows that an earlier agent left in the switch
    rebuilding                  records that only such flows still tell of
    report                      answers for people (`inspect`)

Invariants:

* Effects leave in the order state pushes, flow mods, packets.
* A flow in the index stands in the switch, with the same cookie, or its install is
  among the effects that were just returned.
* What a packet needs and nobody knows yet parks the packet, bounded in number and time.
"""
