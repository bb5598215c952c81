# SPDX-License-Identifier: Apache-2.0
"""What Neutron's QoS service calls when a policy changes; `qos` makes the row."""

from __future__ import annotations

from typing import Any, Final

from neutron_lib import constants
from neutron_lib.api.definitions import portbindings
from neutron_lib.db import constants as db_constants
from neutron_lib.services.qos import base
from neutron_lib.services.qos import constants as qos_constants
from oslo_config import cfg

from midoryu.neutron import source
from midoryu.neutron import unit as units
from midoryu.neutron.sync import Synchronizer

_ANY: Final = {"type:range": [0, db_constants.DB_INTEGER_MAX_VALUE]}
SUPPORTED_RULES: Final = {
    qos_constants.RULE_TYPE_BANDWIDTH_LIMIT: {
        qos_constants.MAX_KBPS: _ANY,
        qos_constants.MAX_BURST: _ANY,
        qos_constants.DIRECTION: {"type:values": constants.VALID_DIRECTIONS},
    },
    qos_constants.RULE_TYPE_DSCP_MARKING: {
        qos_constants.DSCP_MARK: {"type:values": constants.VALID_DSCP_MARKS},
    },
}


class QosDriver(base.DriverBase):
    """Bandwidth limits both ways and DSCP marks."""

    @classmethod
    def create(cls, sync: Synchronizer) -> QosDriver:
        """Make the driver, which registers itself."""
        driver = cls(
            name="midoryu",
            vif_types=[portbindings.VIF_TYPE_OVS],
            vnic_types=[portbindings.VNIC_NORMAL],
            supported_rules=SUPPORTED_RULES,
            requires_rpc_notifications=False,
        )
        driver._sync = sync
        return driver

    @property
    def is_loaded(self) -> bool:
        """Tell whether ports have policies at all."""
        return "qos" in cfg.CONF.ml2.extension_drivers

    def create_policy_precommit(self, context: Any, policy: Any) -> None:
        """Record a new policy."""
        self._record(context, policy)

    def update_policy_precommit(self, context: Any, policy: Any) -> None:
        """Record a policy whose rules changed, and its ports."""
        self._record(context, policy)

    def delete_policy_precommit(self, context: Any, policy: Any) -> None:
        """Record that a policy goes."""
        self._record(context, policy)

    def create_policy(self, context: Any, policy: Any) -> None:
        """Write it."""
        self._sync.flush(context)

    def update_policy(self, context: Any, policy: Any) -> None:
        """Write it."""
        self._sync.flush(context)

    def delete_policy(self, context: Any, policy: Any) -> None:
        """Write it."""
        self._sync.flush(context)

    def _record(self, context: Any, policy: Any) -> None:
        ports = source.ports_with_policy(context, policy.id)
        changed = {units.unit(units.PORT, port) for port in ports}
        self._sync.record(context, {units.unit(units.QOS_POLICY, policy.id), *changed})
