# SPDX-License-Identifier: Apache-2.0
"""Members of multicast groups: learned here, told to everybody, and timed out.

Each host minds its own vports: it asks them (as the querier of a network that has
`multicast_snooping`), hears their reports, and withdraws what is not reported again.

Source: RFC 3376, sections 6 and 8; RFC 4541, section 2.1.1.
"""

from __future__ import annotations

from typing import Final

from midoryu.engine.core import Core
from midoryu.engine.effect import Effects, ForgetGroup, LearnGroup
from midoryu.engine.minded import Asked, Place
from midoryu.openflow.flow import PacketOut
from midoryu.packet import multicast
from midoryu.packet.address import is_v4
from midoryu.simulation.outcome import GroupSeen
from midoryu.topology.l2 import ROUTERS, MulticastMember
from midoryu.topology.model import Gone, Put
from midoryu.topology.segment import stands_back
from midoryu.translation.flows import to_local

# RFC 3376, section 8.6 and 8.7: the first queries come soon after one another.
_STARTUP_S: Final = multicast.QUERY_INTERVAL_S / 4
# A vport may have this part of the host's memberships.
_SHARES: Final = 8
_QUERIER_MAC: Final = 0x02_4D_52_000000


def learn(core: Core, seen: GroupSeen, effects: Effects, now: float) -> None:
    """Take in what a local vport says about a group."""
    place = (seen.network, seen.group, seen.vport)
    if seen.joins:
        _join(core, place, effects, now)
    elif place in core.snooping.ends:
        # Others behind the vport may still want it: they have a moment to say so.
        wait_s = multicast.ROBUSTNESS * multicast.LAST_MEMBER_S
        core.snooping.ends[place] = min(core.snooping.ends[place], now + wait_s)
        _query(core, seen.vport, effects, group=seen.group)


def _join(core: Core, place: Place, effects: Effects, now: float) -> None:
    network, group, vport = place
    is_router = group == ROUTERS
    mind = core.snooping.ends
    if place not in mind:
        counts, most = core.snooping.counts, core.config.max_multicast_members
        # One machine cannot take all the room there is.
        if len(mind) >= most or counts[vport] >= most // _SHARES:
            core.counters["multicast members beyond the limit"] += 1
            return
        counts[vport] += 1
    lasts_s = multicast.ROUTER_TIMEOUT_S if is_router else multicast.GROUP_TIMEOUT_S
    core.snooping.ends[place] = now + lasts_s
    if vport in core.topology.l2.members(network, group):
        return
    row = MulticastMember(_key(place), network, group, vport)
    core.invalidate(core.topology.apply([Put(row)]), effects, now)
    effects.nsdb_writes.append(LearnGroup(network, group, vport))
    core.counters["multicast members learned"] += 1


def _key(place: Place) -> str:
    return "local/" + "/".join(map(str, place))


def watch(core: Core, now: float) -> None:
    """Ask the local vports of networks with snooping, from now on, and no others."""
    wanted = set()
    for key in core.places.ofport_by_vport:
        vport = core.topology.vport(key)
        network = core.topology.network(vport.device) if vport is not None else None
        if network is not None and network.row.multicast_snooping:
            wanted.add(key)
    asked = core.snooping.asked
    for key in [key for key in asked if key not in wanted]:
        del asked[key]
    for key in wanted:
        asked.setdefault(key, Asked(now, 0))


def step(core: Core, effects: Effects, now: float) -> None:
    """Ask whom it is time to ask; withdraw what was not reported again."""
    state = core.snooping
    due = state.deadline()
    if due is None or due > now:
        return
    for key, asked in list(state.asked.items()):
        if asked.at <= now:
            _query(core, key, effects)
            is_early = asked.sent + 1 < multicast.ROBUSTNESS
            wait_s = _STARTUP_S if is_early else multicast.QUERY_INTERVAL_S
            state.asked[key] = Asked(now + wait_s, asked.sent + 1)
            _adopt(core, key, now)
    for place in [place for place, end in state.ends.items() if end <= now]:
        del state.ends[place]
        state.counts[place[2]] -= 1
        if not state.counts[place[2]]:
            del state.counts[place[2]]
        _forget(core, place, effects, now)


def _adopt(core: Core, vport: int, now: float) -> None:
    """Mind what an earlier agent, or the vport's last host, had learned."""
    row = core.topology.vport(vport)
    for member in core.topology.rows(MulticastMember) if row is not None else ():
        if member.vport == vport:
            place = (member.network, member.group, vport)
            if place not in core.snooping.ends:
                core.snooping.ends[place] = now + multicast.GROUP_TIMEOUT_S
                core.snooping.counts[vport] += 1


def _forget(core: Core, place: Place, effects: Effects, now: float) -> None:
    network, group, vport = place
    gone = Gone(MulticastMember, _key(place))
    core.invalidate(core.topology.apply([gone]), effects, now)
    # Of a vport that went to another host, that host knows better.
    if vport in core.places.ofport_by_vport:
        effects.nsdb_writes.append(ForgetGroup(network, group, vport))
        core.counters["multicast members withdrawn"] += 1


def _query(core: Core, vport: int, effects: Effects, group: int = 0) -> None:
    ofport = core.places.ofport_by_vport.get(vport)
    row = core.topology.vport(vport)
    if ofport is None or row is None or stands_back(core.topology, row):
        return
    actions = to_local(vport, ofport, core.places, 0)
    source = _QUERIER_MAC | row.device
    families = (True, False) if not group else (is_v4(group),)
    for v4 in families:
        frame = multicast.query(source, v4=v4, group=group)
        effects.packet_outs.append(PacketOut(frame, actions))
