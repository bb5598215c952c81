# SPDX-License-Identifier: Apache-2.0
"""A router's NAT rules, compiled for look-up by address.

`snapshot` builds it; `simulation.nat` asks it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from midoryu.topology.balancer import NO_BALANCING, Balancing
from midoryu.topology.model import Dnat, Filtering, FloatingIp, Masquerade

# Ports of one bit set, as `state.portpool` keeps them.
_BLOCK_PORTS: Final = 64
# Asks for a masquerade whatever vport its rule names.
ANY_VPORT: Final = -1


class NatRules:
    """NAT rules of one router. Never changes once made."""

    __slots__ = (
        "_served",
        "addresses",
        "balancing",
        "dnat_targets",
        "dnats",
        "floating",
        "floating_by_target",
        "masquerade_addresses",
        "masquerades",
        "open",
        "reserved",
    )

    def __init__(
        self,
        masquerades: Iterable[Masquerade],
        dnats: Iterable[Dnat],
        floating: Iterable[FloatingIp],
        balancing: Balancing = NO_BALANCING,
    ) -> None:
        dnats = tuple(dnats)
        self.balancing = balancing
        """Its VIPs."""
        self.masquerades = tuple(
            sorted(masquerades, key=lambda rule: (-rule.source.length, rule.key))
        )
        """Longest source prefix first."""
        self.masquerade_addresses = frozenset(
            address for rule in self.masquerades for address in rule.addresses
        )
        self.dnats: dict[int, tuple[Dnat, ...]] = {}
        for rule in sorted(dnats, key=lambda rule: (-rule.ip_proto, rule.key)):
            self.dnats[rule.address] = (*self.dnats.get(rule.address, ()), rule)
        self.dnat_targets = frozenset(
            rule.to_address for rules in self.dnats.values() for rule in rules
        ).union(balancing.targets)
        self._served: dict[int, tuple[Dnat, ...]] = {}
        for rule in (rule for rules in self.dnats.values() for rule in rules):
            if rule.ports != (0, 0xFFFF):
                served = self._served.get(rule.to_address, ())
                self._served[rule.to_address] = (*served, rule)
        self.floating = {rule.address: rule for rule in floating}
        self.floating_by_target = {
            rule.to_address: rule for rule in self.floating.values()
        }
        self.addresses = self.masquerade_addresses.union(
            self.dnats, self.floating, balancing.vips
        )
        """Every address that the outside sees."""
        self.reserved = _reserved(dnats, self.masquerade_addresses)
        """NAT address -> block -> bits of ports that DNAT rules have."""
        self.open = {
            address: rule.filtering
            for rule in self.masquerades
            for address in rule.addresses
            if rule.filtering is not Filtering.ADDRESS_AND_PORT_DEPENDENT
        }
        """Masquerade addresses behind which others may speak first."""

    def masquerade_for(
        self, source: int, destination: int, vport: int
    ) -> Masquerade | None:
        """Find the rule for what leaves by a vport, most specific source first."""
        for rule in self.masquerades:
            if (
                rule.source.contains(source)
                and rule.destination.contains(destination)
                and (rule.vport in (0, vport) or vport == ANY_VPORT)
                and (rule.addresses[0] >> 32 == 0xFFFF) == (source >> 32 == 0xFFFF)
            ):
                return rule
        return None

    def dnat_for(self, destination: int, ip_proto: int, port: int) -> Dnat | None:
        """Find the rule for a destination; rules that name a protocol go first."""
        for rule in self.dnats.get(destination, ()):
            first, last = rule.ports
            if rule.ip_proto in (0, ip_proto) and first <= port <= last:
                return rule
        return None

    def is_service(self, address: int, ip_proto: int, port: int) -> bool:
        """Tell whether a rule leads to a port: what comes from it is an answer."""
        for rule in self._served.get(address, ()):
            first, last = rule.ports
            offset = port - (rule.to_port or first)
            if rule.ip_proto in (0, ip_proto) and 0 <= offset <= last - first:
                return True
        return self.balancing.is_service(address, ip_proto, port)


def _reserved(
    dnats: Iterable[Dnat], addresses: frozenset[int]
) -> dict[int, dict[int, int]]:
    """Find the ports of masquerade addresses that lead to a server.

    A rule for a whole address leaves them: what it takes is decided per connection.
    """
    found: dict[int, dict[int, int]] = {}
    for rule in dnats:
        if rule.address not in addresses or rule.ports == (0, 0xFFFF):
            continue
        blocks = found.setdefault(rule.address, {})
        for port in range(rule.ports[0], rule.ports[1] + 1):
            block = port // _BLOCK_PORTS
            blocks[block] = blocks.get(block, 0) | 1 << port % _BLOCK_PORTS
    return found
