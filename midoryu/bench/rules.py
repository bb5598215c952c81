# SPDX-License-Identifier: Apache-2.0
"""What a filter costs: chains of 50 and of 5,000 rules, groups of 10,000 members.

A part of `micro`. The packets are new connections on one network that the last rule of
a chain accepts, so that no rule can be left out.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Final

from midoryu.bench import world
from midoryu.packet.address import Prefix, parse_ip, parse_mac
from midoryu.packet.codec import decode
from midoryu.simulation.simulator import simulate
from midoryu.simulation.world import World
from midoryu.state.nat import NatTable
from midoryu.state.table import ConnectionTable
from midoryu.topology import model
from midoryu.topology.model import Put, Rule, RuleAction
from midoryu.topology.snapshot import Topology

FEW: Final = 50
MANY: Final = 5_000
MEMBERS: Final = 10_000
_GROUPS: Final = 100
_PACKETS: Final = 1_000
_HOST_BITS: Final = 128
_NETWORK, _FROM, _TO, _HOST = 1, 2, 3, 4
# Every frame of kind "l3" is for this one.
_MAC: Final = parse_mac("02:aa:00:00:00:01")
_SOURCE: Final = parse_ip("10.8.1.1")


def filtered(rules: int, *, members: int = 0) -> Callable[[Any], float]:
    """Return a step that tells the microseconds of one simulated packet.

    Args:
        rules: how many rules the chain has.
        members: how many members each of the groups has that they name; 0: no groups.
    """
    made: list[Topology] = []

    def step(_: object) -> float:
        if not made:
            made.append(_topology(rules, members))
        return _cost(made[0])

    return step


def member_change(members: int) -> Callable[[Any], float]:
    """Return a step that tells the microseconds of a member that comes and goes."""
    topology = Topology()
    whole = _group("g0", members, 0)
    topology.apply([Put(whole)])
    more = model.AddressGroup("g0", "g0", whole.members | {_host(parse_ip("9.9.9.9"))})

    def step(_: object) -> float:
        start = time.thread_time()
        topology.apply([Put(more)])
        topology.apply([Put(whole)])
        return (time.thread_time() - start) / 2 * 1e6

    return step


def _cost(topology: Topology) -> float:
    surroundings = World(topology, ConnectionTable(), NatTable())
    vport = topology.vport(_FROM)
    assert vport is not None
    packets = [decode(world.packet("l3", 64 * n)[1]) for n in range(_PACKETS + 10)]
    for packet in packets[:10]:
        simulate(packet, vport, surroundings, now=0.0)
    start = time.thread_time()
    for packet in packets[10:]:
        simulate(packet, vport, surroundings, now=0.0)
    return (time.thread_time() - start) / _PACKETS * 1e6


def _topology(rules: int, members: int) -> Topology:
    rows: list[Any] = [
        model.Host(_HOST, "node1", 0),
        model.Network(_NETWORK, "plain"),
        model.Vport(_FROM, "vm", _NETWORK, host=_HOST, iface_id="vm"),
        model.Vport(
            _TO, "far", _NETWORK, mac=_MAC, host=_HOST, iface_id="far", egress_chain="c"
        ),
        model.Chain("c", "c", _rules(rules, members), accept=False),
    ]
    if members:
        rows += [_group(f"g{n}", members, n) for n in range(_GROUPS)]
    topology = Topology()
    topology.apply(map(Put, rows))
    return topology


def _rules(count: int, members: int) -> tuple[Rule, ...]:
    accept, states = RuleAction.ACCEPT, model.CT_NEW | model.CT_ESTABLISHED
    closed = [
        Rule(
            accept,
            ct_states=states,
            ip_proto=6,
            source_group=f"g{n % _GROUPS}" if members else "",
            destination_ports=((10_000 + n, 10_000 + n + n % 7),),
        )
        for n in range(count - 1)
    ]
    return (*closed, Rule(accept, ct_states=states, ip_proto=6))


def _group(key: str, members: int, number: int) -> model.AddressGroup:
    first = parse_ip(f"172.{16 + number % 16}.0.0") + number * members
    own = {_host(_SOURCE)} if number % 2 == 0 else set()
    others = {_host(first + n) for n in range(members)}
    return model.AddressGroup(key, key, frozenset(own | others))


def _host(address: int) -> Prefix:
    return Prefix(address, _HOST_BITS)
