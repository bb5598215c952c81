# SPDX-License-Identifier: Apache-2.0
"""Neutron's database -> what the pure translations need, unit by unit.

Reads only; `sync` calls it after it has verified the NSDB's revision, never before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable, Final

from neutron.db import models_v2
from neutron.db.models import address_group as address_group_models
from neutron.db.models import l3 as l3_models
from neutron.db.models import securitygroup as group_models
from neutron.db.models import segment as segment_models
from neutron.db.qos import models as qos_models
from neutron.extensions import securitygroup as group_extension
from neutron_lib import exceptions
from neutron_lib.db import api as db_api
from neutron_lib.exceptions import address_group as address_group_exceptions
from neutron_lib.exceptions import l3 as l3_exceptions
from neutron_lib.plugins import constants as plugin_constants
from neutron_lib.plugins import directory
from oslo_config import cfg

from midoryu.neutron import unit as units
from midoryu.neutron.bulk import BulkFacts
from midoryu.neutron.facts import Facts
from midoryu.neutron.facts import is_remote as is_remote
from midoryu.neutron.migrating import named_target
from midoryu.neutron.network import (
    Segment,
    metadata_item,
    network_items,
    physical_items,
)
from midoryu.neutron.port import port_items
from midoryu.neutron.qos import policy_items
from midoryu.neutron.router import RouterParts, router_items
from midoryu.neutron.security import address_group_items, security_group_items
from midoryu.neutron.subnet import subnet_item
from midoryu.neutron.unit import Unit
from midoryu.nsdb.item import Item

_GONE: Final = (
    exceptions.NetworkNotFound,
    exceptions.PortNotFound,
    group_extension.SecurityGroupNotFound,
    address_group_exceptions.AddressGroupNotFound,
    l3_exceptions.RouterNotFound,
)


class Source:
    """What Neutron wants, read from its database at the moment of asking."""

    def __init__(self, gateways: Mapping[str, tuple[str, ...]]) -> None:
        """Args: gateways: hosts by the physical network that they have a way into."""
        self._gateways = gateways
        self._readers: dict[str, Callable[[Facts, str], list[Item]]] = {
            units.NETWORK: self._network,
            units.PORT: self._port,
            units.SECURITY_GROUP: self._security_group,
            units.ADDRESS_GROUP: self._address_group,
            units.ROUTER: self._router,
            units.QOS_POLICY: self._policy,
            units.PHYSICAL: self._physical,
        }

    def items(self, context: Any, unit: Unit) -> list[Item]:
        """Return the rows that a unit shall have; none for one that is gone."""
        return self._items(Facts(context), unit)

    def everything(self, context: Any) -> dict[Unit, list[Item]]:
        """Return the rows of every unit, from a few large queries."""
        facts = BulkFacts(context)
        return {unit: self._items(facts, unit) for unit in self.units(context)}

    def units(self, context: Any) -> Iterator[Unit]:
        """List every unit that Neutron knows, those first that others refer to."""
        models = {
            units.NETWORK: models_v2.Network,
            units.SECURITY_GROUP: group_models.SecurityGroup,
            units.ADDRESS_GROUP: address_group_models.AddressGroup,
            units.PORT: models_v2.Port,
            units.ROUTER: l3_models.Router,
            units.QOS_POLICY: qos_models.QosPolicy,
        }
        for name in self._gateways:
            yield units.unit(units.PHYSICAL, name)
        for kind in models:
            with db_api.CONTEXT_READER.using(context):
                rows = context.session.query(models[kind].id).all()
            for row in rows:
                yield units.unit(kind, row.id)

    def _items(self, facts: Facts, unit: Unit) -> list[Item]:
        kind, ident = units.kind_and_id(unit)
        try:
            return self._readers[kind](facts, ident)
        except _GONE:
            return []

    def _network(self, facts: Facts, ident: str) -> list[Item]:
        network = facts.network(ident)
        segments = [
            Segment(segment["physical_network"], segment["segmentation_id"] or 0)
            for segment in facts.segments(ident)
            if segment["physical_network"]
        ]
        names = {segment.physical_network for segment in segments}
        items = network_items(
            network,
            segments=segments,
            gateways=self._gateways,
            holders={name: holder(facts.context, name) for name in names},
            all_active=_all_active(),
        )
        subnets = _subnets(facts, ident)
        if subnets and cfg.CONF.midoryu.metadata:
            items.append(metadata_item(ident))
        return items + subnets

    def _physical(self, facts: Facts, name: str) -> list[Item]:
        if holder(facts.context, name) != units.physical_name(name):
            return []
        if not networks_on(facts.context, name):
            return []
        hosts = self._gateways.get(name, ())
        return physical_items(name, hosts, all_active=_all_active())

    def _policy(self, facts: Facts, ident: str) -> list[Item]:
        return policy_items(ident, facts.policy_rules(ident))

    def _port(self, facts: Facts, ident: str) -> list[Item]:
        port = facts.port(ident)
        groups = port.get("security_groups") or []
        return port_items(
            port,
            stateful=facts.is_any_stateful(groups),
            sub_port=facts.sub_port(ident),
            has_limits=lambda policy: bool(self._policy(facts, policy)),
            migrating_to=named_target(port)
            or min(facts.migration_hosts(ident), default=""),
        )

    def _security_group(self, facts: Facts, ident: str) -> list[Item]:
        group = facts.security_group(ident)
        rules = group["security_group_rules"]
        members = facts.members(ident) if facts.remote([ident]) else ()
        return security_group_items(group, rules, members)

    def _address_group(self, facts: Facts, ident: str) -> list[Item]:
        return address_group_items(facts.address_group(ident))

    def _router(self, facts: Facts, ident: str) -> list[Item]:
        l3 = directory.get_plugin(plugin_constants.L3)
        if l3 is None:
            return []
        router = l3.get_router(facts.context, ident)
        ports = facts.router_ports(ident)
        used = {f["subnet_id"] for port in ports for f in port["fixed_ips"]}
        subnets = facts.subnets_of(used)
        floating = l3.get_floatingips(facts.context, filters={"router_id": [ident]})
        parts = RouterParts(
            router,
            ports=ports,
            subnets={subnet["id"]: subnet for subnet in subnets},
            floating_ips=floating,
            port_forwardings=facts.port_forwardings(floating),
            unmasked=_unmasked(facts.context, ports, subnets),
        )
        return router_items(parts)


def _subnets(facts: Facts, network: str) -> list[Item]:
    routed = facts.routed(network)
    conf = cfg.CONF
    domain = conf.dns_domain if "dns_domain" in conf else ""
    return [
        subnet_item(
            subnet,
            has_router=subnet["id"] in routed,
            lease_s=conf.dhcp_lease_duration,
            domain="" if domain == "openstacklocal" else domain,
        )
        for subnet in facts.subnets(network)
    ]


def _all_active() -> bool:
    return bool(cfg.CONF.midoryu.active_gateways == "all")


def networks_on(context: Any, physical_network: str) -> dict[str, int]:
    """Return the networks on a physical network, with their VLAN (0 for untagged)."""
    segment = segment_models.NetworkSegment
    with db_api.CONTEXT_READER.using(context):
        query = context.session.query(segment.network_id, segment.segmentation_id)
        rows = query.filter_by(
            physical_network=physical_network, is_dynamic=False
        ).all()
    return {row.network_id: row.segmentation_id or 0 for row in rows}


def holder(context: Any, physical_network: str) -> str:
    """Name the switch that the interfaces into a physical network are at.

    That of its untagged network; with VLANs alone one that only holds interfaces.
    """
    for network, vlan in networks_on(context, physical_network).items():
        if not vlan:
            return units.device_name(network)
    return units.physical_name(physical_network)


def groups_naming(context: Any, group: str) -> set[str]:
    """Return the security groups that have a rule which names a group."""
    rule = group_models.SecurityGroupRule
    with db_api.CONTEXT_READER.using(context):
        query = context.session.query(rule.security_group_id)
        rows = query.filter(rule.remote_group_id == group).distinct().all()
    return {row.security_group_id for row in rows}


def ports_of_group(context: Any, group: str) -> set[str]:
    """Return the ports that have a security group."""
    binding = group_models.SecurityGroupPortBinding
    with db_api.CONTEXT_READER.using(context):
        query = context.session.query(binding.port_id)
        return {row.port_id for row in query.filter_by(security_group_id=group)}


def ports_on(context: Any, network: str) -> set[str]:
    """Return the ports of a network."""
    port = models_v2.Port
    with db_api.CONTEXT_READER.using(context):
        query = context.session.query(port.id).filter_by(network_id=network)
        return {row.id for row in query}


def ports_with_policy(context: Any, policy: str) -> set[str]:
    """Return the ports that have a QoS policy, or whose network has it."""
    own, shared = qos_models.QosPortPolicyBinding, qos_models.QosNetworkPolicyBinding
    port = models_v2.Port
    with db_api.CONTEXT_READER.using(context):
        mine = context.session.query(own.port_id).filter_by(policy_id=policy)
        found = {row.port_id for row in mine}
        theirs = context.session.query(port.id).join(
            shared, shared.network_id == port.network_id
        )
        return found | {row.id for row in theirs.filter(shared.policy_id == policy)}


def routers_on(context: Any, network: str) -> set[str]:
    """Return the routers that have a port on a network."""
    port = models_v2.Port
    with db_api.CONTEXT_READER.using(context):
        query = context.session.query(port.device_id).filter(
            port.network_id == network, port.device_owner.like("network:router%")
        )
        return {row.device_id for row in query}


def _unmasked(
    context: Any,
    ports: Iterable[Mapping[str, Any]],
    subnets: Iterable[Mapping[str, Any]],
) -> frozenset[str]:
    """Return the subnets in an address scope of a gateway's network."""
    scope_by_pool: dict[str, Any] = {}

    def scope(subnet: Mapping[str, Any]) -> Any:
        pool = subnet.get("subnetpool_id")
        if not pool or pool == "prefix_delegation":
            return None
        if pool not in scope_by_pool:
            found = directory.get_plugin().get_subnetpool(context, pool)
            scope_by_pool[pool] = found.get("address_scope_id")
        return scope_by_pool[pool]

    scopes = {subnet["id"]: scope(subnet) for subnet in subnets}
    outside = {
        scopes.get(fixed["subnet_id"])
        for port in ports
        if port["device_owner"] == "network:router_gateway"
        for fixed in port["fixed_ips"]
    } - {None}
    return frozenset(ident for ident, found in scopes.items() if found in outside)
