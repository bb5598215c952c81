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
from midoryu.simulation.outcome import GroupSeen, MacSeen, NeighborSeen, NeighborWanted
from midoryu.topology.model import Gone, MacEntry, Neighbor, Put
from midoryu.topology.tag import mac_tag

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
    row = Neighbor(f"local/{router}/{address}", router, address, mac)
    core.invalidate(core.topology.apply([Put(row)]), effects, now)
    effects.nsdb_writes.append(LearnNeighbor(router, address, mac))
    core.counters["neighbours learned"] += 1


def waiting_for(core: Core, router: int, address: int) -> list[NeighborWanted]:
    """List what waits for a router's neighbour, by whichever vport."""
    return [
        wanted
        for wanted in core.waiting.wanted()
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
