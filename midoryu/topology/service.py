# SPDX-License-Identifier: Apache-2.0
"""The row of a subnet: what a network tells its hosts by DHCP, RA and DNS.

One of the rows of `model`; `service_view` puts a network's subnets together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from midoryu.compat import SLOTS
from midoryu.packet.address import Prefix, is_v4

DEFAULT_LEASE_S: Final = 86400
# RFC 4861, section 6.2.1: MaxRtrAdvInterval, and MinRtrAdvInterval as a third of it.
DEFAULT_RA_INTERVALS_S: Final = (200, 600)
# RFC 4861, section 6.2.1: AdvValidLifetime and AdvPreferredLifetime, 30 and 7 days.
DEFAULT_VALID_S: Final = 2_592_000
DEFAULT_PREFERRED_S: Final = 604_800

Option = tuple[int, bytes]
"""Code and data of a DHCP option."""


class RaMode(Enum):
    """How hosts of an IPv6 subnet get addresses, as its router advertisements say."""

    NONE = ""
    """This network sends no router advertisements for it."""
    SLAAC = "slaac"
    """By themselves."""
    STATEFUL = "dhcpv6-stateful"
    """By DHCPv6."""
    STATELESS = "dhcpv6-stateless"
    """By themselves; everything else by DHCPv6."""


class Preference(Enum):
    """How a router compares to others (RFC 4191, section 2.1; the values are its)."""

    HIGH = 1
    MEDIUM = 0
    LOW = 3


@dataclass(frozen=True, **SLOTS)
class Advertising:
    """How router advertisements about a subnet go out."""

    mode: RaMode = RaMode.NONE
    intervals_s: tuple[int, int] = DEFAULT_RA_INTERVALS_S
    """Least and most seconds between two that nobody asked for."""
    lifetime_s: int = -1
    """How long the gateway is a default router; -1 for three times the interval."""
    preference: Preference = Preference.MEDIUM
    valid_s: int = DEFAULT_VALID_S
    preferred_s: int = DEFAULT_PREFERRED_S
    on_link: bool = True

    @property
    def router_s(self) -> int:
        """Lifetime of the default router (RFC 4861, section 6.2.1)."""
        return 3 * self.intervals_s[1] if self.lifetime_s < 0 else self.lifetime_s


@dataclass(frozen=True, **SLOTS)
class Subnet:
    """A prefix of a network, and what its hosts shall know."""

    key: str
    network: int
    prefix: Prefix
    gateway: int = 0
    """Default router of the hosts, 128-bit; 0 for none."""
    dns: tuple[int, ...] = ()
    """DNS servers that hosts are told, in this order."""
    domain: str = ""
    """Domain of the hosts' names; "" for none."""
    search: tuple[str, ...] = ()
    """Search list; empty: the domain."""
    ntp: tuple[int, ...] = ()
    routes: tuple[tuple[Prefix, int], ...] = ()
    """(destination, next hop); IPv6: announced as routes by the gateway."""
    mtu: int = 0
    """Bytes; 0 for the network's (`topology.mtu`)."""
    dhcp: bool = False
    """Addresses by DHCP (IPv6: also where `advertising` says so)."""
    lease_s: int = DEFAULT_LEASE_S
    server: int = 0
    """Address of the DHCP server; 0 for the gateway."""
    boot_file: str = ""
    """DHCPv4: name; DHCPv6: URL (RFC 5970)."""
    boot_server: int = 0
    options: tuple[Option, ...] = ()
    """Further DHCP options; they replace those that follow from the above."""
    advertising: Advertising = Advertising()
    resolver: int = 0
    """Address at which the network itself answers DNS; 0 for none."""
    forward: tuple[int, ...] = ()
    """Who is asked for names that the resolver does not know; none: the agent's."""

    @property
    def is_v4(self) -> bool:
        """Whether it is an IPv4 subnet."""
        return self.prefix.length >= 96 and is_v4(self.prefix.value)

    @property
    def answers_dhcp(self) -> bool:
        """Whether hosts get their addresses by DHCP."""
        return self.dhcp or self.advertising.mode is RaMode.STATEFUL

    @property
    def dns_servers(self) -> tuple[int, ...]:
        """DNS servers that hosts are told: those named, else the network's own."""
        return self.dns or ((self.resolver,) if self.resolver else ())

    @property
    def search_list(self) -> tuple[str, ...]:
        """Domains to search."""
        return self.search or ((self.domain,) if self.domain else ())
