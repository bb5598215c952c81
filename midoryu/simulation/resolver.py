# SPDX-License-Identifier: Apache-2.0
"""The DNS server of a network: names of its own hosts; others are asked elsewhere.

`services` hands it queries. What it does not know leaves the simulation as a
`Lookup`, which the engine has the rim carry out.

Source: RFC 1035.
"""

from __future__ import annotations

from typing import Final, Union

from midoryu.errors import DecodeError
from midoryu.packet import build, dns
from midoryu.packet.address import is_v4
from midoryu.packet.dns import Query
from midoryu.packet.packet import Packet
from midoryu.simulation.outcome import Consumed, Drop, Lookup, Outcome, Reason
from midoryu.simulation.walk import Walk
from midoryu.topology.model import Vport
from midoryu.topology.service import Subnet
from midoryu.topology.service_view import Names, ServiceView

# Addresses of vports change seldom, but then nobody wants to wait.
_TTL_S: Final = 30


def answer(
    walk: Walk, services: ServiceView, vport: Vport, packet: Packet, payload: bytes
) -> Outcome:
    """Answer a query, or have somebody else asked."""
    mac = services.own_macs[packet.headers.ip_dst]
    try:
        query = dns.decode_query(payload)
    except DecodeError:
        refusal = dns.refuse_garbage(payload)
        if not refusal:
            return Drop(Reason.BAD_REQUEST)
        walk.emit(vport.key, response_frame(packet, mac, refusal))
        return Consumed(Reason.BAD_REQUEST)
    subnet = services.resolvers[packet.headers.ip_dst]
    local = _local(query, services, subnet)
    if local is None:
        walk.lookup = Lookup(vport.key, packet, mac, query, payload, subnet.forward)
    else:
        walk.emit(vport.key, response_frame(packet, mac, local))
    if walk.steps is not None:
        how = "forward" if local is None else "answer"
        walk.note(walk.world.topology.vport_name(vport.key), f"dns {how}", query.name)
    return Consumed(Reason.ANSWERED)


def response_frame(packet: Packet, mac: int, payload: bytes) -> bytes:
    """Make the frame that answers a query's frame."""
    headers = packet.headers
    return build.udp_frame(
        mac_src=mac,
        mac_dst=headers.eth_src,
        ip_src=headers.ip_dst,
        ip_dst=headers.ip_src,
        port_src=headers.l4_dst,
        port_dst=headers.l4_src,
        payload=payload,
    )


def _local(query: Query, services: ServiceView, subnet: Subnet) -> Union[bytes, None]:
    """Answer what the network knows itself; None for what somebody else may know."""
    if query.opcode:
        return dns.respond(query, code=dns.NOT_IMPLEMENTED, authoritative=False)
    if query.edns:
        return dns.respond(query, code=dns.BAD_VERSION, authoritative=False)
    if query.klass != dns.IN:
        return dns.respond(query, code=dns.REFUSED, authoritative=False)
    names = services.names()
    address = dns.reverse_address(query.name)
    if address:
        return _reverse(query, names, services, address)
    known = names.addresses.get(query.name)
    if known is not None:
        records = [dns.address_record(one) for one in known if _wants(query, one)]
        return dns.respond(query, records, recursive=True, ttl_s=_TTL_S)
    if names.is_ours(query.name) or _is_plain(query):
        is_domain = query.name in names.domains
        code = dns.NO_ERROR if is_domain else dns.NO_SUCH_NAME
        return dns.respond(query, code=code, recursive=True)
    return None


def _wants(query: Query, address: int) -> bool:
    kind = dns.A if is_v4(address) else dns.AAAA
    return query.kind in (kind, dns.ANY)


def _reverse(
    query: Query, names: Names, services: ServiceView, address: int
) -> Union[bytes, None]:
    name = names.by_address.get(address)
    if name is not None:
        wanted = query.kind in (dns.PTR, dns.ANY)
        records = [dns.pointer_record(name)] if wanted else []
        return dns.respond(query, records, recursive=True, ttl_s=_TTL_S)
    if any(s.prefix.contains(address) for s in services.resolvers.values()):
        return dns.respond(query, code=dns.NO_SUCH_NAME, recursive=True)
    return None


def _is_plain(query: Query) -> bool:
    """Tell whether only this network could know a name: it has no dot."""
    return "." not in query.name and query.kind in (dns.A, dns.AAAA)
