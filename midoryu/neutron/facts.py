# SPDX-License-Identifier: Apache-2.0
"""What the translations need to know of Neutron's database, asked thing by thing.

`source` asks. `bulk` answers the same questions from a few large queries.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Union

from neutron.db import models_v2, segments_db
from neutron.db.models import allowed_address_pair as pair_models
from neutron.db.models import securitygroup as group_models
from neutron.db.qos import models as qos_models
from neutron.objects import port_forwarding
from neutron.services.trunk import models as trunk_models
from neutron_lib.db import api as db_api
from neutron_lib.plugins import constants as plugin_constants
from neutron_lib.plugins import directory

from midoryu.neutron import unit as units
from midoryu.neutron.migrating import inactive_hosts
from midoryu.neutron.port import SubPort
from midoryu.neutron.qos import BANDWIDTH, DSCP
from midoryu.neutron.security import host_or_prefix

ROUTER_PORTS: Final = "network:router"
"""How `device_owner` of routers' ports begins."""


class Facts:
    """Answers by a query each. Things that are gone are Neutron's own exceptions."""

    def __init__(self, context: Any) -> None:
        self.context = context

    def network(self, ident: str) -> Mapping[str, Any]:
        """Return a network as the API shows it."""
        return directory.get_plugin().get_network(self.context, ident)

    def segments(self, network: str) -> Collection[Mapping[str, Any]]:
        """Return a network's static segments."""
        with db_api.CONTEXT_READER.using(self.context):
            return segments_db.get_network_segments(
                self.context, network, filter_dynamic=False
            )

    def subnets(self, network: str) -> Collection[Mapping[str, Any]]:
        """Return a network's subnets."""
        core = directory.get_plugin()
        return core.get_subnets(self.context, filters={"network_id": [network]})

    def routed(self, network: str) -> frozenset[str]:
        """Return the subnets of a network that a router has an address of."""
        rows = self._routed().filter(models_v2.IPAllocation.network_id == network)
        with db_api.CONTEXT_READER.using(self.context):
            return frozenset(row.subnet_id for row in rows)

    def port(self, ident: str) -> Mapping[str, Any]:
        """Return a port."""
        return directory.get_plugin().get_port(self.context, ident)

    def is_any_stateful(self, groups: Iterable[str]) -> bool:
        """Tell whether one of some security groups is stateful."""
        group = group_models.SecurityGroup
        with db_api.CONTEXT_READER.using(self.context):
            query = self.context.session.query(group.id)
            query = query.filter(group.id.in_(list(groups)))
            return query.filter(group.stateful.is_(True)).first() is not None

    def sub_port(self, port: str) -> Union[SubPort, None]:
        """Return a port's place in a trunk, None for none."""
        with db_api.CONTEXT_READER.using(self.context):
            sub = trunk_models.SubPort
            row = self._sub_ports().filter(sub.port_id == port).first()
        return None if row is None else place_in_trunk(row)

    def migration_hosts(self, port: str) -> Collection[str]:
        """Return the hosts of a port's inactive bindings."""
        return inactive_hosts(self.context, [port]).get(port, ())

    def policy_rules(self, policy: str) -> list[dict[str, Any]]:
        """Return the rules of a QoS policy that midoryu knows."""
        with db_api.CONTEXT_READER.using(self.context):
            return [
                rule
                for model in RULES
                for row in self.context.session.query(model).filter_by(
                    qos_policy_id=policy
                )
                for rule in [rule_of(row)]
            ]

    def security_group(self, ident: str) -> Mapping[str, Any]:
        """Return a security group with its rules."""
        return directory.get_plugin().get_security_group(self.context, ident)

    def remote(self, groups: Iterable[str]) -> set[str]:
        """Return those of some security groups that rules name."""
        return is_remote(self.context, groups)

    def members(self, group: str) -> set[str]:
        """Return the addresses that the ports of a security group may have."""
        return {host_or_prefix(str(ip)) for _, ip in member_rows(self.context, [group])}

    def address_group(self, ident: str) -> Mapping[str, Any]:
        """Return an address group."""
        return directory.get_plugin().get_address_group(self.context, ident)

    def router_ports(self, router: str) -> list[Mapping[str, Any]]:
        """Return a router's ports."""
        ports = directory.get_plugin().get_ports(
            self.context, filters={"device_id": [router]}
        )
        return [p for p in ports if p["device_owner"].startswith(ROUTER_PORTS)]

    def subnets_of(self, idents: Collection[str]) -> list[Mapping[str, Any]]:
        """Return some subnets."""
        core = directory.get_plugin()
        return core.get_subnets(self.context, filters={"id": list(idents)})

    def port_forwardings(
        self, floating: Iterable[Mapping[str, Any]]
    ) -> list[Mapping[str, Any]]:
        """Return the port forwardings of some floating addresses."""
        if directory.get_plugin(plugin_constants.PORTFORWARDING) is None:
            return []
        found: list[Mapping[str, Any]] = []
        for address in floating:
            for row in port_forwarding.PortForwarding.get_objects(
                self.context, floatingip_id=address["id"]
            ):
                ip = address["floating_ip_address"]
                found.append({**row.to_dict(), "floating_ip_address": ip})
        return found

    def _routed(self) -> Any:
        port, fixed = models_v2.Port, models_v2.IPAllocation
        query = self.context.session.query(fixed.subnet_id).join(
            port, port.id == fixed.port_id
        )
        return query.filter(port.device_owner.like("network:router_interface%"))

    def _sub_ports(self) -> Any:
        sub, trunk = trunk_models.SubPort, trunk_models.Trunk
        parent = models_v2.Port
        return (
            self.context.session.query(
                sub.port_id, sub.segmentation_id, parent.id, parent.network_id
            )
            .join(trunk, trunk.id == sub.trunk_id)
            .join(parent, parent.id == trunk.port_id)
        )


def place_in_trunk(row: Any) -> SubPort:
    """Make the value of a row of a sub-port and its parent."""
    return SubPort(units.port_name(row.network_id, row.id), row.segmentation_id)


RULES: Final = (qos_models.QosBandwidthLimitRule, qos_models.QosDscpMarkingRule)
"""Tables of the kinds of QoS rules that midoryu knows."""


def rule_of(row: Any) -> dict[str, Any]:
    """Describe a QoS rule."""
    if isinstance(row, qos_models.QosDscpMarkingRule):
        return {"type": DSCP, "dscp_mark": row.dscp_mark}
    return {
        "type": BANDWIDTH,
        "max_kbps": row.max_kbps,
        "max_burst_kbps": row.max_burst_kbps,
        "direction": row.direction,
    }


def is_remote(context: Any, groups: Iterable[str]) -> set[str]:
    """Return those of some security groups that rules let in (or out) by name."""
    rule = group_models.SecurityGroupRule
    with db_api.CONTEXT_READER.using(context):
        query = context.session.query(rule.remote_group_id)
        rows = query.filter(rule.remote_group_id.in_(list(groups))).distinct().all()
    return {row.remote_group_id for row in rows}


def member_rows(context: Any, groups: Iterable[str]) -> list[tuple[str, str]]:
    """Return (security group, address) of ports' own and allowed addresses."""
    binding = group_models.SecurityGroupPortBinding
    chosen = list(groups)
    found = []
    with db_api.CONTEXT_READER.using(context):
        for table in (models_v2.IPAllocation, pair_models.AllowedAddressPair):
            query = context.session.query(binding.security_group_id, table.ip_address)
            query = query.join(binding, binding.port_id == table.port_id)
            rows = query.filter(binding.security_group_id.in_(chosen))
            found += [(row.security_group_id, str(row.ip_address)) for row in rows]
    return found
