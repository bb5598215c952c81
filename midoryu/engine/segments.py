# SPDX-License-Identifier: Apache-2.0
"""A vport of this host becomes the designated way to an outside segment, and says so.

The switches out there go on sending to the way before: they learn from frames. So what
the network answers for is announced by the new one. `topology.segment` says which way
is the designated one; `change_lane` and the engine's tick call `follow`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from midoryu.engine.core import Core
from midoryu.packet import build
from midoryu.packet.address import is_v4, multicast_mac
from midoryu.simulation.outcome import Emission
from midoryu.topology.segment import designated, is_way
from midoryu.topology.snapshot import NetworkView

# Announcements of one network at most: a burst must not fill an uplink.
_MAX_ANNOUNCED: Final = 512


def follow(core: Core) -> tuple[Emission, ...]:
    """Take over which local vports are designated; return what new ones announce.

    Source: RFC 5227, section 3; RFC 4861, section 7.2.6.
    """
    core.announced_deaths = core.topology.dead_hosts
    found = dict(_designated(core))
    new = found.keys() - core.designated
    core.designated = frozenset(found)
    core.counters["segments taken over"] += len(new)
    return tuple(one for key in sorted(new) for one in _announce(key, found[key]))


def died(core: Core) -> tuple[Emission, ...]:
    """Do the same where hosts have died or come back since."""
    if core.topology.dead_hosts == core.announced_deaths:
        return ()
    return follow(core)


def _designated(core: Core) -> Iterator[tuple[int, NetworkView]]:
    topology = core.topology
    for key in core.places.ofport_by_vport:
        vport = topology.vport(key)
        if vport is None or not is_way(vport):
            continue
        network = topology.network(vport.device)
        ways = network.segments.get(key) if network is not None else None
        if network is not None and ways and designated(topology, ways) == key:
            yield key, network


def _announce(vport: int, network: NetworkView) -> Iterator[Emission]:
    inner = {one.key for one in network.interior}
    for address, mac in islice(sorted(network.mac_by_ip.items()), _MAX_ANNOUNCED):
        is_router = network.vport_by_mac.get(mac) in inner
        yield Emission(vport, _announcement(address, mac, is_router=is_router))


def _announcement(address: int, mac: int, *, is_router: bool) -> bytes:
    if is_v4(address):
        return build.gratuitous_arp(mac, address)
    return build.neighbor_advertisement(
        source_mac=mac,
        source_ip=address,
        target_ip=address,
        destination_mac=multicast_mac(build.ALL_NODES),
        destination_ip=build.ALL_NODES,
        router=is_router,
        solicited=False,
    )
