# SPDX-License-Identifier: Apache-2.0
"""What a host learns from packets: MAC addresses of networks, neighbours of routers.

Believed at once here, told to everybody through the NSDB, and withdrawn when unused.
`packet_lane` brings what a simulation saw.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Union

from midoryu.engine import snooping
from midoryu.engine.core import Core
from midoryu.engine.effect import Effects, ForgetMac, LearnMac, LearnNeighbor
from midoryu.simulation import neighbor
from midoryu.simulation.outcome import (
    Emission,
    GroupSeen,
    MacSeen,
    NeighborSeen,
    NeighborWanted,
)
from midoryu.topology.model import Gone, MacEntry, Neighbor, Put
from midoryu.topology.snapshot import subnets
from midoryu.topology.tag import mac_tag, neighbor_tag

# A MAC address that moves too often is held where it is for the rest of this time.
MOVES_WITHIN_S: Final = 10.0

# How long a MAC address behind an uplink is kept that no flow of this host names.
_UPLINK_IDLE_S: Final = 3600.0


def learn(
    core: Core,
    seen: Iterable[Union[MacSeen, NeighborSeen, GroupSeen]],
    effects: Effects,
    now: float,
) -> tuple[NeighborWanted, ...]:
    """Take in what was seen.

    Returns:
        What packets were waiting for and is known now.
    """
    known: list[NeighborWanted] = []
    for one in seen:
        if isinstance(one, MacSeen):
            _learn_mac(core, one, effects, now)
        elif isinstance(one, GroupSeen):
            snooping.learn(core, one, effects, now)
        else:
            _learn_neighbor(core, one, effects, now)
            known.extend(waiting_for(core, one.router, one.address))
    return tuple(known)


def _learn_mac(core: Core, seen: MacSeen, effects: Effects, now: float) -> None:
    network, mac, vport = seen
    if not _may_learn(core, seen, now):
        return
    row = MacEntry(_mac_key(network, mac), network, mac, vport)
    core.invalidate(core.topology.apply([Put(row)]), effects, now)
    core.learned_macs[(network, mac)] = now
    effects.nsdb_writes.append(LearnMac(network, mac, vport))
    core.counters["MAC addresses learned"] += 1


def _may_learn(core: Core, seen: MacSeen, now: float) -> bool:
    """Tell whether an address may be learned: tables are bounded, moves are limited.

    What is not learned is flooded, so its packets arrive all the same.
    """
    network, mac, vport = seen
    view = core.topology.network(network)
    at = core.topology.mac_location(view, mac) if view is not None else 0
    counts = core.topology.l2
    row = core.topology.vport(vport)
    if at and at != vport and _flaps(core, network, mac, now):
        core.counters["MAC moves refused"] += 1
        return False
    bound = row.mac_limit if row is not None else 0
    if counts.macs_of_vport[vport] >= (bound or core.config.vport_mac_limit):
        core.counters["MAC addresses beyond a port's limit"] += 1
        return False
    bound = view.row.mac_limit if view is not None else 0
    is_full = counts.macs_of_network[network] >= (
        bound or core.config.network_mac_limit
    )
    if is_full and not at:
        core.counters["MAC addresses beyond a network's limit"] += 1
        return False
    return True


def _flaps(core: Core, network: int, mac: int, now: float) -> bool:
    """Count a move; tell whether the address has moved too often of late."""
    since, moves = core.mac_moves.get((network, mac), (now, 0))
    if now - since >= MOVES_WITHIN_S:
        since, moves = now, 0
    core.mac_moves[(network, mac)] = (since, moves + 1)
    return moves >= core.config.mac_moves_max


def _mac_key(network: int, mac: int) -> str:
    return f"local/{network}/{mac}"


def _learn_neighbor(
    core: Core, seen: NeighborSeen, effects: Effects, now: float
) -> None:
    router, address, mac = seen
    if _has_too_many(core, router, address):
        core.counters["neighbours beyond a router's limit"] += 1
        return
    row = Neighbor(f"local/{router}/{address}", router, address, mac)
    core.invalidate(core.topology.apply([Put(row)]), effects, now)
    effects.nsdb_writes.append(LearnNeighbor(router, address, mac))
    core.counters["neighbours learned"] += 1


def _has_too_many(core: Core, router: int, address: int) -> bool:
    """Tell whether nobody asked for a neighbour, and a router knows many already.

    Source: RFC 6583, section 6.
    """
    topology = core.topology
    if topology.l2.neighbors_of_router[router] < core.config.max_neighbors:
        return False
    if waiting_for(core, router, address):
        return False
    return not topology.knows_neighbor(router, address)


def refresh_neighbors(core: Core, now: float) -> list[Emission]:
    """Ask anew for the next hops that flows of this host go by.

    Who has an address now answers, the router hears it, and everything follows.

    Source: RFC 1122, section 2.3.2.1 (an ARP cache must find out-of-date entries).
    """
    asked, emissions = core.neighbors_asked, []
    pace = core.config.neighbor_refresh_s
    used = [
        (row.router, row.address)
        for row in core.topology.rows(Neighbor)
        if pace and core.flows.is_tagged(neighbor_tag(row.router, row.address))
    ]
    for place in asked.keys() - set(used):
        del asked[place]
    for place in used:
        if now - asked.setdefault(place, now) >= pace:
            asked[place] = now
            emissions += _question(core, *place)
    core.counters["neighbours asked for anew"] += len(emissions)
    return emissions


def _question(core: Core, router: int, address: int) -> list[Emission]:
    view = core.topology.router(router)
    for vport in view.vports.values() if view is not None else ():
        if any(subnet.contains(address) for subnet in subnets(vport)):
            return [Emission(vport.key, neighbor.request(vport, address))]
    return []


def waiting_for(core: Core, router: int, address: int) -> list[NeighborWanted]:
    """List what waits for a router's neighbour, by whichever vport."""
    return [
        wanted
        for wanted in dict.fromkeys((*core.waiting.wanted(), *core.unsaid.wanted()))
        if isinstance(wanted, NeighborWanted)
        and (router, address) == (wanted.router, wanted.address)
    ]


def age_macs(core: Core, effects: Effects, now: float) -> None:
    """Withdraw MAC addresses that this host learned and no flow has used for long.

    Source: IEEE 802.1D-2004, section 7.9.2 (ageing time, 300 s by default).
    """
    moves = core.mac_moves.items()
    for place in [p for p, (at, _) in moves if now - at >= MOVES_WITHIN_S]:
        del core.mac_moves[place]
    for (network, mac), last_seen in list(core.learned_macs.items()):
        if core.flows.is_tagged(mac_tag(network, mac)):
            core.learned_macs[(network, mac)] = now
            continue
        if now - last_seen < core.config.mac_idle_timeout_s:
            continue
        view = core.topology.network(network)
        at = core.topology.mac_location(view, mac) if view is not None else 0
        if at in core.blocks.vports and now - last_seen < _UPLINK_IDLE_S:
            # Its answers may be handed on, by flows that do not name it.
            continue
        del core.learned_macs[(network, mac)]
        gone = Gone(MacEntry, _mac_key(network, mac))
        core.invalidate(core.topology.apply([gone]), effects, now)
        if at in core.places.ofport_by_vport:
            effects.nsdb_writes.append(ForgetMac(network, mac, at))
            core.counters["MAC addresses withdrawn"] += 1
