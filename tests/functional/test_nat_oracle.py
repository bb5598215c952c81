# SPDX-License-Identifier: Apache-2.0
"""The same packets through the kernel's nftables NAT and through ours.

What comes out is compared byte for byte from the IP header on. Where the two differ
on purpose, a test says so and why:

* the kernel takes any port when the wanted one is taken, we one of the same parity
  (RFC 4787, REQ-4);
* the kernel drops TCP that is out of its window, we leave that to the ends: a flow of
  the switch does not see sequence numbers. The kernel is told to be liberal here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from midoryu.simulation.outcome import Forward
from midoryu.translation.flows import frame_of
from tests.helpers.frames import ICMP, IP, TCP, UDP, Ether
from tests.helpers.worlds import GATEWAY_MAC, V4, Overlay, two_networks

VM1, VM3 = "02:00:00:00:00:01", "02:00:00:00:00:03"
NAT, DNAT = V4.nat_ip(10), V4.nat_ip(20)
OUTSIDE, OTHER = V4.outside, "198.51.100.77"
IN_1, IN_3 = V4.ip(1, 11), V4.ip(1, 13)
SERVER_PORT = 8080
# Sends what it reads, one JSON line [device, hex], and tells what comes out of the
# other end within a moment.
_WIRE = """
import json, select, socket, sys
ends = {}
for name in ("tin", "tout"):
    ends[name] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    ends[name].bind((name, 0))
print("ready", flush=True)
for line in sys.stdin:
    device, data = json.loads(line)
    ends[device].send(bytes.fromhex(data))
    out = []
    while True:
        ready, _, _ = select.select(list(ends.values()), [], [], 0.15)
        if not ready:
            break
        for one in ready:
            frame, address = one.recvfrom(65535)
            if address[2] != socket.PACKET_OUTGOING and frame[12:14] == b"\\x08\\x00":
                out.append([address[0], frame.hex()])
    print(json.dumps(out), flush=True)
"""


class Kernel:
    """A namespace that routes and translates, and one that holds both its ends."""

    def __init__(self) -> None:
        self._names = [f"mo{os.getpid()}{end}" for end in "rt"]
        router, tester = self._names
        try:
            for name in self._names:
                _run("ip", "netns", "add", name)
            for ours, theirs in (("rin", "tin"), ("rout", "tout")):
                # fmt: off
                _run("ip", "link", "add", ours, "netns", router, "type", "veth",
                     "peer", "name", theirs, "netns", tester)
                # fmt: on
                self._in(tester, f"ip link set {theirs} up")
            for line in self._settings():
                self._in(router, line)
            self._in(router, "nft -f -", self._rules())
            # The kernel looks at sequence numbers too; we leave them to the ends.
            self._in(router, "sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1")
            self.macs = {
                name: json.loads(self._in(router, f"ip -j link show {name}"))[0][
                    "address"
                ]
                for name in ("rin", "rout")
            }
            command = ["ip", "netns", "exec", tester, sys.executable, "-c", _WIRE]
            self._wire = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert self._line() == "ready\n"
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _settings() -> list[str]:
        return [
            "sysctl -qw net.ipv4.ip_forward=1",
            "sysctl -qw net.ipv4.conf.all.rp_filter=0",
            "sysctl -qw net.ipv4.conf.default.rp_filter=0",
            "sysctl -qw net.ipv4.icmp_ratelimit=0",
            "ip link set lo up",
            "ip link set rin up",
            "ip link set rout up",
            f"ip addr add {V4.ip(1, 1)}/24 dev rin",
            f"ip addr add {V4.uplink}/30 dev rout",
            f"ip neigh replace {V4.gateway} lladdr {GATEWAY_MAC} dev rout",
            f"ip neigh replace {IN_1} lladdr {VM1} dev rin",
            f"ip neigh replace {IN_3} lladdr {VM3} dev rin",
            f"ip route add default via {V4.gateway}",
            f"ip route add blackhole {NAT}/32",
            f"ip route add blackhole {DNAT}/32",
        ]

    @staticmethod
    def _rules() -> str:
        return f"""
        table ip nat {{
            chain pre {{
                type nat hook prerouting priority -100;
                ip daddr {DNAT} tcp dport {SERVER_PORT} dnat to {IN_3}:80
                ip daddr {DNAT} udp dport {SERVER_PORT} dnat to {IN_3}:80
            }}
            chain post {{
                type nat hook postrouting priority 100;
                oifname "rout" ip saddr {V4.subnet(1)} snat to {NAT}
            }}
        }}
        """

    def begin_again(self) -> None:
        """Put the rules in anew."""
        self._in(self._names[0], "nft flush ruleset")
        self._in(self._names[0], "nft -f -", self._rules())

    def _in(self, name: str, line: str, given: str = "") -> str:
        return _run("ip", "netns", "exec", name, *line.split(), given=given)

    def _line(self) -> str:
        assert self._wire.stdout is not None
        return self._wire.stdout.readline()

    def send(self, inside: bool, packet: Any) -> list[tuple[str, bytes]]:
        """Send an IP packet in; return where what came out, from the IP header on."""
        source = VM1 if inside else GATEWAY_MAC
        mac = self.macs["rin" if inside else "rout"]
        frame = bytes(Ether(src=source, dst=mac) / packet)
        assert self._wire.stdin is not None
        end = "tin" if inside else "tout"
        self._wire.stdin.write(json.dumps([end, frame.hex()]) + "\n")
        self._wire.stdin.flush()
        names = {"tin": "inside", "tout": "outside"}
        return [(names[n], _ip(bytes.fromhex(f))) for n, f in json.loads(self._line())]

    def close(self) -> None:
        wire = getattr(self, "_wire", None)
        if wire is not None:
            wire.kill()
            wire.communicate()
        for name in self._names:
            subprocess.run(["ip", "netns", "del", name], check=False)


class Ours:
    """Our simulation with the same addresses and rules."""

    def __init__(self) -> None:
        b = two_networks(V4)
        b.masquerade("r", V4.subnet(1), NAT, vport="r/up")
        for proto in (6, 17):
            rule = b.dnat(
                "r",
                DNAT,
                IN_3,
                ip_proto=proto,
                ports=(SERVER_PORT, SERVER_PORT),
                to_port=80,
            )
            b.put(type(rule)(**{**_fields(rule), "key": f"dnat{proto}"}))
        for block in range(16, 1024):
            b.lease("r", NAT, block, "node1")
        self.overlay = Overlay(b)

    def send(self, inside: bool, packet: Any) -> list[tuple[str, bytes]]:
        vport = "a/vm1" if inside else "r/up"
        source = VM1 if inside else GATEWAY_MAC
        mac = self.overlay.mac("r/a" if inside else "r/up")
        frame = bytes(Ether(src=source, dst=mac) / packet)
        simulation = self.overlay.carry(vport, frame)
        found = []
        if isinstance(simulation.outcome, Forward):
            (name,) = self.overlay.names(simulation)
            found.append((_side(name), _ip(frame_of(simulation))))
        for emission in simulation.emissions:
            names, frame = self.overlay.follow(emission)
            found.append((_side(names[0]), _ip(bytes(frame))))
        return found


def _fields(rule: Any) -> dict[str, Any]:
    return {name: getattr(rule, name) for name in rule.__dataclass_fields__}


def _side(name: str) -> str:
    return "outside" if name == "r/up" else "inside"


def _ip(frame: bytes) -> bytes:
    return frame[14 : 14 + int.from_bytes(frame[16:18], "big")]


def _run(*command: str, given: str = "") -> str:
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    made = Kernel()
    yield made
    made.close()


@pytest.fixture
def both(kernel: Kernel) -> tuple[Kernel, Ours]:
    kernel.begin_again()
    return kernel, Ours()


def out_tcp(sport: int, flags: str, **more: Any) -> Any:
    return IP(src=IN_1, dst=OUTSIDE, id=7) / TCP(
        sport=sport, dport=80, flags=flags, seq=1 if "S" in flags else 2, ack=6, **more
    )


def in_tcp(dport: int, flags: str) -> Any:
    return IP(src=OUTSIDE, dst=NAT, id=9) / TCP(
        sport=80, dport=dport, flags=flags, seq=5 if "S" in flags else 6, ack=2
    )


def out_udp(sport: int, dst: str = OUTSIDE, **more: Any) -> Any:
    return IP(src=IN_1, dst=dst, id=3, **more) / UDP(sport=sport, dport=53) / b"ask"


def in_udp(dport: int, src: str = OUTSIDE, sport: int = 53) -> Any:
    return IP(src=src, dst=NAT, id=4) / UDP(sport=sport, dport=dport) / b"answer"


def error(src: str, dst: str, kind: int, code: int, quoted: Any) -> Any:
    return IP(src=src, dst=dst, id=5) / ICMP(type=kind, code=code) / bytes(quoted)


def seen_outside(sport: int) -> Any:
    quoted = IP(src=NAT, dst=OUTSIDE, id=3, ttl=60) / UDP(sport=sport, dport=53)
    return quoted / b"ask"


def called(port: int) -> Any:
    return IP(src=OUTSIDE, dst=DNAT, id=8) / UDP(sport=port, dport=SERVER_PORT) / b"x"


def call_inside(port: int) -> Any:
    return IP(src=OUTSIDE, dst=IN_3, id=8, ttl=63) / UDP(sport=port, dport=80) / b"x"


def ping(src: str, dst: str, identifier: int, kind: int = 8) -> Any:
    return IP(src=src, dst=dst, id=6) / ICMP(type=kind, id=identifier, seq=1) / b"data"


# Name -> (comes from inside?, packet), one after the other.
SEQUENCES: dict[str, list[tuple[bool, Any]]] = {
    "a TCP connection from inside": [
        (True, out_tcp(30001, "S")),
        (False, in_tcp(30001, "SA")),
        (True, out_tcp(30001, "A")),
        (True, out_tcp(30001, "PA") / b"GET"),
        (False, in_tcp(30001, "PA") / b"HTTP"),
        (True, out_tcp(30001, "FA")),
        (False, in_tcp(30001, "FA")),
        (True, out_tcp(30001, "A")),
    ],
    "a refused TCP connection": [
        (True, out_tcp(30002, "S")),
        (False, in_tcp(30002, "RA")),
    ],
    "a simultaneous open": [
        (True, out_tcp(30003, "S")),
        (False, in_tcp(30003, "S")),
        (True, out_tcp(30003, "SA")),
        (False, in_tcp(30003, "SA")),
    ],
    "one UDP endpoint to two hosts": [
        (True, out_udp(30004)),
        (True, out_udp(30004, OTHER)),
        (False, in_udp(30004)),
        (False, in_udp(30004, OTHER)),
    ],
    "UDP from strangers": [
        (True, out_udp(30005)),
        (False, in_udp(30005, OTHER)),
        (False, in_udp(30005, sport=54)),
        (False, in_udp(30055)),
    ],
    "a ping": [
        (True, ping(IN_1, OUTSIDE, 3006)),
        (False, ping(OUTSIDE, NAT, 3006, kind=0)),
        (False, ping(OUTSIDE, NAT, 3007, kind=0)),
    ],
    "errors from outside": [
        (True, out_udp(30007)),
        (False, error(OUTSIDE, NAT, 3, 3, seen_outside(30007))),
        (False, error("198.51.100.1", NAT, 11, 0, seen_outside(30007))),
        (False, error("198.51.100.1", NAT, 3, 3, seen_outside(30077))),
        (False, in_udp(30007)),
    ],
    "a call to a server": [
        (False, called(30008)),
        (True, IP(src=IN_3, dst=OUTSIDE, id=2) / UDP(sport=80, dport=30008) / b"y"),
        (False, called(30008)),
    ],
    "errors from inside": [
        (False, called(30009)),
        (True, error(IN_3, OUTSIDE, 3, 3, call_inside(30009))),
        (True, error(V4.ip(1, 99), OUTSIDE, 11, 0, call_inside(30009))),
    ],
    "closed ports of a server": [
        (
            False,
            IP(src=OUTSIDE, dst=DNAT) / UDP(sport=30010, dport=SERVER_PORT + 1) / b"x",
        ),
    ],
    "IP options and DSCP": [
        (True, IP(src=IN_1, dst=OUTSIDE, tos=0xB8, id=1) / UDP(sport=30011, dport=9)),
    ],
    "UDP without a checksum": [
        (
            True,
            IP(src=IN_1, dst=OUTSIDE) / UDP(sport=30012, dport=9, chksum=0) / b"none",
        ),
    ],
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_same_packets_come_out(both: tuple[Kernel, Ours], name: str) -> None:
    kernel, ours = both
    for number, (inside, packet) in enumerate(SEQUENCES[name]):
        expected = kernel.send(inside, packet)
        assert ours.send(inside, packet) == expected, f"packet {number}"


def test_time_that_runs_out_is_told_alike(both: tuple[Kernel, Ours]) -> None:
    found = []
    for one in both:
        ((side, answer),) = one.send(True, out_udp(30020, ttl=1))
        parsed = IP(answer)
        error_, quote = parsed[ICMP], bytes(parsed[ICMP].payload)
        found.append((side, parsed.src, parsed.dst, error_.type, error_.code, quote))

    assert found[0] == found[1]


def test_collision_moves_the_port_in_both(both: tuple[Kernel, Ours]) -> None:
    """The kernel takes any port, we one of the same parity; both keep the first."""
    rival = IP(src=IN_3, dst=OUTSIDE) / UDP(sport=30022, dport=53) / b"ask"
    for one in both:
        ((_, first),) = one.send(True, out_udp(30022))
        ((_, second),) = one.send(True, rival)
        assert IP(first)[UDP].sport == 30022
        assert IP(second)[UDP].sport != 30022
        if isinstance(one, Ours):
            assert IP(second)[UDP].sport % 2 == 0


def test_port_after_a_collision_serves_other_destinations_too_in_both(
    both: tuple[Kernel, Ours],
) -> None:
    rival = IP(src=IN_3, dst=OUTSIDE) / UDP(sport=30024, dport=53) / b"ask"
    elsewhere = IP(src=IN_3, dst=OTHER) / UDP(sport=30024, dport=53) / b"ask"
    for one in both:
        one.send(True, out_udp(30024))
        ((_, second),) = one.send(True, rival)
        ((_, third),) = one.send(True, elsewhere)
        assert IP(second)[UDP].sport == IP(third)[UDP].sport
