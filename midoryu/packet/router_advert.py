# SPDX-License-Identifier: Apache-2.0
"""Router advertisements: what an IPv6 router tells the hosts on its link.

Made whole, beside `build`; virtual routers never read one.

Source: RFC 4861, section 4.2 and 4.6; RFC 4191; RFC 8106.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from struct import Struct
from typing import Final

from midoryu.compat import SLOTS
from midoryu.packet import build
from midoryu.packet.address import Prefix, link_local_of
from midoryu.packet.name import encode_names
from midoryu.packet.protocol import ND_ROUTER_ADVERTISEMENT

ALL_ROUTERS: Final = 0xFF02 << 112 | 2
"""Where hosts solicit, ff02::2 (RFC 4291, section 2.7.1)."""
HIGH: Final = 1
MEDIUM: Final = 0
LOW: Final = 3
"""Router preferences as RFC 4191, section 2.1 writes them in two bits."""

_HEAD: Final = Struct("!BBHBBHII")
_SOURCE_LINK_LAYER: Final = Struct("!BB6s")
_MTU: Final = Struct("!BBHI")
_PREFIX: Final = Struct("!BBBBIII16s")
_ROUTE: Final = Struct("!BBBBI16s")
_LIFETIME: Final = Struct("!BBHI")
_MANAGED: Final = 0x80
_OTHER: Final = 0x40
_ON_LINK: Final = 0x80
_AUTONOMOUS: Final = 0x40


@dataclass(frozen=True, **SLOTS)
class AdvertisedPrefix:
    """A prefix information option."""

    prefix: Prefix
    on_link: bool
    """L: addresses of it are on this link."""
    autonomous: bool
    """A: hosts make addresses of it by themselves."""
    valid_s: int
    preferred_s: int


@dataclass(frozen=True, **SLOTS)
class Advertisement:
    """What one router says."""

    mac: int
    lifetime_s: int
    """How long it is a default router; 0 for none."""
    hop_limit: int = 64
    managed: bool = False
    """M: addresses by DHCPv6."""
    other: bool = False
    """O: other things by DHCPv6."""
    preference: int = MEDIUM
    mtu: int = 0
    """Bytes; 0 says nothing."""
    prefixes: tuple[AdvertisedPrefix, ...] = ()
    routes: tuple[Prefix, ...] = ()
    """More specific routes by this router (RFC 4191, section 2.3)."""
    route_s: int = 0
    """How long they hold."""
    dns: tuple[int, ...] = ()
    search: tuple[str, ...] = ()
    dns_s: int = 0
    """How long DNS servers and search list hold."""


def frame(advertisement: Advertisement, *, mac_dst: int, ip_dst: int) -> bytes:
    """Make the frame that says it.

    Raises:
        ValueError: a search domain is no domain name.
    """
    says = advertisement
    flags = (_MANAGED if says.managed else 0) | (_OTHER if says.other else 0)
    # RFC 4191, section 2.2: who is no default router has no preference either.
    flags |= (says.preference if says.lifetime_s else MEDIUM) << 3
    head = (ND_ROUTER_ADVERTISEMENT, 0, 0, says.hop_limit, flags, says.lifetime_s)
    message = _HEAD.pack(*head, 0, 0) + b"".join(_options(says))
    return build.icmpv6_frame(
        mac_src=says.mac,
        mac_dst=mac_dst,
        ip_src=link_local_of(says.mac),
        ip_dst=ip_dst,
        message=message,
        ttl=build.ND_HOP_LIMIT,
    )


def _options(says: Advertisement) -> Iterable[bytes]:
    yield _SOURCE_LINK_LAYER.pack(1, 1, says.mac.to_bytes(6, "big"))
    if says.mtu:
        yield _MTU.pack(5, 1, 0, says.mtu)
    for one in says.prefixes:
        flags = (_ON_LINK if one.on_link else 0) | (
            _AUTONOMOUS if one.autonomous else 0
        )
        times = one.valid_s, one.preferred_s
        address = one.prefix.value.to_bytes(16, "big")
        yield _PREFIX.pack(3, 4, one.prefix.length, flags, *times, 0, address)
    for route in says.routes:
        address = route.value.to_bytes(16, "big")
        preference = says.preference << 3
        yield _ROUTE.pack(24, 3, route.length, preference, says.route_s, address)
    if says.dns:
        servers = b"".join(address.to_bytes(16, "big") for address in says.dns)
        yield _LIFETIME.pack(25, 1 + 2 * len(says.dns), 0, says.dns_s) + servers
    if says.search:
        names = encode_names(says.search)
        names += bytes(-len(names) % 8)
        yield _LIFETIME.pack(31, 1 + len(names) // 8, 0, says.dns_s) + names
