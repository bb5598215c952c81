# SPDX-License-Identifier: Apache-2.0
"""What mechanism drivers are not told: security groups and address groups.

Recorded in their transactions where Neutron announces that, afterwards where it does
not (address groups); a crash between is found by the worker's comparison.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from neutron.extensions import securitygroup as group_extension
from neutron_lib.callbacks import events, registry, resources
from neutron_lib.plugins import directory

from midoryu.neutron import source
from midoryu.neutron import unit as units
from midoryu.neutron.sync import Synchronizer


class Callbacks:
    """Subscriptions of one process."""

    def __init__(self, sync: Synchronizer) -> None:
        self._sync = sync

    def subscribe(self) -> None:
        """Ask for everything that changes groups."""
        group, rule = resources.SECURITY_GROUP, resources.SECURITY_GROUP_RULE
        for event in (
            events.PRECOMMIT_CREATE,
            events.PRECOMMIT_UPDATE,
            events.PRECOMMIT_DELETE,
        ):
            registry.subscribe(self._group_changes, group, event)
            registry.subscribe(self._rule_changes, rule, event)
            registry.subscribe(self._segment_changes, resources.SEGMENT, event)
        for event in (events.AFTER_CREATE, events.AFTER_UPDATE, events.AFTER_DELETE):
            registry.subscribe(self._changed, group, event)
            registry.subscribe(self._changed, rule, event)
            registry.subscribe(self._changed, resources.SEGMENT, event)
            registry.subscribe(
                self._address_group_changed, resources.ADDRESS_GROUP, event
            )

    def _group_changes(self, _: Any, event: str, trigger: Any, payload: Any) -> None:
        context = payload.context
        ident = payload.resource_id or payload.latest_state["id"]
        groups = {ident}
        if event == events.PRECOMMIT_DELETE:
            # Neutron deletes rules of others that name it without a word.
            groups |= source.groups_naming(context, ident)
        self._record(context, units.SECURITY_GROUP, groups)
        if event == events.PRECOMMIT_UPDATE:
            ports = source.ports_of_group(context, ident)
            self._record(context, units.PORT, ports)  # stateful or not

    def _rule_changes(self, _: Any, event: str, trigger: Any, payload: Any) -> None:
        context = payload.context
        groups = set()
        if event == events.PRECOMMIT_DELETE:
            groups.add(payload.metadata["security_group_id"])
            groups |= self._named_by(context, payload.resource_id)
        else:
            rule = payload.latest_state
            groups |= {rule["security_group_id"], rule.get("remote_group_id")} - {None}
        self._record(context, units.SECURITY_GROUP, groups)

    def _segment_changes(self, _: Any, event: str, trigger: Any, payload: Any) -> None:
        segment = payload.latest_state or payload.desired_state
        network = segment["network_id"]
        name = segment["physical_network"]
        changed = {network}
        if name:
            changed |= set(source.networks_on(payload.context, name))
            self._record(payload.context, units.PHYSICAL, [name])
        self._record(payload.context, units.NETWORK, changed)

    def _named_by(self, context: Any, rule: str) -> set[str]:
        try:
            found = directory.get_plugin().get_security_group_rule(context, rule)
        except group_extension.SecurityGroupRuleNotFound:
            return set()
        return {found.get("remote_group_id")} - {None}

    def _address_group_changed(
        self, _: Any, event: str, trigger: Any, payload: Any
    ) -> None:
        self._record(payload.context, units.ADDRESS_GROUP, [payload.resource_id])
        self._sync.flush(payload.context)

    def _changed(self, _: Any, event: str, trigger: Any, payload: Any) -> None:
        self._sync.flush(payload.context)

    def _record(self, context: Any, kind: str, idents: Iterable[str]) -> None:
        self._sync.record(context, [units.unit(kind, ident) for ident in idents])
