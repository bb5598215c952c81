# SPDX-License-Identifier: Apache-2.0
"""Hosts of the NSDB as agents of Neutron's API (`openstack network agent list`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neutron_lib import context as neutron_context
from neutron_lib.plugins import directory
from oslo_config import cfg
from oslo_utils import timeutils

from midoryu.neutron.binding import AGENT_TYPE
from midoryu.neutron.store import Store


class AgentReporter:
    """Reports hosts whose agent is connected, as an agent with a bus would itself."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def run(self, store: Store) -> None:
        """Report once.

        Raises:
            NsdbError: the NSDB cannot be reached.
        """
        hosts: dict[str, str] = store.read(lambda tables, _: hosts_there(tables))
        alive = store.connected_hosts(hosts)
        context = neutron_context.get_admin_context()
        for name in sorted(alive):
            state = agent_state(name, hosts[name])
            if name not in self._seen:
                state["start_flag"] = True
                self._seen.add(name)
            directory.get_plugin().create_or_update_agent(
                context, state, timeutils.utcnow()
            )


def hosts_there(tables: Mapping[str, Any]) -> dict[str, str]:
    """Return the tunnel addresses of hosts whose agent registered, by name."""
    return {
        row.name: row.underlay[0]
        for row in tables["Host"].rows.values()
        if row.underlay
    }


def agent_state(host: str, underlay: str) -> dict[str, Any]:
    """Describe a host's agent as Neutron wants agents described."""
    conf = cfg.CONF.midoryu
    physical = sorted(
        entry.partition(":")[0]
        for entry in conf.gateways
        if entry.partition(":")[2] == host
    )
    return {
        "agent_type": AGENT_TYPE,
        "binary": "ryu-manager",
        "host": host,
        "topic": "N/A",
        "configurations": {
            "bridge": conf.bridge,
            "datapath_type": conf.datapath_type,
            "tunneling_ip": underlay,
            "gateway_of": physical,
        },
    }
