# SPDX-License-Identifier: Apache-2.0
"""What agents say of ports -> Neutron's port status, and with it Nova's events.

`worker` calls `run` often; it looks only when something in the NSDB changed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Union

from neutron.db import models_v2, provisioning_blocks
from neutron.plugins.ml2 import db as ml2_db
from neutron.plugins.ml2 import models as ml2_models
from neutron_lib import constants
from neutron_lib import context as neutron_context
from neutron_lib.callbacks import resources
from neutron_lib.db import api as db_api
from neutron_lib.plugins import directory

from midoryu.errors import NsdbError
from midoryu.neutron.label import UNIT_KEY
from midoryu.neutron.store import Store

LOG = logging.getLogger(__name__)

_RETRY_TURNS: Final = 5
"""Looks between two attempts to tell of a port that was up too early."""


class StatusWatcher:
    """Remembers which ports are up where, and tells Neutron of changes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._host_by_port: Union[dict[str, Place], None] = None
        self._ready: frozenset[tuple[str, str]] = frozenset()
        self._early: dict[str, str] = {}
        self._turns = 0

    def run(self) -> None:
        """Look once.

        Raises:
            NsdbError: the NSDB cannot be reached.
        """
        now, ready = self._store.read(
            lambda tables, _: (ports_up(tables), ports_ready(tables))
        )
        before = self._host_by_port
        self._retry_early()
        if now == before and ready == self._ready:
            return
        context = neutron_context.get_admin_context()
        for port, host in sorted(ready - self._ready):
            tell_nova_of_migration(context, port, host)
        self._ready = ready
        if before is None:
            before = dict.fromkeys(_active_ports(context), Place("", False))
        for port, place in now.items():
            self._early.pop(port, None)
            if before.get(port) != place and not set_up(context, port, place.host):
                self._early[port] = place.host
        for port in before.keys() - now.keys():
            set_down(context, port)
        self._host_by_port = now

    def _retry_early(self) -> None:
        """Tell of ports again that were up at a host before they were bound there."""
        self._turns += 1
        if self._early and self._turns % _RETRY_TURNS == 0:
            context = neutron_context.get_admin_context()
            for port, host in list(self._early.items()):
                if set_up(context, port, host):
                    del self._early[port]


class Place(NamedTuple):
    """Where a port is up."""

    host: str
    is_early: bool
    """It is not bound there yet."""


def ports_ready(tables: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Return ports and the hosts that are ready for them, and shut."""
    return frozenset(
        (row.port.interface_id, row.host.name)
        for row in tables["Port_Ready"].rows.values()
        if UNIT_KEY in row.port.external_ids
    )


def ports_up(tables: Mapping[str, Any]) -> dict[str, Place]:
    """Return the hosts where ports are up, by Neutron's port id."""
    found = {}
    for row in tables["Port_Status"].rows.values():
        if row.up and UNIT_KEY in row.port.external_ids:
            found[row.port.interface_id] = Place(row.host.name, row.early)
    return found


def set_up(context: Any, port: str, host: str) -> bool:
    """Tell Neutron that a port's flows are in at a host.

    Returns:
        False where it is bound elsewhere: its instance spoke before the binding was
        activated, or (a sub-port) before it followed its parent.
    """
    row = ml2_db.get_port(context, port)
    if not row:
        return True
    if _active_host(context, port) != host:
        return False
    LOG.info("port %s is up at %s", port, host)
    provisioning_blocks.provisioning_complete(
        context, port, resources.PORT, provisioning_blocks.L2_AGENT_ENTITY
    )
    return True


def set_down(context: Any, port: str) -> None:
    """Tell Neutron that a port is nowhere."""
    row = ml2_db.get_port(context, port)
    if not row or row.status != constants.PORT_STATUS_ACTIVE:
        return
    LOG.info("port %s is down", port)
    # First the block: nobody else shall set it ACTIVE.
    provisioning_blocks.add_provisioning_component(
        context, port, resources.PORT, provisioning_blocks.L2_AGENT_ENTITY
    )
    directory.get_plugin().update_port_status(context, port, constants.PORT_STATUS_DOWN)


def _active_host(context: Any, port: str) -> Union[str, None]:
    binding = ml2_models.PortBinding
    with db_api.CONTEXT_READER.using(context):
        row = (
            context.session.query(binding.host)
            .filter_by(port_id=port, status=constants.ACTIVE)
            .first()
        )
    return None if row is None else str(row.host)


def _active_ports(context: Any) -> list[str]:
    """Return the ports that Neutron believes to be up at a host."""
    port, binding = models_v2.Port, ml2_models.PortBinding
    with db_api.CONTEXT_READER.using(context):
        query = context.session.query(port.id).join(binding, binding.port_id == port.id)
        query = query.filter(
            port.status == constants.PORT_STATUS_ACTIVE,
            binding.status == constants.ACTIVE,
            binding.host != "",
            binding.vif_type == "ovs",
        )
        return [row.id for row in query]


def tell_if_ready(store: Store, port: str, host: str) -> None:
    """Tell Nova that a port is wired where its instance will be, if it is already.

    Else the watcher does, once it is.
    """
    try:
        ready = store.read(lambda tables, _: ports_ready(tables))
    except NsdbError as problem:
        LOG.debug("port %s may come up later: %s", port, problem)
        return
    if (port, host) in ready:
        tell_nova_of_migration(neutron_context.get_admin_context(), port, host)


def tell_nova_of_migration(context: Any, port: str, host: str) -> None:
    """Tell Nova that a port is wired where its instance will be, if it binds there."""
    found = ml2_db.get_port(context, port)
    if not found:
        return
    binding = ml2_models.PortBinding
    with db_api.CONTEXT_READER.using(context):
        row = (
            context.session.query(binding.host)
            .filter_by(port_id=port, host=host, status=constants.INACTIVE)
            .first()
        )
    notifier = getattr(directory.get_plugin(), "nova_notifier", None)
    if row is not None and notifier is not None:
        LOG.info("port %s may come up at %s, where it migrates to", port, host)
        notifier.notify_port_active_direct(found)
