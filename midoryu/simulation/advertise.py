# SPDX-License-Identifier: Apache-2.0
"""What the routers of a network say about themselves in router advertisements.

`services` answers solicitations with it, `engine.advertiser` repeats it from time to
time.

Source: RFC 4861, section 6.2; RFC 8106; RFC 4191.
"""

from __future__ import annotations

from collections.abc import Iterable

from midoryu.packet import router_advert
from midoryu.packet.address import Prefix
from midoryu.packet.build import ALL_NODES
from midoryu.packet.router_advert import AdvertisedPrefix, Advertisement
from midoryu.topology.service import RaMode, Subnet
from midoryu.topology.service_view import ServiceView, family_matches

# RFC 8106, section 5.1: lifetimes are at least this many intervals.
_DNS_INTERVALS = 3


def advertisements(services: ServiceView) -> tuple[Advertisement, ...]:
    """Return one for each router of the network."""
    return tuple(
        _advertisement(services, mac, subnets)
        for mac, subnets in services.routers.items()
    )


def frames(services: ServiceView, *, mac_dst: int, ip_dst: int) -> Iterable[bytes]:
    """Make the frames for one host; `ip_dst` 0 stands for all nodes.

    A frame to all nodes may go to one host's MAC address (RFC 6085).
    """
    for one in advertisements(services):
        yield router_advert.frame(one, mac_dst=mac_dst, ip_dst=ip_dst or ALL_NODES)


def _advertisement(
    services: ServiceView, mac: int, subnets: list[Subnet]
) -> Advertisement:
    modes = {subnet.advertising.mode for subnet in subnets}
    is_gateway = mac != services.mac
    leading = [subnet for subnet in subnets if subnet.gateway]
    first = (leading or subnets)[0].advertising
    servers = (a for s in subnets for a in family_matches(s.dns_servers, v4=False))
    names = (name for subnet in subnets for name in subnet.search_list)
    return Advertisement(
        mac=mac,
        # Who is only a voice for prefixes is no default router.
        lifetime_s=first.router_s if is_gateway else 0,
        managed=RaMode.STATEFUL in modes,
        other=RaMode.STATELESS in modes,
        preference=first.preference.value,
        mtu=min((s.mtu for s in subnets if s.mtu), default=services.mtu),
        prefixes=tuple(map(_prefix, subnets)),
        routes=_routes(subnets) if is_gateway else (),
        route_s=first.router_s,
        dns=tuple(dict.fromkeys(servers)),
        search=tuple(dict.fromkeys(names)),
        dns_s=_DNS_INTERVALS * first.intervals_s[1],
    )


def _prefix(subnet: Subnet) -> AdvertisedPrefix:
    advertising = subnet.advertising
    return AdvertisedPrefix(
        subnet.prefix,
        on_link=advertising.on_link,
        autonomous=advertising.mode is not RaMode.STATEFUL,
        valid_s=advertising.valid_s,
        preferred_s=advertising.preferred_s,
    )


def _routes(subnets: Iterable[Subnet]) -> tuple[Prefix, ...]:
    """List the routes that lead by the router that speaks; others it cannot tell."""
    return tuple(
        destination
        for subnet in subnets
        for destination, via in subnet.routes
        if via == subnet.gateway
    )
