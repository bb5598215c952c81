# SPDX-License-Identifier: Apache-2.0
"""Neutron's database -> what the pure translations need, unit by unit.

Reads only; `sync` calls it after it has verified the NSDB's revision, never before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable, Final, Union

from neutron.db import models_v2, segments_db
from neutron.db.models import address_group as address_group_models
from neutron.db.models import allowed_address_pair as pair_models
from neutron.db.models import l3 as l3_models
from neutron.db.models import securitygroup as group_models
from neutron.db.models import segment as segment_models
from neutron.db.qos import models as qos_models
from neutron.extensions import securitygroup as group_extension
from neutron.objects import port_forwarding
from neutron.services.trunk import models as trunk_models
from neutron_lib import exceptions
from neutron_lib.db import api as db_api
from neutron_lib.exceptions import address_group as address_group_exceptions
from neutron_lib.exceptions import l3 as l3_exceptions
from neutron_lib.plugins import constants as plugin_constants
from neutron_lib.plugins import directory
from oslo_config import cfg

from midoryu.neutron import unit as units
from midoryu.neutron.migrating import migration_target
from midoryu.neutron.network import (
    Segment,
    metadata_item,
    network_items,
    physical_items,
)
from midoryu.neutron.port import SubPort, port_items
from midoryu.neutron.qos import BANDWIDTH, DSCP, policy_items
from midoryu.neutron.router import RouterParts, router_items
from midoryu.neutron.security import (
    address_group_items,
    host_or_prefix,
    security_group_items,
)
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
        self._readers: dict[str, Callable[[Any, str], list[Item]]] = {
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
        kind, ident = units.kind_and_id(unit)
        try:
            return self._readers[kind](context, ident)
        except _GONE:
            return []

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

    def _network(self, context: Any, ident: str) -> list[Item]:
        network = directory.get_plugin().get_network(context, ident)
        with db_api.CONTEXT_READER.using(context):
            found = segments_db.get_network_segments(
                context, ident, filter_dynamic=False
            )
        segments = [
            Segment(segment["physical_network"], segment["segmentation_id"] or 0)
            for segment in found
            if segment["physical_network"]
        ]
        names = {segment.physical_network for segment in segments}
        items = network_items(
            network,
            segments=segments,
            gateways=self._gateways,
            holders={name: holder(context, name) for name in names},
            all_active=_all_active(),
        )
        subnets = _subnets(context, ident)
        if subnets and cfg.CONF.midoryu.metadata:
            items.append(metadata_item(ident))
        return items + subnets

    def _physical(self, context: Any, name: str) -> list[Item]:
        if holder(context, name) != units.physical_name(name):
            return []
        if not networks_on(context, name):
            return []
        hosts = self._gateways.get(name, ())
        return physical_items(name, hosts, all_active=_all_active())

    def _policy(self, context: Any, ident: str) -> list[Item]:
        return policy_items(ident, _policy_rules(context, ident))

    def _port(self, context: Any, ident: str) -> list[Item]:
        port = directory.get_plugin().get_port(context, ident)
        groups = port.get("security_groups") or []
        return port_items(
            port,
            stateful=_any_stateful(context, groups),
            sub_port=_sub_port(context, ident),
            has_limits=lambda policy: bool(self._policy(context, policy)),
            migrating_to=migration_target(context, port),
        )

    def _security_group(self, context: Any, ident: str) -> list[Item]:
        group = directory.get_plugin().get_security_group(context, ident)
        rules = group["security_group_rules"]
        members = group_members(context, ident) if is_remote(context, [ident]) else ()
        return security_group_items(group, rules, members)

    def _address_group(self, context: Any, ident: str) -> list[Item]:
        group = directory.get_plugin().get_address_group(context, ident)
        return address_group_items(group)

    def _router(self, context: Any, ident: str) -> list[Item]:
        l3 = directory.get_plugin(plugin_constants.L3)
        if l3 is None:
            return []
        core = directory.get_plugin()
        router = l3.get_router(context, ident)
        ports = [
            port
            for port in core.get_ports(context, filters={"device_id": [ident]})
            if port["device_owner"].startswith("network:router")
        ]
        subnet_ids = {f["subnet_id"] for port in ports for f in port["fixed_ips"]}
        subnets = core.get_subnets(context, filters={"id": list(subnet_ids)})
        floating = l3.get_floatingips(context, filters={"router_id": [ident]})
        parts = RouterParts(
            router,
            ports=ports,
            subnets={subnet["id"]: subnet for subnet in subnets},
            floating_ips=floating,
            port_forwardings=_port_forwardings(context, floating),
            unmasked=_unmasked(context, ports, subnets),
        )
        return router_items(parts)


def _all_active() -> bool:
    return bool(cfg.CONF.midoryu.active_gateways == "all")


def _subnets(context: Any, network: str) -> list[Item]:
    core = directory.get_plugin()
    found = core.get_subnets(context, filters={"network_id": [network]})
    port, fixed = models_v2.Port, models_v2.IPAllocation
    with db_api.CONTEXT_READER.using(context):
        query = context.session.query(fixed.subnet_id).join(
            port, port.id == fixed.port_id
        )
        rows = query.filter(
            fixed.network_id == network,
            port.device_owner.like("network:router_interface%"),
        )
        routed = {row.subnet_id for row in rows}
    conf = cfg.CONF
    domain = conf.dns_domain if "dns_domain" in conf else ""
    return [
        subnet_item(
            subnet,
            has_router=subnet["id"] in routed,
            lease_s=conf.dhcp_lease_duration,
            domain="" if domain == "openstacklocal" else domain,
        )
        for subnet in found
    ]


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


def is_remote(context: Any, groups: Iterable[str]) -> set[str]:
    """Return those of some security groups that rules let in (or out) by name."""
    rule = group_models.SecurityGroupRule
    with db_api.CONTEXT_READER.using(context):
        query = context.session.query(rule.remote_group_id)
        rows = query.filter(rule.remote_group_id.in_(list(groups))).distinct().all()
    return {row.remote_group_id for row in rows}


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


def group_members(context: Any, group: str) -> set[str]:
    """Return the addresses that the ports of a security group may have."""
    binding = group_models.SecurityGroupPortBinding
    fixed, pair = models_v2.IPAllocation, pair_models.AllowedAddressPair
    with db_api.CONTEXT_READER.using(context):
        own = context.session.query(fixed.ip_address).join(
            binding, binding.port_id == fixed.port_id
        )
        found = {
            row.ip_address for row in own.filter(binding.security_group_id == group)
        }
        more = context.session.query(pair.ip_address).join(
            binding, binding.port_id == pair.port_id
        )
        found |= {
            row.ip_address for row in more.filter(binding.security_group_id == group)
        }
    return {host_or_prefix(str(text)) for text in found}


def _any_stateful(context: Any, groups: Iterable[str]) -> bool:
    group = group_models.SecurityGroup
    with db_api.CONTEXT_READER.using(context):
        query = context.session.query(group.id).filter(group.id.in_(list(groups)))
        return query.filter(group.stateful.is_(True)).first() is not None


def _sub_port(context: Any, port: str) -> Union[SubPort, None]:
    sub, trunk = trunk_models.SubPort, trunk_models.Trunk
    parent = models_v2.Port
    with db_api.CONTEXT_READER.using(context):
        row = (
            context.session.query(sub.segmentation_id, parent.id, parent.network_id)
            .join(trunk, trunk.id == sub.trunk_id)
            .join(parent, parent.id == trunk.port_id)
            .filter(sub.port_id == port)
            .first()
        )
    if row is None:
        return None
    return SubPort(units.port_name(row.network_id, row.id), row.segmentation_id)


def _policy_rules(context: Any, policy: str) -> list[dict[str, Any]]:
    limit, dscp = qos_models.QosBandwidthLimitRule, qos_models.QosDscpMarkingRule
    with db_api.CONTEXT_READER.using(context):
        limits = context.session.query(limit).filter_by(qos_policy_id=policy)
        found: list[dict[str, Any]] = [
            {
                "type": BANDWIDTH,
                "max_kbps": row.max_kbps,
                "max_burst_kbps": row.max_burst_kbps,
                "direction": row.direction,
            }
            for row in limits
        ]
        marks = context.session.query(dscp).filter_by(qos_policy_id=policy)
        found += [{"type": DSCP, "dscp_mark": row.dscp_mark} for row in marks]
    return found


def _port_forwardings(
    context: Any, floating: Iterable[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    if directory.get_plugin(plugin_constants.PORTFORWARDING) is None:
        return []
    found: list[Mapping[str, Any]] = []
    for address in floating:
        for row in port_forwarding.PortForwarding.get_objects(
            context, floatingip_id=address["id"]
        ):
            ip = address["floating_ip_address"]
            found.append({**row.to_dict(), "floating_ip_address": ip})
    return found


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
