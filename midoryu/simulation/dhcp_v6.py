# SPDX-License-Identifier: Apache-2.0
"""The DHCPv6 server of a network, stateful and stateless: the sister of `dhcp`.

All hosts speak with one DUID, made of the network's service MAC address.

Source: RFC 8415, section 18.3; RFC 3646; RFC 5908; RFC 5970.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Union

from midoryu.packet import build, dhcp6
from midoryu.packet.address import link_local_of
from midoryu.packet.dhcp6 import Association, Message
from midoryu.packet.name import encode_names
from midoryu.simulation.outcome import Consumed, Drop, Outcome, Reason
from midoryu.simulation.walk import Walk
from midoryu.topology.model import Vport
from midoryu.topology.service import Subnet
from midoryu.topology.service_view import Offer, ServiceView, family_matches

_TO_THIS_SERVER: Final = (dhcp6.REQUEST, dhcp6.RENEW, dhcp6.RELEASE, dhcp6.DECLINE)
_TO_ANY_SERVER: Final = (
    dhcp6.SOLICIT,
    dhcp6.CONFIRM,
    dhcp6.REBIND,
    dhcp6.INFORMATION_REQUEST,
)


def answer(
    walk: Walk, services: ServiceView, vport: Vport, request: Message
) -> Union[Outcome, None]:
    """Answer a client; None for one that another server may answer."""
    problem = _problem(services, request)
    if problem is not None:
        return problem
    offers = services.offers(vport, services.dhcp6)
    reply = _reply(services, vport, request, offers)
    if reply is None:
        return None
    headers = walk.packet.headers
    walk.emit(
        vport.key,
        build.udp_frame(
            mac_src=services.mac,
            mac_dst=headers.eth_src,
            ip_src=link_local_of(services.mac),
            ip_dst=headers.ip_src,
            port_src=dhcp6.SERVER_PORT,
            port_dst=dhcp6.CLIENT_PORT,
            payload=dhcp6.encode(reply),
        ),
    )
    if walk.steps is not None:
        walk.note(walk.world.topology.vport_name(vport.key), "dhcpv6", str(reply.type))
    return Consumed(Reason.ANSWERED)


def _problem(services: ServiceView, request: Message) -> Union[Outcome, None]:
    """Judge what a server must discard (RFC 8415, section 16)."""
    server = request.get(dhcp6.SERVER_ID)
    if request.type in _TO_THIS_SERVER:
        if server is None or request.get(dhcp6.CLIENT_ID) is None:
            return Drop(Reason.BAD_REQUEST)
        return None
    if request.type not in _TO_ANY_SERVER:
        return Drop(Reason.BAD_REQUEST)
    if request.type == dhcp6.INFORMATION_REQUEST:
        return None
    if server is not None or request.get(dhcp6.CLIENT_ID) is None:
        return Drop(Reason.BAD_REQUEST)
    return None


def _reply(
    services: ServiceView, vport: Vport, request: Message, offers: tuple[Offer, ...]
) -> Union[Message, None]:
    duid = dhcp6.link_layer_duid(services.mac)
    if request.get(dhcp6.SERVER_ID) not in (None, duid):
        return None
    kind, body = dhcp6.REPLY, tuple[tuple[int, bytes], ...]()
    if request.type == dhcp6.INFORMATION_REQUEST:
        body = ()
    elif not offers:
        # Stateless, or a vport without an address here: it must do without.
        return None
    elif request.type == dhcp6.SOLICIT:
        rapid = request.get(dhcp6.RAPID_COMMIT) is not None
        kind = dhcp6.REPLY if rapid else dhcp6.ADVERTISE
        body = ((dhcp6.RAPID_COMMIT, b""),) if rapid else ()
        body += tuple(_associations(request, offers))
    elif request.type == dhcp6.CONFIRM:
        status = _confirm(services, request)
        if status is None:
            return None
        body = ((dhcp6.STATUS, dhcp6.encode_status(status)),)
    elif request.type in (dhcp6.RELEASE, dhcp6.DECLINE):
        body = ((dhcp6.STATUS, dhcp6.encode_status(dhcp6.SUCCESS)),)
    else:
        body = tuple(_associations(request, offers))
    identity = [(dhcp6.SERVER_ID, duid)]
    client = request.get(dhcp6.CLIENT_ID)
    if client is not None:
        identity.insert(0, (dhcp6.CLIENT_ID, client))
    subnets = [offer.subnet for offer in offers] or services.info6
    options = dict(_options(subnets))
    options.update(option for subnet in subnets for option in subnet.options)
    options.update(vport.dhcp6_options)
    if request.type in (dhcp6.CONFIRM, dhcp6.RELEASE, dhcp6.DECLINE):
        options = {}
    return Message(kind, request.xid, (*identity, *body, *options.items()))


def _associations(
    request: Message, offers: tuple[Offer, ...]
) -> Iterator[tuple[int, bytes]]:
    """Answer each IA_NA: the first one gets the vport's addresses."""
    first = True
    for association in request.associations():
        yield dhcp6.IA_NA, _association(association, offers if first else ())
        first = False
    yield from dhcp6.refusals(request)


def _association(association: Association, offers: Iterable[Offer]) -> bytes:
    given = {offer.address: offer.subnet.lease_s for offer in offers}
    if not given:
        status = dhcp6.NO_ADDRESSES
        return dhcp6.encode_association(association.id, (), lease_s=0, status=status)
    lease_s = min(given.values())
    # What the client holds and should not is taken away (RFC 8415, section 18.3.4).
    wrong = [(address, 0) for address in association.addresses if address not in given]
    addresses = [*given.items(), *wrong]
    return dhcp6.encode_association(
        association.id, addresses, lease_s=lease_s, status=dhcp6.SUCCESS
    )


def _confirm(services: ServiceView, request: Message) -> Union[int, None]:
    """Tell whether addresses fit the link; None where the client names none."""
    addresses = [a for one in request.associations() for a in one.addresses]
    if not addresses:
        return None
    fit = all(
        any(subnet.prefix.contains(address) for subnet in services.dhcp6)
        for address in addresses
    )
    return dhcp6.SUCCESS if fit else dhcp6.NOT_ON_LINK


def _options(subnets: Iterable[Subnet]) -> Iterator[tuple[int, bytes]]:
    subnets = tuple(subnets)
    servers = _merged(family_matches(s.dns_servers, v4=False) for s in subnets)
    if servers:
        yield dhcp6.DNS_SERVERS, dhcp6.encode_addresses(servers)
    domains = tuple(dict.fromkeys(name for s in subnets for name in s.search_list))
    if domains:
        yield dhcp6.DOMAIN_LIST, encode_names(domains)
    ntp = _merged(family_matches(s.ntp, v4=False) for s in subnets)
    if ntp:
        yield dhcp6.NTP_SERVER, dhcp6.encode_ntp(ntp)
    for subnet in subnets:
        if subnet.boot_file:
            yield dhcp6.BOOT_FILE_URL, subnet.boot_file.encode()


def _merged(lists: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(address for one in lists for address in one))
