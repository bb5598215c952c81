# SPDX-License-Identifier: Apache-2.0
"""A packet that nobody sent: its whole way as this host sees it, told step by step.

`report` answers the query `trace` with it. The real simulation runs on the real
topology and records; nothing is changed, installed or sent (Open vSwitch has
`ofproto/trace`, OVN `ovn-trace`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Union

from midoryu.engine.core import Core
from midoryu.errors import DecodeError
from midoryu.packet import field, protocol
from midoryu.packet.address import format_ip, format_mac, is_v4, parse_ip, parse_mac
from midoryu.packet.codec import decode
from midoryu.packet.packet import Headers, Packet
from midoryu.packet.specimen import specimen
from midoryu.simulation.outcome import (
    Blocked,
    Flood,
    Forward,
    LeaseWanted,
    NeighborWanted,
    Outcome,
    Simulation,
    Wanted,
)
from midoryu.simulation.simulator import simulate
from midoryu.topology.model import Vport
from midoryu.topology.tag import describe
from midoryu.topology.view import subnets

PROTOCOLS: Final = {
    "tcp": protocol.TCP,
    "udp": protocol.UDP,
    "sctp": protocol.SCTP,
    "icmp": protocol.ICMP,
    "icmpv6": protocol.ICMPV6,
}
_FLAGS: Final = {
    "syn": protocol.TCP_SYN,
    "ack": protocol.TCP_ACK,
    "syn-ack": protocol.TCP_SYN | protocol.TCP_ACK,
    "fin": protocol.TCP_FIN | protocol.TCP_ACK,
    "rst": protocol.TCP_RST,
}
_ECHO_REQUEST: Final = {protocol.ICMP: 8, protocol.ICMPV6: 128}


def trace(core: Core, arguments: Mapping[str, str], now: float) -> dict[str, object]:
    """Simulate a packet and say where it goes and why.

    Args:
        core: what the engine knows; nothing in it changes.
        arguments: `vport` (an iface-id), and either `frame` (hexadecimal) or `proto`,
            `source`, `destination` and, as wanted, `source_port`, `destination_port`,
            `flags`, `source_mac`, `destination_mac`, `ttl`.
        now: monotonic seconds.

    Raises:
        ValueError: an argument is missing or wrong; the text names it.
    """
    iface_id = arguments.get("vport", "")
    vport = core.topology.vport_by_iface_id(iface_id)
    if vport is None:
        raise ValueError(f"argument vport: there is no vport {iface_id!r}")
    packet = _packet(core, vport, arguments)
    return _told(core, simulate(packet, vport, core.world, now=now, trace=True))


def _packet(core: Core, vport: Vport, arguments: Mapping[str, str]) -> Packet:
    if "proto" in arguments:
        return decode(_frame(core, vport, arguments))
    try:
        return decode(bytes.fromhex(arguments.get("frame", "")))
    except ValueError:
        raise ValueError("argument frame: the frame's bytes in hexadecimal") from None
    except DecodeError as error:
        raise ValueError(f"argument frame: {error}") from None


def _frame(core: Core, vport: Vport, arguments: Mapping[str, str]) -> bytes:
    proto = _proto(arguments["proto"])
    source, destination = _ip(arguments, "source"), _ip(arguments, "destination")
    if is_v4(source) != is_v4(destination):
        raise ValueError("argument destination: another family than the source's")
    values = {
        field.ETH_TYPE: protocol.ETH_IPV4 if is_v4(source) else protocol.ETH_IPV6,
        field.ETH_SRC: _mac(arguments, "source_mac") or vport.mac,
        field.ETH_DST: _mac(arguments, "destination_mac")
        or _next_mac(core, vport, destination),
        field.IP_SRC: source,
        field.IP_DST: destination,
        field.IP_PROTO: proto,
        field.IP_TTL: _number(arguments, "ttl", 64, 255),
        field.L4_SRC: _number(arguments, "source_port", 0, 0xFFFF),
        field.L4_DST: _number(arguments, "destination_port", 0, 0xFFFF),
    }
    if proto in _ECHO_REQUEST and not values[field.L4_SRC]:
        values[field.L4_SRC] = _ECHO_REQUEST[proto]
    if proto == protocol.TCP:
        values[field.TCP_FLAGS] = _tcp_flags(arguments.get("flags", "syn"))
    # Without a MAC address of its own the vport's machine has any.
    return specimen({bit: value for bit, value in values.items() if value})


def _next_mac(core: Core, vport: Vport, destination: int) -> int:
    """Return where a machine at a vport would send what is for an address.

    0 where nothing known answers: then the frame goes to an unknown address.
    """
    network = core.topology.network(vport.device)
    if network is None:
        return vport.mac  # a router's own vport: frames come to the router
    known = network.mac_by_ip.get(destination, 0)
    if known:
        return known
    for link in network.interior:
        router = core.topology.vport(link.peer)
        families = {is_v4(one.value) for one in router.addresses} if router else set()
        if router is None or is_v4(destination) not in families:
            continue
        if any(subnet.contains(destination) for subnet in subnets(router)):
            return 0
        return router.mac
    return 0


def _told(core: Core, simulation: Simulation) -> dict[str, object]:
    outcome = simulation.outcome
    reason = getattr(outcome, "reason", None)
    record = "none"
    if simulation.found is not None:
        direction = simulation.found.direction.name.lower()
        record = f"{simulation.found.connection.id:016x}, {direction} direction"
    elif simulation.connection is not None:
        record = "would be made"
    return {
        "outcome": type(outcome).__name__.lower(),
        "reason": None if reason is None else reason.value,
        "waits_for": _wanted(core, outcome.wanted)
        if isinstance(outcome, Blocked)
        else None,
        "came_as": _headers(simulation.packet, simulation.packet.headers),
        "leaves_as": _headers(simulation.packet, simulation.headers),
        "leaves_by": [_place(core, vport) for vport in _vports(outcome)],
        "record": record,
        "answers": len(simulation.emissions),
        "steps": [step._asdict() for step in simulation.trace],
        "fields": field.names(simulation.fields),
        "tags": sorted(describe(tag) for tag in simulation.tags),
    }


def _vports(outcome: Outcome) -> tuple[int, ...]:
    if isinstance(outcome, Forward):
        return (outcome.vport,)
    return outcome.vports if isinstance(outcome, Flood) else ()


def _place(core: Core, vport: int) -> dict[str, object]:
    host = core.topology.host(core.topology.location(vport))
    return {
        "vport": core.topology.vport_name(vport),
        "host": None if host is None else host.name,
    }


def _wanted(core: Core, wanted: Wanted) -> str:
    if isinstance(wanted, NeighborWanted):
        router = core.topology.device_name(wanted.router)
        return f"the MAC address of {format_ip(wanted.address)}, that {router} asks for"
    if isinstance(wanted, LeaseWanted):
        return f"a block of ports of {format_ip(wanted.address)}"
    return "the record, which peers may have"


def _headers(packet: Packet, headers: Headers) -> dict[str, object]:
    shown: dict[str, object] = {
        "eth_src": format_mac(headers.eth_src),
        "eth_dst": format_mac(headers.eth_dst),
        "eth_type": f"{packet.eth_type:#06x}",
    }
    if packet.eth_type in (protocol.ETH_IPV4, protocol.ETH_IPV6):
        shown["ip_proto"] = packet.ip_proto
        shown["source"] = format_ip(headers.ip_src)
        shown["source_port"] = headers.l4_src
        shown["destination"] = format_ip(headers.ip_dst)
        shown["destination_port"] = headers.l4_dst
        shown["ttl"] = headers.ip_ttl
    return shown


def _proto(text: str) -> int:
    if text.isdecimal() and int(text) < 256:
        return int(text)
    if text not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise ValueError(f"argument proto: {known} or a number, not {text!r}")
    return PROTOCOLS[text]


def _tcp_flags(text: str) -> int:
    if text not in _FLAGS:
        raise ValueError(f"argument flags: one of {', '.join(_FLAGS)}, not {text!r}")
    return _FLAGS[text]


def _ip(arguments: Mapping[str, str], name: str) -> int:
    text = arguments.get(name, "")
    try:
        return parse_ip(text)
    except ValueError:
        raise ValueError(f"argument {name}: {text!r} is no IP address") from None


def _mac(arguments: Mapping[str, str], name: str) -> int:
    text = arguments.get(name, "")
    try:
        return parse_mac(text) if text else 0
    except ValueError:
        raise ValueError(f"argument {name}: {text!r} is no MAC address") from None


def _number(arguments: Mapping[str, str], name: str, default: int, limit: int) -> int:
    text: Union[str, int] = arguments.get(name) or default
    if not (str(text).isdecimal() and int(text) <= limit):
        raise ValueError(f"argument {name}: a number of 0-{limit}, not {text!r}")
    return int(text)
