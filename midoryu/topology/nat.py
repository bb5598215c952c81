# SPDX-License-Identifier: Apache-2.0
"""A router's NAT rules, compiled for look-up by address.

`snapshot` builds it; `simulation.nat` asks it.
"""

from __future__ import annotations

from collections.abc import Iterable

from midoryu.topology.model import Dnat, FloatingIp, Masquerade


class NatRules:
    """NAT rules of one router. Never changes once made."""

    __slots__ = (
        "_served",
        "addresses",
        "dnat_targets",
        "dnats",
        "floating",
        "floating_by_target",
        "masquerade_addresses",
        "masquerades",
    )

    def __init__(
        self,
        masquerades: Iterable[Masquerade],
        dnats: Iterable[Dnat],
        floating: Iterable[FloatingIp],
    ) -> None:
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
        )
        self._served: dict[int, tuple[Dnat, ...]] = {}
        for rule in (rule for rules in self.dnats.values() for rule in rules):
            if rule.ports != (0, 0xFFFF):
                served = self._served.get(rule.to_address, ())
                self._served[rule.to_address] = (*served, rule)
        self.floating = {rule.address: rule for rule in floating}
        self.floating_by_target = {
            rule.to_address: rule for rule in self.floating.values()
        }
        self.addresses = self.masquerade_addresses.union(self.dnats, self.floating)
        """Every address that the outside sees."""

    def masquerade_for(
        self, source: int, destination: int, vport: int
    ) -> Masquerade | None:
        """Find the rule for what leaves by a vport, most specific source first."""
        for rule in self.masquerades:
            if (
                rule.source.contains(source)
                and rule.destination.contains(destination)
                and rule.vport in (0, vport)
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
        return False
