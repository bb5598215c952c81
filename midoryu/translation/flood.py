# SPDX-License-Identifier: Apache-2.0
"""Floods: one copy for each host, where all vports there treat it alike.

The network's own key on a tunnel packet says "to every vport of it that is up with
you". `members` is what both ends go by: the sender compares it with where its packet
shall go, the receiver's flow leads there. So filters hold: a packet that some vport
at a host must not get goes to the others there one by one.
"""

from __future__ import annotations

from collections.abc import Iterable

from midoryu.topology.model import Vport
from midoryu.topology.snapshot import Topology


def members(topology: Topology, network: int) -> dict[int, set[int]]:
    """Return the exterior vports of a network that are up, by host."""
    view = topology.network(network)
    found: dict[int, set[int]] = {}
    for vport in view.exterior if view is not None else ():
        if is_member(topology, vport):
            found.setdefault(topology.location(vport.key), set()).add(vport.key)
    return found


def is_member(topology: Topology, vport: Vport) -> bool:
    """Tell whether a network's flood to its host reaches a vport."""
    # One that has an agent of every host behind it is on many at once.
    return not vport.metadata and topology.is_up(vport)


def keys_at(topology: Topology, host: int, vports: Iterable[int]) -> list[int]:
    """Choose the tunnel keys by which a packet gets to vports of one host.

    Returns:
        A network's key where that stands for all of its vports there, else vports'.
    """
    by_network: dict[int, list[int]] = {}
    for key in vports:
        vport = topology.vport(key)
        by_network.setdefault(vport.device if vport else 0, []).append(key)
    keys: list[int] = []
    for network, wanted in by_network.items():
        there = members(topology, network).get(host, set()) if len(wanted) > 1 else ()
        # Who is not up yet gets it as soon as the flow is made anew.
        if len(there) > 1 and there <= set(wanted):
            keys.append(network)
        else:
            keys += wanted
    return keys
