# SPDX-License-Identifier: Apache-2.0
"""Rows of balancers come in any order; pools choose alike and move little."""

from __future__ import annotations

import itertools

from midoryu.packet.address import parse_ip
from midoryu.topology import model
from midoryu.topology.balancer import CompiledPool, HealthMonitor, vip_mac
from midoryu.topology.snapshot import Topology
from midoryu.topology.tag import device_tag, pool_tag
from tests.helpers.builder import Builder

VIP = parse_ip("203.0.113.80")
M1, M2 = parse_ip("10.0.1.1"), parse_ip("10.0.1.2")


def member(address: int, weight: int = 1, *, up: bool = True) -> model.PoolMember:
    return model.PoolMember(f"m{address}", "p", address, 80, weight, up)


def pool(*members: model.PoolMember, **known: bool) -> CompiledPool:
    status: dict[int | str, model.MemberStatus] = {
        key: model.MemberStatus(key, 1, up) for key, up in known.items()
    }
    monitor = HealthMonitor("h", "p") if known else None
    return CompiledPool(model.Pool("p", "p"), members, monitor, status)


def choices(one: CompiledPool) -> list[int]:
    found = (one.choose((6, number), v4=True) for number in range(400))
    return [chosen.address if chosen else 0 for chosen in found]


def test_a_member_less_moves_only_its_own() -> None:
    members = [member(parse_ip(f"10.0.1.{number}")) for number in range(1, 6)]
    before, after = choices(pool(*members)), choices(pool(*members[1:]))
    moved = [old for old, new in zip(before, after) if old != new]
    assert set(moved) == {members[0].address}


def test_draining_down_and_sick_members_get_nothing_new() -> None:
    full = pool(member(M1, 0), member(M2))
    assert set(choices(full)) == {M2}
    assert full.usable(M1, 80) is not None
    off = pool(member(M1, up=False), member(M2))
    assert set(choices(off)) == {M2}
    assert off.usable(M1, 80) is None
    sick = pool(member(M1), member(M2), **{f"m{M1}": False})
    assert set(choices(sick)) == {M2}
    assert sick.down == {f"m{M1}"}
    assert pool(member(M1)).choose((1,), v4=False) is None


def shop() -> Builder:
    b = Builder()
    b.network("web")
    b.router("r")
    b.attach("r", "web", "10.0.1.254/24")
    b.balancer("shop", "r", ["203.0.113.80:80/6"], ["10.0.1.1:8080"])
    return b


def test_rows_may_come_in_any_order() -> None:
    b = shop()
    kinds = (model.Balancer, model.Vip, model.Pool, model.PoolMember)
    rows = [row for row in b.rows if isinstance(row, kinds)]
    rest = [row for row in b.rows if not isinstance(row, kinds)]
    for order in itertools.permutations(rows):
        topology = Topology()
        topology.apply(model.Put(row) for row in rest)
        for row in order:
            topology.router(b.key("r")), topology.network(b.key("web"))
            topology.apply([model.Put(row)])
        router = topology.router(b.key("r"))
        network = topology.network(b.key("web"))
        assert router is not None
        assert network is not None
        assert router.nat.balancing.find(VIP, 6, 80) is not None
        assert router.nat.balancing.targets == {M1}
        assert network.balancing is not None
        assert network.balancing.is_service(M1, 6, 8080)
        assert not network.balancing.is_service(M1, 17, 8080)


def test_a_narrower_vip_goes_before_a_wider_one() -> None:
    b = shop()
    b.balancer("all", "r", ["203.0.113.80"], ["10.0.1.2"])
    router = b.topology().router(b.key("r"))
    assert router is not None
    balancing = router.nat.balancing
    found = [balancing.find(VIP, 6, port) for port in (80, 81)]
    assert [vip.pool if vip else "" for vip in found] == ["pool/shop", "pool/all"]
    assert balancing.find(M1, 6, 80) is None


def test_a_weight_touches_the_pool_and_an_address_the_devices() -> None:
    b = shop()
    topology = b.topology()
    mild = topology.apply([model.Put(b.member("shop", "10.0.1.1:8080", 5))])
    assert mild == {pool_tag("pool/shop")}
    tags = topology.apply([model.Put(b.member("shop", "10.0.1.2:8080"))])
    assert {device_tag(b.key("r")), device_tag(b.key("web"))} <= tags
    status = model.MemberStatus("member/shop/10.0.1.2:8080", 1, False)
    assert topology.apply([model.Put(status)]) == {pool_tag("pool/shop")}


def test_a_balancer_that_is_down_has_no_vips() -> None:
    b = shop()
    topology = b.topology()
    row = model.Balancer("balancer/shop", "shop", b.key("r"), up=False)
    assert device_tag(b.key("r")) in topology.apply([model.Put(row)])
    router = topology.router(b.key("r"))
    assert router is not None
    assert not router.nat.balancing.vips
    assert VIP not in router.nat.addresses


def test_a_network_answers_with_its_own_mac() -> None:
    b = shop()
    b.balancer("inner", "web", ["10.0.1.80:80/6"], ["10.0.1.1:8080"])
    network = b.topology().network(b.key("web"))
    assert network is not None
    mac = vip_mac(b.key("web"))
    assert network.mac_by_ip[parse_ip("10.0.1.80")] == mac
    assert mac >> 40 & 3 == 2
