# SPDX-License-Identifier: Apache-2.0
"""What an engine must be told at its start; made once from the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from midoryu.compat import SLOTS


@dataclass(frozen=True, **SLOTS)
class EngineConfig:
    """The settings of one engine. All have working defaults but the first three."""

    host: str
    """Name of this host; its row in the NSDB has the same name."""
    epoch: int
    """32 bits, larger at each start of this agent (seconds since 1970 will do)."""
    seed: int
    """64 random bits: makes connection ids unique among hosts and starts."""
    state_keys: tuple[bytes, ...] = (b"",)
    """Keys of the flow-state authentication tag; the first one signs, all verify."""
    mtu_bytes: int = 1500
    """MTU of the underlay."""
    assumed_mtu_bytes: int = 0
    """What machines may send whatever MTU their network has; 0 trusts them."""
    tunnel_overhead_bytes: int = 42
    """What a tunnel adds around an inner IP packet (`topology.mtu`)."""
    vport_rate_pps: int = 4000
    """Packet-ins per second that one vport may cause."""
    vport_burst: int = 1000
    """Packets above the rate that are let through at once."""
    flood_rate_pps: int = 1000
    """What a vport beside others with few packet-ins is limited to; 0: to nothing."""
    gateway_return: str = "holder"
    """Who translates answers to masqueraded connections: `holder`, the host that leased
    the port, or `classic`, the gateway."""
    vport_storm_pps: int = 0
    """Flooded packets per second that one vport may send; 0 for no limit."""
    network_mac_limit: int = 10_000
    """MAC addresses that may be learned on one network."""
    vport_mac_limit: int = 1_000
    """MAC addresses that may be learned behind one vport."""
    max_multicast_members: int = 10_000
    """Memberships of multicast groups that one host minds."""
    mac_moves_max: int = 10
    """Moves of one MAC address within 10 s that are believed."""
    flow_idle_timeout_s: int = 60
    """Idle timeout of reactive flows."""
    drop_flow_timeout_s: int = 5
    """Hard timeout of flows that drop for a passing reason."""
    fin_timeout_s: int = 2
    """Idle timeout of a TCP flow once FIN or RST was seen."""
    max_flows: int = 200_000
    """Reactive flows at most; above, packets pass without a flow."""
    max_connections: int = 1_000_000
    """Connection records at most; above, new connections are refused and counted."""
    max_unreplied_per_vport: int = 0
    """Records without an answer at most that one vport may make, above which its oldest
    ones go; 0: a quarter of max_connections."""
    refused_rate_pps: int = 20
    """Refused packets of one vport in a second, above which one flow drops all that are
    refused alike; 0: never."""
    max_waiting: int = 1_000
    """Packets that wait for a neighbour or a lease, over all vports."""
    max_waiting_per_vport: int = 64
    """Packets of one vport that wait."""
    max_fragmented: int = 4_000
    """Datagrams whose fragments are under way; a vport may have a quarter of them."""
    max_fragment_bytes: int = 8 << 20
    """Bytes of fragments that wait for others; a vport may have a quarter of them."""
    fragment_timeout_s: float = 5.0
    """A datagram whose fragments are not there after this time is given up."""
    neighbor_timeout_s: float = 3.0
    """How long a packet waits for a neighbour before the sender is told."""
    neighbor_refresh_s: float = 60.0
    """A next hop that flows go by is asked for anew at this pace; 0: never."""
    max_neighbors: int = 4_096
    """Neighbours of one router that are learned without having been asked for."""
    mac_idle_timeout_s: float = 300.0
    """A learned MAC address is withdrawn after this time without a flow or packet."""
    unsolicited_syn_wait_s: float = 6.0
    """A SYN from outside to a masqueraded port without a connection is answered with
    ICMP port unreachable after this time; 0: never."""
    rule_log_per_s: int = 100
    """Lines that rules with `log` write in a second, at most."""
    nat_block_idle_s: float = 300.0
    """A block of NAT ports without use for so long is given back."""
    nat_last_block_idle_s: float = 3600.0
    """The same for the last block that this host has of an address."""
    max_nat_ports_per_source: int = 32_000
    """Ports that one address may have at a masquerading router; 0: any number."""
    touch_interval_s: float = 20.0
    """How often records in use are looked at, to tell peers and the journal."""
    delivery: str = "repair"
    """`best-effort`, `repair` or `confirm` (`replication.session.Delivery`)."""
    confirm_interval_s: float = 0.02
    """An unconfirmed push is repeated after this time."""
    confirm_tries: int = 5
    """This many times."""
    hold_first_packet_s: float = 0.0
    """How long a first packet waits for its state to be confirmed, at most."""
    beat_interval_s: float = 0.05
    """Time between two beats of hosts that share an ingress set."""
    beat_multiplier: int = 3
    """A host that is silent for so many beats is dead."""
    journal: bool = False
    """A journal keeps records for the next start."""
    dns_forwarders: tuple[int, ...] = ()
    """Whom this host asks for names that networks do not know, 128-bit addresses."""
    lifetimes_s: tuple[int, ...] = (240, 7440, 120, 300, 60, 600, 240)
    """One for each `state.connection.Phase`, in its order."""
