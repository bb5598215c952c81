# SPDX-License-Identifier: Apache-2.0
"""The L3 service plugin `midoryu_l3`: routers, gateways, floating addresses.

All of the API is Neutron's own database code; here its changes are recorded and
flushed as `mech` does for ports. There are no L3 agents: a router is everywhere.
"""

from __future__ import annotations

from typing import Any

from neutron.api.rpc.agentnotifiers import utils as notifier_utils
from neutron.db import (
    dns_db,
    extraroute_db,
    l3_attrs_db,
    l3_db,
    l3_extra_gws_db,
    l3_fip_pools_db,
    l3_fip_port_details,
)
from neutron.db.models import l3 as l3_models
from neutron.quota import resource_registry
from neutron.services.portforwarding import constants as forwarding_constants
from neutron_lib import constants
from neutron_lib.callbacks import events, registry, resources
from neutron_lib.plugins import constants as plugin_constants
from neutron_lib.plugins import directory
from neutron_lib.services import base as service_base

from midoryu.neutron import mech
from midoryu.neutron import unit as units
from midoryu.neutron.extensions import L3_EXTENSIONS
from midoryu.neutron.sync import Synchronizer

PRECOMMITS = (
    events.PRECOMMIT_CREATE,
    events.PRECOMMIT_UPDATE,
    events.PRECOMMIT_DELETE,
)
AFTERS = (events.AFTER_CREATE, events.AFTER_UPDATE, events.AFTER_DELETE)


class MidoryuL3Plugin(
    service_base.ServicePluginBase,
    extraroute_db.ExtraRoute_dbonly_mixin,
    l3_db.L3NotifierMixin,
    l3_attrs_db.ExtraAttributesMixin,
    dns_db.DNSDbMixin,
    l3_fip_port_details.Fip_port_details_db_mixin,
    l3_fip_pools_db.FloatingIPPoolsMixin,
    l3_extra_gws_db.ExtraGatewaysDbOnlyMixin,
):
    """Routers and floating addresses for midoryu."""

    supported_extension_aliases = list(L3_EXTENSIONS)

    @resource_registry.tracked_resources(
        router=l3_models.Router, floatingip=l3_models.FloatingIP
    )
    def __init__(self) -> None:
        super().__init__()
        # Neutron's own code calls it; without an RPC instance it does nothing.
        self._l3_rpc_notifier = notifier_utils.RPCNotifierHandler()
        self._own_sync: Any = None
        self._subscribe()

    @property
    def l3_rpc_notifier(self) -> Any:
        """Return whom to tell about routers: nobody."""
        return self._l3_rpc_notifier

    @property
    def sync(self) -> Synchronizer:
        """Return the mechanism driver's synchronizer, or one's own without it."""
        manager = getattr(directory.get_plugin(), "mechanism_manager", None)
        drivers = getattr(manager, "mech_drivers", {})
        if mech.NAME in drivers:
            found: Synchronizer = drivers[mech.NAME].obj.sync
            return found
        if self._own_sync is None:
            self._own_sync = mech.make_synchronizer()
        return self._own_sync

    def update_router_gw_ports(self, context: Any, network: Any, subnet: Any) -> None:
        """Give gateway ports an address of a new subnet (Neutron's IPAM calls it)."""
        self._update_router_gateway_ports(context, network, subnet)

    @staticmethod
    def get_plugin_type() -> str:
        """Say what kind of service this is."""
        return str(plugin_constants.L3)

    @staticmethod
    def get_plugin_description() -> str:
        """Say it in words."""
        return "Distributed routers of midoryu"

    def _subscribe(self) -> None:
        for event in PRECOMMITS:
            registry.subscribe(self._router_changes, resources.ROUTER, event)
            registry.subscribe(self._floating_changes, resources.FLOATING_IP, event)
        for event in AFTERS:
            for resource in (resources.ROUTER, resources.FLOATING_IP):
                registry.subscribe(self._changed, resource, event)
            registry.subscribe(
                self._forwarding_changed, forwarding_constants.PORT_FORWARDING, event
            )
        for event in (events.AFTER_CREATE, events.AFTER_DELETE):
            registry.subscribe(
                self._interface_changed, resources.ROUTER_INTERFACE, event
            )
            registry.subscribe(self._gateway_changed, resources.ROUTER_GATEWAY, event)

    def _router_changes(self, _: Any, event: str, trigger: Any, payload: Any) -> None:
        self._record(payload.context, {payload.resource_id})

    def _floating_changes(self, _: Any, event: str, trigger: Any, payload: Any) -> None:
        routers = set((payload.metadata or {}).get("router_ids") or ())
        states = [payload.desired_state, *(payload.states or ())]
        for state in states:
            routers.add(_router_of(state))
        if event == events.PRECOMMIT_DELETE:
            # What is deleted is the port that reserves the address.
            port = payload.latest_state
            query = payload.context.session.query(l3_models.FloatingIP.router_id)
            rows = query.filter_by(floating_port_id=port["id"])
            routers |= {row.router_id for row in rows}
        self._record(payload.context, routers - {None})

    def _forwarding_changed(
        self, _: Any, event: str, trigger: Any, payload: Any
    ) -> None:
        context = payload.context
        idents = {state.floatingip_id for state in payload.states}
        query = context.elevated().session.query(l3_models.FloatingIP.router_id)
        rows = query.filter(l3_models.FloatingIP.id.in_(idents)).all()
        routers = {row.router_id for row in rows}
        routers |= {getattr(state, "router_id", None) for state in payload.states}
        self._record(context, routers - {None})
        self.sync.flush(context)

    def _changed(self, _: Any, event: str, trigger: Any, payload: Any) -> None:
        self.sync.flush(payload.context)

    def _interface_changed(
        self, _: Any, event: str, trigger: Any, payload: Any
    ) -> None:
        self.sync.flush(payload.context)
        if event == events.AFTER_CREATE:
            port = (payload.metadata or {}).get("port")
            if port:
                self._set_active(payload.context, port["id"])

    def _gateway_changed(self, _: Any, event: str, trigger: Any, payload: Any) -> None:
        self.sync.flush(payload.context)
        if event == events.AFTER_CREATE:
            filters = {
                "device_id": [payload.resource_id],
                "device_owner": [constants.DEVICE_OWNER_ROUTER_GW],
            }
            core = directory.get_plugin()
            for port in core.get_ports(payload.context.elevated(), filters=filters):
                self._set_active(payload.context, port["id"])

    def _set_active(self, context: Any, port: str) -> None:
        """A router's port is wherever it is needed: there is nothing to wait for."""
        core = directory.get_plugin()
        update = getattr(core, "update_port_status", None)
        if update is not None:
            update(context.elevated(), port, constants.PORT_STATUS_ACTIVE)

    def _record(self, context: Any, routers: set[Any]) -> None:
        found = [units.unit(units.ROUTER, router) for router in routers]
        self.sync.record(context, found)


def _router_of(state: Any) -> Any:
    """Read the router of a floating address in any of the forms that events have."""
    if isinstance(state, dict):
        return state.get("floatingip", state).get("router_id")
    return getattr(state, "router_id", None)
