# SPDX-License-Identifier: Apache-2.0
"""The rows of the virtual topology as immutable values.

Networks, routers, vports and hosts are known by their integer key (one number space,
allocated by the NSDB, 1..0xFFFFFE); everything else by the row's UUID as text.
`snapshot` puts rows together into a topology that can be asked questions.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, Union

from midoryu.compat import SLOTS
from midoryu.packet.address import Prefix
from midoryu.topology.balancer_row import Balancer as Balancer
from midoryu.topology.balancer_row import HealthMonitor as HealthMonitor
from midoryu.topology.balancer_row import MemberStatus as MemberStatus
from midoryu.topology.balancer_row import Pool as Pool
from midoryu.topology.balancer_row import PoolMember as PoolMember
from midoryu.topology.balancer_row import Vip as Vip
from midoryu.topology.l2 import Mirror as Mirror
from midoryu.topology.l2 import MulticastMember as MulticastMember
from midoryu.topology.l2 import Qos as Qos
from midoryu.topology.rule import CT_ESTABLISHED as CT_ESTABLISHED
from midoryu.topology.rule import CT_INVALID as CT_INVALID
from midoryu.topology.rule import CT_NEW as CT_NEW
from midoryu.topology.rule import CT_RELATED as CT_RELATED
from midoryu.topology.rule import CT_STATES as CT_STATES
from midoryu.topology.rule import Chain as Chain
from midoryu.topology.rule import PortRange as PortRange
from midoryu.topology.rule import Rule as Rule
from midoryu.topology.rule import RuleAction as RuleAction
from midoryu.topology.service import Subnet as Subnet


@dataclass(frozen=True, **SLOTS)
class Host:
    """A machine with one OVS and one agent."""

    key: int
    name: str
    underlay: int
    """Tunnel endpoint address, 128-bit; 0 while unknown."""


@dataclass(frozen=True, **SLOTS)
class Network:
    """A virtual L2 switch."""

    key: int
    name: str
    up: bool = True
    """Administrative state."""
    ingress_chain: str = ""
    """Chain for frames that enter the device; "" for none."""
    egress_chain: str = ""
    """Chain for frames that leave the device; "" for none."""
    mtu: int = 0
    """Largest IP packet, bytes; 0 for what tunnels carry (`topology.mtu`)."""
    multicast_snooping: bool = False
    """IP multicast goes to those who asked for it (IGMP, MLD; RFC 4541)."""
    flood_unregistered: bool = False
    """With snooping: a group that nobody asked for goes everywhere."""
    vlan_transparent: bool = False
    """Frames with a VLAN tag pass; they are dropped otherwise."""
    forward_bpdu: bool = False
    """Frames to 01-80-C2-00-00-0x (STP, LLDP, LACP, pause) pass."""
    mac_limit: int = 0
    """Learned MAC addresses at most; 0 for the agents' own bound."""
    qos: str = ""
    """Policy of vports that have none themselves; "" for none."""


@dataclass(frozen=True, **SLOTS)
class Router:
    """A virtual router."""

    key: int
    name: str
    up: bool = True
    ingress_chain: str = ""
    """Chain after DNAT, before routing; "" for none."""
    egress_chain: str = ""
    """Chain after routing, before SNAT; "" for none."""


# `Vport.mss_clamp`: whatever fits in one packet of the link's MTU.
MSS_OF_MTU: Final = 0xFFFF


@dataclass(frozen=True, **SLOTS)
class Vport:
    """A virtual port of a network or a router."""

    key: int
    name: str
    """Unique within its device."""
    device: int
    """Key of the network or router that has it."""
    mac: int = 0
    """48 bits; always set for a router's vport; 0 where a network learns it."""
    addresses: tuple[Prefix, ...] = ()
    """Address with the length of its subnet. `value` keeps its host bits here."""
    peer: int = 0
    """Key of the linked vport (interior), 0 for an exterior one."""
    host: int = 0
    """Key of the host that it is bound to (wanted), 0 for none."""
    migrating_to: int = 0
    """Key of the host that its machine moves to, 0 for none. Its interface there is
    made ready and stays shut until the machine speaks there, or `host` names it."""
    iface_id: str = ""
    """What `external_ids:iface-id` of its interface says."""
    up: bool = True
    """Administrative state."""
    ingress_chain: str = ""
    """Chain for what enters the device here; "" for none."""
    egress_chain: str = ""
    """Chain for what leaves the device here; "" for none."""
    port_security: bool = False
    """Let in only `mac`+`addresses` and `allowed` as sources."""
    allowed: tuple[tuple[int, Prefix], ...] = ()
    """Further (MAC, prefix) sources; MAC 0 stands for the vport's own."""
    parent: int = 0
    """Vport whose interface carries this one's frames, tagged; 0 for no sub-port."""
    vlan: int = 0
    """Tag of a sub-port, 1..4094; 0 for none."""
    qos: str = ""
    """Policy; "" for its network's."""
    storm_pps: int = 0
    """Flooded packets per second that it may send; 0 for the agents' own limit."""
    mac_limit: int = 0
    """MAC addresses that may be learned here; 0 for the agents' own bound."""
    mtu: int = 0
    """Largest IP packet, bytes; 0 for that of its network (`topology.mtu`)."""
    mss_clamp: int = 0
    """A router lowers the MSS option of TCP SYNs that pass here to this; 0 never does,
    `MSS_OF_MTU` goes by the MTU of the link."""
    hostname: str = ""
    """Name of the machine for DHCP and DNS; "" for the vport's."""
    dhcp_options: tuple[tuple[int, bytes], ...] = ()
    """DHCPv4 options of this vport alone: (code, data)."""
    dhcp6_options: tuple[tuple[int, bytes], ...] = ()
    """The same for DHCPv6."""
    metadata: bool = False
    """It is on every host that has its interface, each for its own VMs, and gets what
    they send to the metadata address."""


@dataclass(frozen=True, **SLOTS)
class VportStatus:
    """Where a vport really is: written by the agent that has its interface."""

    key: int
    """The vport's key."""
    host: int
    """Key of the host that has it."""
    up: bool
    """Its interface is there and its flows are in."""
    early: bool = False
    """The host took over because the machine spoke there, before it was bound there."""


@dataclass(frozen=True, **SLOTS)
class VportReady:
    """The host that a vport migrates to has its interface, and keeps it shut."""

    key: str
    vport: int
    host: int


class RouteKind(Enum):
    """What a route does."""

    FORWARD = "forward"
    BLACKHOLE = "blackhole"
    REJECT = "reject"


@dataclass(frozen=True, **SLOTS)
class Route:
    """One route of a router (connected routes follow from vport addresses)."""

    key: str
    router: int
    destination: Prefix
    kind: RouteKind = RouteKind.FORWARD
    gateway: int = 0
    """Next hop address, 0 where the destination is on the link."""
    vport: int = 0
    """Router vport to leave by; 0 lets the gateway's connected subnet tell."""
    weight: int = 1
    """Share among equal-cost routes, 1..255."""
    metric: int = 0
    """Lower wins among equal prefixes."""
    source: Prefix = Prefix(0, 0)
    """Only for packets from here."""


@dataclass(frozen=True, **SLOTS)
class AddressGroup:
    """A named set of prefixes."""

    key: str
    name: str
    members: frozenset[Prefix] = frozenset()


@dataclass(frozen=True, **SLOTS)
class PortGroup:
    """A named set of vports, for rules about their addresses."""

    key: str
    name: str
    vports: frozenset[int] = frozenset()


@dataclass(frozen=True, **SLOTS)
class IngressSet:
    """Vports that are equivalent ways in (or out) for one flow."""

    key: str
    name: str
    vports: frozenset[int] = frozenset()


class Filtering(Enum):
    """Who may reach a masqueraded endpoint, once it has a mapping.

    Source: RFC 4787, section 5.
    """

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    """Anybody."""
    ADDRESS_DEPENDENT = "address-dependent"
    """Hosts that it has sent to, from any port."""
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"
    """Endpoints that it has sent to."""


@dataclass(frozen=True, **SLOTS)
class Masquerade:
    """Source NAT with port choice for what leaves a router."""

    key: str
    router: int
    source: Prefix
    """Whose packets are translated."""
    addresses: tuple[int, ...]
    """NAT addresses to choose from, 128-bit, never empty."""
    vport: int = 0
    """Only for packets that leave by this vport; 0 for any."""
    destination: Prefix = Prefix(0, 0)
    """Only for packets to here."""
    filtering: Filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT
    """Who may speak first to an endpoint that has a mapping."""


@dataclass(frozen=True, **SLOTS)
class Dnat:
    """Destination NAT of an address, or of some of its ports."""

    key: str
    router: int
    address: int
    """Address that the outside sees, 128-bit."""
    to_address: int
    """Address behind it, same family."""
    ip_proto: int = 0
    """0 for any; TCP or UDP where ports are given."""
    ports: PortRange = (0, 0xFFFF)
    """Outside ports, inclusive."""
    to_port: int = 0
    """First inside port, the range maps in order; 0 keeps the port."""


@dataclass(frozen=True, **SLOTS)
class FloatingIp:
    """Stateless one-to-one NAT."""

    key: str
    router: int
    address: int
    """Address that the outside sees, 128-bit."""
    to_address: int
    """Address behind it, same family."""


@dataclass(frozen=True, **SLOTS)
class Lease:
    """A block of ports of a NAT address that one host may give out."""

    key: str
    router: int
    address: int
    """NAT address, 128-bit."""
    block: int
    """Ports block*64 .. block*64+63."""
    host: int
    """Key of the holder."""


@dataclass(frozen=True, **SLOTS)
class MacEntry:
    """A learned MAC address."""

    key: str
    network: int
    mac: int
    """48 bits; of a tagged station, its tag (`packet.vlan`) above them."""
    vport: int


@dataclass(frozen=True, **SLOTS)
class Neighbor:
    """A learned ARP or ND entry of a router."""

    key: str
    router: int
    address: int
    mac: int


Row = Union[
    Host,
    Network,
    Router,
    Vport,
    VportStatus,
    VportReady,
    Route,
    Chain,
    AddressGroup,
    PortGroup,
    IngressSet,
    Masquerade,
    Dnat,
    FloatingIp,
    Lease,
    MacEntry,
    Neighbor,
    Subnet,
    Balancer,
    Vip,
    Pool,
    PoolMember,
    HealthMonitor,
    MemberStatus,
    Qos,
    Mirror,
    MulticastMember,
]
RowKind = type


@dataclass(frozen=True, **SLOTS)
class Put:
    """A row was added, or replaced the one of the same kind and key."""

    row: Row


@dataclass(frozen=True, **SLOTS)
class Gone:
    """A row was deleted."""

    kind: RowKind
    key: int | str


Change = Union[
    Put,
    Gone,
]
