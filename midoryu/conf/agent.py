# SPDX-License-Identifier: Apache-2.0
"""Options of the group [agent]: this host, its OVS, and the engine's limits."""

from __future__ import annotations

import socket
from typing import Any, Final

from oslo_config import cfg

from midoryu.engine.config import EngineConfig

_DEFAULT: Final = EngineConfig(host="", epoch=0, seed=0)

GROUP: Final = cfg.OptGroup("agent", title="The agent of one host")

OPTIONS: Final = [
    cfg.StrOpt(
        "host",
        default=socket.gethostname(),
        sample_default="HOSTNAME",
        regex=r"^\S{1,255}$",
        help="Name of this host in the NSDB. Ports are bound to hosts by this name; "
        "with a wrong name no port of this host comes up.",
    ),
    cfg.IPOpt(
        "local_ip",
        help="Address of this host in the underlay, where its tunnels end (IPv4 or "
        "IPv6). Required. Other hosts must be able to reach it.",
    ),
    cfg.StrOpt(
        "bridge",
        default="br-int",
        regex=r"^[A-Za-z0-9_.-]{1,15}$",
        help="Integration bridge; made when it is not there.",
    ),
    cfg.StrOpt(
        "datapath_type",
        default="system",
        choices=[
            ("system", "the kernel's datapath"),
            ("netdev", "the userspace datapath"),
        ],
        help="Datapath of the bridge.",
    ),
    cfg.IntOpt(
        "cache_idle_ms",
        default=500,
        min=0,
        max=60_000,
        help="How long Open vSwitch's datapath caches a flow that it does not meet, in "
        "milliseconds (other_config:max-idle, at least 500, 10000 by default), unless "
        "it is set already; 0 leaves it alone. Each new connection has OVS go through "
        "all that is cached: a large value costs connections per second, a small one a "
        "look-up for packets that come less often.",
    ),
    cfg.StrOpt(
        "ovsdb",
        default="unix:/run/openvswitch/db.sock",
        regex=r"^(unix|tcp|ssl):.+$",
        help="OVSDB server of the local Open vSwitch.",
    ),
    cfg.PortOpt(
        "openflow_port",
        default=6653,
        min=1,
        help="TCP port on 127.0.0.1 where the agent waits for the local bridge.",
    ),
    cfg.StrOpt(
        "control_socket",
        default="/run/midoryu/agent.sock",
        regex=r"^.{1,106}$",
        help="Unix socket for `midoryu-ctl flow-state`.",
    ),
    cfg.StrOpt(
        "metadata_config",
        default="",
        help="File with the group [metadata]: with one, the agent runs this host's "
        "metadata proxy (midoryu-metadata), starts it again when it ends, and takes it "
        "along. Empty: none, or a service of its own; with both, each takes the "
        "other's interfaces away. A wrong file is told in the agent's log.",
    ),
    cfg.StrOpt(
        "tunnel_type",
        default="gre",
        choices=["gre", "vxlan", "geneve"],
        help="Encapsulation between hosts; the same on all of them.",
    ),
    cfg.IntOpt(
        "mtu_bytes",
        default=0,
        min=0,
        max=65535,
        help="MTU of the underlay in bytes, 576 or more; less a tunnel's headers (GRE "
        "42, VXLAN and Geneve 50, with IPv6 20 more) it is the MTU of networks that "
        "name none. 0 is what the interface with local_ip has when the agent starts, "
        "9216 at most. Too large a value loses large packets and flow state, too small "
        "a one wastes room.",
    ),
    cfg.IntOpt(
        "assumed_mtu_bytes",
        default=1500,
        min=0,
        max=65535,
        help="What machines may send whatever MTU their network has, as nobody may "
        'have told them a smaller one: routers answer "fragmentation needed" and '
        '"packet too big" wherever a link or tunnel carries less. 0 holds packets only '
        "against links that are narrower than the way in; then routed packets that are "
        "too large for a tunnel are lost without a word.",
    ),
    cfg.IntOpt(
        "vport_rate_pps",
        default=_DEFAULT.vport_rate_pps,
        min=1,
        max=10_000_000,
        help="Packets per second of one port that may go to the agent. More are "
        "dropped, so that one port cannot keep the agent from the others.",
    ),
    cfg.IntOpt(
        "vport_burst",
        default=_DEFAULT.vport_burst,
        min=1,
        max=10_000_000,
        help="Packets of one port that may go to the agent at once, above the rate.",
    ),
    cfg.IntOpt(
        "flood_rate_pps",
        default=_DEFAULT.flood_rate_pps,
        min=0,
        max=10_000_000,
        help="Packets per second of one port that may go to the agent while it sends "
        "far more of them than other ports that are there: a flood of new flows must "
        "not take the agent and the switch from the others. A port that is alone, or "
        "one of several alike, has vport_rate_pps. 0: no port is limited so.",
    ),
    cfg.StrOpt(
        "gateway_return",
        default=_DEFAULT.gateway_return,
        choices=[
            ("holder", "gateways send them to the host that leased the NAT port"),
            ("classic", "gateways translate them, with the records pushed to them"),
        ],
        help="What gateways do with answers to masqueraded connections. The first "
        "takes no packet-in at gateways, whatever the rate of new connections. All "
        "hosts need the same.",
    ),
    cfg.IntOpt(
        "vport_storm_pps",
        default=_DEFAULT.vport_storm_pps,
        min=0,
        max=100_000_000,
        help="Broadcast, multicast and unknown unicast packets per second that one "
        "port may send; 0 for no limit. A port's storm_pps goes before it.",
    ),
    cfg.IntOpt(
        "network_mac_limit",
        default=_DEFAULT.network_mac_limit,
        min=1,
        max=10_000_000,
        help="MAC addresses that are learned on one network; what comes beyond is "
        "flooded. A network's mac_limit goes before it.",
    ),
    cfg.IntOpt(
        "vport_mac_limit",
        default=_DEFAULT.vport_mac_limit,
        min=1,
        max=10_000_000,
        help="The same behind one port. A port's mac_limit goes before it.",
    ),
    cfg.IntOpt(
        "mac_moves_max",
        default=_DEFAULT.mac_moves_max,
        min=1,
        max=1_000_000,
        help="Moves of one MAC address between ports within 10 s that are believed.",
    ),
    cfg.IntOpt(
        "max_multicast_members",
        default=_DEFAULT.max_multicast_members,
        min=1,
        max=10_000_000,
        help="Members of multicast groups behind this host's ports at most.",
    ),
    cfg.IntOpt(
        "flow_idle_timeout_s",
        default=_DEFAULT.flow_idle_timeout_s,
        min=1,
        max=65535,
        help="Seconds without a packet until a flow is removed from the switch.",
    ),
    cfg.IntOpt(
        "drop_flow_timeout_s",
        default=_DEFAULT.drop_flow_timeout_s,
        min=1,
        max=65535,
        help="Seconds that a flow stands which drops for a passing reason.",
    ),
    cfg.IntOpt(
        "fin_timeout_s",
        default=_DEFAULT.fin_timeout_s,
        min=1,
        max=65535,
        help="Seconds without a packet until the flow of a TCP connection is removed "
        "once a FIN or RST was seen.",
    ),
    cfg.IntOpt(
        "max_flows",
        default=_DEFAULT.max_flows,
        min=1,
        max=10_000_000,
        help="Reactive flows at most. Above, packets pass through the agent.",
    ),
    cfg.IntOpt(
        "max_connections",
        default=_DEFAULT.max_connections,
        min=1,
        max=100_000_000,
        help="Connection records at most. Above, new connections are refused.",
    ),
    cfg.IntOpt(
        "max_unreplied_per_vport",
        default=_DEFAULT.max_unreplied_per_vport,
        min=0,
        max=100_000_000,
        help="Connection records without an answer at most that one port may make. "
        "Above, its oldest ones go. 0: a quarter of max_connections.",
    ),
    cfg.IntOpt(
        "max_nat_ports_per_source",
        default=_DEFAULT.max_nat_ports_per_source,
        min=0,
        max=100_000_000,
        help="NAT ports at most that one address may have at a masquerading router "
        "(half of an address has 32256). Above, its new connections are refused as if "
        "no port was left. 0: any number.",
    ),
    cfg.IntOpt(
        "refused_rate_pps",
        default=_DEFAULT.refused_rate_pps,
        min=0,
        max=1_000_000,
        help="Packets of one port in a second that filters or port security may refuse "
        "one by one. Above, the switch drops what is refused alike with one flow for "
        "2 s, without asking the agent, and rejects are not answered. 0: never.",
    ),
    cfg.IntOpt(
        "max_waiting",
        default=_DEFAULT.max_waiting,
        min=1,
        max=1_000_000,
        help="Packets that wait for a neighbour or a lease, over all ports.",
    ),
    cfg.IntOpt(
        "max_waiting_per_vport",
        default=_DEFAULT.max_waiting_per_vport,
        min=1,
        max=1_000_000,
        help="Packets of one port that wait; not above max_waiting.",
    ),
    cfg.IntOpt(
        "max_fragmented",
        default=_DEFAULT.max_fragmented,
        min=4,
        max=1_000_000,
        help="Datagrams whose fragments are under way at most; one port may have a "
        "quarter of them.",
    ),
    cfg.IntOpt(
        "max_fragment_bytes",
        default=_DEFAULT.max_fragment_bytes,
        min=262_144,
        max=1_073_741_824,
        help="Bytes of fragments that wait for others of their datagram at most; one "
        "port may have a quarter of them.",
    ),
    cfg.FloatOpt(
        "fragment_timeout_s",
        default=_DEFAULT.fragment_timeout_s,
        min=0.1,
        max=120,
        help="Seconds after which a datagram whose fragments are not all there is "
        "given up.",
    ),
    cfg.FloatOpt(
        "neighbor_timeout_s",
        default=_DEFAULT.neighbor_timeout_s,
        min=0.1,
        max=60.0,
        help="Seconds that a packet waits for the MAC address of its next hop before "
        "its sender is told that the destination cannot be reached.",
    ),
    cfg.FloatOpt(
        "neighbor_refresh_s",
        default=_DEFAULT.neighbor_refresh_s,
        min=0.0,
        max=86_400.0,
        help="Seconds after which a router asks anew for the MAC address of a next hop "
        "in use, so that one that was replaced in silence is found; 0: never.",
    ),
    cfg.IntOpt(
        "max_neighbors",
        default=_DEFAULT.max_neighbors,
        min=0,
        max=1_000_000,
        help="Neighbours of one router that are learned from what they say alone; "
        "next hops that packets wait for are learned beyond that.",
    ),
    cfg.FloatOpt(
        "mac_idle_timeout_s",
        default=_DEFAULT.mac_idle_timeout_s,
        min=1.0,
        max=1_000_000.0,
        help="Seconds without a packet until a learned MAC address is withdrawn.",
    ),
    cfg.IntOpt(
        "rule_log_per_s",
        default=_DEFAULT.rule_log_per_s,
        min=0,
        max=1_000_000,
        help="Lines per second that filter rules with `log` write at most. More are "
        "counted and left out.",
    ),
    cfg.FloatOpt(
        "unsolicited_syn_wait_s",
        default=_DEFAULT.unsolicited_syn_wait_s,
        min=0.0,
        max=60.0,
        help="Seconds until a TCP SYN from outside, to a NAT port that has no "
        "connection for it, is answered with ICMP port unreachable. Below 6, a "
        "simultaneous open may fail (RFC 5382, REQ-4). 0: it is never answered.",
    ),
]


def register_opts(conf: Any) -> None:
    """Register the group and its options."""
    conf.register_group(GROUP)
    conf.register_opts(OPTIONS, group=GROUP)
