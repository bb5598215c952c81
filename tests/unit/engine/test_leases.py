# SPDX-License-Identifier: Apache-2.0
"""Port blocks: asked for ahead, kept aside after a start, given back."""

from __future__ import annotations

from midoryu.engine import leases
from midoryu.engine.effect import Effects, LeaseBlock, ReleaseBlock
from midoryu.engine.event import TopologyChanged, WriteRefused
from midoryu.openflow import flow
from midoryu.packet.address import parse_ip
from midoryu.simulation.outcome import LeaseWanted
from midoryu.topology.model import Gone, Lease, Put, Router
from tests.helpers.bench import NAT, Bench, installed, office

ADDRESS = parse_ip(NAT)


def asked(bench: Bench) -> int:
    writes = [write for effects in bench.done for write in effects.nsdb_writes]
    return sum(isinstance(write, LeaseBlock) for write in writes)


def nat_port(effects: Effects) -> int:
    """Return the NAT port that the one new flow sets."""
    (made,) = installed(effects)
    (port,) = [a[1] for a in made.actions if a[0] == flow.SET_L4_SRC]
    return int(port)


def test_a_first_vm_behind_a_masquerade_has_a_block_asked_for_once() -> None:
    assert asked(Bench(office(masquerade=True))) == 1
    assert asked(Bench(office())) == 0


def test_a_block_that_runs_low_has_the_next_one_asked_for_before_it_is_full() -> None:
    bench = Bench(office(masquerade=True))
    bench.lease()
    used = 0
    while asked(bench) == 1 and used < 64:
        bench.send("web/vm1", bench.frame(sport=1000 + used))
        used += 1
    assert 16 <= used < 64
    assert asked(bench) == 2


def test_one_request_is_under_way_at_a_time_for_an_address() -> None:
    bench = Bench(office(masquerade=True))
    effects = Effects()
    wanted = LeaseWanted(bench.b.key("r"), ADDRESS)
    leases.ask(bench.core, wanted, effects)
    assert effects.nsdb_writes == []
    bench.do(WriteRefused(LeaseBlock(*wanted), "taken"))
    leases.ask(bench.core, wanted, effects)
    assert effects.nsdb_writes == [LeaseBlock(*wanted)]


def test_another_hosts_lease_gives_no_ports_here() -> None:
    bench = Bench(office(masquerade=True))
    bench.lease(100, "node2")
    assert bench.send("web/vm1", bench.frame()).packet_outs == []
    assert nat_port(bench.lease(101)) // 64 == 101


def old_leases() -> Bench:
    b = office(masquerade=True)
    b.lease("r", NAT, 100, "node1")
    return Bench(b, young=True)


def test_leases_of_an_earlier_agent_are_not_used_before_its_records_are_back() -> None:
    bench = old_leases()
    assert bench.send("web/vm1", bench.frame()).packet_outs == []
    bench.wait(1.0)
    assert not bench.core.nat.has_lease(bench.b.key("r"), ADDRESS)
    bench.push(
        bench.record(
            translations=(bench.source_nat(6428),),
            egress_vport=bench.b.key("r/up"),
            owner=bench.b.key("node1"),
        )
    )
    bench.wait(1.1)
    assert bench.core.nat.has_lease(bench.b.key("r"), ADDRESS)
    bench.send("web/vm1", bench.frame(sport=40001))
    ports = [
        one.port for record in bench.core.connections for one in record.translations
    ]
    assert len(ports) == len(set(ports)) >= 2


def test_leases_are_taken_up_as_soon_as_every_peer_has_sent_its_records() -> None:
    bench = old_leases()
    bench.greet()
    assert bench.core.has_memory(bench.now)
    bench.wait(0.1)
    assert bench.core.old_leases == {}
    assert nat_port(bench.send("web/vm1", bench.frame())) // 64 == 100


def test_an_old_lease_that_is_gone_before_it_was_taken_up_stays_unused() -> None:
    bench = old_leases()
    (lease,) = bench.core.old_leases.values()
    bench.gone(Lease, lease.key)
    bench.wait(2.5)
    assert not bench.core.nat.has_lease(bench.b.key("r"), ADDRESS)


def test_a_lease_that_is_withdrawn_gives_no_more_ports() -> None:
    bench = Bench(office(masquerade=True))
    bench.lease()
    nat_port(bench.send("web/vm1", bench.frame()))
    (row,) = [r for r in bench.b.rows if isinstance(r, Lease)]
    bench.gone(Lease, row.key)
    assert not bench.core.nat.has_lease(bench.b.key("r"), ADDRESS)
    assert bench.core.lease_at == {}
    assert len(bench.core.connections) == 1


def test_a_lease_that_the_database_lost_is_claimed_again() -> None:
    bench = Bench(office(masquerade=True))
    bench.lease()
    lease = next(iter(bench.core.lease_at.values()))
    effects = bench.gone(Lease, lease.key)
    claim = LeaseBlock(lease.router, lease.address, lease.block)
    assert claim in effects.nsdb_writes
    # Refused: another host was faster. That says nothing about further blocks.
    bench.do(WriteRefused(claim, "it is leased"))
    bench.lease(101)
    assert installed(bench.send("web/vm1", bench.frame()))


def test_a_lost_lease_waits_for_its_router_before_it_is_claimed() -> None:
    bench = Bench(office(masquerade=True))
    bench.lease()
    lease = next(iter(bench.core.lease_at.values()))
    router = bench.core.topology.row(Router, lease.router)
    changes = (Gone(Lease, lease.key), Gone(Router, lease.router))
    claim = LeaseBlock(lease.router, lease.address, lease.block)
    assert claim not in bench.do(TopologyChanged(changes)).nsdb_writes
    assert claim in bench.change(router).nsdb_writes


def test_a_block_refused_for_want_of_its_router_is_asked_for_when_it_is_there() -> None:
    bench = Bench(office(masquerade=True))
    router = bench.core.topology.row(Router, bench.b.key("r"))
    bench.do(WriteRefused(LeaseBlock(bench.b.key("r"), ADDRESS), "no router"))
    bench.send("web/vm1", bench.frame())
    assert asked(bench) == 1
    bench.change(router)
    bench.send("web/vm1", bench.frame(sport=4001))
    assert asked(bench) == 2


def test_a_block_that_was_given_back_is_not_claimed() -> None:
    bench = Bench(office(masquerade=True))
    bench.lease()
    lease = next(iter(bench.core.lease_at.values()))
    bench.core.nat.remove_lease(lease.router, lease.address, lease.block)
    effects = bench.gone(Lease, lease.key)
    assert not [w for w in effects.nsdb_writes if isinstance(w, LeaseBlock)]


def test_idle_blocks_are_given_back_and_the_last_one_is_kept_longer() -> None:
    bench = Bench(office(masquerade=True))
    bench.lease(100)
    bench.lease(101)
    for _ in range(20):
        bench.wait(25.0)
    writes = [write for effects in bench.done for write in effects.nsdb_writes]
    released = [write for write in writes if isinstance(write, ReleaseBlock)]
    assert len(released) == 1
    assert bench.counters["NAT blocks released"] == 1
    bench.gone(Lease, f"lease/r/{NAT}/{released[0].block}")
    assert bench.core.nat.has_lease(bench.b.key("r"), ADDRESS)


def test_standing_knows_the_rows_that_are_about_to_go() -> None:
    bench = Bench(office(masquerade=True))
    bench.lease()
    (row,) = [r for r in bench.b.rows if isinstance(r, Lease)]
    gone = Gone(Lease, row.key)
    assert leases.standing(bench.core, [gone, Put(row)]) == {row.key: row}
    bench.do(TopologyChanged((gone,)))
    assert leases.standing(bench.core, [gone]) == {row.key: None}


def test_who_has_many_blocks_asks_for_several_at_once() -> None:
    bench = Bench(office(masquerade=True))
    for block in range(100, 108):
        bench.lease(block)
    bench.wait(1.0)
    asked: list[LeaseBlock] = []
    for number in range(400):
        effects = bench.send("web/vm1", bench.frame(sport=20000 + number))
        asked += [w for w in effects.nsdb_writes if isinstance(w, LeaseBlock)]

    assert len(asked) == 3
    assert len(set(asked)) == 1
