# SPDX-License-Identifier: Apache-2.0
"""Trunks: a port that carries others, told apart by VLAN tags.

A sub-port's row names its parent and its tag (`port`); here changes of trunks are
recorded, and sub-ports follow their parent to its host.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from neutron.objects import trunk as trunk_objects
from neutron.services.trunk.drivers import base
from neutron_lib.api.definitions import portbindings
from neutron_lib.callbacks import events, registry, resources
from neutron_lib.plugins import directory
from neutron_lib.services.trunk import constants as trunk_constants
from oslo_config import cfg

from midoryu.neutron import unit as units
from midoryu.neutron.sync import Synchronizer

_NAME = "midoryu"


class TrunkDriver(base.DriverBase):
    """Trunks of ports that midoryu binds."""

    def __init__(self, sync: Synchronizer) -> None:
        super().__init__(
            _NAME,
            interfaces=(portbindings.VIF_TYPE_OVS,),
            segmentation_types=(trunk_constants.SEGMENTATION_TYPE_VLAN,),
            can_trunk_bound_port=True,
        )
        self._sync = sync
        for event in (events.PRECOMMIT_CREATE, events.PRECOMMIT_DELETE):
            registry.subscribe(self._changes, resources.TRUNK, event)
            registry.subscribe(self._changes, resources.SUBPORTS, event)
        for event in (events.AFTER_CREATE, events.AFTER_DELETE):
            registry.subscribe(self._changed, resources.TRUNK, event)
            registry.subscribe(self._changed, resources.SUBPORTS, event)
        registry.subscribe(self._port_updated, resources.PORT, events.AFTER_UPDATE)

    @property
    def is_loaded(self) -> bool:
        """Tell whether the mechanism driver is in use."""
        try:
            return _NAME in cfg.CONF.ml2.mechanism_drivers
        except cfg.NoSuchOptError:
            return False

    def _changes(self, resource: str, event: str, trigger: Any, payload: Any) -> None:
        ports = [sub.port_id for sub in _sub_ports(resource, payload)]
        changed = [units.unit(units.PORT, port) for port in ports]
        self._sync.record(payload.context, changed)

    def _changed(self, resource: str, event: str, trigger: Any, payload: Any) -> None:
        trunk = payload.latest_state
        subs = _sub_ports(resource, payload)
        admin = payload.context.elevated()
        if event == events.AFTER_DELETE:
            self._follow(admin, subs, "", owner="")
        else:
            parent = directory.get_plugin().get_port(admin, trunk.port_id)
            self._follow(admin, subs, parent.get(portbindings.HOST_ID) or "")
        self._sync.flush(payload.context)
        if resource == resources.SUBPORTS or event == events.AFTER_CREATE:
            # Tags are handled wherever the parent is: there is nothing to wait for.
            found = trunk_objects.Trunk.get_object(admin, id=trunk.id)
            if found is not None:
                found.update(status=trunk_constants.TRUNK_ACTIVE_STATUS)

    def _port_updated(
        self, resource: str, event: str, trigger: Any, payload: Any
    ) -> None:
        before, after = payload.states[0], payload.latest_state
        details = after.get("trunk_details")
        host = after.get(portbindings.HOST_ID) or ""
        if not details or (before.get(portbindings.HOST_ID) or "") == host:
            return
        admin = payload.context.elevated()
        trunk = trunk_objects.Trunk.get_object(admin, id=details["trunk_id"])
        if trunk is not None:
            self._follow(admin, trunk.sub_ports, host)

    def _follow(
        self,
        admin: Any,
        subs: Iterable[Any],
        host: str,
        *,
        owner: str = trunk_constants.TRUNK_SUBPORT_OWNER,
    ) -> None:
        """Bind sub-ports where their parent is."""
        core = directory.get_plugin()
        for sub in subs:
            values = {portbindings.HOST_ID: host, "device_owner": owner}
            core.update_port(admin, sub.port_id, {"port": values})


def _sub_ports(resource: str, payload: Any) -> list[Any]:
    if resource == resources.SUBPORTS:
        return list(payload.metadata["subports"])
    trunk = payload.latest_state or payload.desired_state
    return list(trunk.sub_ports)
