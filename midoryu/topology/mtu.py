# SPDX-License-Identifier: Apache-2.0
"""How large an IP packet may be on a virtual link, in bytes.

`snapshot.Topology.default_mtu` is what a tunnel leaves of the underlay's MTU; networks
and ports may say otherwise. The simulation asks `vport_mtu`, services that announce an
MTU to VMs (DHCP, router advertisements) ask `network_mtu`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from midoryu.topology import model

if TYPE_CHECKING:
    from midoryu.topology.snapshot import Topology

# RFC 8200, section 5: every IPv6 link carries this much.
IPV6_MINIMUM_MTU: Final = 1280
# RFC 791, section 3.2: every IPv4 link carries this much.
IPV4_MINIMUM_MTU: Final = 68
DEFAULT_UNDERLAY_MTU: Final = 1500

# Inner Ethernet header, then what each tunnel adds before the outer IP header: GRE with
# key (RFC 2890), UDP + VXLAN (RFC 7348), UDP + Geneve without options (RFC 8926).
_INNER_ETHERNET: Final = 14
_ENCAPSULATION: Final = {"gre": 8, "vxlan": 16, "geneve": 16}
_OUTER_IPV4: Final = 20
_OUTER_IPV6: Final = 40


def tunnel_overhead(tunnel_type: str, *, ipv6: bool) -> int:
    """Return the bytes that a tunnel puts around an inner IP packet.

    GRE 42, VXLAN and Geneve 50 over IPv4; 20 more over IPv6.
    """
    outer = _OUTER_IPV6 if ipv6 else _OUTER_IPV4
    return outer + _ENCAPSULATION[tunnel_type] + _INNER_ETHERNET


def network_mtu(topology: Topology, network: int) -> int:
    """Return the effective MTU of a network: its own, else what tunnels carry."""
    row: model.Network | None = topology.row(model.Network, network)
    return (row.mtu if row is not None else 0) or topology.default_mtu


def vport_mtu(topology: Topology, vport: model.Vport) -> int:
    """Return the effective MTU of the link at a vport.

    Its own; else that of the network that it belongs to or is linked to; else that of
    the other router's end of the link; else what tunnels carry.
    """
    if vport.mtu:
        return vport.mtu
    if topology.row(model.Network, vport.device) is not None:
        return network_mtu(topology, vport.device)
    peer = topology.vport(vport.peer) if vport.peer else None
    if peer is None:
        return topology.default_mtu
    return peer.mtu or network_mtu(topology, peer.device)
