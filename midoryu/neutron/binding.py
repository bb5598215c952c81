# SPDX-License-Identifier: Apache-2.0
"""Whether a port binds at a host, and what Nova and os-vif are told.

`mech` asks. A host binds ports when its agent is known to the NSDB and alive.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from neutron_lib import constants
from neutron_lib.api.definitions import portbindings
from neutron_lib.plugins.ml2 import api
from oslo_config import cfg

from midoryu.errors import NsdbError
from midoryu.neutron.store import Store
from midoryu.neutron.type_driver import TYPE_MIDORYU

LOG = logging.getLogger(__name__)

AGENT_TYPE: Final = "midoryu agent"
"""What `agent list` calls a host's agent."""

_OVERLAYS: Final = (
    TYPE_MIDORYU,
    constants.TYPE_GRE,
    constants.TYPE_GENEVE,
    constants.TYPE_VXLAN,
    constants.TYPE_LOCAL,
)
_PHYSICAL: Final = (constants.TYPE_FLAT, constants.TYPE_VLAN)


class Binder:
    """Binds ports of instances."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def bind(self, context: Any) -> None:
        """Bind a port to the first segment that midoryu carries."""
        port = context.current
        kind = port.get(portbindings.VNIC_TYPE, portbindings.VNIC_NORMAL)
        if kind != portbindings.VNIC_NORMAL:
            LOG.debug("port %s has vnic_type %s: not ours", port["id"], kind)
            return
        if not self.is_alive(context, context.host):
            LOG.warning(
                "port %s does not bind: no living agent at host %s",
                port["id"],
                context.host,
            )
            return
        for segment in context.segments_to_bind:
            if self._carries(segment):
                context.set_binding(
                    segment[api.ID],
                    portbindings.VIF_TYPE_OVS,
                    vif_details(),
                    constants.PORT_STATUS_DOWN,
                )
                return
        LOG.warning(
            "port %s does not bind: no segment of its network is one that [midoryu] "
            "gateways lead to: %s",
            port["id"],
            context.segments_to_bind,
        )

    def is_alive(self, context: Any, host: str) -> bool:
        """Tell whether a host's agent is connected to the NSDB.

        While the NSDB is away, what Neutron last heard of the agent counts.
        """
        try:
            return host in self._store.connected_hosts([host])
        except NsdbError as problem:
            LOG.warning("cannot ask for host %s: %s", host, problem)
            agents = context.host_agents(AGENT_TYPE)
            return any(agent["alive"] for agent in agents)

    @staticmethod
    def _carries(segment: Any) -> bool:
        kind = segment[api.NETWORK_TYPE]
        if kind in _OVERLAYS:
            return True
        known = {entry.partition(":")[0] for entry in cfg.CONF.midoryu.gateways}
        return kind in _PHYSICAL and segment[api.PHYSICAL_NETWORK] in known


def vif_details() -> dict[str, Any]:
    """Return what Nova and os-vif need to know of a port."""
    conf = cfg.CONF.midoryu
    return {
        portbindings.CAP_PORT_FILTER: True,
        portbindings.VIF_DETAILS_CONNECTIVITY: portbindings.CONNECTIVITY_L2,
        portbindings.VIF_DETAILS_BRIDGE_NAME: conf.bridge,
        portbindings.OVS_DATAPATH_TYPE: conf.datapath_type,
        "ovs_create_tap": conf.ovs_create_tap,
    }
