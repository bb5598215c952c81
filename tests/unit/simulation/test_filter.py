# SPDX-License-Identifier: Apache-2.0
"""What chains let through, and how little they read for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midoryu.packet import field
from midoryu.packet.address import Prefix, parse_ip, parse_prefix
from midoryu.simulation.filter import MAX_DEPTH
from midoryu.simulation.outcome import (
    Consumed,
    Drop,
    Flood,
    Forward,
    Outcome,
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
from midoryu.topology.tag import chain_tag
from tests.helpers import frames
from tests.helpers.builder import Builder
from tests.helpers.worlds import FAMILIES, V4, Family, Overlay, two_networks

ACCEPT, DROP = RuleAction.ACCEPT, RuleAction.DROP
FILTERED = Drop(Reason.FILTERED)
MAC = "02:00:00:00:00:0{}"


def guarded(
    *rules: Rule, accept: bool = False, family: Family = V4, **chains: tuple[Rule, ...]
) -> Builder:
    """Two VMs on a switch; the chain filters what reaches vm3."""
    b = two_networks(family)
    b.chain("main", *rules, accept=accept)
    for name, more in chains.items():
        b.chain(name, *more)
    row = b.vport("a/vm3", host="node1", mac=MAC.format(3), ip=family.ip(1, 13))
    b.put(replace(row, egress_chain="main"))
    return b


def to_vm3(make: Any, *args: Any, family: Family = V4, **fields: Any) -> bytes:
    fields.setdefault("src", family.ip(1, 11))
    fields.setdefault("dst", family.ip(1, 13))
    return bytes(make(*args, eth_src=MAC.format(1), eth_dst=MAC.format(3), **fields))


def from_vm3(make: Any, family: Family = V4, **fields: Any) -> bytes:
    ips = {"src": family.ip(1, 13), "dst": family.ip(1, 11)}
    return bytes(make(eth_src=MAC.format(3), eth_dst=MAC.format(1), **ips, **fields))


def later_fragment(proto: int) -> bytes:
    ip = frames.IP(src=V4.ip(1, 11), dst=V4.ip(1, 13), proto=proto, frag=9)
    body = ip / frames.Raw(b"x" * 64)
    return frames.ethernet(body, eth_src=MAC.format(1), eth_dst=MAC.format(3))


def outcome_of(rule: Rule, frame: bytes, family: Family = V4) -> Outcome:
    return Overlay(guarded(rule, family=family)).send("a/vm1", frame).outcome


def passes(rule: Rule, frame: bytes, family: Family = V4) -> bool:
    """Tell whether an accepting rule, in front of a drop, holds."""
    outcome = outcome_of(replace(rule, action=ACCEPT), frame, family)
    assert isinstance(outcome, Forward) or outcome == FILTERED
    return isinstance(outcome, Forward)


def rule(**conditions: Any) -> Rule:
    for name in ("source", "destination"):
        if name in conditions:
            texts = conditions[name].split()
            conditions[name] = tuple(parse_prefix(text) for text in texts)
    return Rule(ACCEPT, **conditions)


TCP_80 = to_vm3(frames.tcp, dport=80)
UDP_53 = to_vm3(frames.udp, dport=53)
PING = to_vm3(frames.icmp_echo)


# Chains.


def test_first_rule_that_holds_decides() -> None:
    overlay = Overlay(guarded(Rule(DROP, ip_proto=6), Rule(ACCEPT)))

    assert overlay.send("a/vm1", TCP_80).outcome == FILTERED
    assert isinstance(overlay.send("a/vm1", UDP_53).outcome, Forward)


@pytest.mark.parametrize("accept", [True, False])
def test_policy_decides_what_no_rule_did(*, accept: bool) -> None:
    simulation = Overlay(guarded(accept=accept)).send("a/vm1", TCP_80)

    assert isinstance(simulation.outcome, Forward) is accept


def test_jump_comes_back_when_nothing_decided() -> None:
    b = guarded(
        Rule(RuleAction.JUMP, jump="sub"),
        Rule(ACCEPT, ip_proto=17),
        sub=(Rule(ACCEPT, ip_proto=6),),
    )
    overlay = Overlay(b)

    assert isinstance(overlay.send("a/vm1", TCP_80).outcome, Forward)
    assert isinstance(overlay.send("a/vm1", UDP_53).outcome, Forward)
    assert overlay.send("a/vm1", PING).outcome == FILTERED


def test_policy_of_a_chain_jumped_to_does_not_count() -> None:
    b = guarded(Rule(RuleAction.JUMP, jump="sub"), Rule(ACCEPT))
    b.chain("sub", accept=False)

    assert isinstance(Overlay(b).send("a/vm1", TCP_80).outcome, Forward)


def test_return_leaves_a_chain_early() -> None:
    b = guarded(
        Rule(RuleAction.JUMP, jump="sub"),
        Rule(ACCEPT),
        sub=(Rule(RuleAction.RETURN, ip_proto=6), Rule(DROP)),
    )
    overlay = Overlay(b)

    assert isinstance(overlay.send("a/vm1", TCP_80).outcome, Forward)
    assert overlay.send("a/vm1", UDP_53).outcome == FILTERED


def test_return_from_the_first_chain_leaves_it_to_the_policy() -> None:
    b = guarded(Rule(RuleAction.RETURN), Rule(ACCEPT))

    assert Overlay(b).send("a/vm1", TCP_80).outcome == FILTERED


def test_chain_that_jumps_to_itself_ends() -> None:
    b = guarded(Rule(RuleAction.JUMP, jump="main"), Rule(ACCEPT))

    assert MAX_DEPTH < 100
    assert isinstance(Overlay(b).send("a/vm1", TCP_80).outcome, Forward)


def test_chain_jumped_to_is_among_the_tags() -> None:
    b = guarded(Rule(RuleAction.JUMP, jump="sub"), sub=(Rule(ACCEPT),))

    assert chain_tag("sub") in Overlay(b).send("a/vm1", TCP_80).tags


def test_missing_chain_lets_through_and_is_tagged() -> None:
    b = two_networks(V4)
    row = b.vport("a/vm3", host="node1", mac=MAC.format(3), ip=V4.ip(1, 13))
    b.put(replace(row, egress_chain="later"))

    simulation = Overlay(b).send("a/vm1", TCP_80)

    assert isinstance(simulation.outcome, Forward)
    assert chain_tag("later") in simulation.tags


@pytest.mark.parametrize("place", ["network", "vport", "router", "router vport"])
@pytest.mark.parametrize("way", ["ingress", "egress"])
def test_every_place_of_a_chain_counts(place: str, way: str) -> None:
    b = two_networks(V4)
    b.chain("nothing", accept=False)
    named: dict[str, Any] = {f"{way}_chain": "nothing"}
    overlay = Overlay(b)
    router = overlay.vport("r/a" if way == "ingress" else "r/b")
    vm = overlay.vport("a/vm1" if way == "ingress" else "b/vm2")
    row = {
        "network": model.Network(b.key("a"), "a", **named),
        "vport": replace(vm, **named),
        "router": model.Router(b.key("r"), "r", **named),
        "router vport": replace(router, **named),
    }[place]
    overlay.change(row)
    frame = frames.udp(
        V4.ip(1, 11), V4.ip(2, 12), eth_src=MAC.format(1), eth_dst=overlay.mac("r/a")
    )

    assert overlay.send("a/vm1", frame).outcome == FILTERED


def test_reject_at_a_router_is_told() -> None:
    b = two_networks(V4)
    b.chain("no", Rule(RuleAction.REJECT))
    b.router("r", ingress_chain="no")
    overlay = Overlay(b)
    fields: dict[str, Any] = {"eth_src": MAC.format(1), "eth_dst": overlay.mac("r/a")}
    ips = V4.ip(1, 11), V4.ip(2, 12)

    told = overlay.send("a/vm1", frames.udp(*ips, **fields))
    reset = overlay.send("a/vm1", frames.tcp(*ips, **fields))

    assert told.outcome == reset.outcome == Consumed(Reason.REJECTED)
    error = overlay.said(told)[1]["ICMP"]
    assert (error.type, error.code) == (3, 13)
    segment = overlay.said(reset)[1]["TCP"]
    assert str(segment.flags) == "RA"


# Connection state.


def stateful(*rules: Rule) -> Overlay:
    accepted = CT_ESTABLISHED | CT_RELATED
    return Overlay(guarded(Rule(ACCEPT, ct_states=accepted), *rules))


@FAMILIES
@pytest.mark.parametrize("make", [frames.tcp, frames.udp], ids=["TCP", "UDP"])
def test_answer_comes_back_through_a_stateful_chain(family: Family, make: Any) -> None:
    b = guarded(
        Rule(ACCEPT, ct_states=CT_ESTABLISHED),
        Rule(ACCEPT, ct_states=CT_NEW, ip_proto=6),
        Rule(ACCEPT, ct_states=CT_NEW, ip_proto=17),
        family=family,
    )
    row = b.vport("a/vm1", host="node1", mac=MAC.format(1), ip=family.ip(1, 11))
    closed = b.chain("closed", Rule(ACCEPT, ct_states=CT_ESTABLISHED), accept=False)
    b.put(replace(row, egress_chain=closed))
    overlay = Overlay(b)
    more = {"flags": "SA"} if make is frames.tcp else {}
    back = from_vm3(make, family, sport=80, dport=1000, **more)
    assert overlay.send("a/vm3", back).outcome == FILTERED

    overlay.carry("a/vm1", to_vm3(make, family=family, dport=80))

    assert overlay.names(overlay.send("a/vm3", back)) == ("a/vm1",)


def test_echo_reply_is_established_without_its_identifier() -> None:
    b = guarded(Rule(ACCEPT))
    closed = b.chain("closed", Rule(ACCEPT, ct_states=CT_ESTABLISHED), accept=False)
    row = b.vport("a/vm1", host="node1", mac=MAC.format(1), ip=V4.ip(1, 11))
    b.put(replace(row, egress_chain=closed, ingress_chain=closed))
    both = b.chain("both", Rule(ACCEPT, ct_states=CT_NEW | CT_ESTABLISHED))
    b.put(replace(row, egress_chain=closed, ingress_chain=both))
    overlay = Overlay(b)
    reply = from_vm3(frames.icmp_echo, reply=True)
    assert overlay.send("a/vm3", reply).outcome == FILTERED

    sent = overlay.carry("a/vm1", PING)

    assert not sent.fields & field.UNMATCHABLE
    assert overlay.names(overlay.send("a/vm3", reply)) == ("a/vm1",)


def ct_of(flags: str) -> set[str]:
    """Which states a first TCP packet with some flags is in."""
    frame = to_vm3(frames.tcp, flags=flags)
    states = {"new": CT_NEW, "established": CT_ESTABLISHED, "invalid": CT_INVALID}
    return {
        name for name, state in states.items() if passes(rule(ct_states=state), frame)
    }


@pytest.mark.parametrize(
    ("flags", "state"),
    [("S", "new"), ("A", "new"), ("SA", "invalid"), ("R", "invalid"), ("", "invalid")],
)
def test_state_of_tcp_without_a_record(flags: str, state: str) -> None:
    assert ct_of(flags) == {state}


def test_lone_echo_reply_is_invalid() -> None:
    frame = to_vm3(frames.icmp_echo, reply=True)

    assert passes(rule(ct_states=CT_INVALID), frame)
    assert not passes(rule(ct_states=CT_NEW), frame)


@FAMILIES
def test_error_about_a_tracked_connection_is_related(family: Family) -> None:
    b = two_networks(family)
    chains: dict[str, Any] = {
        "ingress_chain": b.chain("out", Rule(ACCEPT, ct_states=CT_NEW), accept=True),
        "egress_chain": b.chain("in", Rule(ACCEPT, ct_states=CT_RELATED), accept=False),
    }
    row = b.vport("a/vm1", host="node1", mac=MAC.format(1), ip=family.ip(1, 11))
    b.put(replace(row, **chains))
    overlay = Overlay(b)
    sent = to_vm3(frames.udp, family=family)
    error = frames.icmp_error(
        sent[14:],
        family.ip(1, 13),
        family.ip(1, 11),
        kind=1 if family.is_v6 else 3,
        code=4 if family.is_v6 else 3,
        eth_src=MAC.format(3),
        eth_dst=MAC.format(1),
    )
    assert overlay.send("a/vm3", error).outcome == FILTERED

    overlay.carry("a/vm1", sent)

    assert overlay.names(overlay.send("a/vm3", error)) == ("a/vm1",)


@pytest.mark.parametrize(
    "rules",
    [
        (Rule(ACCEPT, ip_proto=6), Rule(DROP, ct_states=CT_INVALID)),
        (Rule(ACCEPT, ct_states=CT_NEW),),
        (Rule(DROP, ct_states=CT_INVALID), Rule(ACCEPT)),
    ],
    ids=["stateless rule first", "stateful rule", "rule behind a stateful one"],
)
def test_stateful_chain_tracks_whichever_rule_accepted(rules: tuple[Rule, ...]) -> None:
    simulation = Overlay(guarded(*rules)).send("a/vm1", TCP_80)

    assert isinstance(simulation.outcome, Forward)
    assert simulation.connection is not None


def test_stateful_chain_behind_a_jump_tracks() -> None:
    b = guarded(
        Rule(ACCEPT, ip_proto=6),
        Rule(RuleAction.JUMP, jump="sub"),
        sub=(Rule(ACCEPT, ct_states=CT_NEW),),
    )

    assert Overlay(b).send("a/vm1", TCP_80).connection is not None


def test_stateless_chain_tracks_nothing() -> None:
    simulation = Overlay(guarded(Rule(ACCEPT, ip_proto=6))).send("a/vm1", TCP_80)

    assert simulation.connection is None
    assert not simulation.fields & field.L4


def test_dropped_packet_makes_no_record() -> None:
    overlay = stateful(Rule(DROP))

    assert overlay.send("a/vm1", TCP_80).connection is None


def test_record_that_ended_is_forgotten_by_the_chain() -> None:
    overlay = stateful(Rule(ACCEPT, ct_states=CT_NEW, destination_ports=((80, 80),)))
    made = overlay.carry("a/vm1", TCP_80)
    reset = to_vm3(frames.tcp, dport=80, flags="R")
    assert isinstance(overlay.send("a/vm1", reset).outcome, Forward)
    assert made.connection is not None

    overlay.connections.remove(1)

    assert overlay.send("a/vm1", reset).outcome == FILTERED


def test_flow_of_a_dropped_opening_does_not_stand_for_other_flags() -> None:
    overlay = Overlay(
        guarded(Rule(DROP, ct_states=CT_NEW), Rule(ACCEPT, ct_states=CT_INVALID))
    )
    opening = overlay.send("a/vm1", TCP_80)
    other = overlay.send("a/vm1", to_vm3(frames.tcp, dport=80, flags="SA"))

    assert opening.outcome == FILTERED
    assert isinstance(other.outcome, Forward)
    assert opening.fields & other.fields & field.TCP_FLAGS


# ARP and neighbour discovery.


@pytest.mark.parametrize("place", ["ingress_chain", "egress_chain"])
@FAMILIES
def test_neighbour_talk_passes_a_chain_that_drops_all(
    family: Family, place: str
) -> None:
    overlay = Overlay(_all_closed(family, place))

    simulation = overlay.send("a/vm1", _question(family))

    assert isinstance(simulation.outcome, Flood)
    assert overlay.names(simulation) == ("a/vm3",)


def _all_closed(family: Family, place: str, *rules: Rule) -> Builder:
    b = two_networks(family)
    b.chain("closed", *rules, Rule(DROP), accept=False)
    for number in (1, 3):
        ip = family.ip(1, 10 + number)
        row = b.vport(f"a/vm{number}", host="node1", mac=MAC.format(number), ip=ip)
        closed: dict[str, Any] = {place: "closed"}
        b.put(replace(row, **closed))
    return b


def _question(family: Family) -> bytes:
    ips = family.ip(1, 11), family.ip(1, 77)
    if family.is_v6:
        return frames.neighbor_solicitation(*ips, eth_src=MAC.format(1))
    return frames.arp(*ips, eth_src=MAC.format(1))


@FAMILIES
def test_rule_that_names_neighbour_talk_drops_it(family: Family) -> None:
    named = (
        Rule(DROP, ip_proto=58, icmp_type=135)
        if family.is_v6
        else Rule(DROP, eth_type=0x0806)
    )
    overlay = Overlay(_all_closed(family, "ingress_chain", named))

    assert overlay.send("a/vm1", _question(family)).outcome == FILTERED


# How little is read.


def read(*rules: Rule, frame: bytes = TCP_80, accept: bool = False) -> set[str]:
    """Name the layer 3 and 4 fields that a simulation read."""
    overlay = Overlay(guarded(*rules, accept=accept))
    simulation: Simulation = overlay.send("a/vm1", frame)
    l2 = {"in_port", "eth_dst", "eth_src", "eth_type", "vlan"}
    return set(field.names(simulation.fields)) - l2


@pytest.mark.parametrize(
    ("rules", "fields"),
    [
        ((rule(),), set()),
        ((rule(ip_proto=6),), {"ip_proto"}),
        ((rule(ip_proto=17, source="10.0.0.0/8"),), {"ip_proto"}),
        ((rule(source="10.0.0.0/8"),), {"ip_src"}),
        ((rule(source="11.0.0.0/8", destination="10.0.0.0/8"),), {"ip_src"}),
        ((rule(ip_proto=6), rule(source="10.0.0.0/8")), {"ip_proto"}),
        ((rule(ip_proto=17), rule(source="10.0.0.0/8")), {"ip_proto", "ip_src"}),
        ((rule(eth_type=0x86DD, ip_proto=6), rule()), set()),
        (
            (rule(source_ports=((5, 5),), destination_ports=((80, 80),)),),
            {"ip_proto", "l4_src", "ip_frag"},
        ),
        (
            (rule(destination_ports=((80, 80),)),),
            {"ip_proto", "l4_dst", "ip_frag"},
        ),
        ((rule(ip_proto=1, icmp_type=8),), {"ip_proto"}),
    ],
)
def test_reading_stops_at_the_first_condition_that_fails(
    rules: tuple[Rule, ...], fields: set[str]
) -> None:
    assert read(*rules) == fields


def test_stateful_chain_reads_the_five_tuple_and_no_flags_of_an_opening() -> None:
    fields = read(rule(ct_states=CT_NEW))

    five = {"ip_proto", "ip_src", "ip_dst", "l4_src", "l4_dst"}
    assert five <= fields <= five | {"ip_frag"}


# Long chains are asked through an index: the same answers.

_PORTS = st.sampled_from([(), ((80, 80),), ((1, 1023),), ((5, 5), (79, 81))])
_PREFIXES = st.sampled_from(["", "10.0.0.0/8", "10.0.1.11/32", "0.0.0.0/0", "::/0"])


@st.composite
def some_rule(draw: st.DrawFn) -> Rule:
    made = Rule(
        action=draw(st.sampled_from([ACCEPT, DROP, RuleAction.RETURN])),
        ct_states=draw(st.sampled_from([0, 0, CT_NEW, CT_ESTABLISHED, CT_INVALID])),
        eth_type=draw(st.sampled_from([0, 0, 0x0800, 0x86DD])),
        ip_proto=draw(st.sampled_from([0, 0, 6, 17, 1])),
        source_ports=draw(_PORTS),
        not_source_ports=draw(st.booleans()),
        destination_ports=draw(_PORTS),
        not_destination_ports=draw(st.booleans()),
        source_group=draw(st.sampled_from(["", "", "", "some"])),
        icmp_type=draw(st.sampled_from([-1, -1, -1, 8])),
    )
    source, destination = draw(_PREFIXES), draw(_PREFIXES)
    return replace(
        made,
        source=(parse_prefix(source),) if source else (),
        not_source=draw(st.booleans()),
        destination=(parse_prefix(destination),) if destination else (),
        not_destination=draw(st.booleans()),
        jump="more" if draw(st.integers(0, 5)) == 0 else "",
    )


def _jumping(one: Rule) -> Rule:
    return replace(one, action=RuleAction.JUMP) if one.jump else one


_FRAMES = (
    TCP_80,
    to_vm3(frames.tcp, sport=5, dport=2000, flags="A"),
    to_vm3(frames.udp, dport=80),
    to_vm3(frames.icmp_echo),
    later_fragment(6),
)


@settings(max_examples=150, deadline=None)
@given(
    rules=st.lists(some_rule(), min_size=1, max_size=6),
    frame=st.sampled_from(_FRAMES),
)
def test_long_chain_says_and_reads_what_a_short_one_does(
    rules: list[Rule], frame: bytes
) -> None:
    decided = (*map(_jumping, rules), Rule(DROP))
    never_reached = (rule(ip_proto=6, destination_ports=((80, 80),)),) * 8
    found = []
    for chain in (decided, (*decided, *never_reached)):
        b = guarded(*chain, more=(rule(source="10.0.1.0/24", ct_states=CT_NEW),))
        b.put(
            model.AddressGroup("some", "some", frozenset((parse_prefix("10.0.1.11"),)))
        )
        simulation = Overlay(b).send("a/vm1", frame)
        found.append((simulation.outcome, simulation.fields, simulation.tags))

    assert found[0] == found[1]


# Refusals that are told, wherever the chain is.


def rejecting(place: str, family: Family) -> Overlay:
    """Network a whose chain at one place rejects all but what is established."""
    b = two_networks(family)
    key = b.chain("no", Rule(RuleAction.REJECT))
    if place in ("ingress", "egress"):
        b.network("a", **{f"{place}_chain": key})
    vm = "1" if place == "vport ingress" else "3"
    fields: Any = {
        "vport ingress": {"ingress_chain": key},
        "vport egress": {"egress_chain": key},
    }.get(place, {})
    b.vport(
        f"a/vm{vm}",
        host="node1",
        mac=f"02:00:00:00:00:0{vm}",
        ip=family.ip(1, 10 + int(vm)),
        **fields,
    )
    return Overlay(b)


PLACES = ["vport ingress", "ingress", "egress", "vport egress"]


@FAMILIES
@pytest.mark.parametrize("place", PLACES)
def test_network_resets_tcp_in_the_name_of_the_destination(
    place: str, family: Family
) -> None:
    overlay = rejecting(place, family)
    macs: Any = {"eth_src": "02:00:00:00:00:01", "eth_dst": "02:00:00:00:00:03"}
    frame = frames.tcp(family.ip(1, 11), family.ip(1, 13), 1000, 80, seq=7, **macs)

    simulation = overlay.send("a/vm1", frame)

    assert simulation.outcome == Consumed(Reason.REJECTED)
    where, answer = overlay.said(simulation)
    assert where == ("a/vm1",)
    assert (answer.src, answer.dst) == (macs["eth_dst"], macs["eth_src"])
    inner = answer.payload
    assert (inner.src, inner.dst) == (family.ip(1, 13), family.ip(1, 11))
    assert (inner.payload.sport, inner.payload.dport) == (80, 1000)
    assert (str(inner.payload.flags), inner.payload.ack) == ("RA", 8)


@FAMILIES
@pytest.mark.parametrize("place", PLACES)
def test_network_rejects_in_the_name_of_the_destination(
    place: str, family: Family
) -> None:
    overlay = rejecting(place, family)
    macs: Any = {"eth_src": "02:00:00:00:00:01", "eth_dst": "02:00:00:00:00:03"}
    frame = frames.udp(family.ip(1, 11), family.ip(1, 13), 1000, 53, **macs)

    where, answer = overlay.said(overlay.send("a/vm1", frame))

    assert where == ("a/vm1",)
    inner = answer.payload
    assert (inner.src, inner.dst) == (family.ip(1, 13), family.ip(1, 11))
    code = (1, 1) if family.is_v6 else (3, 13)
    assert (inner.payload.type, inner.payload.code) == code
    quoted = frame[14:]
    assert bytes(inner.payload)[8:] == quoted


def test_refusal_behind_a_router_finds_its_way_back() -> None:
    b = two_networks(V4)
    key = b.chain("no", Rule(RuleAction.REJECT))
    ip = V4.ip(2, 12)
    b.vport("b/vm2", host="node2", mac="02:00:00:00:00:02", ip=ip, egress_chain=key)
    overlay = Overlay(b)
    frame = frames.tcp(V4.ip(1, 11), ip, 1000, 80, eth_dst=overlay.mac("r/a"))

    where, answer = overlay.said(overlay.send("a/vm1", frame))

    assert where == ("a/vm1",)
    assert (answer.payload.src, answer.payload.dst) == (ip, V4.ip(1, 11))
    assert answer.payload.payload.flags == "RA"


def test_refused_broadcast_reset_and_error_stay_unanswered() -> None:
    overlay = rejecting("vport ingress", V4)
    quoted = frames.tcp(V4.ip(1, 13), V4.ip(1, 11))[14:]
    link: Any = {"eth_src": "02:00:00:00:00:01", "eth_dst": "02:00:00:00:00:03"}
    everybody: Any = {**link, "eth_dst": "ff:ff:ff:ff:ff:ff"}
    for frame in (
        frames.tcp(V4.ip(1, 11), V4.ip(1, 13), flags="R", **link),
        frames.udp(V4.ip(1, 11), "10.0.1.255", **everybody),
        frames.icmp_error(quoted, V4.ip(1, 11), V4.ip(1, 13), **link),
    ):
        simulation = overlay.send("a/vm1", frame)
        assert simulation.outcome == Drop(Reason.REJECTED)
        assert simulation.emissions == []


# Stateless rules.


def both_ways(*out: Rule, into: tuple[Rule, ...] = ()) -> Overlay:
    """vm1 with a chain for each way, both of which end with a stateful rule."""
    b = two_networks(V4)
    stateful = Rule(ACCEPT, ct_states=CT_NEW | CT_ESTABLISHED)
    b.chain("out", *out, stateful, accept=False)
    b.chain("in", *into, stateful, accept=False)
    b.vport(
        "a/vm1",
        host="node1",
        mac="02:00:00:00:00:01",
        ip=V4.ip(1, 11),
        ingress_chain="out",
        egress_chain="in",
    )
    return Overlay(b)


WEB_OUT = Rule(ACCEPT, ip_proto=6, destination_ports=((80, 80),), stateless=True)
WEB_IN = Rule(ACCEPT, ip_proto=6, source_ports=((80, 80),), stateless=True)


def test_stateless_rules_both_ways_make_no_record() -> None:
    overlay = both_ways(WEB_OUT, into=(WEB_IN,))

    simulation = overlay.carry("a/vm1", to_vm3(frames.tcp, dport=80))

    assert isinstance(simulation.outcome, Forward)
    assert simulation.connection is None
    back = frames.tcp(
        V4.ip(1, 13),
        V4.ip(1, 11),
        80,
        1000,
        flags="SA",
        eth_src="02:00:00:00:00:03",
        eth_dst="02:00:00:00:00:01",
    )
    answer = overlay.carry("a/vm3", back)
    assert isinstance(answer.outcome, Forward)
    assert answer.connection is None


def test_packet_beside_the_stateless_rule_is_tracked() -> None:
    overlay = both_ways(WEB_OUT, into=(WEB_IN,))

    assert overlay.send("a/vm1", to_vm3(frames.tcp, dport=81)).connection is not None


def test_later_stateful_rule_beats_no_earlier_stateless_one() -> None:
    refused = Rule(DROP, ct_states=CT_INVALID)
    overlay = both_ways(refused, WEB_OUT, into=(WEB_IN,))

    assert overlay.send("a/vm1", to_vm3(frames.tcp, dport=80)).connection is None


# Rules that change under a live connection.

ESTABLISHED = Rule(ACCEPT, ct_states=CT_ESTABLISHED)
TCP_ONLY = Rule(ACCEPT, ip_proto=6)
UDP_ONLY = Rule(ACCEPT, ip_proto=17)


def let_in(*rules: Rule, **chain: Any) -> Overlay:
    """vm3 that lets in what its chain says, and out everything, statefully."""
    b = two_networks(V4)
    b.put(model.Chain("in", "in", (ESTABLISHED, *rules), accept=False, **chain))
    b.put(model.Chain("out", "out", (ESTABLISHED, Rule(ACCEPT))))
    b.vport(
        "a/vm3",
        host="node1",
        mac="02:00:00:00:00:03",
        ip=V4.ip(1, 13),
        ingress_chain="out",
        egress_chain="in",
    )
    overlay = Overlay(b)
    assert overlay.carry("a/vm1", to_vm3(frames.tcp)).connection is not None
    return overlay


def answer_of_vm3(**fields: Any) -> bytes:
    return frames.tcp(
        V4.ip(1, 13),
        V4.ip(1, 11),
        fields.pop("sport", 80),
        fields.pop("dport", 1000),
        flags="SA",
        eth_src="02:00:00:00:00:03",
        eth_dst="02:00:00:00:00:01",
    )


def later(overlay: Overlay) -> tuple[bool, bool]:
    """Tell whether the connection's packets pass, forward and return."""
    forward = overlay.send("a/vm1", to_vm3(frames.tcp, flags="A"))
    back = overlay.send("a/vm3", answer_of_vm3())
    return isinstance(forward.outcome, Forward), isinstance(back.outcome, Forward)


def test_connection_ends_with_the_rule_that_let_it_in() -> None:
    overlay = let_in(TCP_ONLY)
    assert later(overlay) == (True, True)

    overlay.change(model.Chain("in", "in", (ESTABLISHED, UDP_ONLY), accept=False))
    assert later(overlay) == (False, False)

    overlay.change(
        model.Chain("in", "in", (ESTABLISHED, UDP_ONLY, TCP_ONLY), accept=False)
    )
    assert later(overlay) == (True, True)


def test_chain_may_keep_what_it_has_let_in() -> None:
    overlay = let_in(TCP_ONLY, keep_live=True)

    overlay.change(
        model.Chain("in", "in", (ESTABLISHED,), accept=False, keep_live=True)
    )

    assert later(overlay) == (True, True)


def open_to_friends() -> Overlay:
    """Let only members of a port group, vm1 at first, call vm3."""
    b = two_networks(V4)
    b.put(model.PortGroup("friends", "friends", frozenset({b.key("a/vm1")})))
    friends = Rule(ACCEPT, source_group="friends")
    b.put(model.Chain("in", "in", (ESTABLISHED, friends), accept=False))
    b.vport(
        "a/vm3",
        host="node1",
        mac="02:00:00:00:00:03",
        ip=V4.ip(1, 13),
        egress_chain="in",
    )
    return Overlay(b)


def test_member_that_leaves_its_group_loses_its_connections() -> None:
    overlay = open_to_friends()
    made = overlay.carry("a/vm1", to_vm3(frames.tcp))
    assert made.connection is not None

    tags = overlay.change(model.PortGroup("friends", "friends", frozenset()))

    assert tags & made.tags
    assert later(overlay) == (False, False)


def test_vport_that_gets_another_chain_judges_anew() -> None:
    overlay = let_in(TCP_ONLY)
    strict = model.Chain("strict", "strict", (ESTABLISHED, UDP_ONLY), accept=False)

    overlay.change(strict, replace(overlay.vport("a/vm3"), egress_chain="strict"))

    assert later(overlay) == (False, False)


def test_rule_that_logs_tells_what_it_saw() -> None:
    overlay = Overlay(guarded(Rule(DROP, ip_proto=6, log="web")))

    (line,) = overlay.send("a/vm1", TCP_80).logs

    assert (line.name, line.chain, line.verdict) == ("web", "main", "drop")
    assert (line.ip_proto, line.source_port, line.destination_port) == (6, 1000, 80)


def test_stateless_rule_one_way_is_enough_to_be_untracked() -> None:
    overlay = both_ways(WEB_OUT)

    assert overlay.send("a/vm1", to_vm3(frames.tcp, dport=80)).connection is None


def test_member_that_changes_its_address_loses_its_connections() -> None:
    overlay = open_to_friends()
    assert overlay.carry("a/vm1", to_vm3(frames.tcp)).connection is not None

    other = (Prefix(parse_ip("10.0.1.99"), 128),)
    overlay.change(replace(overlay.vport("a/vm1"), addresses=other))

    assert later(overlay)[0] is False
