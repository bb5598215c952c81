# SPDX-License-Identifier: Apache-2.0
"""Router advertisements that nobody asked for, from each host to its own vports.

So they cross no tunnel and no two hosts have to agree. `simulation.advertise` says
what is in them; a solicitation is answered by the simulation itself.

Source: RFC 4861, section 6.2.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, Union

from midoryu.engine.core import Core, Due
from midoryu.packet.address import multicast_mac
from midoryu.packet.build import ALL_NODES
from midoryu.packet.router_advert import Advertisement, frame
from midoryu.simulation import advertise
from midoryu.simulation.outcome import Emission
from midoryu.topology.model import Change, Put, Subnet, Vport
from midoryu.topology.rendezvous import mix
from midoryu.topology.segment import stands_back
from midoryu.topology.service_view import ServiceView

# RFC 4861, section 10: the first few come sooner.
_INITIAL: Final = 3
_INITIAL_INTERVAL_S: Final = 16.0
_WORD: Final = 1 << 64
_TWO_HOURS_S: Final = 7200

Told = tuple[Advertisement, ...]
"""What the routers of a network say."""


def follow(core: Core, now: float, *, changed: Iterable[int] = ()) -> None:
    """Take over which local vports hear routers; networks that changed do at once."""
    if not any(True for _ in core.topology.rows(Subnet)):
        core.advertise_at.clear()
        return
    news = frozenset(changed)
    heard: dict[int, Due] = {}
    for key in core.places.ofport_by_vport:
        vport = core.topology.vport(key)
        if vport is None or _services(core, vport) is None:
            continue
        due = core.advertise_at.get(key)
        if due is None or vport.device in news:
            due = Due(now, 0)
        heard[key] = due
    core.advertise_at = heard


def step(core: Core, now: float) -> tuple[Emission, ...]:
    """Return the advertisements that are due, and plan the next ones."""
    found: list[Emission] = []
    for key, due in core.advertise_at.items():
        if due.at > now:
            continue
        vport = core.topology.vport(key)
        services = _services(core, vport) if vport is not None else None
        if services is None or vport is None:
            continue
        wait_s = _interval_s(core, services, key, due.sent)
        core.advertise_at[key] = Due(now + wait_s, due.sent + 1)
        if stands_back(core.topology, vport):
            continue
        frames = advertise.frames(
            services, mac_dst=multicast_mac(ALL_NODES), ip_dst=ALL_NODES
        )
        found.extend(Emission(key, frame) for frame in frames)
    core.counters["router advertisements"] += len(found)
    return tuple(found)


def before(core: Core, changes: Iterable[Change]) -> dict[int, Told]:
    """Return what networks say whose subnets are about to change."""
    told: dict[int, Told] = {}
    for change in changes:
        if isinstance(change, Put):
            old, new = None, change.row
        else:
            old, new = core.topology.row(change.kind, change.key), None
        row = new or old
        if isinstance(row, Subnet) and row.network not in told:
            told[row.network] = _says(core, row.network)
    return told


def cease(core: Core, told: Mapping[int, Told]) -> tuple[Emission, ...]:
    """Take back what is no longer so: routers that stop, prefixes that went.

    Source: RFC 4861, section 6.2.5; RFC 4862, section 5.5.3(e) (two hours at least).
    """
    found: list[Emission] = []
    for network, old in told.items():
        new = {one.mac: one for one in _says(core, network)}
        farewells = [
            farewell
            for one in old
            if (farewell := _farewell(one, new.get(one.mac))) is not None
        ]
        mac_dst = multicast_mac(ALL_NODES)
        frames = [frame(one, mac_dst=mac_dst, ip_dst=ALL_NODES) for one in farewells]
        for key in core.places.ofport_by_vport if frames else ():
            vport = core.topology.vport(key)
            if vport is None or vport.device != network or vport.metadata:
                continue
            if not stands_back(core.topology, vport):
                found.extend(Emission(key, one) for one in frames)
    return tuple(found)


def _says(core: Core, network: int) -> Told:
    view = core.topology.network(network)
    services = view.services if view is not None else None
    return () if services is None else advertise.advertisements(services)


def _farewell(
    old: Advertisement, new: Union[Advertisement, None]
) -> Union[Advertisement, None]:
    kept = {one.prefix for one in new.prefixes} if new is not None else set()
    lost = tuple(
        replace(one, preferred_s=0, valid_s=_TWO_HOURS_S)
        for one in old.prefixes
        if one.prefix not in kept
    )
    if new is None:
        return replace(old, lifetime_s=0, prefixes=lost, route_s=0, dns_s=0)
    return replace(new, prefixes=lost) if lost else None


def deadline(core: Core) -> Union[float, None]:
    """Return when the next one is due, None for never."""
    return min((due.at for due in core.advertise_at.values()), default=None)


def _services(core: Core, vport: Vport) -> Union[ServiceView, None]:
    """Return the services of a vport that hears routers, None where there are none."""
    view = core.topology.network(vport.device)
    if view is None or view.services is None or not view.services.routers:
        return None
    return view.services if view.row.up and vport.up and not vport.metadata else None


def _interval_s(core: Core, services: ServiceView, vport: int, sent: int) -> float:
    """Choose evenly between the least and the most, each vport its own way."""
    limits = [
        subnet.advertising.intervals_s
        for subnets in services.routers.values()
        for subnet in subnets
    ]
    least, most = min(low for low, _ in limits), min(high for _, high in limits)
    share = mix(core.config.seed ^ mix(vport) ^ mix(sent)) / _WORD
    wait_s = least + (max(most, least) - least) * share
    return min(wait_s, _INITIAL_INTERVAL_S) if sent < _INITIAL else wait_s
