# SPDX-License-Identifier: Apache-2.0
"""The same answers as `facts`, from a few large queries made at the beginning.

For the comparison of everything: asking for each port anew takes minutes in a large
cloud. What came after the beginning is asked for one by one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Union

from neutron.db.models import segment as segment_models
from neutron_lib.db import api as db_api
from neutron_lib.plugins import directory

from midoryu.neutron.facts import (
    ROUTER_PORTS,
    RULES,
    Facts,
    is_remote,
    member_rows,
    place_in_trunk,
    rule_of,
)
from midoryu.neutron.migrating import inactive_hosts
from midoryu.neutron.port import SubPort
from midoryu.neutron.security import host_or_prefix

Thing = Mapping[str, Any]


class BulkFacts(Facts):
    """Knows all that there was when it was made."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        core = directory.get_plugin()
        self._networks = _by_id(core.get_networks(context))
        self._subnets = _by_id(core.get_subnets(context))
        self._ports = _by_id(core.get_ports(context))
        # Not every core plugin has them.
        groups = getattr(core, "get_security_groups", None)
        self._groups = _by_id(groups(context) if groups is not None else ())
        self._remote = is_remote(context, self._groups)
        self._inactive = inactive_hosts(context, ())
        self._members: dict[str, set[str]] = defaultdict(set)
        for group, ip in member_rows(context, self._remote):
            self._members[group].add(host_or_prefix(ip))
        self._read_tables()
        self._subnets_by_network = _by(self._subnets.values(), "network_id")
        routers = [
            port
            for port in self._ports.values()
            if (port["device_owner"] or "").startswith(ROUTER_PORTS)
        ]
        self._ports_by_router = _by(routers, "device_id")

    def _read_tables(self) -> None:
        context = self.context
        segment = segment_models.NetworkSegment
        with db_api.CONTEXT_READER.using(context):
            rows = context.session.query(segment).filter_by(is_dynamic=False)
            self._segments = _by(
                [
                    {
                        "network_id": row.network_id,
                        "physical_network": row.physical_network,
                        "segmentation_id": row.segmentation_id,
                    }
                    for row in rows
                ],
                "network_id",
            )
            self._routed_subnets = frozenset(row.subnet_id for row in self._routed())
            self._trunk_places = {
                row.port_id: place_in_trunk(row) for row in self._sub_ports()
            }
            self._rules: dict[str, list[dict[str, Any]]] = defaultdict(list)
            for model in RULES:
                for row in context.session.query(model):
                    self._rules[row.qos_policy_id].append(rule_of(row))

    def network(self, ident: str) -> Thing:
        """Return a network as the API shows it."""
        return self._networks.get(ident) or super().network(ident)

    def segments(self, network: str) -> Collection[Thing]:
        """Return a network's static segments."""
        return self._segments.get(network) or super().segments(network)

    def subnets(self, network: str) -> Collection[Thing]:
        """Return a network's subnets."""
        return self._subnets_by_network.get(network, ())

    def routed(self, network: str) -> frozenset[str]:
        """Return the subnets that a router has an address of, this network's among."""
        return self._routed_subnets

    def port(self, ident: str) -> Thing:
        """Return a port."""
        return self._ports.get(ident) or super().port(ident)

    def is_any_stateful(self, groups: Iterable[str]) -> bool:
        """Tell whether one of some security groups is stateful."""
        known = (self._groups.get(group) for group in groups)
        return any(group["stateful"] for group in known if group is not None)

    def sub_port(self, port: str) -> Union[SubPort, None]:
        """Return a port's place in a trunk, None for none."""
        return self._trunk_places.get(port)

    def migration_hosts(self, port: str) -> Collection[str]:
        """Return the hosts of a port's inactive bindings."""
        return self._inactive.get(port, ())

    def policy_rules(self, policy: str) -> list[dict[str, Any]]:
        """Return the rules of a QoS policy that midoryu knows."""
        return self._rules.get(policy, [])

    def security_group(self, ident: str) -> Thing:
        """Return a security group with its rules."""
        return self._groups.get(ident) or super().security_group(ident)

    def remote(self, groups: Iterable[str]) -> set[str]:
        """Return those of some security groups that rules name."""
        return self._remote & set(groups)

    def members(self, group: str) -> set[str]:
        """Return the addresses that the ports of a security group may have."""
        return self._members.get(group, set())

    def router_ports(self, router: str) -> list[Thing]:
        """Return a router's ports."""
        return self._ports_by_router.get(router, [])

    def subnets_of(self, idents: Collection[str]) -> list[Thing]:
        """Return some subnets."""
        return [self._subnets[ident] for ident in idents if ident in self._subnets]


def _by_id(things: Iterable[Thing]) -> dict[str, Thing]:
    return {thing["id"]: thing for thing in things}


def _by(things: Iterable[Thing], key: str) -> dict[str, list[Thing]]:
    found: dict[str, list[Thing]] = defaultdict(list)
    for thing in things:
        found[thing[key]].append(thing)
    return dict(found)
