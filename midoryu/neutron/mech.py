# SPDX-License-Identifier: Apache-2.0
"""The ML2 mechanism driver `midoryu`.

In a transaction it records which units change, after it it flushes (`sync`). What ML2
does not hand to mechanism drivers comes by callbacks (`events`). `binding` decides
whether a port binds; `worker` tells Neutron what the hosts report.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final

from neutron.db import provisioning_blocks
from neutron_lib import constants
from neutron_lib.api.definitions import portbindings
from neutron_lib.callbacks import events as event_names
from neutron_lib.callbacks import registry, resources
from neutron_lib.plugins.ml2 import api
from oslo_config import cfg

from midoryu.conf import neutron as options
from midoryu.neutron import source, status
from midoryu.neutron import unit as units
from midoryu.neutron.binding import Binder
from midoryu.neutron.events import Callbacks
from midoryu.neutron.extensions import ML2_EXTENSIONS
from midoryu.neutron.migrating import named_target
from midoryu.neutron.port import ROUTER_OWNERS
from midoryu.neutron.qos_driver import QosDriver
from midoryu.neutron.source import Source
from midoryu.neutron.store import Store
from midoryu.neutron.sync import Synchronizer
from midoryu.neutron.trunk import TrunkDriver
from midoryu.neutron.unit import Unit
from midoryu.neutron.worker import MaintenanceWorker
from midoryu.nsdb.remote import Certificates

LOG = logging.getLogger(__name__)

NAME: Final = "midoryu"


def gateways_of(entries: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Read `PHYSNET:HOST` entries: hosts by physical network."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        physical_network, _, host = entry.partition(":")
        found[physical_network] = (*found.get(physical_network, ()), host)
    return found


def make_synchronizer() -> Synchronizer:
    """Make what this process writes the NSDB with, as its options say."""
    options.register_opts(cfg.CONF)
    conf = cfg.CONF.midoryu
    certificates = Certificates(
        conf.nsdb_private_key, conf.nsdb_certificate, conf.nsdb_ca_cert
    )
    connection = "".join(conf.nsdb_connection.split())
    store = Store(connection, timeout_s=conf.nsdb_timeout_s, certificates=certificates)
    return Synchronizer(store, Source(gateways_of(conf.gateways)))


class MidoryuMechanismDriver(api.MechanismDriver):
    """Neutron's networks, subnets and ports for midoryu."""

    def initialize(self) -> None:
        """Prepare; connections are opened once the process is what it will be."""
        self.sync = make_synchronizer()
        self.binder = Binder(self.sync.store)
        self.callbacks = Callbacks(self.sync)
        self.callbacks.subscribe()
        self.trunk = TrunkDriver(self.sync)
        self.qos = QosDriver.create(self.sync)
        registry.subscribe(self._start, resources.PROCESS, event_names.AFTER_INIT)

    def get_workers(self) -> list[Any]:
        """Return the worker that `neutron-periodic-workers` runs."""
        return [MaintenanceWorker(self.sync)]

    def supported_extensions(self, extensions: Any) -> Any:
        """Return those of some API extensions that midoryu does something for."""
        return set(extensions) & ML2_EXTENSIONS

    @property
    def connectivity(self) -> str:
        """Say that ports reach each other by frames."""
        return str(portbindings.CONNECTIVITY_L2)

    def _start(self, resource: Any, event: Any, trigger: Any, payload: Any) -> None:
        self.sync.store.start()

    # Networks and subnets.

    def create_network_precommit(self, context: Any) -> None:
        """Record a new network."""
        self._record_network(context)

    def update_network_precommit(self, context: Any) -> None:
        """Record a changed network."""
        self._record_network(context)

    def delete_network_precommit(self, context: Any) -> None:
        """Record that a network goes."""
        self._record_network(context)

    def create_network_postcommit(self, context: Any) -> None:
        """Write it."""
        self._flush(context)

    def update_network_postcommit(self, context: Any) -> None:
        """Write it."""
        self._flush(context)

    def delete_network_postcommit(self, context: Any) -> None:
        """Write it."""
        self._flush(context)

    def create_subnet_precommit(self, context: Any) -> None:
        """Record that a network has a new subnet."""
        self._record_subnet(context)

    def update_subnet_precommit(self, context: Any) -> None:
        """Record a changed subnet."""
        self._record_subnet(context)

    def delete_subnet_precommit(self, context: Any) -> None:
        """Record that a subnet goes."""
        self._record_subnet(context)

    def create_subnet_postcommit(self, context: Any) -> None:
        """Write it."""
        self._write_subnet(context)

    def update_subnet_postcommit(self, context: Any) -> None:
        """Write it."""
        self._flush(context)

    def delete_subnet_postcommit(self, context: Any) -> None:
        """Write it."""
        self._write_subnet(context)

    # Ports.

    def create_port_precommit(self, context: Any) -> None:
        """Record a new port, and that it has to be wired before it is ACTIVE."""
        self._record_port(context)
        self._block(context)

    def update_port_precommit(self, context: Any) -> None:
        """Record a changed port."""
        self._record_port(context)
        if context.host != context.original_host or not self._was_bound(context):
            self._block(context)

    def delete_port_precommit(self, context: Any) -> None:
        """Record that a port goes."""
        self._record_port(context)

    def create_port_postcommit(self, context: Any) -> None:
        """Write it."""
        self._flush(context)

    def update_port_postcommit(self, context: Any) -> None:
        """Write it; tell Nova if it waits for a host where all is ready already."""
        self._flush(context)
        port, target = context.current, named_target(context.current)
        if target and target != named_target(context.original or {}):
            status.tell_if_ready(self.sync.store, port["id"], target)

    def delete_port_postcommit(self, context: Any) -> None:
        """Write it."""
        self._flush(context)

    def bind_port(self, context: Any) -> None:
        """Bind a port to a segment, if the host can have it."""
        self.binder.bind(context)

    # Helpers.

    def _flush(self, context: Any) -> None:
        self.sync.flush(context._plugin_context)

    def _record(self, context: Any, changed: Iterable[Unit]) -> None:
        self.sync.record(context._plugin_context, changed)

    def _record_network(self, context: Any) -> None:
        network = context.current["id"]
        changed = {units.unit(units.NETWORK, network)}
        for segment in context.network_segments or ():
            name = segment.get(api.PHYSICAL_NETWORK)
            if name:
                # The untagged network holds the interfaces that VLANs are parts of.
                changed.add(units.unit(units.PHYSICAL, name))
                others = source.networks_on(context._plugin_context, name)
                changed |= {units.unit(units.NETWORK, other) for other in others}
        if context.original:
            policies = (context.current, context.original)
            if len({found.get("qos_policy_id") for found in policies}) > 1:
                ports = source.ports_on(context._plugin_context, network)
                changed |= {units.unit(units.PORT, port) for port in ports}
        self._record(context, changed)

    def _record_subnet(self, context: Any) -> None:
        network = context.current["network_id"]
        routers = source.routers_on(context._plugin_context, network)
        changed = [units.unit(units.ROUTER, router) for router in routers]
        # Ports get addresses of a subnet that is new, and lose those of one that goes.
        ports = source.ports_on(context._plugin_context, network)
        changed += [units.unit(units.PORT, port) for port in ports]
        self._record(context, [units.unit(units.NETWORK, network), *changed])

    def _write_subnet(self, context: Any) -> None:
        # Neutron changes the ports after the subnet's own transaction, without a word.
        self._record_subnet(context)
        self._flush(context)

    def _record_port(self, context: Any) -> None:
        changed: set[Unit] = set()
        groups: set[str] = set()
        for port in (context.current, context.original):
            if port:
                changed.add(units.unit(units.PORT, port["id"]))
                groups.update(port.get("security_groups") or ())
                if port["device_owner"] in ROUTER_OWNERS:
                    changed.add(units.unit(units.NETWORK, port["network_id"]))
                    if port["device_id"]:
                        changed.add(units.unit(units.ROUTER, port["device_id"]))
        named = source.is_remote(context._plugin_context, groups) if groups else ()
        changed |= {units.unit(units.SECURITY_GROUP, group) for group in named}
        self._record(context, changed)

    def _block(self, context: Any) -> None:
        port = context.current
        if not context.host or port["status"] == constants.PORT_STATUS_ACTIVE:
            return
        if port.get(portbindings.VNIC_TYPE, "normal") != portbindings.VNIC_NORMAL:
            return
        provisioning_blocks.add_provisioning_component(
            context._plugin_context,
            port["id"],
            resources.PORT,
            provisioning_blocks.L2_AGENT_ENTITY,
        )

    @staticmethod
    def _was_bound(context: Any) -> bool:
        unbound = (portbindings.VIF_TYPE_UNBOUND, portbindings.VIF_TYPE_BINDING_FAILED)
        return context.original_vif_type not in (*unbound, None)
