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
KINDS: Final = ("l2", "l3", "l3 v6", "l3+ct", "l3+ct+snat", "dnat+lb")
# What a peer's records have a part in: packets back, and the records themselves.
PEER_KINDS: Final = ("return", "state-import")
VMS: Final = 64
REMOTE_VMS: Final = 512
NAT_ADDRESSES: Final = 16
RULES: Final = 50

# Ofports at the host under test.
GRE_OFPORT: Final = 1
STATE_OFPORT: Final = 2
_FIRST_OFPORT: Final = 10
_UPLINK_OFPORT: Final = 10 + 3 * 64
_NETWORKS: Final = {"plain": 8, "kept": 9, "web": 0}
# Further networks behind the same router, without VMs at the host under test.
_MORE_NETWORKS: Final = 17
_ROUTER_MAC: Final = parse_mac("02:aa:00:00:00:01")
UPLINK: Final = "provider/uplink1"
UPLINK_MAC: Final = parse_mac("02:cc:00:00:00:01")
_OUTSIDE_MAC: Final = parse_mac("02:ff:00:00:00:01")
_VIP: Final = 203 << 24 | 0 << 16 | 113 << 8 | 200
_VIP_MEMBERS: Final = 8
_INSIDE_V6: Final = 0xFD00_0008 << 96
_OUTSIDE_V6: Final = 0x2001_0DB8_0009 << 80
_REMOTE_MAC: Final = parse_mac("02:bb:00:00:00:00")


class Place(NamedTuple):
    """A vport of the host under test."""

    iface_id: str
    ofport: int


def places() -> list[Place]:
    """List the vports of the host under test."""
    names = [f"{network}/vm{n}" for network in _NETWORKS for n in range(VMS)]
    names.append(UPLINK)
    return [Place(name, _FIRST_OFPORT + n) for n, name in enumerate(names)]


def topology() -> str:
    """Write the topology file."""
    lines = ["networks:"]
    for network, octet in _NETWORKS.items():
        lines += [f"  {network}:", "    ports:"]
        lines += [
            f"      vm{n}: {{host: {HOST}, mac: '{_mac(octet, n)}', "
            f"ip: {_ips(network, octet, n)}{_filter(network)}}}"
            for n in range(VMS)
        ]
        if network == "plain":
            lines += [
                f"      far{n}: {{host: node2, mac: '{_text(_REMOTE_MAC + n)}', "
                f"ip: 10.{octet}.{2 + n // 250}.{1 + n % 250}}}"
                for n in range(REMOTE_VMS)
            ]
    lines += [f"  more{n}: {{}}" for n in range(_MORE_NETWORKS)]
    lines += ["  shop:", "    ports:"]
    lines += [
        f"      vm{n}: {{host: node2, mac: '{_mac(20, n)}', ip: 10.20.1.{n + 1}}}"
        for n in range(_VIP_MEMBERS)
    ]
    lines += ["routers:", "  tenant:", "    ports:"]
    lines += [
        f"      {network}: {{network: {network}, ip: {_gateway(network, octet)}, "
        f"mac: '{_text(_ROUTER_MAC)}'}}"
        for network, octet in _NETWORKS.items()
    ]
    lines += [
        f"      more{n}: {{network: more{n}, ip: 10.{100 + n}.0.1/16}}"
        for n in range(_MORE_NETWORKS)
    ]
    addresses = ", ".join(f"203.0.113.{n + 1}" for n in range(NAT_ADDRESSES))
    lines += [
        "      up: {router: provider, peer: tenant, "
        "ip: [100.64.0.2/30, 'fd00:64::2/64']}",
        "    routes: [{to: 0.0.0.0/0, via: 100.64.0.1}, "
        "{to: '::/0', via: 'fd00:64::1'}]",
        f"    masquerade: [{{from: 10.0.0.0/16, to: [{addresses}], port: up}}]",
        "  front:",
        "    ports:",
        "      shop: {network: shop, ip: 10.20.0.1/16}",
        "      up: {router: provider, peer: front, ip: 100.64.1.2/30}",
        "    routes: [{to: 0.0.0.0/0, via: 100.64.1.1}]",
        "  provider:",
        "    ports:",
        "      front: {router: front, peer: up, ip: 100.64.1.1/30}",
        "      tenant: {router: tenant, peer: up, "
        "ip: [100.64.0.1/30, 'fd00:64::1/64']}",
        f"      uplink1: {{host: {HOST}, ip: 192.0.2.6/30, "
        f"mac: '{_text(UPLINK_MAC)}'}}",
    ]
    lines += [
        f"      uplink{n}: {{host: node{n}, "
        f"ip: [192.0.2.{n * 4 + 2}/30, '2001:db8:{n}::2/64']}}"
        for n in (2, 3, 4)
    ]
    lines += [
        "    routes:",
        "      - {to: 203.0.113.0/24, via: 100.64.0.2}",
        f"      - {{to: {_dotted(_VIP)}/32, via: 100.64.1.2}}",
        "      - {to: 10.0.0.0/8, via: 100.64.0.2}",
        "      - {to: 'fd00:8::/64', via: 'fd00:64::2'}",
        "      - {to: 0.0.0.0/0, via: 192.0.2.5, metric: 9}",
    ]
    for n in (2, 3, 4):
        lines += [
            f"      - {{to: 0.0.0.0/0, via: 192.0.2.{n * 4 + 1}, metric: {n}}}",
            f"      - {{to: '::/0', via: '2001:db8:{n}::1', metric: {n}}}",
        ]
    lines += ["chains:", "  vm-out:", "    policy: drop", "    rules:"]
    lines += ["      - {accept: true, ct: [established, related]}"]
    lines += [
        f"      - {{drop: true, proto: tcp, to_port: {n + 1}, to: 10.{n}.0.0/16}}"
        for n in range(RULES - 2)
    ]
    lines += ["      - {accept: true, ct: [new], proto: tcp}"]
    members = ", ".join(f"10.20.1.{n + 1}" for n in range(_VIP_MEMBERS))
    lines += [
        "balancers:",
        f"  site: {{router: front, vips: ['{_dotted(_VIP)}:443/tcp'], "
        f"members: [{members}]}}",
    ]
    uplinks = ", ".join(f"provider/uplink{n}" for n in (2, 3, 4))
    return "\n".join([*lines, f"ingress_sets: {{uplinks: [{uplinks}]}}", ""])


def neighbors() -> list[tuple[str, str]]:
    """List (address, MAC) of the next hops behind the uplinks."""
    found = [(f"192.0.2.{n * 4 + 1}", f"02:ff:00:00:00:0{n}") for n in (1, 2, 3, 4)]
    return found + [(f"2001:db8:{n}::1", f"02:ff:00:00:00:0{n}") for n in (2, 3, 4)]


def packet(kind: str, number: int) -> tuple[int, bytes]:
    """Make the number-th packet of a kind: (ofport, frame).

    Every number gives another flow, but for `l2`, which has VMS * REMOTE_VMS of them.
    """
    vm = number % VMS
    if kind == "l2":
        far = number // VMS % REMOTE_VMS
        return _FIRST_OFPORT + vm, _syn(8, vm, mac_dst=_REMOTE_MAC + far, number=number)
    if kind == "dnat+lb":
        source = (198 << 24 | 18 << 16) + number % 50_000 + 1
        ports = (1024 + number % 60_000, 443)
        return _UPLINK_OFPORT, _from_outside(source, _VIP, *ports, flags=0x02)
    if kind == "l3 v6":
        return _FIRST_OFPORT + vm, _syn_v6(vm, number // VMS)
    network = {"l3": 0, "l3+ct": 1, "l3+ct+snat": 2}[kind]
    octet = list(_NETWORKS.values())[network]
    frame = _syn(octet, vm, mac_dst=_ROUTER_MAC, number=number // VMS)
    return _FIRST_OFPORT + network * VMS + vm, frame


def masqueraded(number: int) -> tuple[int, int, int, int, int]:
    """Name a connection that a peer has made for a VM of the host under test.

    Returns:
        (address of VM, address outside, port of VM, NAT address, NAT port).
    """
    vm = 10 << 24 | 1 << 8 | number % VMS + 1
    outside = (198 << 24 | 19 << 16) + number // 50_000 + 1
    port = 1024 + number % 60_000
    address = (203 << 24 | 113 << 8) + number % NAT_ADDRESSES + 1
    return vm, outside, port, address, port


def answer(number: int) -> tuple[int, bytes]:
    """Make the first packet that comes back for `masqueraded`: (ofport, frame)."""
    _, outside, _, address, port = masqueraded(number)
    return _UPLINK_OFPORT, _from_outside(outside, address, 443, port, flags=0x12)


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
    ports = (1024 + number % 60_000, 443)
    return _ethernet(mac_dst, mac_src, 0x0800) + _ipv4(ip_src, ip_dst, ports, 0x02)


def _from_outside(source: int, destination: int, *ports: int, flags: int) -> bytes:
    ethernet = _ethernet(UPLINK_MAC, _OUTSIDE_MAC, 0x0800)
    first, second = ports
    return ethernet + _ipv4(source, destination, (first, second), flags)


def _syn_v6(vm: int, number: int) -> bytes:
    mac_src = parse_mac(_mac(_NETWORKS["plain"], vm))
    source = (_INSIDE_V6 | 1 << 16 | vm + 1).to_bytes(16, "big")
    destination = (_OUTSIDE_V6 | number + 1).to_bytes(16, "big")
    addresses = source + destination
    tcp = _tcp(1024 + number % 60_000, 443, 0x02, addresses)
    head = struct.pack(">IHBB", 6 << 28, len(tcp), 6, 64)
    return _ethernet(_ROUTER_MAC, mac_src, 0x86DD) + head + addresses + tcp


def _ethernet(mac_dst: int, mac_src: int, eth_type: int) -> bytes:
    macs = mac_dst.to_bytes(6, "big") + mac_src.to_bytes(6, "big")
    return macs + eth_type.to_bytes(2, "big")


def _ipv4(source: int, destination: int, ports: tuple[int, int], flags: int) -> bytes:
    addresses = struct.pack(">II", source, destination)
    head = struct.pack(">HHHHBB", 0x4500, 40, ports[0], 0x4000, 64, 6)
    total = internet_checksum(head + b"\0\0" + addresses)
    tcp = _tcp(*ports, flags, addresses)
    return head + total.to_bytes(2, "big") + addresses + tcp


def _tcp(source_port: int, port: int, flags: int, addresses: bytes) -> bytes:
    tcp = struct.pack(">HHIIHHHH", source_port, port, 1, 0, 0x5000 | flags, 64240, 0, 0)
    pseudo = addresses + struct.pack(">HH", 6, len(tcp))
    check = internet_checksum(pseudo + tcp)
    return tcp[:16] + check.to_bytes(2, "big") + tcp[18:]


def _ips(network: str, octet: int, vm: int) -> str:
    v4 = f"10.{octet}.1.{vm + 1}"
    return f"[{v4}, 'fd00:8::1:{vm + 1:x}']" if network == "plain" else v4


def _gateway(network: str, octet: int) -> str:
    v4 = f"10.{octet}.0.1/16"
    return f"[{v4}, 'fd00:8::1/64']" if network == "plain" else v4


def _dotted(address: int) -> str:
    return ".".join(map(str, address.to_bytes(4, "big")))


def _mac(octet: int, vm: int) -> str:
    return f"02:00:00:00:{octet:02x}:{vm:02x}"


def _text(mac: int) -> str:
    return ":".join(f"{byte:02x}" for byte in mac.to_bytes(6, "big"))


def _filter(network: str) -> str:
    return "" if network == "plain" else ", ingress: vm-out"
