# SPDX-License-Identifier: Apache-2.0
"""Packets that are too large for the link behind a router, and clamped SYNs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from midoryu.packet import field
from midoryu.packet.address import parse_ip
from midoryu.packet.codec import decode
from midoryu.simulation.outcome import Consumed, Forward, Reason, Simulation
from midoryu.simulation.simulator import simulate
from midoryu.simulation.world import World
from midoryu.state.nat import NatTable
from midoryu.state.table import ConnectionTable
from midoryu.topology import model
from midoryu.translation.flows import frames_of
from tests.helpers import frames
from tests.helpers.builder import Builder
from tests.helpers.frames import ICMP, IP, TCP, Ether, IPv6, Raw

ADDRESS = {4: "10.0.1.11", 6: "fd00:1::11"}
FAR = {4: "10.0.2.12", 6: "fd00:2::12"}
VM, FAR_VM = "02:00:00:00:01:11", "02:00:00:00:01:12"


def world(mtu: int = 1400, mss_clamp: int = 0, near_mtu: int = 1500) -> Builder:
    b = Builder()
    b.host("h1", "172.31.0.1")
    b.host("h2", "172.31.0.2")
    b.network("wide", mtu=near_mtu)
    b.network("narrow", mtu=mtu)
    b.router("r")
    ends = (("wide/vm1", "h1", VM, ADDRESS), ("narrow/vm2", "h2", FAR_VM, FAR))
    for path, host, mac, ip in ends:
        b.vport(path, host=host, mac=mac, ip=ip.values())
    b.attach("r", "wide", ("10.0.1.1/24", "fd00:1::1/64"))
    b.attach("r", "narrow", ("10.0.2.1/24", "fd00:2::1/64"))
    if mss_clamp:
        vport = b.topology().vport(b.key("r/narrow"))
        assert vport is not None
        b.put(replace(vport, mss_clamp=mss_clamp))
    return b


def run(b: Builder, body: Any, assumed_mtu: int = 0) -> Simulation:
    router = f"02:aa:00:00:{b.key('r'):02x}:{b.key('wide'):02x}"
    packet = decode(bytes(Ether(src=VM, dst=router) / body))
    topology = b.topology()
    topology.assumed_mtu = assumed_mtu
    vport = topology.vport(b.key("wide/vm1"))
    assert vport is not None
    what = World(topology, ConnectionTable(), NatTable())
    return simulate(packet, vport, what, now=0.0)


def udp(family: int, size: int, **fields: Any) -> Any:
    """Make an IP packet of a size."""
    if family == 4:
        header = IP(src=ADDRESS[4], dst=FAR[4], proto=17, id=9, **fields)
        return header / Raw(bytes((0, 9, 0, 9)) + bytes(size - 24))
    v6_header = IPv6(src=ADDRESS[6], dst=FAR[6], nh=17)
    return v6_header / Raw(bytes((0, 9, 0, 9)) + bytes(size - 44))


@pytest.mark.parametrize("family", [4, 6])
def test_what_fits_passes_by_a_flow_that_checks_the_size(family: int) -> None:
    fields = {"flags": "DF"} if family == 4 else {}
    done = run(world(), udp(family, 1400, **fields))
    assert isinstance(done.outcome, Forward)
    assert done.limit == 1400
    assert not done.fields & field.UNMATCHABLE


def test_frag_needed_says_the_mtu_and_quotes_what_came_up_to_576_bytes() -> None:
    """RFC 1191, section 4; RFC 1812, section 4.3.2.3."""
    body = udp(4, 1401, flags="DF")
    done = run(world(), body)
    assert done.outcome == Consumed(Reason.TOO_BIG)
    (emission,) = done.emissions
    error = IP(emission.frame[14:])
    assert (error.src, error.dst, error.len) == ("10.0.1.1", ADDRESS[4], 576)
    assert (error[ICMP].type, error[ICMP].code) == (3, 4)
    assert error[ICMP].nexthopmtu == 1400
    assert emission.frame[14 + 28 :] == bytes(body)[: 576 - 28]
    assert frames.recomputed(emission.frame) == emission.frame


def test_packet_too_big_says_the_mtu_and_quotes_what_came_up_to_1280_bytes() -> None:
    """RFC 4443, sections 2.4(c) and 3.2."""
    body = udp(6, 1401)
    done = run(world(), body)
    assert done.outcome == Consumed(Reason.TOO_BIG)
    (emission,) = done.emissions
    error = emission.frame[14:]
    assert len(error) == 1280
    assert error[40:42] == bytes((2, 0))
    assert int.from_bytes(error[44:48], "big") == 1400
    assert error[48:] == bytes(body)[: 1280 - 48]


def test_ipv6_never_hears_of_less_than_1280_bytes() -> None:
    assert isinstance(run(world(mtu=600), udp(6, 1280)).outcome, Forward)
    done = run(world(mtu=600), udp(6, 1281))
    assert int.from_bytes(done.emissions[0].frame[58:62], "big") == 1280


def test_ipv4_without_df_is_split_where_it_leaves() -> None:
    done = run(world(), udp(4, 1500))
    assert isinstance(done.outcome, Forward)
    assert done.fields & field.PAYLOAD
    made = frames_of(done)
    assert [IP(one[14:]).len for one in made] == [1396, 124]
    assert {IP(one[14:]).id for one in made} == {9}
    assert {IP(one[14:]).ttl for one in made} == {63}


def test_a_link_that_is_as_wide_as_the_way_in_is_not_watched() -> None:
    done = run(world(mtu=1500), udp(4, 1500, flags="DF"))
    assert isinstance(done.outcome, Forward)
    assert done.limit == 0
    assert run(world(mtu=9000), udp(6, 1500)).limit == 0


@pytest.mark.parametrize(
    ("clamp", "option", "expected"),
    [
        (model.MSS_OF_MTU, 1460, 1360),
        (model.MSS_OF_MTU, 1000, 1000),
        (536, 1460, 536),
    ],
)
def test_the_mss_of_a_syn_is_clamped(clamp: int, option: int, expected: int) -> None:
    header = IP(src=ADDRESS[4], dst=FAR[4])
    syn = header / TCP(sport=1, dport=2, flags="S", options=[("MSS", option)])
    done = run(world(mss_clamp=clamp), syn)
    assert done.fields & field.PAYLOAD
    (frame,) = frames_of(done)
    assert dict(Ether(frame)[TCP].options)["MSS"] == expected
    assert frames.recomputed(frame) == frame


def test_segments_behind_the_syn_have_a_flow_that_tells_them_from_syns() -> None:
    header = IP(src=ADDRESS[4], dst=FAR[4])
    done = run(world(mss_clamp=536), header / TCP(sport=1, dport=2, flags="A"))
    assert done.fields & field.TCP_FLAGS
    assert not done.fields & field.UNMATCHABLE
    assert done.packet.headers.ip_dst == parse_ip(FAR[4])


def test_machines_that_may_not_know_the_mtu_are_told_where_that_is_assumed() -> None:
    b = world(mtu=1458, near_mtu=1458)
    assert isinstance(run(b, udp(4, 1500, flags="DF")).outcome, Forward)
    done = run(b, udp(4, 1500, flags="DF"), assumed_mtu=1500)
    assert done.outcome == Consumed(Reason.TOO_BIG)
    assert IP(done.emissions[0].frame[14:])[ICMP].nexthopmtu == 1458
