# SPDX-License-Identifier: Apache-2.0
"""A router's address translation, before and after routing.

Three cases, in this order: a packet of a known connection repeats what its record says;
a floating address is arithmetic; a new connection gets a binding, which its record will
keep. `topology.nat` has the rules, `state.nat` the ports.
"""

from __future__ import annotations

from typing import Union

from midoryu.packet import field
from midoryu.packet.address import Prefix
from midoryu.simulation import apart, balancer
from midoryu.simulation.answer import Complaint, complain, deliver
from midoryu.simulation.binding import bind as _translate
from midoryu.simulation.binding import repeat as _repeat
from midoryu.simulation.outcome import (
    Blocked,
    Drop,
    ErrorDrop,
    LeaseWanted,
    Outcome,
    Reason,
)
from midoryu.simulation.walk import PORT_PROTOCOLS, Walk
from midoryu.simulation.world import READ_IP_DST, READ_IP_SRC, READ_PROTO
from midoryu.state.connection import (
    Direction,
    Translation,
    TranslationKind,
    query_ports,
)
from midoryu.state.nat import Exhausted, NeedLease
from midoryu.state.table import Hit
from midoryu.topology.model import Dnat, Filtering, Masquerade, Vport
from midoryu.topology.nat import ANY_VPORT
from midoryu.topology.snapshot import RouterView, subnets


def inbound(  # noqa: C901
    walk: Walk, router: RouterView, vport: Vport
) -> Union[Outcome, None]:
    """Translate destinations before routing: DNAT, and SNAT undone.

    Returns:
        How the packet ended here, None when nothing keeps it from going on.
    """
    nat, destination = router.nat, walk.headers.ip_dst
    device = router.row.key
    if walk.hit is not None:
        _repeat(walk, device, after_routing=False)
        if walk.headers.ip_dst != destination:
            return None
    if nat.addresses:
        walk.fields |= READ_IP_DST
    if destination not in nat.addresses:
        if (device, destination) in walk.world.topology.leased:
            _undo_former(walk, device)
        return None
    floating = nat.floating.get(destination)
    if floating is not None:
        _float(walk, device, floating.to_address, TranslationKind.FLOATING_DESTINATION)
        if walk.hit is not None:
            # Answers to a connection whose port was moved (see `apart`).
            _repeat(walk, device, after_routing=False)
        destination = floating.to_address
        if destination not in nat.balancing.vips:
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
    return _new_destination(walk, router, vport)


def _undo_former(walk: Walk, device: int) -> None:
    """Let connections live whose address masquerade no longer gives out.

    For as long as its blocks are leased: an operator empties an address, not a table.
    """
    walk.fields |= READ_IP_DST
    if walk.hit is None and not walk.is_later_fragment:
        walk.look_up()
        if walk.hit is None:
            walk.find_at(device)
    if walk.hit is not None:
        _repeat(walk, device, after_routing=False)


def _new_destination(
    walk: Walk, router: RouterView, vport: Vport
) -> Union[Outcome, None]:
    _, destination, _, port = walk.tuple4()
    balancing = router.nat.balancing
    if destination in balancing.vips:
        ended = balancer.serve(walk, balancing, router.row.key, vport)
        if ended is not None or walk.headers.ip_dst != destination:
            return ended
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
    if destination in router.nat.open and _let_in(walk, router):
        return None
    if destination in router.local:
        return None
    if _is_only_vip(router, destination) and not walk.is_error:
        return deliver(walk, vport)
    return Drop(Reason.NO_BINDING)


def _let_in(walk: Walk, router: RouterView) -> bool:
    """Let the outside speak first to an endpoint that has a mapping.

    Source: RFC 4787, section 5, REQ-8; RFC 5382, REQ-3.
    """
    if walk.ip_proto not in PORT_PROTOCOLS or walk.generated or not walk.is_beginning:
        return False
    source, destination, _, port = walk.tuple4()
    anybody = router.nat.open[destination] is Filtering.ENDPOINT_INDEPENDENT
    device = router.row.key
    inside = walk.world.nat.inbound.find(
        (device, walk.ip_proto, destination, port), 0 if anybody else source
    )
    if inside is None:
        return False
    _translate(walk, Translation(device, TranslationKind.DESTINATION, *inside))
    return True


def _is_only_vip(router: RouterView, address: int) -> bool:
    nat = router.nat
    return address in nat.balancing.vips and address not in nat.masquerade_addresses


def _mapped_port(rule: Dnat, port: int) -> int:
    return rule.to_port + port - rule.ports[0] if rule.to_port else port


def outbound(  # noqa: C901
    walk: Walk, router: RouterView, entered: Vport, leaving: Vport
) -> Union[Outcome, None]:
    """Translate sources after routing: SNAT, and DNAT undone.

    Returns:
        How the packet ended here, None when nothing keeps it from going on.
    """
    nat, device = router.nat, router.row.key
    if not (nat.addresses or walk.hit is not None):
        return None
    # An error from inside is of the endpoint that it is about (RFC 5508, REQ-5).
    source = walk.tuple4()[0] if walk.is_error else walk.headers.ip_src
    walk.fields |= READ_IP_SRC | (field.PAYLOAD if walk.is_error else 0)
    if (
        walk.hit is None
        and (_may_answer(walk, router, source) or apart.calls_service(walk, nat))
        and not walk.is_later_fragment
    ):
        walk.track()
        if walk.hit is None and not _translated_here(walk, device):
            walk.find_at(device)
        if walk.travels(Direction.RETURN):
            _repeat(walk, device, after_routing=False)
        if walk.hit is None:
            port = walk.tuple4()[2]
            walk.seems_answer = nat.is_service(source, walk.ip_proto, port)
    if walk.hit is not None:
        _repeat(walk, device, after_routing=True)
        if _source_is_recorded(walk.hit, device):
            if not _floats_too(walk.hit, device, walk.headers.ip_src):
                return None
            source = walk.headers.ip_src
    floating = nat.floating_by_target.get(source)
    if floating is not None:
        leaves = _leaves_realm(walk, device, leaving, (floating.address,))
        seen_as = floating.address if leaves else source
        apart.keep_apart(walk, nat, device, seen_as)
        if leaves:
            _float(walk, device, seen_as, TranslationKind.FLOATING_SOURCE)
        return None
    if walk.generated:
        # Nothing would remember a new binding: what devices say follows records only.
        return None
    balanced = nat.balancing.vips and balancer.is_balanced(walk, nat.balancing, device)
    hide = _hide_balanced if balanced else _hide
    ended = hide(walk, router, entered, leaving)
    if ended is None and walk.headers.ip_src == source:
        apart.keep_apart(walk, nat, device, source)
    return ended


def _may_answer(walk: Walk, router: RouterView, source: int) -> bool:
    """Tell whether a packet may come from where a destination was translated to."""
    nat = router.nat
    if source in nat.dnat_targets:
        return True
    return bool(nat.balancing.vips) and source in walk.world.connections.targets


def _floats_too(hit: Hit, device: int, source: int) -> bool:
    """Tell whether a floating address follows what the record says of the source.

    A client called the floating address of a VIP, or has a floating address itself and
    had its port moved.
    """
    kind = TranslationKind.FLOATING_DESTINATION
    if hit.direction is Direction.FORWARD and apart.floats(hit.connection, device):
        return True
    return any(
        (one.device, one.kind, one.address) == (device, kind, source)
        for one in hit.connection.translations
    )


def _hide_balanced(
    walk: Walk, router: RouterView, entered: Vport, leaving: Vport
) -> Union[Outcome, None]:
    """Translate the source of a connection to a VIP, only where its answers need it.

    A member sees its client, unless that is itself, or is masqueraded, or both are
    outside (answers would not pass here).
    """
    device, source = router.row.key, walk.headers.ip_src
    walk.fields |= READ_IP_DST
    if balancer.calls_itself(walk):
        balancer.hide_behind_vip(walk, device)
        return None
    rule = router.nat.masquerade_for(source, walk.headers.ip_dst, leaving.key)
    if rule is not None and (rule.vport or _goes_out(walk, leaving, rule.addresses)):
        return _masquerade(walk, router, rule, entered)
    if leaving.peer or entered.peer:
        return None
    vip = balancer.vip_address(walk, device)
    hide = Masquerade("", device, Prefix(0, 0), (vip,))
    return _masquerade(walk, router, hide, entered)


def _hide(
    walk: Walk, router: RouterView, entered: Vport, leaving: Vport
) -> Union[Outcome, None]:
    """Masquerade where a rule asks for it."""
    device, source = router.row.key, walk.headers.ip_src
    walk.fields |= READ_IP_DST
    hairpin = leaving.key == entered.key and _translated_here(walk, device)
    # What turns round here must come back here, by whatever vport a rule names.
    scope = ANY_VPORT if hairpin else leaving.key
    rule = router.nat.masquerade_for(source, walk.headers.ip_dst, scope)
    if rule is None:
        return None
    if not (rule.vport or _leaves_realm(walk, device, leaving, rule.addresses)):
        return None
    return _masquerade(walk, router, rule, entered)


def _masquerade(
    walk: Walk, router: RouterView, rule: Masquerade, entered: Vport
) -> Union[Outcome, None]:
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
        router.nat.reserved,
    )
    if isinstance(picked, NeedLease):
        return Blocked(LeaseWanted(picked.router, picked.address))
    if isinstance(picked, Exhausted):
        # RFC 5508, section 4.3, REQ-8; RFC 4787, section 11.
        reason = Reason.NAT_LIMIT if picked.is_limit else Reason.NAT_EXHAUSTED
        return complain(walk, entered, Complaint.PROHIBITED, reason)
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
    return _translated_here(walk, device) or _goes_out(walk, leaving, outside)


def _goes_out(walk: Walk, leaving: Vport, outside: tuple[int, ...]) -> bool:
    walk.fields |= READ_IP_DST
    if not leaving.peer:
        return True
    destination = walk.headers.ip_dst
    return not any(
        subnet.contains(destination) and not any(map(subnet.contains, outside))
        for subnet in subnets(leaving)
    )


def _translated_here(walk: Walk, device: int) -> bool:
    # A return packet undoes translations, it makes none.
    if walk.hit is not None and apart.moves_address(walk.hit.connection, device):
        return True
    return any(translation.device == device for translation in walk.translations)


def _float(walk: Walk, device: int, address: int, kind: TranslationKind) -> None:
    if walk.is_error:
        # An error belongs to a quoted packet: the quote is read and rewritten.
        walk.find_at(device)
    _, _, source_port, destination_port = walk.tuple4()
    is_source = kind is TranslationKind.FLOATING_SOURCE
    port = source_port if is_source else destination_port
    _translate(walk, Translation(device, kind, address, port))


def _source_is_recorded(hit: Hit, device: int) -> bool:
    """Tell whether the record says what this device makes of the source."""
    forward = hit.direction is Direction.FORWARD
    kind = TranslationKind.SOURCE if forward else TranslationKind.DESTINATION
    return any(
        translation.device == device and translation.kind is kind
        for translation in hit.connection.translations
    )
