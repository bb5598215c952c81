# SPDX-License-Identifier: Apache-2.0
"""The flows that stand for local vports, floods and mirrors, kept as they should be.

`change_lane` calls `refresh` after whatever could have changed them; what differs goes
to the switch.
"""

from __future__ import annotations

from midoryu.engine import impostors
from midoryu.engine.core import Core
from midoryu.engine.effect import Effects
from midoryu.openflow import flow
from midoryu.openflow.flow import (
    Action,
    Flow,
    FlowMod,
    InstallFlow,
    Match,
    RemoveFlow,
    RemoveMeter,
    SetMeter,
)
from midoryu.openflow.service_flows import (
    VportPlan,
    awaiting_mods,
    flood_burst,
    plan_mods,
    tagged,
    tunnel_flow,
)
from midoryu.topology.l2 import Mirror, MirrorDirection
from midoryu.topology.model import Vport
from midoryu.topology.tag import vport_tag
from midoryu.translation.flood import is_member

Slot = tuple[int, int, Match]
# Neutron's default burst, as a share of the rate.
_BURST_SHARE = 0.8


def refresh(core: Core, effects: Effects, now: float, *, again: bool = False) -> None:
    """Make the switch have what local vports, floods and mirrors need.

    Args:
        core: what is known.
        effects: takes the changes.
        now: monotonic seconds.
        again: the switch may have lost what it had: send all of it.
    """
    if not core.switch_connected:
        return
    plans = [plan_of(core, vport) for vport in _local(core)]
    special = frozenset(plan.key for plan in plans if plan.is_special)
    changed = special ^ core.places.special
    core.places.special = special
    mods = [mod for plan in plans for mod in plan_mods(plan)]
    standing = (*_floods(core), *_mirrors(core), *impostors.flows(core))
    mods += map(InstallFlow, standing)
    for ofport, key in core.awaited.items():
        rate, burst = core.config.vport_rate_pps, core.config.vport_burst
        mods += awaiting_mods(key, ofport, rate_pps=rate, burst=burst)
    _send(core, mods, effects, again=again)
    core.storms = frozenset(plan.key for plan in plans if plan.storm_pps)
    core.invalidate(map(vport_tag, changed), effects, now)


def flows(core: Core) -> set[Flow]:
    """Return the flows that stand."""
    return set(core.standing_flows.values())


def plan_of(core: Core, vport: Vport) -> VportPlan:
    """Say what a local vport needs."""
    config, l2 = core.config, core.topology.l2
    rate, burst = config.vport_rate_pps, config.vport_burst
    if vport.key in core.shares.whole:
        rate = min(rate, core.shares.limit_of(vport.key))
        burst = min(burst, flood_burst(rate))
    policy = l2.policy(vport)
    mirrors = l2.mirrors_of(vport.key)
    return VportPlan(
        key=vport.key,
        ofport=core.places.ofport_by_vport[vport.key],
        rate_pps=rate,
        burst=burst,
        flooded=core.shares.flooded.get(vport.key, ()),
        flooded_pps=core.shares.limit_of(vport.key),
        vlan=core.places.tag_by_vport.get(vport.key, 0),
        from_kbps=policy.egress_kbps,
        from_burst_kb=_burst(policy.egress_kbps, policy.egress_burst_kb),
        to_kbps=policy.ingress_kbps,
        to_burst_kb=_burst(policy.ingress_kbps, policy.ingress_burst_kb),
        dscp=policy.dscp,
        storm_pps=vport.storm_pps or config.vport_storm_pps,
        mirrors_from=_keys(mirrors, MirrorDirection.INGRESS),
        mirrors_to=_keys(mirrors, MirrorDirection.EGRESS),
    )


def _burst(rate: int, burst: int) -> int:
    return burst or int(rate * _BURST_SHARE) or rate


def _keys(mirrors: tuple[Mirror, ...], opposite: MirrorDirection) -> tuple[int, ...]:
    return tuple(m.key for m in mirrors if m.direction is not opposite)


def _local(core: Core) -> list[Vport]:
    found = map(core.topology.vport, core.places.ofport_by_vport)
    return [vport for vport in found if vport is not None]


def _floods(core: Core) -> list[Flow]:
    """Lead a network's key to its local vports, as the senders count them."""
    topology = core.topology
    outputs: dict[int, list[Action]] = {}
    for vport in _local(core):
        is_network = topology.network(vport.device) is not None
        is_here = topology.location(vport.key) == core.host
        if is_network and is_here and is_member(topology, vport):
            outputs.setdefault(vport.device, []).extend(_output(core, vport.key))
    return [tunnel_flow(key, tuple(actions)) for key, actions in outputs.items()]


def _output(core: Core, vport: int) -> tuple[Action, ...]:
    places = core.places
    if vport in places.special:
        return ((flow.DELIVER, vport),)
    return _plain(core, vport)


def _plain(core: Core, vport: int) -> tuple[Action, ...]:
    places = core.places
    out: tuple[Action, ...] = ((flow.OUTPUT, places.ofport_by_vport[vport]),)
    return tagged(places.tag_by_vport.get(vport, 0), out)


def _mirrors(core: Core) -> list[Flow]:
    """Lead a mirror's key to where its copies go, at both ends."""
    places, l2 = core.places, core.topology.l2
    wanted: dict[int, Mirror] = {}
    for key in places.ofport_by_vport:
        for mirror in (*l2.mirrors_of(key), *l2.mirrors_to(key)):
            wanted[mirror.key] = mirror
    return [tunnel_flow(key, _copy(core, mirror)) for key, mirror in wanted.items()]


def _copy(core: Core, mirror: Mirror) -> tuple[Action, ...]:
    places, target = core.places, mirror.target
    if target in places.ofport_by_vport:
        return _plain(core, target)
    host = core.topology.location(target)
    underlay = places.underlay(host) if host not in (0, core.host) else 0
    if not underlay or not places.gre_ofport:
        return ()
    return (
        (flow.SET_TUNNEL, mirror.key, underlay),
        (flow.OUTPUT, places.gre_ofport),
    )


def _send(core: Core, mods: list[FlowMod], effects: Effects, *, again: bool) -> None:
    """Send what differs: gone flows first, then meters before the flows that use them.

    A meter goes last, as the switch removes the flows that use it.
    """
    wanted: dict[Slot, Flow] = {}
    meters: dict[int, SetMeter] = {}
    for mod in mods:
        if isinstance(mod, InstallFlow):
            one = mod.flow
            wanted[one.table, one.priority, one.match] = one
        elif isinstance(mod, SetMeter):
            meters[mod.meter] = mod
    old, old_meters = core.standing_flows, core.standing_meters
    out = effects.flow_mods
    out.extend(RemoveFlow(one) for slot, one in old.items() if slot not in wanted)
    out.extend(m for key, m in meters.items() if again or old_meters.get(key) != m)
    out.extend(
        InstallFlow(one)
        for slot, one in wanted.items()
        if again or old.get(slot) != one
    )
    out.extend(RemoveMeter(key) for key in old_meters if key not in meters)
    core.standing_flows, core.standing_meters = wanted, meters
