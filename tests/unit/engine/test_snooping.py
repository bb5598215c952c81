# SPDX-License-Identifier: Apache-2.0
"""This host minds the members behind its own vports."""

from __future__ import annotations

from typing import Any

from midoryu.engine import snooping
from midoryu.engine.effect import Effects, ForgetGroup, LearnGroup
from midoryu.packet.address import parse_ip
from midoryu.packet.multicast import GROUP_TIMEOUT_S
from midoryu.simulation.outcome import GroupSeen
from midoryu.topology.l2 import MulticastMember
from tests.helpers.bench import OFPORTS, Bench, office

GROUP = parse_ip("239.1.2.3")


def bench(**config: Any) -> Bench:
    b = office()
    b.network("web", multicast_snooping=True)
    return Bench(b, **config)


def heard(made: Bench, *, joins: bool = True, group: int = GROUP) -> Effects:
    effects = Effects()
    seen = GroupSeen(made.b.key("web"), group, made.b.key("web/vm1"), joins)
    snooping.learn(made.core, seen, effects, made.now)
    return effects


def test_a_join_is_told_once_and_withdrawn_when_it_is_not_repeated() -> None:
    made = bench()
    place = (made.b.key("web"), GROUP, made.b.key("web/vm1"))

    assert heard(made).nsdb_writes == [LearnGroup(*place)]
    assert heard(made).nsdb_writes == []
    made.now += GROUP_TIMEOUT_S
    effects = Effects()
    snooping.step(made.core, effects, made.now)
    assert effects.nsdb_writes == [ForgetGroup(*place)]
    assert made.core.topology.l2.members(*place[:2]) == frozenset()


def test_a_leave_asks_the_vport_and_waits_two_seconds() -> None:
    made = bench()
    heard(made)

    effects = heard(made, joins=False)
    (asked,) = effects.packet_outs
    assert asked.actions == ((0, OFPORTS["web/vm1"]),)
    place = (made.b.key("web"), GROUP, made.b.key("web/vm1"))
    assert made.core.snooping.ends[place] == made.now + 2


def test_members_of_a_host_are_bounded() -> None:
    made = bench(max_multicast_members=16)
    written = [heard(made, group=GROUP + number).nsdb_writes for number in range(4)]

    assert [len(one) for one in written] == [1, 1, 0, 0]
    assert made.counters["multicast members beyond the limit"] == 2
    made.now += GROUP_TIMEOUT_S
    snooping.step(made.core, Effects(), made.now)
    assert heard(made, group=GROUP + 3).nsdb_writes != []


def test_only_local_vports_of_snooping_networks_are_asked() -> None:
    made = bench()

    expected = {made.b.key("web/vm1"), made.b.key("web/vm2")}
    assert made.core.snooping.asked.keys() == expected
    assert Bench(office()).core.snooping.asked == {}


def test_an_earlier_agents_members_are_minded_too() -> None:
    made = bench()
    place = (made.b.key("web"), GROUP, made.b.key("web/vm1"))
    made.change(MulticastMember("row", *place))
    for key in made.core.snooping.asked:
        made.core.snooping.asked[key] = made.core.snooping.asked[key]._replace(at=0.0)

    snooping.step(made.core, Effects(), made.now)
    assert place in made.core.snooping.ends
