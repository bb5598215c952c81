# SPDX-License-Identifier: Apache-2.0
"""Simulate once, replay for its siblings: new connections that go the same way.

VMs open many connections alike: what differs is the source port, and often one of the
addresses. A full simulation of the first ones leaves a `Template`; a sibling takes over
its outcome, tags and rewrites, looks its own records up and picks its own NAT port.
`engine.packet_lane` simulates through `Replays`.

Why it gives the same as the full simulation:

1. A sibling agrees in every header field but the source port, and the addresses within
   the template's bounds. The source port was read for nothing but looking records up
   and picking a NAT port (`Walk.looked` holds what only these read).
2. No address that any row behind the template's tags names lies between two addresses
   within the bounds, so every test of an address gives the same answer.
3. Rows behind the tags have not changed: `forget` drops templates by their tags, as the
   engine drops flows.
4. A sibling finds no record at any key where the template's packet found none, else it
   is simulated in full.

A walk that did anything that is not in the lists below leaves no template. Whoever adds
a feature need not know of this file; a new slot of `Walk`, `Simulation` or a view that
is in use keeps siblings on the full simulation until it is added to the lists here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields as fields_of
from typing import Any, Final, Union

from midoryu.packet import field
from midoryu.packet.packet import Packet
from midoryu.simulation.bounds import AddressBounds, Bounds
from midoryu.simulation.outcome import Forward, Simulation
from midoryu.simulation.simulator import simulate
from midoryu.simulation.template import Lookup, Template
from midoryu.simulation.walk import PORT_PROTOCOLS, Walk
from midoryu.simulation.world import World
from midoryu.state.connection import TranslationKind
from midoryu.topology.model import Vport
from midoryu.topology.nat import NatRules
from midoryu.topology.snapshot import NetworkView, RouterView, Topology
from midoryu.topology.tag import Tag, is_state_tag, keys_of

# Keys at most; a flood of made-up addresses must not fill memory.
_MAX_KEYS: Final = 4096
# Templates with one key: they differ in their bounds.
_MAX_TEMPLATES: Final = 8
# Longer packets may meet an MTU on their way: the least that IPv4 hosts must take
# (RFC 791, section 3.1) fits nearly everywhere.
_MAX_BYTES: Final = 576

# What a walk may have done, and what a view may have.
_WALK_KNOWN: Final = frozenset(
    [
        "_arrived",
        "_looked_up",
        "_missed",
        "devices",
        "fields",
        "generated",
        "headers",
        "hit",
        "hops",
        "ingress",
        "is_ip",
        "judged",
        "limit",
        "looked",
        "masquerade",
        "packet",
        "tags",
        "tracked",
        "translations",
        "world",
    ]
)
_SIMULATION_KNOWN: Final = frozenset(
    [
        "outcome",
        "packet",
        "headers",
        "hops",
        "fields",
        "tags",
        "vports",
        "found",
        "connection",
        "limit",
        "walk",
        "template",
    ]
)
_VIEW_KNOWN: Final[dict[type, frozenset[str]]] = {
    RouterView: frozenset(
        (
            "assumed_mtu",
            "broadcasts",
            "is_narrow",
            "local",
            "mtus",
            "nat",
            "routes",
            "row",
            "vports",
        )
    ),
    NetworkView: frozenset(
        [
            "exterior",
            "interior",
            "mac_by_ip",
            "row",
            "segments",
            "services",
            "subnets",
            "vport_by_mac",
        ]
    ),
    NatRules: frozenset(
        [
            "_served",
            "addresses",
            "balancing",
            "dnat_targets",
            "dnats",
            "floating",
            "floating_by_target",
            "masquerade_addresses",
            "masquerades",
        ]
    ),
}
_Key = tuple[int, ...]


class Replays:
    """The templates of one host. Owned by who owns the topology that they are of."""

    def __init__(self) -> None:
        self.replayed = 0
        """Packets that needed no simulation of their own."""
        self._templates: dict[_Key, list[Template]] = {}
        self.answers: dict[tuple[object, ...], object] = {}
        """What the engine knows of answers to siblings, until any row changes."""
        self.generation = 0
        """Counts how often that was forgotten."""
        self._bounds = AddressBounds()

    def __len__(self) -> int:
        return sum(map(len, self._templates.values()))

    def simulate(
        self, packet: Packet, vport: Vport, world: World, *, now: float
    ) -> Simulation:
        """Simulate a packet that comes for the first time, by an agent with memory.

        As `simulator.simulate` with `ask_peers`, and the same result, save that tags
        that a replay shares with its siblings are in `Simulation.template`.
        """
        headers = packet.headers
        if (
            packet.ip_proto not in PORT_PROTOCOLS
            or packet.ip_frag
            or packet.vlan
            or packet.l3_length > _MAX_BYTES
        ):
            return simulate(packet, vport, world, now=now, ask_peers=True)
        key = (
            vport.key,
            packet.eth_type,
            headers.eth_dst,
            headers.eth_src,
            packet.ip_proto,
            packet.tcp_flags,
            headers.l4_dst,
            headers.ip_ttl,
            headers.ip_tos,
        )
        known = self._templates.get(key)
        if known is None:
            # The first of its kind may be the only one.
            if len(self._templates) >= _MAX_KEYS:
                self._drop_templates()
            self._templates[key] = []
            return simulate(packet, vport, world, now=now, ask_peers=True)
        source, destination = headers.ip_src, headers.ip_dst
        for template in known:
            first, last = template.destinations
            if first <= destination <= last:
                first, last = template.sources
                if first <= source <= last:
                    replayed = template.replay(packet, world, now)
                    if replayed is None:
                        break
                    self.replayed += 1
                    return replayed
        simulation = simulate(packet, vport, world, now=now, ask_peers=True)
        if len(known) < _MAX_TEMPLATES:
            made = self._template(simulation, world.topology)
            if made is not None:
                known.append(made)
        return simulation

    def forget(self, tags: Iterable[Tag]) -> None:
        """Drop what depends on any of these tags."""
        tags = {tag for tag in tags if not is_state_tag(tag)}
        if not tags:
            return
        self._forget_answers()
        self._bounds.forget()
        for key, templates in list(self._templates.items()):
            for one in templates:
                one.is_live = one.tags.isdisjoint(tags)
            left = [one for one in templates if one.is_live]
            if not left:
                # Its next packet may be the last one, too.
                del self._templates[key]
            else:
                templates[:] = left

    def clear(self) -> None:
        """Drop everything."""
        self._forget_answers()
        self._drop_templates()
        self._bounds.forget()

    def _forget_answers(self) -> None:
        self.answers.clear()
        self.generation += 1

    def _drop_templates(self) -> None:
        for templates in self._templates.values():
            for one in templates:
                one.is_live = False
        self._templates.clear()

    # Making templates.

    def _template(
        self, simulation: Simulation, topology: Topology
    ) -> Union[Template, None]:
        """Make a template of a simulation, None where siblings may go another way."""
        if not _is_plain(simulation):
            return None
        lookups = _lookups(simulation)
        if lookups is None:
            return None
        tags = frozenset(one for one in simulation.tags if not is_state_tag(one))
        devices, chains, vports = keys_of(tags)
        if not _are_plain(topology, devices):
            return None
        headers = simulation.packet.headers
        if _may_answer(simulation, topology, devices):
            return None
        bounds = [
            self._bounds.around(topology, tags, address)
            for address in (headers.ip_src, headers.ip_dst)
        ]
        return Template(simulation, lookups, tags, bounds[0], bounds[1])

    def alike(
        self, topology: Topology, tags: frozenset[Tag], address: int
    ) -> Union[Bounds, None]:
        """Return between which addresses none is that what is tagged tells apart.

        None where a device does what nobody has thought of here.
        """
        if not _are_plain(topology, keys_of(tags)[0]):
            return None
        return self._bounds.around(topology, tags, address)


def _is_plain(simulation: Simulation) -> bool:
    """Tell whether the walk did only what its siblings can repeat."""
    walk = simulation.walk
    return (
        walk is not None
        and walk.hit is None
        and does_known(simulation, field.L4_SRC)
        and _is_rewrite_plain(walk)
    )


def does_known(simulation: Simulation, free: int) -> bool:
    """Tell whether a walk did only what is in the lists above.

    Args:
        simulation: what came of it.
        free: the `packet.field` by which nothing may have been decided.
    """
    walk = simulation.walk
    if not isinstance(simulation.outcome, Forward) or walk is None:
        return False
    if walk.generated or walk.fields & free:
        return False
    if 0 < walk.limit < _MAX_BYTES:
        # A sibling may not fit.
        return False
    if simulation.fields & field.UNMATCHABLE:
        return False
    fresh = Walk(walk.packet, walk.ingress, walk.world)
    if any(
        getattr(walk, slot) != getattr(fresh, slot)
        for slot in Walk.__slots__
        if slot not in _WALK_KNOWN
    ):
        return False
    empty = Simulation(simulation.outcome, walk.packet, walk.headers, None, 0, 0, set())
    return all(
        getattr(simulation, one.name) == getattr(empty, one.name)
        for one in fields_of(simulation)
        if one.name not in _SIMULATION_KNOWN
    )


def _is_rewrite_plain(walk: Walk) -> bool:
    """Tell whether addresses and ports were changed by one masquerade or by nothing."""
    before, after = walk.packet.headers, walk.headers
    kept = (before.ip_dst, before.l4_dst, 0) == (
        after.ip_dst, after.l4_dst, after.icmp_id
    )  # fmt: skip
    rule = walk.masquerade
    if rule is None or not kept:
        same = (before.ip_src, before.l4_src) == (after.ip_src, after.l4_src)
        return kept and same and not walk.translations
    if len(walk.translations) != 1:
        return False
    device, kind, address, port = walk.translations[0]
    return (device, kind, address, port) == (
        rule.router, TranslationKind.SOURCE, after.ip_src, after.l4_src
    )  # fmt: skip


def _lookups(simulation: Simulation) -> Union[tuple[Lookup, ...], None]:
    """Say where records were looked up; None where that cannot be told."""
    walk = simulation.walk
    assert walk is not None
    before, after = walk.packet.headers, walk.headers
    if walk.masquerade is not None and before.ip_src == after.ip_src:
        return None
    found: list[Lookup] = []
    for device, proto, *tuple4 in walk.missed_keys():
        for headers in (before, after):
            ends = [headers.ip_src, headers.ip_dst, headers.l4_src, headers.l4_dst]
            if tuple4 == ends and proto == walk.packet.ip_proto:
                found.append(Lookup(device, headers is not before))
                break
        else:
            return None
    looked_up = {key for key in simulation.tags if is_state_tag(key)}
    if looked_up != set(walk.missed_keys()):
        return None
    return tuple(found)


def _are_plain(topology: Topology, devices: Iterable[int]) -> bool:
    """Tell whether devices have nothing that this file does not know."""
    for device in devices:
        view = topology.network(device) or topology.router(device)
        parts: list[Any] = [view]
        if isinstance(view, RouterView):
            parts.append(view.nat)
        for part in parts:
            known = _VIEW_KNOWN.get(type(part))
            if known is None:
                return False
            if any(
                _is_used(getattr(part, slot))
                for slot in type(part).__slots__
                if slot not in known
            ):
                return False
    return True


def _may_answer(
    simulation: Simulation, topology: Topology, devices: Iterable[int]
) -> bool:
    """Tell whether a router may take the packet for an answer of a service."""
    source = simulation.packet.headers.ip_src
    walk = simulation.walk
    if walk is None or source in walk.world.connections.targets:
        return True
    routers = map(topology.router, devices)
    return any(one is not None and source in one.nat.dnat_targets for one in routers)


def _is_used(part: Any) -> bool:
    """Tell whether a part of a view says anything."""
    slots = getattr(type(part), "__slots__", None)
    if slots is None or isinstance(part, tuple):
        return bool(part)
    return any(bool(getattr(part, slot)) for slot in slots)
