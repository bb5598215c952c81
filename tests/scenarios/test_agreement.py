# SPDX-License-Identifier: Apache-2.0
"""What is simulated is what the installed flow does, and nothing unread matters.

The standing invariants 1 and 5 over random worlds, filters, NAT rules and packets.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from midoryu.openflow import pipeline
from midoryu.openflow.base_flows import base_flows, vport_flows
from midoryu.openflow.flow import Flow, InstallFlow
from midoryu.packet import field
from midoryu.packet.address import parse_ip, parse_mac, parse_prefix
from midoryu.packet.codec import decode
from midoryu.packet.packet import Headers
from midoryu.packet.rewrite import rewrite
from midoryu.simulation.outcome import (
    Blocked,
    Consumed,
    Drop,
    Flood,
    Forward,
    Reason,
    Simulation,
)
from midoryu.topology import model
from midoryu.topology.model import (
    CT_ESTABLISHED,
    CT_INVALID,
    CT_NEW,
    CT_RELATED,
    Rule,
    RuleAction,
)
from midoryu.translation import flows as translation
from midoryu.translation.places import Places
from tests.helpers import frames
from tests.helpers.builder import Builder
from tests.helpers.fake_switch import FakeSwitch
from tests.helpers.worlds import V4, V6, Family, Overlay, two_networks

GRE, STATE = 1, 2
FAST = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
HOST = "node1"
# Names of vports where packets enter, on the host that the switch stands for.
ENTRIES = ("a/vm1", "a/vm3", "r/up")


# Worlds.

INSIDE = tuple(parse_prefix(family.subnet(1)) for family in (V4, V6))

rules = st.builds(
    Rule,
    st.sampled_from(
        [RuleAction.ACCEPT, RuleAction.ACCEPT, RuleAction.DROP, RuleAction.REJECT]
    ),
    # A flow is made at a connection's first packet and serves them all: filters that
    # let in what is new, but not what is established, have no flow that is right.
    ct_states=st.sampled_from([0, 0, CT_NEW | CT_ESTABLISHED, CT_RELATED, CT_INVALID]),
    ip_proto=st.sampled_from([0, 0, 1, 6, 17, 58]),
    source=st.sampled_from([(), (), INSIDE]),
    not_source=st.booleans(),
    source_group=st.sampled_from(["", "", "", "hosts", "ports"]),
    destination_group=st.sampled_from(["", "", "", "hosts"]),
    log=st.sampled_from(["", "", "seen"]),
    destination_ports=st.sampled_from([(), (), ((80, 90),)]),
    source_ports=st.sampled_from([(), (), ((1000, 1000),)]),
    icmp_type=st.sampled_from([-1, -1, -1, 0, 8, 128]),
)


@st.composite
def worlds(draw: Any) -> tuple[Family, Overlay]:
    family = draw(st.sampled_from([V4, V6]))
    b = two_networks(family)
    _add_nat(draw, family, b)
    _add_chains(draw, family, b)
    overlay = Overlay(b)
    if draw(st.booleans()):
        up = overlay.vport("r/up")
        overlay.change(
            replace(up, host=overlay.key(HOST)),
            model.VportStatus(up.key, overlay.key(HOST), True),
        )
    return family, overlay


def _add_nat(draw: Any, family: Family, b: Builder) -> None:
    nat = family.nat_ip
    if draw(st.booleans()):
        rule = b.masquerade("r", family.subnet(1), nat(10))
        b.put(replace(rule, filtering=draw(st.sampled_from(model.Filtering))))
        b.lease("r", nat(10), 16, HOST)
        b.lease("r", nat(10), 15, HOST)
    if draw(st.booleans()):
        b.dnat("r", nat(20), family.ip(1, 13), ip_proto=6, ports=(80, 90), to_port=80)
    if draw(st.booleans()):
        b.floating("r", nat(40), family.ip(draw(st.sampled_from([1, 2])), 12))
        b.floating("r", nat(41), family.ip(1, 11))
    if draw(st.booleans()):
        to = f"{family.outside}/{128 if family.is_v6 else 32}"
        b.route("r", to, via=family.ip(2, 12))
        b.route("r", to, via=family.ip(1, 13))


def _add_chains(draw: Any, family: Family, b: Builder) -> None:
    vm1 = b.key("a/vm1")
    b.put(model.PortGroup("ports", "ports", frozenset({vm1, b.key("b/vm2")})))
    members = (family.ip(1, 13), family.outside)
    b.put(model.AddressGroup("hosts", "hosts", frozenset(map(parse_prefix, members))))
    b.chain("c", *draw(st.lists(rules, max_size=3)), accept=draw(st.booleans()))
    places = draw(st.sets(st.sampled_from(["in", "out", "router", "net"]), max_size=2))
    if "router" in places:
        b.router("r", ingress_chain="c")
    if "net" in places:
        b.network("a", egress_chain="c")
    for number in (1, 3):
        row = b.vport(
            f"a/vm{number}",
            host=HOST,
            mac=f"02:00:00:00:00:0{number}",
            ip=family.ip(1, 10 + number),
            port_security=draw(st.booleans()),
        )
        into, out = ("c" if way in places else "" for way in ("in", "out"))
        b.put(replace(row, egress_chain=out, ingress_chain=into))


# Packets.

# Sources that no machine has, by whether they are IPv6 (of groups, none is decoded).
FORGED = (["127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3"], ["::1", "::"])


@st.composite
def packets(draw: Any, family: Family, overlay: Overlay) -> tuple[str, bytes]:
    """A place of entry, and a frame that has something to do with the world."""
    entry = draw(st.sampled_from(ENTRIES))
    inside = [family.ip(1, 11), family.ip(1, 13), family.ip(2, 12), family.ip(1, 1)]
    other = [family.outside, *(family.nat_ip(n) for n in (10, 20, 40))]
    sources = [family.outside] if entry == "r/up" else [family.ip(1, 11), *inside]
    src, dst = draw(st.sampled_from(sources)), draw(st.sampled_from(inside + other))
    macs = [overlay.mac(name) for name in ("r/a", "r/up", "a/vm1", "a/vm3")]
    macs += ["02:dd:00:00:00:01", "ff:ff:ff:ff:ff:ff"]
    nearest = overlay.mac("r/up" if entry == "r/up" else "r/a")
    eth_dst = draw(st.sampled_from([nearest, nearest, nearest, *macs]))
    own = "02:ff:00:00:00:09" if entry == "r/up" else overlay.mac(entry)
    link = {"eth_src": draw(st.sampled_from([own, own, macs[1], macs[4]]))}
    link["eth_dst"] = eth_dst
    return entry, draw(_bodies(family, src, dst, link))


@st.composite
def _bodies(draw: Any, family: Family, src: str, dst: str, link: Any) -> bytes:
    ttl = draw(st.sampled_from([64, 64, 64, 2, 1]))
    kind = draw(st.sampled_from(["tcp", "udp", "echo", "arp", "later", "vlan"]))
    sport = draw(st.sampled_from([1000, 1001]))
    dport = draw(st.sampled_from([80, 85, 53, 1000]))
    if kind == "tcp":
        flags = draw(st.sampled_from(["S", "SA", "A", "R"]))
        return frames.tcp(src, dst, sport, dport, flags=flags, ttl=ttl, **link)
    if kind in ("udp", "vlan"):
        vlan = 5 if kind == "vlan" else 0
        return frames.udp(src, dst, sport, dport, ttl=ttl, vlan=vlan, **link)
    if kind == "echo":
        reply = draw(st.booleans())
        return family.echo(src, dst, identifier=sport, reply=reply, ttl=ttl, **link)
    if kind == "later" and not family.is_v6:
        proto = draw(st.sampled_from([1, 6, 17]))
        header = frames.IP(src=src, dst=dst, proto=proto, frag=9, ttl=ttl)
        return frames.ethernet(header / frames.Raw(b"x" * 64), **link)
    if family.is_v6:
        return frames.neighbor_solicitation(src, dst, **link)
    return frames.arp(src, dst, **link)


def other_header(data: st.DataObject, family: Family, frame: bytes) -> bytes | None:
    """The same packet with some other header fields, None where it cannot be."""
    packet = decode(frame)
    headers = packet.headers.copy()
    change = data.draw(st.sampled_from(["eth_src", "eth_dst", "ip", "l4", "tos"]))
    if change == "eth_src":
        headers.eth_src = data.draw(
            st.sampled_from([0x02CC_0000_0001, 0x02DD_0000_0005])
        )
    elif change == "eth_dst":
        headers.eth_dst ^= data.draw(st.sampled_from([1, 2, 1 << 40]))
    elif packet.eth_type not in (0x0800, 0x86DD) or packet.nd_target:
        return None
    elif change == "tos":
        headers.ip_tos ^= 4
    elif change == "ip":
        addresses = [family.ip(1, 11), family.ip(1, 13), family.outside]
        name = data.draw(st.sampled_from(["ip_src", "ip_dst"]))
        if name == "ip_src":
            addresses += FORGED[family.is_v6]
        address = parse_ip(data.draw(st.sampled_from(addresses)))
        setattr(headers, name, address)
    elif packet.ip_proto in (6, 17) and packet.l4:
        headers.l4_src = data.draw(st.sampled_from([1000, 2000, 80]))
        headers.l4_dst = data.draw(st.sampled_from([80, 53, 85]))
    return rewrite(packet, headers)


# The switch.


def switch_for(overlay: Overlay) -> tuple[FakeSwitch, Places]:
    """The switch of node1 with what stands on it before the first packet."""
    places = Places(overlay.topology, overlay.key(HOST), GRE, STATE)
    switch = FakeSwitch([GRE, STATE])
    switch.apply(InstallFlow(one) for one in base_flows(GRE, STATE))
    for ofport, name in enumerate(ENTRIES, 10):
        if overlay.topology.location(overlay.key(name)) != overlay.key(HOST):
            continue
        key = overlay.key(name)
        places.bind(key, ofport)
        switch.ports.add(ofport)
        switch.apply(vport_flows(key, ofport, meter=key, rate_pps=9, burst=9))
    return switch, places


def flow_of(simulation: Simulation, places: Places, in_port: int) -> Flow:
    outputs = translation.outputs(
        translation.vports_of(simulation.outcome), places, in_port
    )
    actions = outputs.actions
    if actions:
        actions = translation.rewrites(simulation) + actions
    else:
        actions = translation.hop_actions(simulation)
    match = translation.match_of(simulation, in_port)
    return Flow(pipeline.VPORT, pipeline.PRIORITY_REACTIVE, match, actions)


def expected(
    overlay: Overlay, places: Places, simulation: Simulation
) -> list[tuple[int, int, bytes]]:
    """(ofport, tunnel key, frame) of everything that shall leave the switch."""
    leaving = []
    for vport in translation.vports_of(simulation.outcome):
        ofport = places.ofport_by_vport.get(vport)
        remote = overlay.topology.location(vport) not in (0, places.host)
        if ofport is not None:
            leaving.append((ofport, 0, translation.frame_of(simulation)))
        elif remote:
            leaving.append((GRE, vport, translation.frame_of(simulation)))
    return sorted(leaving)


def left(
    switch: FakeSwitch, frame: bytes, in_port: int
) -> list[tuple[int, int, bytes]]:
    """What left the switch; a tunnel key counts at the tunnel port only."""
    outputs = switch.send(frame, in_port)
    return sorted(
        (one.ofport, one.tunnel_key if one.ofport == GRE else 0, one.frame)
        for one in outputs
        if one.kind == "port"
    )


def settle(overlay: Overlay, entry: str, frame: bytes) -> Simulation:
    """Simulate where everything that the frame teaches is known already."""
    overlay.learn(overlay.send(entry, frame))
    return overlay.carry(entry, frame)


def is_settled(simulation: Simulation) -> bool:
    """It is simulated to an end for which a flow can stand."""
    return translation.is_installable(simulation) and not isinstance(
        simulation.outcome, (Blocked, Consumed)
    )


@FAST
@given(data=st.data())
def test_installed_flow_does_what_was_simulated(data: st.DataObject) -> None:
    family, overlay = data.draw(worlds())
    entry, frame = data.draw(packets(family, overlay))
    switch, places = switch_for(overlay)
    in_port = places.ofport_by_vport.get(overlay.key(entry))
    if in_port is None:
        return
    simulation = settle(overlay, entry, frame)
    if not is_settled(simulation):
        return

    switch.apply([InstallFlow(flow_of(simulation, places, in_port))])

    assert left(switch, frame, in_port) == expected(overlay, places, simulation)


@FAST
@given(data=st.data())
def test_flow_does_for_another_packet_what_simulation_would(
    data: st.DataObject,
) -> None:
    family, overlay = data.draw(worlds())
    entry, frame = data.draw(packets(family, overlay))
    switch, places = switch_for(overlay)
    in_port = places.ofport_by_vport.get(overlay.key(entry))
    if in_port is None:
        return
    simulation = settle(overlay, entry, frame)
    other = other_header(data, family, frame)
    if other is None or not is_settled(simulation):
        return

    switch.apply([InstallFlow(flow_of(simulation, places, in_port))])
    before = len(switch.send(other, in_port))
    if before and switch.send(other, in_port)[0].kind == "controller":
        return

    again = overlay.send(entry, other)
    if again.outcome == Drop(Reason.MARTIAN):
        assert left(switch, other, in_port) == []
        return
    assert type(again.outcome) is type(simulation.outcome)
    assert left(switch, other, in_port) == expected(overlay, places, again)


def value_of(simulation: Simulation) -> Any:
    """Everything that a flow repeats."""
    before, after = simulation.packet.headers, simulation.headers
    names = [one.name for one in fields(Headers)]
    changed = {
        name: getattr(after, name)
        for name in names
        if getattr(after, name) != getattr(before, name)
        and name not in ("eth_src", "ip_ttl")
    }
    outcome = simulation.outcome
    where = set(outcome.vports) if isinstance(outcome, Flood) else outcome
    return where, changed, simulation.hops


HEADER_OF = {
    field.ETH_DST: "eth_dst",
    field.ETH_SRC: "eth_src",
    field.IP_SRC: "ip_src",
    field.IP_DST: "ip_dst",
    field.L4_SRC: "l4_src",
    field.L4_DST: "l4_dst",
    field.IP_TOS: "ip_tos",
}


@FAST
@given(data=st.data())
def test_field_that_was_not_read_does_not_matter(data: st.DataObject) -> None:
    family, overlay = data.draw(worlds())
    entry, frame = data.draw(packets(family, overlay))
    simulation = settle(overlay, entry, frame)
    if not is_settled(simulation):
        return
    packet = simulation.packet
    headers = packet.headers.copy()
    unread = [bit for bit in HEADER_OF if not simulation.fields & bit]
    for bit in data.draw(st.sets(st.sampled_from(unread), min_size=1)):
        name = HEADER_OF[bit]
        setattr(headers, name, data.draw(_values(family, name, packet)))
    other = rewrite(packet, headers)

    again = overlay.send(entry, other)

    assert value_of(again) == value_of(simulation)


def _values(family: Family, name: str, packet: Any) -> Any:
    is_ip = packet.eth_type in (0x0800, 0x86DD)
    if name.startswith("eth"):
        macs = ["02:cc:00:00:00:01", "02:00:00:00:00:03", "02:dd:00:00:00:05"]
        return st.sampled_from([parse_mac(mac) for mac in macs])
    if name.startswith("ip_") and name != "ip_tos" and is_ip:
        addresses = [family.ip(1, 11), family.ip(2, 12), family.outside]
        return st.sampled_from([parse_ip(address) for address in addresses])
    if name.startswith("l4") and is_ip and packet.ip_proto in (6, 17) and packet.l4:
        return st.sampled_from([80, 85, 1000, 53])
    if name == "ip_tos" and is_ip:
        return st.sampled_from([0, 4, 0xB8])
    return st.just(getattr(packet.headers, name))


@pytest.mark.parametrize("kind", ["Forward", "Flood", "Drop"])
def test_random_worlds_reach_every_kind_of_flow(kind: str) -> None:
    seen_kinds: set[str] = set()

    @FAST
    @given(data=st.data())
    def collect(data: st.DataObject) -> None:
        family, overlay = data.draw(worlds())
        entry, frame = data.draw(packets(family, overlay))
        simulation = settle(overlay, entry, frame)
        if is_settled(simulation):
            moved = isinstance(simulation.outcome, Forward) and simulation.hops > 0
            seen_kinds.add("routed" if moved else "")
            seen_kinds.add(type(simulation.outcome).__name__)

    collect()
    assert {kind, "routed"} <= seen_kinds
