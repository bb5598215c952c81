# SPDX-License-Identifier: Apache-2.0
"""The network type `midoryu`: a tenant network that needs no number.

midoryu's tunnels carry the key of the egress port, never one of a network, so a VNI or
a GRE key per network would be a promise that no packet keeps, and a range that can run
out. The MTU follows from the underlay's and the tunnel's header.
"""

from __future__ import annotations

from typing import Any, Final

from neutron_lib import exceptions
from neutron_lib.plugins.ml2 import api
from oslo_config import cfg

TYPE_MIDORYU: Final = "midoryu"
# Ethernet 14, GRE with key 8 (RFC 2890), and the outer IP header.
TUNNEL_OVERHEAD_BYTES: Final = {4: 14 + 8 + 20, 6: 14 + 8 + 40}


class MidoryuTypeDriver(api.ML2TypeDriver):
    """Tenant networks of type `midoryu`."""

    def initialize(self) -> None:
        """Have nothing to prepare."""

    def initialize_network_segment_range_support(self) -> None:
        """Have no ranges."""

    def update_network_segment_range_allocations(self) -> None:
        """Have no ranges."""

    def get_network_segment_ranges(self) -> None:
        """Have no ranges."""

    def get_type(self) -> str:
        """Name the type."""
        return TYPE_MIDORYU

    def is_partial_segment(self, segment: Any) -> bool:
        """Say that a segment is complete without a number."""
        return False

    def validate_provider_segment(self, segment: Any) -> None:
        """Refuse a physical network or a number.

        Raises:
            InvalidInput: one is given.
        """
        for key, value in segment.items():
            if value and key != api.NETWORK_TYPE:
                text = f"{key} prohibited for a network of type {TYPE_MIDORYU}"
                raise exceptions.InvalidInput(error_message=text)

    def reserve_provider_segment(
        self, context: Any, segment: Any, filters: Any = None
    ) -> Any:
        """Take a segment as it is: there is nothing to reserve."""
        segment[api.MTU] = self.get_mtu()
        return segment

    def allocate_tenant_segment(self, context: Any, filters: Any = None) -> Any:
        """Give a tenant a segment."""
        return {api.NETWORK_TYPE: TYPE_MIDORYU, api.MTU: self.get_mtu()}

    def release_segment(self, context: Any, segment: Any) -> None:
        """Give back nothing."""

    def get_mtu(self, physical_network: Any = None) -> int:
        """Return the largest MTU in bytes that fits a tunnel; 0 for unknown."""
        conf = cfg.CONF
        limits = [
            limit for limit in (conf.global_physnet_mtu, conf.ml2.path_mtu) if limit > 0
        ]
        overhead = TUNNEL_OVERHEAD_BYTES[conf.ml2.overlay_ip_version]
        return max(0, min(limits) - overhead) if limits else 0
