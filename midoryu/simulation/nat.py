# SPDX-License-Identifier: Apache-2.0
"""A router's address translation, before and after routing.

Three cases, in this order: a packet of a known connection repeats what its record says;
a floating address is arithmetic; a new connection gets a binding, which its record will
keep. `topology.nat` has the rules, `state.nat` the ports.
"""

from __future__ import annotations

from typing import Union

from midoryu.packet.address import format_ip
from midoryu.simulation.answer import Complaint, complain
from midoryu.simulation.outcome import (
    Blocked,
    Drop,
    ErrorDrop,
    LeaseWanted,
    Outcome,
    Reason,
)
from midoryu.simulation.walk import (
    PORT_PROTOCOLS,
    READ_IP_DST,
    READ_IP_SRC,
    READ_PROTO,
    Walk,
)
from midoryu.state.connection import (
    Direction,
    FourTuple,
    Translation,
    TranslationKind,
    query_ports,
    translate,
)
from midoryu.state.nat import Exhausted, NeedLease
from midoryu.state.table import Hit
from midoryu.topology.model import Dnat, Masquerade, Vport
from midoryu.topology.snapshot import RouterView, subnets


def inbound(walk: Walk, router: RouterView, vport: Vport) -> Union[Outcome, None]:
    """Translate destinations before routing: DNAT, and SNAT undone.

    Returns:
        How the packet ended here, None when nothing keeps it from going on.
    """
    nat, destination = router.nat, walk.headers.ip_dst
    device = router.row.key
    if walk.hit is not None:
        _repeat(walk, device, after_routing=False)
    if nat.addresses:
        walk.fields |= READ_IP_DST
    if destination not in nat.addresses:
        return None
    floating = nat.floating.get(destination)
    if floating is not None:
        _float(walk, device, floating.to_address, TranslationKind.FLOATING_DESTINATION)
        return None
    if walk.hit is not None:
        return None
    if walk.is_later_fragment:
        return ErrorDrop(Reason.FRAGMENT)
    walk.track()
    if walk.hit is not None or walk.find_at(device) is not None:
        _repeat(walk, device, after_routing=False)
        return None
    if destination in nat.masquerade_addresses:
        walk.count_id()
    return _new_destination(walk, router)


def _new_destination(walk: Walk, router: RouterView) -> Union[Outcome, None]:
    source, destination, source_port, port = walk.tuple4()
    rule = router.nat.dnat_for(destination, walk.ip_proto, port)
    if rule is not None and not walk.is_error and not walk.generated:
        to_port = _mapped_port(rule, port) if walk.ip_proto in PORT_PROTOCOLS else port
        _translate(
            walk,
            Translation(
                router.row.key, TranslationKind.DESTINATION, rule.to_address, to_port
            ),
        )
        return None
    if destination in router.local:
        return None
    return Drop(Reason.NO_BINDING)


def _mapped_port(rule: Dnat, port: int) -> int:
    return rule.to_port + port - rule.ports[0] if rule.to_port else port


def outbound(
    walk: Walk, router: RouterView, entered: Vport, leaving: Vport
) -> Union[Outcome, None]:
    """Translate sources after routing: SNAT, and DNAT undone.

    Returns:
        How the packet ended here, None when nothing keeps it from going on.
    """
    nat, device = router.nat, router.row.key
    if not (nat.addresses or walk.hit is not None):
        return None
    source = walk.headers.ip_src
    walk.fields |= READ_IP_SRC
    if walk.hit is None and source in nat.dnat_targets and not walk.is_later_fragment:
        walk.track()
        if walk.hit is None and not _translated_here(walk, device):
            walk.find_at(device)
        if walk.hit is None:
            port = walk.tuple4()[2]
            walk.seems_answer = nat.is_service(source, walk.ip_proto, port)
    if walk.hit is not None:
        _repeat(walk, device, after_routing=True)
        if _source_is_recorded(walk.hit, device):
            return None
    floating = nat.floating_by_target.get(source)
    if floating is not None:
        if _leaves_realm(walk, device, leaving, (floating.address,)):
            kind = TranslationKind.FLOATING_SOURCE
            _float(walk, device, floating.address, kind)
        return None
    if walk.generated:
        # Nothing would remember a new binding: what devices say follows records only.
        return None
    return _hide(walk, router, entered, leaving)


def _hide(
    walk: Walk, router: RouterView, entered: Vport, leaving: Vport
) -> Union[Outcome, None]:
    """Masquerade where a rule asks for it."""
    device, source = router.row.key, walk.headers.ip_src
    walk.fields |= READ_IP_DST
    hairpin = leaving.key == entered.key and _translated_here(walk, device)
    scope = 0 if hairpin else leaving.key
    rule = router.nat.masquerade_for(source, walk.headers.ip_dst, scope)
    if rule is None:
        return None
    if not (rule.vport or _leaves_realm(walk, device, leaving, rule.addresses)):
        return None
    return _masquerade(walk, rule, entered)


def _masquerade(walk: Walk, rule: Masquerade, entered: Vport) -> Union[Outcome, None]:
    device = rule.router
    if walk.is_later_fragment:
        return ErrorDrop(Reason.FRAGMENT)
    walk.track()
    if walk.hit is None and not walk.translations:
        walk.find_at(device)
    if walk.hit is not None:
        # Tracked before there was a rule: it keeps its addresses for its life.
        _repeat(walk, device, after_routing=True)
        return None
    if walk.is_error:
        # RFC 5508, section 4.3, REQ-5: no binding, no error.
        return Drop(Reason.NO_BINDING)
    walk.count_id()
    proto = walk.ip_proto
    walk.fields |= READ_PROTO
    if proto not in PORT_PROTOCOLS and not _is_query(walk):
        return Drop(Reason.NAT_PROTOCOL)
    source, destination, source_port, destination_port = walk.tuple4()
    picked = walk.world.nat.pick(
        device,
        rule.addresses,
        proto,
        source,
        source_port,
        destination,
        destination_port,
    )
    if isinstance(picked, NeedLease):
        return Blocked(LeaseWanted(picked.router, picked.address))
    if isinstance(picked, Exhausted):
        # RFC 5508, section 4.3, REQ-8; RFC 4787, section 11.
        return complain(walk, entered, Complaint.PROHIBITED, Reason.NAT_EXHAUSTED)
    walk.masquerade = rule
    _translate(
        walk, Translation(device, TranslationKind.SOURCE, picked.address, picked.port)
    )
    return None


def _is_query(walk: Walk) -> bool:
    ports = query_ports(walk.packet.ip_proto, walk.packet.headers.l4_src, 0)
    return ports is not None and ports[1] != 0


def _leaves_realm(
    walk: Walk, device: int, leaving: Vport, outside: tuple[int, ...]
) -> bool:
    """Tell whether a packet leaves the inside: not just to a connected subnet.

    A packet whose destination was translated by this router does too (hairpin,
    RFC 4787, section 6), and one for the link that `outside`, the NAT addresses, are
    on: a provider network, say.
    """
    if _translated_here(walk, device):
        return True
    walk.fields |= READ_IP_DST
    if not leaving.peer:
        return True
    destination = walk.headers.ip_dst
    return not any(
        subnet.contains(destination) and not any(map(subnet.contains, outside))
        for subnet in subnets(leaving)
    )


def _translated_here(walk: Walk, device: int) -> bool:
    translations = walk.translations
    if walk.hit is not None:
        # A return packet undoes translations, it makes none.
        translations = [*translations, *walk.hit.connection.translations]
    return any(translation.device == device for translation in translations)


def _float(walk: Walk, device: int, address: int, kind: TranslationKind) -> None:
    if walk.is_error:
        # An error belongs to a quoted packet: the quote is read and rewritten.
        walk.find_at(device)
    _, _, source_port, destination_port = walk.tuple4()
    is_source = kind is TranslationKind.FLOATING_SOURCE
    port = source_port if is_source else destination_port
    _translate(walk, Translation(device, kind, address, port))


def _translate(walk: Walk, translation: Translation) -> None:
    """Make one translation and remember it for the record."""
    walk.tracked |= translation.kind <= TranslationKind.DESTINATION
    walk.translations.append(translation)
    is_source = translation.kind in (
        TranslationKind.SOURCE,
        TranslationKind.FLOATING_SOURCE,
    )
    change = walk.set_source if is_source else walk.set_destination
    change(translation.address, translation.port)
    if walk.steps is not None:
        topology = walk.world.topology
        walk.note(
            topology.device_name(translation.device),
            "nat",
            f"{translation.kind.name.lower()} -> {_show(translation)}",
        )


def _show(translation: Translation) -> str:
    return f"{format_ip(translation.address)} port {translation.port}"


def _source_is_recorded(hit: Hit, device: int) -> bool:
    """Tell whether the record says what this device makes of the source."""
    forward = hit.direction is Direction.FORWARD
    kind = TranslationKind.SOURCE if forward else TranslationKind.DESTINATION
    return any(
        translation.device == device and translation.kind is kind
        for translation in hit.connection.translations
    )


def _repeat(walk: Walk, device: int, *, after_routing: bool) -> None:
    """Do what the record says that this device does at this point.

    Before routing a device rewrites destinations (its DESTINATION translations
    forward, its SOURCE translations undone for return packets), afterwards sources.
    """
    assert walk.hit is not None
    connection, direction = walk.hit
    forward_source = direction is Direction.FORWARD and after_routing
    forward_destination = direction is Direction.FORWARD and not after_routing
    tuple4: FourTuple = connection.original
    for translation in connection.translations:
        before, tuple4 = tuple4, translate(tuple4, translation)
        if translation.device != device:
            continue
        if translation.kind is TranslationKind.SOURCE:
            if forward_source:
                _once(walk, translation)
            elif direction is Direction.RETURN and not after_routing:
                walk.set_destination(before[0], before[2])
        elif translation.kind is TranslationKind.DESTINATION:
            if forward_destination:
                _once(walk, translation)
            elif direction is Direction.RETURN and after_routing:
                walk.set_source(before[1], before[3])


def _once(walk: Walk, translation: Translation) -> None:
    if translation not in walk.translations:
        _translate(walk, translation)
