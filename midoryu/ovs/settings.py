# SPDX-License-Identifier: Apache-2.0
"""How the local bridge shall look, and the names that this host's OVS knows it by.

`client` makes it so and keeps it so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from midoryu.compat import SLOTS

TUNNEL_PORT: Final = "mr-gre"
STATE_PORT: Final = "mr-state"


@dataclass(frozen=True, **SLOTS)
class OvsSettings:
    """The wanted settings of the bridge and its two tunnel ports."""

    ovsdb: str
    """Remote of the local OVSDB."""
    bridge: str
    """Name of the integration bridge."""
    datapath_type: str
    """"system" or "netdev"."""
    openflow_port: int
    """TCP port of the agent on 127.0.0.1."""
    tunnel_type: str
    """"gre", "vxlan" or "geneve"."""
    local_ip: str
    """Tunnel endpoint of this host."""
    state_dscp: int
    """DSCP of flow state in the underlay, 0..63."""
    cache_idle_ms: int = 0
    """How long the datapath caches what it does not meet; 0 leaves it to OVS."""
