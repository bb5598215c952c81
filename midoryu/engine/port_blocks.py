# SPDX-License-Identifier: Apache-2.0
"""Gateways out of the loop: packets to a leased port go straight to the leaseholder.

A lease says which host made the bindings behind a block of ports, so a gateway needs no
record, and no packet-in, to send a packet there: one wide flow for each block does
(`openflow.block_flows`). The holder takes it as if it had come in by the uplink.

The wide flow yields to what the gateway decided itself (its reactive flows). It is not
there for a holder that is held for dead, and for ports that lead elsewhere (DNAT, VIPs,
floating addresses); connections of vports that are no longer at the holder are
exceptions: that host may go without anybody's notice. All these go the classic way.
`returning` has the holder's flows; `change_lane` and `gateways` call `refresh`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final, Union

from midoryu.engine.block_book import Pair, Plan
from midoryu.engine.block_exceptions import scan
from midoryu.engine.core import Core
from midoryu.engine.effect import Effects
from midoryu.engine.event import PacketIn
from midoryu.openflow.block_flows import WayIn, block_flows, entry_mods
from midoryu.openflow.flow import (
    Flow,
    InstallFlow,
    RemoveFlow,
    RemoveMeter,
    SetMeter,
)
from midoryu.packet import field
from midoryu.state.portpool import BLOCK_PORTS
from midoryu.topology.balancer import Balancer, Vip
from midoryu.topology.model import (
    Change,
    Dnat,
    FloatingIp,
    Gone,
    Host,
    IngressSet,
    Lease,
    Masquerade,
    Network,
    Put,
    Route,
    Router,
    Vport,
    VportStatus,
)
from midoryu.topology.mtu import vport_mtu
from midoryu.topology.uplinks import Uplink, uplinks_of

HOLDER: Final = "holder"
_ETHERNET_BYTES: Final = 14
_NAT_ROWS: Final = frozenset(
    (Balancer, Dnat, FloatingIp, Host, IngressSet, Masquerade, Vip)
)
_DEVICE_ROWS: Final = frozenset((Network, Route, Router, Vport))


def is_on(core: Core) -> bool:
    """Tell whether everything is there for it.

    What others hand on is taken in always, so that hosts can be told one by one to
    hand on, or not to.
    """
    return bool(core.host and core.switch_connected and core.places.gre_ofport)


def changed(
    core: Core,
    changes: Collection[Change],
    was_at: Mapping[int, int],
    effects: Effects,
) -> None:
    """Take over changed rows, after the topology has.

    Args:
        core: what is known.
        changes: the rows.
        was_at: vports whose place may have changed -> host that had them before.
        effects: takes the changes.
    """
    if not is_on(core):
        return
    kinds = {
        type(change.row) if isinstance(change, Put) else change.kind
        for change in changes
    }
    if any(_matters(core, change) for change in changes):
        refresh(core, effects)
    elif Lease in kinds:
        _leases_changed(core, changes, effects)
    location = core.topology.location
    if any(old not in (0, location(vport)) for vport, old in was_at.items()):
        # Whoever moved has connections that are exceptions now.
        scan(core)


def _matters(core: Core, change: Change) -> bool:
    """Tell whether a row may change where packets come in."""
    blocks = core.blocks
    if isinstance(change, Gone):
        if change.kind in (Vport, VportStatus):
            return change.key in blocks.vports
        return change.kind in _NAT_ROWS or change.kind in _DEVICE_ROWS
    row = change.row
    if isinstance(row, Vport):
        # One that went elsewhere counts, too.
        return row.device in blocks.devices or row.key in blocks.vports
    if isinstance(row, (Network, Router)):
        return row.key in blocks.devices
    if isinstance(row, Route):
        return row.router in blocks.devices
    if isinstance(row, VportStatus):
        return row.key in blocks.vports
    return type(row) in _NAT_ROWS


def bound(core: Core, vports: Collection[int], effects: Effects) -> None:
    """Take over that vports came here, or went."""
    if not core.blocks.vports.isdisjoint(vports):
        refresh(core, effects)


def refresh(core: Core, effects: Effects, *, again: bool = False) -> None:
    """Make the switch have what it needs for all leases.

    Args:
        core: what is known.
        effects: takes the changes.
        again: the switch may have lost what it had: send all of it.
    """
    if not is_on(core):
        return
    blocks = core.blocks
    leases: Iterable[Lease] = core.topology.rows(Lease)
    _find_uplinks(core, {(lease.router, lease.address) for lease in leases})
    before = len(effects.flow_mods)
    for gone in [k for k in blocks.standing if core.topology.row(Lease, k) is None]:
        _stand(core, gone, None, effects)
    blocks.mine.clear()
    blocks.mine_counts.clear()
    for lease in leases:
        _note_mine(core, lease.key, lease)
        _stand(core, lease.key, lease, effects, again=again)
    if len(effects.flow_mods) > before:
        scan(core)
    _receive(core, effects, again=again)
    if again:
        for flows_of_one in blocks.exceptions.values():
            effects.flow_mods.extend(map(InstallFlow, flows_of_one))


def _leases_changed(core: Core, changes: Iterable[Change], effects: Effects) -> None:
    blocks = core.blocks
    others = False
    for change in changes:
        if isinstance(change, Put) and isinstance(change.row, Lease):
            lease = change.row
            pair = lease.router, lease.address
            others |= _note_mine(core, lease.key, lease)
            if pair not in blocks.uplinks:
                _find_uplinks(core, {*blocks.uplinks, pair})
            _stand(core, lease.key, lease, effects)
        elif isinstance(change, Gone) and change.kind is Lease:
            _stand(core, str(change.key), None, effects)
            others |= _note_mine(core, str(change.key), None)
    if others:
        _receive(core, effects)


def _note_mine(core: Core, key: str, lease: Union[Lease, None]) -> bool:
    """Note a lease that came or went; tell whether this host has other pairs now.

    It may lease a hundred blocks a second, nearly always of addresses that it has.
    """
    blocks, counts = core.blocks, core.blocks.mine_counts
    before = blocks.mine.pop(key, None)
    now = None
    if lease is not None and lease.host == core.host:
        now = blocks.mine[key] = lease.router, lease.address
    if before == now:
        return False
    is_new = False
    if now is not None:
        counts[now] += 1
        is_new = counts[now] == 1
    if before is not None:
        counts[before] -= 1
        is_new |= not counts[before]
    return is_new


def _find_uplinks(core: Core, pairs: Collection[Pair]) -> None:
    blocks, topology = core.blocks, core.topology
    blocks.devices.clear()
    blocks.uplinks = {}
    for pair in pairs:
        found = uplinks_of(topology, *pair)
        blocks.uplinks[pair] = found.uplinks
        blocks.devices |= found.devices
    blocks.vports = {
        vport.key for device in blocks.devices for vport in topology.vports_of(device)
    }
    blocks.plans = {pair: _plan(core, pair) for pair in pairs}


def _plan(core: Core, pair: Pair) -> Plan:
    router, address = pair
    view = core.topology.router(router)
    places = core.places
    if core.config.gateway_return != HOLDER:
        return Plan((), frozenset())
    if view is None or address in view.nat.floating:
        return Plan((), frozenset())
    if any(rule.ports == (0, 0xFFFF) for rule in view.nat.dnats.get(address, ())):
        return Plan((), frozenset())
    vips = view.nat.balancing.vips.get(address, {})
    if any(not port for _, port in vips):
        return Plan((), frozenset())
    closed = {port // BLOCK_PORTS for _, port in vips}
    closed.update(view.nat.reserved.get(address, {}))
    ways = []
    for uplink in core.blocks.uplinks[pair]:
        ofport = places.ofport_by_vport.get(uplink.vport)
        if ofport is None or uplink.vport in places.tag_by_vport:
            continue
        limit = _limit(core, uplink)
        way = WayIn(ofport, uplink.vport, uplink.mac, address, limit)
        ways.append((way, uplink))
    return Plan(tuple(ways), frozenset(closed))


def _limit(core: Core, uplink: Uplink) -> int:
    """Return how large frames may be that are handed on, 0 where none is too large."""
    topology = core.topology
    vport = topology.vport(uplink.vport)
    assert vport is not None
    largest = max(vport_mtu(topology, vport), topology.assumed_mtu)
    carried = topology.default_mtu
    return carried + _ETHERNET_BYTES if largest > carried else 0


def _key_for(core: Core, uplink: Uplink, holder: int) -> int:
    """Return the key that an uplink's packets have on their way to a holder.

    Equal uplinks have one, so that the holder needs one flow for all of them; but not
    that of the holder's own uplink, which means "go out there".
    """
    location = core.topology.location
    return next((k for k in uplink.equals if location(k) != holder), uplink.vport)


def _stand(
    core: Core,
    key: str,
    lease: Union[Lease, None],
    effects: Effects,
    *,
    again: bool = False,
) -> None:
    """Make the flows stand that a lease needs here."""
    blocks = core.blocks
    source, before = blocks.standing.get(key, (None, ()))
    plan = blocks.plans.get((lease.router, lease.address)) if lease else None
    now: tuple[Flow, ...] = ()
    if lease is not None and plan is not None and plan.ways:
        holder = lease.host
        is_open = (
            holder != core.host
            and holder not in core.topology.dead_hosts
            and lease.block not in plan.closed
        )
        underlay = core.places.underlay(holder) if is_open else 0
        keys = tuple(_key_for(core, one, holder) for _, one in plan.ways)
        made_from = (plan.ways, underlay, keys, lease.block, core.places.gre_ofport)
        if made_from == source and not again:
            return
        source = made_from
        if underlay:
            now = tuple(
                made
                for (way, _), tunnel_key in zip(plan.ways, keys)  # noqa: B905
                for made in block_flows(
                    way,
                    lease.block,
                    key=tunnel_key,
                    holder=underlay,
                    gre_ofport=core.places.gre_ofport,
                )
            )
    if now or (lease is not None and plan is not None and plan.ways):
        blocks.standing[key] = source, now
    else:
        blocks.standing.pop(key, None)
    _replace(before, now, effects, again=again)


def _replace(
    before: Iterable[Flow], now: Iterable[Flow], effects: Effects, *, again: bool
) -> None:
    old = {(one.table, one.priority, one.match): one for one in before}
    new = {(one.table, one.priority, one.match): one for one in now}
    out = effects.flow_mods
    out.extend(RemoveFlow(one) for slot, one in old.items() if slot not in new)
    out.extend(
        InstallFlow(one) for slot, one in new.items() if again or old.get(slot) != one
    )


def _receive(core: Core, effects: Effects, *, again: bool = False) -> None:
    """Take in what other hosts hand on for this host's own leases."""
    blocks, places = core.blocks, core.places
    mine = [pair for pair, count in blocks.mine_counts.items() if count]
    entries = _find_entries(core, mine)
    blocks.entries = {key: tuple(found.values()) for key, found in entries.items()}
    config, out = core.config, effects.flow_mods
    for key in [key for key in blocks.entry_flows if key not in entries]:
        for gone in blocks.entry_flows.pop(key):
            out.append(RemoveFlow(gone))
        out.append(RemoveMeter(_meter(core, key).meter))
    for key in entries:
        if key not in blocks.entry_flows or again:
            mods = entry_mods(
                places.gre_ofport, key, config.vport_rate_pps, config.vport_burst
            )
            blocks.entry_flows[key] = tuple(
                mod.flow for mod in mods if isinstance(mod, InstallFlow)
            )
            out.extend(mods)


def _find_entries(core: Core, mine: Iterable[Pair]) -> dict[int, dict[int, Uplink]]:
    """Find the uplinks of other hosts that lead to this host's leases, by tunnel key.

    Under any of the keys that gateways may use: they hear of changes earlier or later
    than this host.
    """
    blocks, places = core.blocks, core.places
    entries: dict[int, dict[int, Uplink]] = {}
    blocks.ways = {}
    for pair in mine:
        for uplink in blocks.uplinks.get(pair, ()):
            if uplink.vport in places.ofport_by_vport:
                continue
            for key in uplink.equals:
                if key not in places.ofport_by_vport:
                    entries.setdefault(key, {})[uplink.vport] = uplink
            if core.config.gateway_return == HOLDER:
                way = _key_for(core, uplink, core.host)
                blocks.ways[(uplink.vport, *pair)] = way
    return entries


def _meter(core: Core, key: int) -> SetMeter:
    config = core.config
    mods = entry_mods(1, key, config.vport_rate_pps, config.vport_burst)
    assert isinstance(mods[0], SetMeter)
    return mods[0]


def flows(core: Core) -> set[Flow]:
    """Return all flows that stand."""
    blocks = core.blocks
    found = {one for _, made in blocks.standing.values() for one in made}
    found.update(one for made in blocks.entry_flows.values() for one in made)
    found.update(one for made in blocks.exceptions.values() for one in made)
    return found


def enter(core: Core, event: PacketIn) -> Union[Vport, None]:
    """Return the uplink by which a packet came in that a gateway handed on.

    Equal uplinks have one key; the packet tells by which of them it really came, for
    what is said about it.
    """
    uplinks = core.blocks.entries.get(event.tunnel_key)
    if uplinks is None or event.in_port != core.places.gre_ofport:
        return None
    mac = int.from_bytes(event.frame[:6], "big")
    uplinks = tuple(one for one in uplinks if one.mac == mac)
    topology, places = core.topology, core.places
    for one in uplinks:
        if places.underlay(topology.location(one.vport)) == event.tunnel_source:
            return topology.vport(one.vport)
    return topology.vport(uplinks[0].vport) if uplinks else None


def adopt(core: Core, values: dict[int, int]) -> Union[Vport, None]:
    """Return the uplink of the packets that a flow of an earlier agent is for.

    Args:
        core: what is known.
        values: what the flow matches; gets the MAC address that it does not tell.
    """
    uplinks = core.blocks.entries.get(values[field.TUNNEL_KEY])
    if not uplinks or values.get(field.IN_PORT) != core.places.gre_ofport:
        return None
    values[field.ETH_DST] = uplinks[0].mac
    return core.topology.vport(uplinks[0].vport)


def counts(core: Core) -> Mapping[str, int]:
    """Count what stands, for the report."""
    blocks = core.blocks
    return {
        "blocks handed on": sum(1 for _, made in blocks.standing.values() if made),
        "uplinks handed on from": len(blocks.entries),
        "exceptions": len(blocks.exceptions),
    }
