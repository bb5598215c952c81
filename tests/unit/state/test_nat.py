# SPDX-License-Identifier: Apache-2.0
"""Ports of masqueraded connections."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midoryu.packet.address import parse_ip
from midoryu.packet.protocol import ICMP, TCP, UDP
from midoryu.state.connection import Connection, Translation, TranslationKind
from midoryu.state.lifetime import first_phase
from midoryu.state.nat import Exhausted, NatTable, NeedLease, Picked

ROUTER = 7
NAT = parse_ip("203.0.113.10")
NAT2 = parse_ip("203.0.113.11")
VM = parse_ip("10.0.1.11")
VM2 = parse_ip("10.0.1.12")
SERVER = parse_ip("198.51.100.1")
SERVER2 = parse_ip("198.51.100.2")


def connection_of(
    id_: int, picked: Picked, source: int, sport: int, dst: int, dport: int, proto: int
) -> Connection:
    translation = Translation(
        ROUTER, TranslationKind.SOURCE, picked.address, picked.port
    )
    return Connection(
        id=id_,
        ip_proto=proto,
        original=(source, dst, sport, dport),
        ingress_device=1,
        ingress_vport=2,
        egress_device=ROUTER,
        egress_vport=3,
        translations=(translation,),
        owner=1,
        phase=first_phase(proto),
    )


class Host:
    """A NatTable with the little that an engine does around it."""

    def __init__(
        self, *blocks: int, addresses: tuple[int, ...] = (NAT,), max_ports: int = 0
    ) -> None:
        self.nat = NatTable(max_ports_per_source=max_ports)
        self.addresses = addresses
        self.live: dict[int, Connection] = {}
        for address in addresses:
            for block in blocks:
                self.nat.add_lease(ROUTER, address, block)

    def connect(
        self, source: int, sport: int, dst: int, dport: int, proto: int = TCP
    ) -> object:
        ask = (ROUTER, self.addresses, proto, source, sport, dst, dport)
        picked = self.nat.pick(*ask)
        assert self.nat.pick(*ask) == picked
        if isinstance(picked, Picked):
            id_ = len(self.live) + 1
            record = connection_of(id_, picked, source, sport, dst, dport, proto)
            self.live[id_] = record
            self.nat.commit(record, 0.0)
        return picked

    def fill(self, count: int, dst: int = SERVER, dport: int = 80) -> list[object]:
        return [self.connect(VM2 + i, 5000, dst, dport) for i in range(count)]


def test_without_a_lease_one_is_asked_for() -> None:
    assert Host().connect(VM, 40000, SERVER, 80) == NeedLease(ROUTER, NAT)


def test_the_original_port_is_kept_when_it_is_leased_and_free() -> None:
    assert Host(100, 625).connect(VM, 40000, SERVER, 80) == Picked(NAT, 40000)


@pytest.mark.parametrize("sport", [1024, 1025])
def test_the_parity_of_the_port_is_kept(sport: int) -> None:
    picked = Host(100).connect(VM, sport, SERVER, 80)
    assert isinstance(picked, Picked)
    assert picked.port // 64 == 100
    assert picked.port % 2 == sport % 2


def test_the_other_parity_is_used_when_one_runs_out() -> None:
    ports = [one.port for one in Host(100).fill(64) if isinstance(one, Picked)]
    assert sorted(ports) == list(range(6400, 6464))
    assert all(port % 2 == 0 for port in ports[:32])


def test_one_endpoint_keeps_its_port_for_every_destination() -> None:
    host = Host(100)
    first = host.connect(VM, 1024, SERVER, 80)
    assert host.connect(VM, 1024, SERVER2, 443) == first
    assert host.connect(VM2, 1024, SERVER2, 443) != first


def test_protocols_have_ports_of_their_own() -> None:
    host = Host(625)
    for proto in (TCP, UDP, ICMP):
        assert host.connect(VM, 40000, SERVER, 80, proto) == Picked(NAT, 40000)


def test_a_full_pool_asks_for_a_lease_before_it_shares_ports() -> None:
    host = Host(100)
    host.fill(64)
    assert host.connect(VM, 9, SERVER2, 80) == NeedLease(ROUTER, NAT)


def test_a_source_has_no_more_ports_than_it_may_and_others_have_theirs() -> None:
    """RFC 6888, REQ-4."""
    host = Host(100, 101, max_ports=10)
    for port in range(10):
        assert isinstance(host.connect(VM, 2000 + port, SERVER, 80), Picked)
    assert host.connect(VM, 3000, SERVER, 80) == Exhausted(ROUTER, is_limit=True)
    # A port that it has serves further destinations.
    assert isinstance(host.connect(VM, 2000, SERVER2, 80), Picked)
    assert isinstance(host.connect(VM2, 3000, SERVER, 80), Picked)
    assert host.nat.count_ports(ROUTER, VM) == 10

    for one in host.live.values():
        host.nat.release(one)
    assert host.nat.count_ports(ROUTER, VM) == 0
    assert isinstance(host.connect(VM, 3000, SERVER, 80), Picked)


def test_ports_are_counted_alike_whoever_picked_them() -> None:
    host = Host(100)
    picked = host.nat.pick(ROUTER, (NAT,), TCP, VM, 9, SERVER, 80)
    assert isinstance(picked, Picked)
    record = connection_of(1, picked, VM, 9, SERVER, 80, TCP)
    host.nat.commit_picked(record)
    assert host.nat.count_ports(ROUTER, VM) == 1
    host.nat.release(record)
    assert host.nat.count_ports(ROUTER, VM) == 0
    host.nat.commit(record, 0.0)
    assert host.nat.count_ports(ROUTER, VM) == 1


def test_a_full_pool_without_more_leases_shares_ports_per_destination() -> None:
    host = Host(100)
    host.fill(64)
    host.nat.lease_failed(ROUTER, NAT, 0.0)
    assert isinstance(host.connect(VM, 9, SERVER2, 80), Picked)
    assert host.connect(VM, 9, SERVER, 80) == Exhausted(ROUTER)


def test_a_port_shared_by_two_is_free_only_after_both() -> None:
    host = Host(100)
    host.fill(64)
    host.nat.lease_failed(ROUTER, NAT, 0.0)
    shared = host.connect(VM, 9, SERVER2, 80)
    assert isinstance(shared, Picked)
    both = [
        one for one in host.live.values() if one.translations[0].port == shared.port
    ]
    assert len(both) == 2
    for one in both:
        assert host.connect(VM, 10, SERVER, 80) == Exhausted(ROUTER)
        host.nat.release(one)
        if one is both[0]:
            break
    host.nat.release(both[1])
    assert host.connect(VM, 10, SERVER, 80) == shared


def test_a_source_keeps_its_address_while_it_has_connections() -> None:
    host = Host(100, 101, addresses=(NAT, NAT2))
    first = host.connect(VM, 1024, SERVER, 80)
    assert isinstance(first, Picked)
    host.addresses = (NAT2, NAT)
    for sport in range(2000, 2040):
        again = host.connect(VM, sport, SERVER, 80)
        assert isinstance(again, Picked)
        assert again.address == first.address


def test_sources_spread_over_addresses() -> None:
    host = Host(100, 101, 102, addresses=(NAT, NAT2))
    seen = {one.address for one in host.fill(32) if isinstance(one, Picked)}
    assert seen == {NAT, NAT2}


def test_a_port_of_an_imported_record_is_not_given_out_when_its_block_comes() -> None:
    host = Host()
    imported = connection_of(99, Picked(NAT, 40000), VM2, 40000, SERVER, 80, TCP)
    host.nat.commit(imported, 0.0)
    host.nat.add_lease(ROUTER, NAT, 625)
    picked = host.connect(VM, 40000, SERVER2, 80)
    assert isinstance(picked, Picked)
    assert picked.port != 40000


def test_a_mapping_of_another_hosts_block_is_not_used_for_new_connections() -> None:
    host = Host(100)
    imported = connection_of(99, Picked(NAT, 40000), VM, 40000, SERVER, 80, TCP)
    host.nat.commit(imported, 0.0)
    picked = host.connect(VM, 40000, SERVER2, 80)
    assert isinstance(picked, Picked)
    assert picked.port // 64 == 100


def test_a_second_claim_to_a_binding_is_counted_and_its_end_frees_nothing() -> None:
    host = Host(625)
    first = host.connect(VM, 40000, SERVER, 80)
    assert isinstance(first, Picked)
    rival = connection_of(99, first, VM2, 1, SERVER, 80, TCP)
    host.nat.commit(rival, 0.0)
    assert host.nat.conflicts == 1
    host.nat.release(rival)
    assert host.connect(VM2, 40000, SERVER, 80) != first


def test_commit_twice_is_once() -> None:
    host = Host(625)
    host.connect(VM, 40000, SERVER, 80)
    host.nat.commit(host.live[1], 0.0)
    assert host.nat.conflicts == 0
    host.nat.release(host.live[1])
    host.nat.release(host.live[1])
    assert host.connect(VM2, 40000, SERVER, 80) == Picked(NAT, 40000)


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("connect"),
            st.integers(0, 3),
            st.integers(6396, 6404),
            st.integers(0, 2),
            st.sampled_from([TCP, UDP]),
        ),
        st.tuples(st.just("release"), st.integers(0, 40)),
        st.tuples(st.just("import"), st.integers(0, 3), st.integers(6396, 6470)),
        st.tuples(st.just("lease"), st.sampled_from([99, 100, 101])),
        st.tuples(st.just("unlease"), st.sampled_from([99, 100, 101])),
        st.tuples(st.just("fail")),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_no_two_connections_share_a_binding(  # noqa: C901 - one branch a step
    steps: list[tuple[object, ...]],
) -> None:
    nat, live, next_id = NatTable(), [], 1
    bound: dict[tuple[int, ...], int] = {}
    for name, *rest in steps:
        args = [one for one in rest if isinstance(one, int)]
        record = None
        if name == "connect":
            source, sport, dst, proto = args
            ask = (ROUTER, (NAT,), proto, VM + source, sport, SERVER + dst, 80)
            picked = nat.pick(*ask)
            assert picked == nat.pick(*ask)
            if isinstance(picked, Picked):
                record = connection_of(next_id, picked, *ask[3:], proto)
                binding = (proto, *picked, *ask[5:])
                assert binding not in bound
                bound[binding] = next_id
        elif name == "import":
            picked = Picked(NAT, args[1])
            record = connection_of(next_id, picked, VM2, 1, SERVER + args[0], 80, TCP)
            bound.setdefault((TCP, *picked, SERVER + args[0], 80), next_id)
        elif name == "release" and live:
            gone = live.pop(args[0] % len(live))
            nat.release(gone)
            bound = {key: id_ for key, id_ in bound.items() if id_ != gone.id}
        elif name == "lease":
            nat.add_lease(ROUTER, NAT, args[0])
        elif name == "unlease":
            nat.remove_lease(ROUTER, NAT, args[0])
        elif name == "fail":
            nat.lease_failed(ROUTER, NAT, 0.0)
        if record is not None:
            nat.commit(record, 0.0)
            live.append(record)
            next_id += 1
    for record in live:
        nat.release(record)
    assert (nat._mappings, nat._paired, nat._committed) == ({}, {}, set())
    pool = nat._pool((ROUTER, NAT))
    assert (pool._used, pool._destinations, pool._shared) == ({}, {}, {})
    assert not any(pool._used_counts.values())


def test_reserved_port_is_never_given() -> None:
    nat = Host(100).nat
    reserved = {NAT: {100: (1 << 64) - 1 ^ 0b100}}
    ask = (ROUTER, (NAT,), TCP, VM, 6401, SERVER, 80)

    assert nat.pick(*ask) == Picked(NAT, 6401)
    assert nat.pick(*ask, reserved) == Picked(NAT, 6402)
