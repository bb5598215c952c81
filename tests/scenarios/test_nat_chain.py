# SPDX-License-Identifier: Apache-2.0
"""NATs in a row, in one pass, and turned round: two tenants behind a provider.

    vm1, vm2 -- web -- tenant --.
                                 >-- provider -- uplink -- outside
         vm3 -- shop -- store --'

Each tenant masquerades behind its end of the link to the provider, which masquerades
behind two addresses of its own. Floating addresses are of the tenants.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from midoryu.packet.address import parse_ip
from midoryu.simulation.outcome import Consumed, Drop, Forward, Reason
from midoryu.topology.model import CT_ESTABLISHED, Rule, RuleAction, Vport
from tests.helpers import frames
from tests.helpers.builder import Builder
from tests.helpers.frames import IP, IPv6
from tests.helpers.worlds import (
    FAMILIES,
    GATEWAY_MAC,
    Family,
    Overlay,
    neighbor,
    seen,
)

VMS: Final = {1: ("web", 1), 2: ("web", 1), 3: ("shop", 2)}


class Cloud:
    """The world of this file, in one family."""

    def __init__(self, family: Family) -> None:
        self.family = family
        b = Builder()
        b.host("node1", "172.31.0.1")
        for name in ("web", "shop"):
            b.network(name)
        for name in ("tenant", "store", "provider"):
            b.router(name)
        for number, (network, subnet) in VMS.items():
            b.vport(
                f"{network}/vm{number}",
                host="node1",
                mac=f"02:00:00:00:00:0{number}",
                ip=family.ip(subnet, 10 + number),
            )
        bits = family.bits
        b.attach("tenant", "web", f"{family.ip(1, 1)}/{bits}")
        b.attach("store", "shop", f"{family.ip(2, 1)}/{bits}")
        for router, net in (("tenant", 8), ("store", 9)):
            theirs = f"{family.ip(net, 1)}/{bits}"
            b.connect(router, f"{family.ip(net, 2)}/{bits}", "provider", theirs)
            b.route(router, family.default, via=family.ip(net, 1))
            source = family.subnet(1 if net == 8 else 2)
            b.masquerade(router, source, family.ip(net, 2), vport=f"{router}/provider")
            for block in range(60, 64):
                b.lease(router, family.ip(net, 2), block, "node1")
        uplink = f"{family.uplink}/{64 if family.is_v6 else 30}"
        b.vport("provider/up", host="node1", mac="02:cc:00:00:00:01", ip=uplink)
        b.route("provider", family.default, via=family.gateway)
        neighbor(b, "provider", family.gateway, GATEWAY_MAC)
        pool = tuple(sorted(parse_ip(self.nat(n)) for n in (10, 11)))
        for net in (8, 9):
            rule = b.masquerade(
                "provider", family.subnet(net), self.nat(10), vport="provider/up"
            )
            b.put(replace(rule, addresses=pool))
        for number in (10, 11):
            for block in range(60, 64):
                b.lease("provider", self.nat(number), block, "node1")
        one = "128" if family.is_v6 else "32"
        for number, net in ((31, 8), (32, 8), (33, 9)):
            b.route("provider", f"{self.nat(number)}/{one}", via=family.ip(net, 2))
        b.floating("tenant", self.nat(31), family.ip(1, 11))
        b.floating("tenant", self.nat(32), family.ip(1, 12))
        b.floating("store", self.nat(33), family.ip(2, 13))
        self.b = b

    def nat(self, number: int) -> str:
        return self.family.nat_ip(number)

    def without_floating(self) -> Cloud:
        """Leave out the floating addresses, so that all is masqueraded."""
        kept = [row for row in self.b.rows if type(row).__name__ != "FloatingIp"]
        self.b._rows = {(type(row), row.key): row for row in kept}
        return self

    def up(self) -> World:
        return World(self)


class World:
    """The cloud, running: frames in, frames out."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.family = cloud.family
        self.overlay = Overlay(cloud.b)

    def vm(self, number: int, dst: str, *, make: Any = frames.udp, **more: Any) -> Any:
        network, subnet = VMS[number]
        router = "tenant" if network == "web" else "store"
        more.setdefault("src", self.family.ip(subnet, 10 + number))
        link = {"eth_src": f"02:00:00:00:00:0{number}"}
        link["eth_dst"] = self.overlay.mac(f"{router}/{network}")
        frame = make(dst=dst, **link, **more)
        return self.overlay.carry(f"{network}/vm{number}", frame)

    def outside(self, dst: str, *, make: Any = frames.udp, **more: Any) -> Any:
        more.setdefault("src", self.family.outside)
        link = {"eth_src": GATEWAY_MAC, "eth_dst": self.overlay.mac("provider/up")}
        return self.overlay.carry("provider/up", make(dst=dst, **link, **more))

    def where(self, simulation: Any) -> str:
        assert isinstance(simulation.outcome, Forward), simulation.outcome
        (name,) = self.overlay.names(simulation)
        return name


def ends(simulation: Any) -> tuple[str, int, str, int]:
    body = seen(simulation).payload
    return body.src, body.payload.sport, body.dst, body.payload.dport


def echo_of(family: Family) -> Any:
    """Make echo requests with one identifier."""
    return frames.icmp6_echo if family.is_v6 else frames.icmp_echo


def as_sent(simulation: Any, hops: int) -> bytes:
    """Return what a VM sent, as it looked so many routers later, from its IP header."""
    frame = simulation.packet.frame
    if frame[12:14] == b"\x86\xdd":
        packet = IPv6(frame[14:])
        packet.hlim -= hops
        return bytes(packet)
    packet = IP(frame[14:])
    packet.ttl -= hops
    del packet.chksum
    return bytes(packet)


@FAMILIES
@pytest.mark.parametrize("make", [frames.udp, frames.tcp], ids=["UDP", "TCP"])
def test_masquerade_behind_masquerade(family: Family, make: Any) -> None:
    cloud = Cloud(family).without_floating()
    world = cloud.up()

    call = world.vm(1, family.outside, make=make, sport=4000, dport=53)

    assert world.where(call) == "provider/up"
    src, sport, dst, dport = ends(call)
    assert src in (cloud.nat(10), cloud.nat(11))
    assert (dst, dport) == (family.outside, 53)
    flags = {"flags": "SA"} if make is frames.tcp else {}
    back = world.outside(src, make=make, sport=53, dport=sport, **flags)
    assert world.where(back) == "web/vm1"
    assert ends(back) == (family.outside, 53, family.ip(1, 11), 4000)


@FAMILIES
def test_hosts_behind_two_masquerades_are_told_apart(family: Family) -> None:
    world = Cloud(family).without_floating().up()

    calls = [world.vm(n, family.outside, sport=4000, dport=53) for n in (1, 2, 3)]

    assert len({ends(call)[:2] for call in calls}) == 3
    for number, call in zip((1, 2, 3), calls):
        src, sport, _, _ = ends(call)
        back = world.outside(src, sport=53, dport=sport)
        assert world.where(back) == f"{VMS[number][0]}/vm{number}"
        assert ends(back)[3] == 4000


@FAMILIES
def test_pool_is_paired(family: Family) -> None:
    world = Cloud(family).without_floating().up()
    addresses = {
        ends(world.vm(1, family.outside, sport=4000 + n, dport=53))[0]
        for n in range(12)
    }

    assert len(addresses) == 1


@FAMILIES
@pytest.mark.parametrize("code", [0, 1, 3])
def test_error_comes_back_through_both_masquerades_byte_for_byte(
    family: Family, code: int
) -> None:
    world = Cloud(family).without_floating().up()
    call = world.vm(1, family.outside, sport=4000, dport=53, payload=b"question")
    out = seen(call)
    hop = "2001:db8:5::5" if family.is_v6 else "198.51.100.1"
    kind = 1 if family.is_v6 else 3

    back = world.outside(
        out.payload.src,
        make=lambda **f: frames.icmp_error(
            bytes(out.payload), f.pop("src"), kind=kind, code=code, **f
        ),
        src=hop,
    )

    assert world.where(back) == "web/vm1"
    error = seen(back).payload
    assert (error.src, error.dst) == (hop, family.ip(1, 11))
    assert (error.payload.type, error.payload.code) == (kind, code)
    assert bytes(error.payload)[8:] == as_sent(call, 2)


@FAMILIES
def test_route_trace_through_two_masquerades_shows_each_hop(family: Family) -> None:
    world = Cloud(family).without_floating().up()
    said = []
    for ttl in (1, 2):
        probe = world.vm(1, family.outside, sport=4000, dport=33434, ttl=ttl)
        assert probe.outcome == Consumed(Reason.TTL_EXCEEDED)
        where, answer = world.overlay.said(probe)
        assert where == ("web/vm1",)
        assert answer.payload.dst == family.ip(1, 11)
        said.append(answer.payload.src)
        assert bytes(answer.payload.payload)[8:] == as_sent(probe, ttl - 1)

    assert said == [family.ip(1, 1), family.ip(8, 1)]
    assert world.where(world.vm(1, family.outside, ttl=3)) == "provider/up"


@FAMILIES
def test_pings_of_one_identifier_trace_the_whole_way(family: Family) -> None:
    world = Cloud(family).without_floating().up()
    said = []
    for ttl in (1, 2):
        probe = world.vm(1, family.outside, make=echo_of(family), ttl=ttl)
        where, answer = world.overlay.said(probe)
        assert where == ("web/vm1",)
        said.append(answer.payload.src)

    call = world.vm(1, family.outside, make=echo_of(family), ttl=3)

    assert said == [family.ip(1, 1), family.ip(8, 1)]
    assert world.where(call) == "provider/up"
    assert seen(call).payload.src in (world.cloud.nat(10), world.cloud.nat(11))


@FAMILIES
def test_a_packet_that_ran_out_of_time_establishes_nothing(family: Family) -> None:
    cloud = Cloud(family)
    replies = Rule(RuleAction.ACCEPT, ct_states=CT_ESTABLISHED)
    cloud.b.chain("vm", replies, accept=False)
    rows = (row for row in cloud.b.rows if isinstance(row, Vport))
    vm3 = next(row for row in rows if row.name == "vm3")
    cloud.b.put(replace(vm3, egress_chain="vm"))
    world = cloud.up()
    nat = world.cloud.nat
    probe = world.vm(1, nat(33), sport=4000, dport=80, ttl=2)
    assert probe.outcome == Consumed(Reason.TTL_EXCEEDED)

    call = world.vm(1, nat(33), sport=4000, dport=80)

    assert call.outcome == Drop(Reason.FILTERED)


@FAMILIES
def test_error_from_inside_of_two_masquerades_shows_the_outside(family: Family) -> None:
    world = Cloud(family).without_floating().up()
    src, sport, _, _ = ends(world.vm(1, family.outside, sport=4000, dport=53))
    question = world.outside(src, sport=53, dport=sport, payload=b"answer")
    inside = seen(question)
    kind, code = (1, 4) if family.is_v6 else (3, 3)

    told = world.vm(
        1,
        family.outside,
        make=lambda **f: frames.icmp_error(
            bytes(inside.payload), kind=kind, code=code, **f
        ),
    )

    assert world.where(told) == "provider/up"
    error = seen(told).payload
    assert (error.src, error.dst) == (src, family.outside)
    assert bytes(error.payload)[8:] == as_sent(question, 2)


def dnat_twice(family: Family) -> World:
    """The provider's address leads to the tenant's, and that to vm2; a port range."""
    cloud = Cloud(family).without_floating()
    for router, address, to, first in (
        ("provider", cloud.nat(50), family.ip(8, 2), 8000),
        ("tenant", family.ip(8, 2), family.ip(1, 12), 80),
    ):
        fields = {"ip_proto": 6, "ports": (first, first + 9)}
        to_port = 80 if first == 8000 else 7000
        cloud.b.dnat(router, address, to, to_port=to_port, **fields)
    return cloud.up()


@FAMILIES
@pytest.mark.parametrize("offset", [0, 4, 9])
def test_dnat_through_two_routers_maps_ranges_in_order(
    family: Family, offset: int
) -> None:
    world = dnat_twice(family)
    address = world.cloud.nat(50)

    call = world.outside(address, make=frames.tcp, sport=999, dport=8000 + offset)

    assert world.where(call) == "web/vm2"
    assert ends(call) == (family.outside, 999, family.ip(1, 12), 7000 + offset)
    answer = world.vm(
        2, family.outside, make=frames.tcp, sport=7000 + offset, dport=999, flags="SA"
    )
    assert ends(answer) == (address, 8000 + offset, family.outside, 999)


@FAMILIES
def test_error_about_dnat_through_two_routers_is_byte_exact(family: Family) -> None:
    world = dnat_twice(family)
    address = world.cloud.nat(50)
    call = world.outside(address, make=frames.tcp, sport=999, dport=8004)
    kind, code = (1, 4) if family.is_v6 else (3, 3)

    told = world.vm(
        2,
        family.outside,
        make=lambda **f: frames.icmp_error(
            bytes(seen(call).payload), kind=kind, code=code, **f
        ),
    )

    error = seen(told).payload
    assert (error.src, error.dst) == (address, family.outside)
    assert bytes(error.payload)[8:] == as_sent(call, 2)


@FAMILIES
def test_trace_from_outside_through_dnat_shows_no_inside_address(
    family: Family,
) -> None:
    world = dnat_twice(family)
    address = world.cloud.nat(50)
    probe = world.outside(address, make=frames.tcp, sport=998, dport=8001, ttl=2)

    where, answer = world.overlay.said(probe)

    assert where == ("provider/up",)
    assert (answer.payload.src, answer.payload.dst) == (address, family.outside)
    assert bytes(answer.payload.payload)[8:] == as_sent(probe, 1)


@FAMILIES
@pytest.mark.parametrize(
    ("caller", "number", "where", "source"),
    [
        (1, 31, "web/vm1", 31),
        (1, 32, "web/vm2", 31),
        (1, 33, "shop/vm3", 31),
        (3, 31, "web/vm1", 33),
    ],
    ids=["itself", "same router", "another tenant's", "back from there"],
)
def test_vm_calls_a_floating_address(
    family: Family, caller: int, number: int, where: str, source: int
) -> None:
    world = Cloud(family).up()
    nat = world.cloud.nat

    call = world.vm(caller, nat(number), make=frames.tcp, sport=4000, dport=80)

    assert world.where(call) == where
    callee = int(where[-1])
    inside = family.ip(VMS[callee][1], 10 + callee)
    assert ends(call) == (nat(source), 4000, inside, 80)
    answer = world.vm(
        callee, nat(source), make=frames.tcp, sport=80, dport=4000, flags="SA"
    )
    assert world.where(answer) == f"{VMS[caller][0]}/vm{caller}"
    own = family.ip(VMS[caller][1], 10 + caller)
    assert ends(answer) == (nat(number), 80, own, 4000)


@FAMILIES
def test_error_about_a_call_among_floating_addresses_is_byte_exact(
    family: Family,
) -> None:
    world = Cloud(family).up()
    nat = world.cloud.nat
    call = world.vm(1, nat(33), sport=4000, dport=80, payload=b"hello")
    kind, code = (1, 4) if family.is_v6 else (3, 3)

    told = world.vm(
        3,
        nat(31),
        make=lambda **f: frames.icmp_error(
            bytes(seen(call).payload), kind=kind, code=code, **f
        ),
    )

    assert world.where(told) == "web/vm1"
    error = seen(told).payload
    assert (error.src, error.dst) == (nat(33), family.ip(1, 11))
    assert bytes(error.payload)[8:] == as_sent(call, 3)


@FAMILIES
def test_source_and_destination_change_in_one_pass_at_one_router(
    family: Family,
) -> None:
    cloud = Cloud(family).without_floating()
    cloud.b.dnat("tenant", family.ip(7, 7), family.outside, ip_proto=17)
    world = cloud.up()

    call = world.vm(1, family.ip(7, 7), sport=4000, dport=53)

    src, sport, dst, _ = ends(call)
    assert src in (cloud.nat(10), cloud.nat(11))
    assert dst == family.outside
    back = world.outside(src, sport=53, dport=sport)
    assert ends(back) == (family.ip(7, 7), 53, family.ip(1, 11), 4000)


@FAMILIES
def test_member_calls_the_floating_address_of_a_vip_on_its_network(
    family: Family,
) -> None:
    cloud = Cloud(family)
    vip = family.ip(1, 80)
    cloud.b.floating("tenant", cloud.nat(34), vip)
    bits = 128 if family.is_v6 else 32
    cloud.b.route("provider", f"{cloud.nat(34)}/{bits}", via=family.ip(8, 2))
    member = family.ip(1, 12)
    if family.is_v6:
        vip, member = f"[{vip}]", f"[{member}]"
    cloud.b.balancer("web", "web", [f"{vip}:80/6"], [f"{member}:8080"])
    world = cloud.up()
    call = world.vm(2, cloud.nat(34), make=frames.tcp, sport=4000, dport=80)

    later = world.vm(2, cloud.nat(34), make=frames.tcp, sport=4000, dport=80, flags="A")

    assert world.where(call) == world.where(later) == "web/vm2"
    assert ends(later) == ends(call)
    assert ends(later)[0] == cloud.nat(32)
