# SPDX-License-Identifier: Apache-2.0
"""The service plugin `midoryu_port_forwarding`.

Neutron's own, which would load its `router` plugin beside ours: it knows by name which
L3 plugins there are.
"""

from __future__ import annotations

from neutron.services.portforwarding import pf_plugin


class MidoryuPortForwardingPlugin(pf_plugin.PortForwardingPlugin):
    """Port forwarding of floating addresses; `l3` writes it with the router."""

    required_service_plugins = ["midoryu_l3"]
    _rpc_notifications_required = False
