# SPDX-License-Identifier: Apache-2.0
"""Live migration: where Neutron says that ports go.

Nova makes an inactive binding at the destination and, in `pre_live_migration`, names it
in the active binding's profile, as `migrating_to`. Neutron tells no driver of inactive
bindings that come or go: `worker` looks for them.

Source: Nova's spec "Neutron new port binding API for live migration" (Queens).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from neutron.plugins.ml2 import models as ml2_models
from neutron_lib import constants
from neutron_lib import context as neutron_context
from neutron_lib.api.definitions import portbindings
from neutron_lib.db import api as db_api

from midoryu.neutron.label import UNIT_KEY
from midoryu.neutron.unit import PORT, unit

if TYPE_CHECKING:
    from midoryu.neutron.sync import Synchronizer

PROFILE_KEY: Final = "migrating_to"
"""Nova's word in a binding's profile."""


def named_target(port: Mapping[str, Any]) -> str:
    """Return where the profile says that an instance goes, "" for nowhere."""
    profile = port.get(portbindings.PROFILE) or {}
    return str(profile.get(PROFILE_KEY) or "")


class MigrationWatcher:
    """Finds inactive bindings that came or went, and has their ports written."""

    def __init__(self) -> None:
        self._reported: set[str] = set()

    def run(self, sync: Synchronizer) -> None:
        """Look once.

        Raises:
            NsdbError: the NSDB cannot be reached.
        """
        context = neutron_context.get_admin_context()
        found: set[str] = sync.store.read(
            lambda tables, _: _unrecorded(context, tables["Port"].rows.values())
        )
        new, self._reported = found - self._reported, found
        if new:
            sync.record(context, [unit(PORT, port) for port in new])
            sync.flush(context)


def _unrecorded(context: Any, rows: Iterable[Any]) -> set[str]:
    """Return the ports whose rows do not say what their inactive bindings do."""
    shown = {
        (row.interface_id, row.migrating_to[0].name)
        for row in rows
        if row.migrating_to and UNIT_KEY in row.external_ids
    }
    bindings = inactive_hosts(context, ())
    wanted = {(port, min(hosts)) for port, hosts in bindings.items()}
    return {port for port, _ in shown ^ wanted}


def inactive_hosts(context: Any, ports: Iterable[str]) -> dict[str, set[str]]:
    """Return the hosts of inactive bindings, by port; of all ports for none."""
    binding = ml2_models.PortBinding
    chosen = list(ports)
    with db_api.CONTEXT_READER.using(context):
        query = context.session.query(binding.port_id, binding.host)
        query = query.filter(
            binding.status == constants.INACTIVE,
            binding.vif_type == portbindings.VIF_TYPE_OVS,
        )
        if chosen:
            query = query.filter(binding.port_id.in_(chosen))
        found: dict[str, set[str]] = {}
        for row in query:
            found.setdefault(row.port_id, set()).add(row.host)
    return found
