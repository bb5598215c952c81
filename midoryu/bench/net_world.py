# SPDX-License-Identifier: Apache-2.0
"""The topology of suite `network`, the same for midoryu, OVN and static flows.

Two gateways share a segment with the outside server; `a` talks to `b` (same network),
`c` (across the router) and the server (masquerade). `b` and `c` have stateful filters.
"""

from __future__ import annotations

from typing import Any, Final

GATEWAYS: Final = ("g1", "g2")
HOSTS: Final = (*GATEWAYS, "h1", "h2")
PORT: Final = 7007
IPERF_PORT: Final = 5201
SERVER_IP: Final = "203.0.113.100"
SERVER_MAC: Final = "02:00:00:00:03:64"
MASQUERADE: Final = "203.0.113.10"
UPLINK_IPS: Final = {"g1": "203.0.113.2", "g2": "203.0.113.3"}
NETWORKS: Final = {"web": "10.0.1", "app": "10.0.2"}
# VM -> (network, host, last byte of address and MAC address)
VMS: Final = {
    "a": ("web", "h1", 11),
    "b": ("web", "h2", 12),
    "c": ("app", "h2", 13),
}
PATHS: Final = {
    "same network": ("b", "10.0.1.12"),
    "across a router": ("c", "10.0.2.13"),
    "masquerade": ("server", SERVER_IP),
}
ROUTER_MACS: Final = {"web": "02:00:00:00:02:01", "app": "02:00:00:00:02:02"}
UPLINK_MACS: Final = {"g1": "02:00:00:00:02:11", "g2": "02:00:00:00:02:12"}
_SERVE: Final = (
    f"python3 -W ignore -m midoryu.bench.load serve --port {PORT} & "
    f"exec iperf3 -s -p {IPERF_PORT}"
)


def vm_mac(name: str) -> str:
    """Return a VM's MAC address."""
    return f"02:00:00:00:01:{VMS[name][2]:02x}"


def vm_ip(name: str) -> str:
    """Return a VM's address."""
    network, _, last = VMS[name]
    return f"{NETWORKS[network]}.{last}"


def lab() -> dict[str, Any]:
    """Return the lab, as `midoryu.lab.Lab` takes it."""
    return {
        "hosts": list(HOSTS),
        "vms": {
            name: {"vport": f"{network}/{name}", "run": [_SERVE]}
            for name, (network, _, _) in VMS.items()
        },
        "outside": {
            "switch": {
                "interfaces": {"p1": [], "p2": [], "p3": []},
                "setup": [
                    "ip link add name sw type bridge",
                    "ip link set sw up",
                    *(f"ip link set p{n} master sw" for n in (1, 2, 3)),
                ],
            },
            "server": {
                "interfaces": {"eth0": [f"{SERVER_IP}/24"]},
                "setup": [f"ip link set eth0 address {SERVER_MAC}"],
                "run": [_SERVE],
            },
        },
        "links": [
            ["switch/p1", "provider/uplink1"],
            ["switch/p2", "provider/uplink2"],
            ["switch/p3", "server/eth0"],
        ],
        "topology": _topology(),
    }


def _topology() -> dict[str, Any]:
    return {
        "networks": {
            network: {
                "ports": {
                    name: {
                        "host": host,
                        "mac": vm_mac(name),
                        "ip": vm_ip(name),
                        **({} if name == "a" else {"egress": "vm"}),
                    }
                    for name, (of, host, _) in VMS.items()
                    if of == network
                }
            }
            for network in NETWORKS
        },
        "routers": {
            "provider": {
                "ports": {
                    **{
                        network: {
                            "network": network,
                            "mac": ROUTER_MACS[network],
                            "ip": f"{prefix}.1/24",
                        }
                        for network, prefix in NETWORKS.items()
                    },
                    **{
                        f"uplink{number}": {
                            "host": gateway,
                            "mac": UPLINK_MACS[gateway],
                            "ip": f"{UPLINK_IPS[gateway]}/24",
                        }
                        for number, gateway in enumerate(GATEWAYS, 1)
                    },
                },
                "masquerade": [{"from": "10.0.0.0/16", "to": MASQUERADE}],
            }
        },
        "chains": {
            "vm": {
                "policy": "drop",
                "rules": [
                    {"accept": True, "ct": ["established", "related"]},
                    {"accept": True, "proto": "icmp", "ct": "new"},
                    {"accept": True, "proto": "tcp", "ct": "new"},
                    {"accept": True, "proto": "udp", "ct": "new"},
                ],
            }
        },
        "ingress_sets": {"up": ["provider/uplink1", "provider/uplink2"]},
    }
