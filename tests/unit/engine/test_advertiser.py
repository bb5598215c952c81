# SPDX-License-Identifier: Apache-2.0
"""Router advertisements that nobody asked for."""

from __future__ import annotations

from dataclasses import replace

from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6NDOptPrefixInfo
from scapy.layers.l2 import Ether

from midoryu.engine import event
from midoryu.engine.effect import Effects
from midoryu.packet.address import parse_ip, parse_prefix
from midoryu.packet.codec import decode
from midoryu.packet.protocol import ND_ROUTER_ADVERTISEMENT
from midoryu.topology.service import Advertising, RaMode, Subnet
from tests.helpers.bench import Bench, office

OFTEN = Advertising(RaMode.SLAAC, intervals_s=(3, 4))


def subnet(b: Bench, advertising: Advertising = OFTEN) -> Subnet:
    return Subnet(
        "six",
        b.b.key("web"),
        parse_prefix("fd00::/64"),
        gateway=parse_ip("fd00::1"),
        advertising=advertising,
    )


def heard(effects: Effects) -> list[int]:
    """List the ofports that hear an advertisement."""
    found = []
    for out in effects.packet_outs:
        packet = decode(out.frame)
        if packet.headers.l4_src == ND_ROUTER_ADVERTISEMENT:
            found += [action[-1] for action in out.actions]
    return sorted(found)


def test_local_machines_hear_a_new_router_at_the_next_tick_and_then_again() -> None:
    bench = Bench(office())
    effects = bench.change(subnet(bench))
    assert effects.deadline is not None
    assert effects.deadline <= bench.now + 0.01

    first = bench.do(event.Tick())
    early = bench.do(event.Tick())
    bench.now += 4.0
    later = bench.do(event.Tick())

    assert heard(first) == [11, 12], "the machine on the other host hears its own"
    assert heard(early) == []
    assert heard(later) == [11, 12]


def test_changed_subnet_is_told_at_once() -> None:
    bench = Bench(office())
    bench.change(subnet(bench))
    bench.do(event.Tick())

    bench.change(subnet(bench, replace(OFTEN, lifetime_s=9)))

    assert heard(bench.do(event.Tick())) == [11, 12]


def test_nothing_is_told_once_the_subnet_went() -> None:
    bench = Bench(office())
    bench.change(subnet(bench))
    bench.do(event.Tick())

    farewell = bench.gone(Subnet, "six")
    bench.now += 1000.0

    assert heard(bench.do(event.Tick())) == []
    assert bench.core.advertise_at == {}
    assert heard(farewell) == [11, 12]
    says = Ether(farewell.packet_outs[0].frame)
    assert says[ICMPv6ND_RA].routerlifetime == 0
    option = says[ICMPv6NDOptPrefixInfo]
    assert (option.preferredlifetime, option.validlifetime) == (0, 7200)


def test_change_that_takes_nothing_away_needs_no_farewell() -> None:
    bench = Bench(office())
    bench.change(subnet(bench))
    bench.do(event.Tick())

    assert heard(bench.change(subnet(bench, replace(OFTEN, valid_s=9)))) == []


def test_first_three_come_sooner_than_the_interval_says() -> None:
    bench = Bench(office())
    bench.change(subnet(bench, Advertising(RaMode.SLAAC)))

    for _ in range(3):
        assert heard(bench.do(event.Tick())) == [11, 12]
        bench.now += 16.0
    assert heard(bench.do(event.Tick())) == [11, 12]
    bench.now += 16.0
    assert heard(bench.do(event.Tick())) == []
