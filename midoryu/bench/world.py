# SPDX-License-Identifier: Apache-2.0
"""The cloud that is measured, and the packets that its VMs send.

node1 is the host under test. Its VMs stand on three networks behind router `tenant`:
`plain` without filters, `kept` with a stateful filter of 50 rules, `web` with the
filter and masquerade. node2, node3 and node4 hold the uplinks of router `provider`,
one ingress set.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from midoryu.packet.address import parse_mac
from midoryu.packet.checksum import internet_checksum

HOST: Final = "node1"
UNDERLAY: Final = {f"node{n}": f"172.31.0.{n}" for n in (1, 2, 3, 4)}
GATEWAYS: Final = ("node2", "node3", "node4")
KINDS: Final = ("l2", "l3", "l3+ct", "l3+ct+snat")
VMS: Final = 64
REMOTE_VMS: Final = 512
NAT_ADDRESSES: Final = 16
RULES: Final = 50

# Ofports at the host under test.
GRE_OFPORT: Final = 1
STATE_OFPORT: Final = 2
_FIRST_OFPORT: Final = 10
_NETWORKS: Final = {"plain": 8, "kept": 9, "web": 0}
_ROUTER_MAC: Final = parse_mac("02:aa:00:00:00:01")
_REMOTE_MAC: Final = parse_mac("02:bb:00:00:00:00")


class Place(NamedTuple):
    """A vport of the host under test."""

    iface_id: str
    ofport: int


def places() -> list[Place]:
    """List the vports of the host under test."""
    names = [f"{network}/vm{n}" for network in _NETWORKS for n in range(VMS)]
    return [Place(name, _FIRST_OFPORT + n) for n, name in enumerate(names)]


def topology() -> str:
    """Write the topology file."""
    lines = ["networks:"]
    for network, octet in _NETWORKS.items():
        lines += [f"  {network}:", "    ports:"]
        lines += [
            f"      vm{n}: {{host: {HOST}, mac: '{_mac(octet, n)}', "
            f"ip: 10.{octet}.1.{n + 1}{_filter(network)}}}"
            for n in range(VMS)
        ]
        if network == "plain":
            lines += [
                f"      far{n}: {{host: node2, mac: '{_text(_REMOTE_MAC + n)}', "
                f"ip: 10.{octet}.{2 + n // 250}.{1 + n % 250}}}"
                for n in range(REMOTE_VMS)
            ]
    lines += ["routers:", "  tenant:", "    ports:"]
    lines += [
        f"      {network}: {{network: {network}, ip: 10.{octet}.0.1/16, "
        f"mac: '{_text(_ROUTER_MAC)}'}}"
        for network, octet in _NETWORKS.items()
    ]
    addresses = ", ".join(f"203.0.113.{n + 1}" for n in range(NAT_ADDRESSES))
    lines += [
        "      up: {router: provider, peer: tenant, ip: 100.64.0.2/30}",
        "    routes: [{to: 0.0.0.0/0, via: 100.64.0.1}]",
        f"    masquerade: [{{from: 10.0.0.0/16, to: [{addresses}], port: up}}]",
        "  provider:",
        "    ports:",
        "      tenant: {router: tenant, peer: up, ip: 100.64.0.1/30}",
    ]
    lines += [
        f"      uplink{n}: {{host: node{n}, ip: 192.0.2.{n * 4 + 2}/30}}"
        for n in (2, 3, 4)
    ]
    lines += [
        "    routes:",
        "      - {to: 203.0.113.0/24, via: 100.64.0.2}",
        "      - {to: 10.0.0.0/8, via: 100.64.0.2}",
    ]
    lines += [
        f"      - {{to: 0.0.0.0/0, via: 192.0.2.{n * 4 + 1}, metric: {n}}}"
        for n in (2, 3, 4)
    ]
    lines += ["chains:", "  vm-out:", "    policy: drop", "    rules:"]
    lines += ["      - {accept: true, ct: [established, related]}"]
    lines += [
        f"      - {{drop: true, proto: tcp, to_port: {n + 1}, to: 10.{n}.0.0/16}}"
        for n in range(RULES - 2)
    ]
    lines += ["      - {accept: true, ct: [new], proto: tcp}"]
    uplinks = ", ".join(f"provider/uplink{n}" for n in (2, 3, 4))
    return "\n".join([*lines, f"ingress_sets: {{uplinks: [{uplinks}]}}", ""])


def neighbors() -> list[tuple[str, str]]:
    """List (address, MAC) of the next hops behind the uplinks."""
    return [(f"192.0.2.{n * 4 + 1}", f"02:ff:00:00:00:0{n}") for n in (2, 3, 4)]


def packet(kind: str, number: int) -> tuple[int, bytes]:
    """Make the number-th packet of a kind: (ofport, frame).

    Every number gives another flow, but for `l2`, which has VMS * REMOTE_VMS of them.
    """
    vm = number % VMS
    if kind == "l2":
        far = number // VMS % REMOTE_VMS
        return _FIRST_OFPORT + vm, _syn(8, vm, mac_dst=_REMOTE_MAC + far, number=number)
    network = {"l3": 0, "l3+ct": 1, "l3+ct+snat": 2}[kind]
    octet = list(_NETWORKS.values())[network]
    frame = _syn(octet, vm, mac_dst=_ROUTER_MAC, number=number // VMS)
    return _FIRST_OFPORT + network * VMS + vm, frame


def teaching(number: int) -> tuple[int, bytes]:
    """Make a packet from a far VM: from it a learning switch knows where that VM is."""
    mac = (_REMOTE_MAC + number % REMOTE_VMS).to_bytes(6, "big")
    _, frame = packet("l2", 0)
    return 3, b"\xff" * 6 + mac + frame[12:]


def _syn(octet: int, vm: int, *, mac_dst: int, number: int) -> bytes:
    """Make a TCP SYN; the number chooses source port and outside address."""
    mac_src = parse_mac(_mac(octet, vm))
    ip_src = 10 << 24 | octet << 16 | 1 << 8 | vm + 1
    ip_dst = (198 << 24 | 18 << 16) + (number % 50_000) + 1
    port = 1024 + number % 60_000
    addresses = struct.pack(">II", ip_src, ip_dst)
    head = struct.pack(">HHHHBB", 0x4500, 40, number & 0xFFFF, 0x4000, 64, 6)
    total = internet_checksum(head + b"\0\0" + addresses)
    tcp = struct.pack(">HHIIHHHH", port, 443, number, 0, 0x5002, 64240, 0, 0)
    pseudo = addresses + struct.pack(">HH", 6, len(tcp))
    check = internet_checksum(pseudo + tcp)
    tcp = tcp[:16] + check.to_bytes(2, "big") + tcp[18:]
    ethernet = mac_dst.to_bytes(6, "big") + mac_src.to_bytes(6, "big") + b"\x08\0"
    return ethernet + head + total.to_bytes(2, "big") + addresses + tcp


def _mac(octet: int, vm: int) -> str:
    return f"02:00:00:00:{octet:02x}:{vm:02x}"


def _text(mac: int) -> str:
    return ":".join(f"{byte:02x}" for byte in mac.to_bytes(6, "big"))


def _filter(network: str) -> str:
    return "" if network == "plain" else ", ingress: vm-out"
