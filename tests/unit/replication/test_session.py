# SPDX-License-Identifier: Apache-2.0
"""Replicators joined by a network that loses, repeats and reorders."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterable

import pytest

from midoryu.packet.address import parse_ip
from midoryu.packet.protocol import TCP
from midoryu.replication.entry import Touch
from midoryu.replication.session import Datagram, Delivery, Received, Replicator
from midoryu.replication.wire import Refusal
from midoryu.state.connection import Connection, Phase, Translation, TranslationKind

KEY = b"k" * 16
VM = parse_ip("10.0.1.11")
SERVER = parse_ip("198.51.100.1")
NAT = parse_ip("203.0.113.10")


def record(id_: int, owner: int = 1, at: float = 0.0) -> Connection:
    translation = Translation(2, TranslationKind.SOURCE, NAT, id_ % 65536)
    return Connection(
        id=id_,
        ip_proto=TCP,
        original=(VM, SERVER, id_ % 65536, 80),
        ingress_device=1,
        ingress_vport=11,
        egress_device=3,
        egress_vport=12,
        translations=(translation,),
        owner=owner,
        phase=Phase.TCP_ESTABLISHED,
        last_used=at,
    )


class Network:
    """Hosts 1..n, each a replicator with a small table, and a bad network."""

    def __init__(
        self,
        hosts: int,
        seed: int = 1,
        loss: float = 0.0,
        delivery: Delivery = Delivery.REPAIR,
    ) -> None:
        self.delivery = delivery
        self.now = 0.0
        self.dice = random.Random(seed)
        self.loss = self.repeats = self.reorder = loss
        self.wire: list[tuple[float, int, Datagram]] = []
        self.serial = itertools.count()
        self.carried = 0
        self.replicators: dict[int, Replicator] = {}
        self.tables: dict[int, dict[int, Connection]] = {}
        self.received: dict[int, list[Received]] = {}
        self.arrival: dict[tuple[int, int], float] = {}
        for host in range(1, hosts + 1):
            self.start(host, epoch=1, hosts=range(1, hosts + 1))

    def start(self, host: int, epoch: int, hosts: Iterable[int]) -> None:
        self.replicators[host] = Replicator(
            host=host,
            epoch=epoch,
            keys=(KEY,),
            mtu_bytes=1500,
            now=self.now,
            delivery=self.delivery,
        )
        self.replicators[host].set_peers(hosts, self.now)
        self.tables[host] = {}
        self.received[host] = []

    def send(self, datagrams: Iterable[Datagram]) -> None:
        for one in datagrams:
            copies = 1 + (self.dice.random() < self.repeats)
            for _ in range(copies):
                self.carried += 1
                if self.dice.random() < self.loss:
                    continue
                delay = 0.0002
                if self.dice.random() < self.reorder:
                    delay += self.dice.random() * 0.005
                due = self.now + delay
                heapq.heappush(self.wire, (due, next(self.serial), one))

    def push(self, host: int, records: list[Connection], peers: list[int]) -> None:
        self.tables[host].update({one.id: one for one in records})
        self.send(self.replicators[host].push(records, peers, self.now))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            dues = [one.deadline() for one in self.replicators.values()]
            dues.append(self.wire[0][0] if self.wire else None)
            due = min((one for one in dues if one is not None), default=end)
            if due > end:
                break
            self.now = max(self.now, due)
            while self.wire and self.wire[0][0] <= self.now:
                self.deliver(heapq.heappop(self.wire)[2])
            for replicator in list(self.replicators.values()):
                self.send(replicator.tick(self.now))
        self.now = end

    def deliver(self, datagram: Datagram) -> None:
        host = datagram.peer
        if host not in self.replicators:
            return
        received = self.replicators[host].receive(datagram.frame, self.now)
        self.received[host].append(received)
        table = self.tables[host]
        for one in received.records:
            table[one.id] = one
            self.arrival.setdefault((host, one.id), self.now)
        for touch in received.touches:
            if touch.id in table:
                table[touch.id].phase = touch.phase
                table[touch.id].last_used = touch.last_used
        for id_ in received.removed:
            table.pop(id_, None)
        self.send(received.replies)
        for peer in received.sync_wanted_by:
            mine = list(table.values())
            self.replicators[host].sync(peer, mine, self.now)


def test_a_push_arrives_with_its_age_on_the_other_clock() -> None:
    network = Network(2)
    network.run(1.0)
    network.push(1, [record(77, at=0.4)], [2])
    network.run(0.01)
    copy = network.tables[2][77]
    assert copy.last_used == pytest.approx(0.4, abs=0.06)
    assert (copy.owner, copy.original) == (1, record(77).original)
    assert 1 not in network.tables[2]


def test_hosts_greet_each_other_and_then_fall_silent() -> None:
    network = Network(3)
    network.run(10.0)
    before = network.carried
    network.run(19.0)
    assert network.carried == before
    for host, replicator in network.replicators.items():
        others = {1, 2, 3} - {host}
        assert all(replicator.synced_with(one) for one in others)
    network.run(60.0)
    assert 0 < network.carried - before <= 2 * 2 * 6


def test_a_burst_is_followed_by_one_heartbeat_and_one_acknowledgement() -> None:
    network = Network(2)
    network.run(10.0)
    before = network.carried
    for id_ in range(1, 6):
        network.push(1, [record(id_)], [2])
    network.run(15.0)
    assert network.carried - before == 5 + 2
    assert network.replicators[1].stats()[2]["lag"] == 0


def test_a_hello_is_repeated_quickly_until_it_is_answered() -> None:
    network = Network(2)
    network.loss = 1.0
    network.run(1.8)
    assert network.carried == 2 * 4  # at 0, 0.2, 0.7 and 1.7 s
    network.loss = 0.0
    network.run(2.5)
    assert network.replicators[1].stats()[2]["answered"]


def test_a_gap_is_repaired_right_after_the_next_datagram() -> None:
    network = Network(2)
    network.run(1.0)
    network.loss = 1.0
    network.push(1, [record(1)], [2])
    network.loss = 0.0
    network.push(1, [record(2)], [2])
    network.run(0.001)
    assert set(network.tables[2]) == {1, 2}


def test_a_lost_last_datagram_is_seen_at_the_heartbeat() -> None:
    network = Network(2)
    network.run(1.0)
    network.loss = 1.0
    network.push(1, [record(1)], [2])
    network.loss = 0.0
    network.run(0.019)
    assert not network.tables[2]
    network.run(0.003)
    assert set(network.tables[2]) == {1}


@pytest.mark.parametrize("seed", range(8))
def test_all_records_arrive_through_a_very_bad_network(seed: int) -> None:
    network = Network(3, seed=seed, loss=0.3)
    network.run(30.0)
    pushed: dict[int, float] = {}
    for id_ in range(1, 401):
        pushed[id_] = network.now
        network.push(1 + id_ % 2, [record(id_)], [3])
        network.run(network.dice.random() * 0.004)
    busy_until = network.now
    network.run(5.0)
    assert set(network.tables[3]) == set(pushed)
    early = [id_ for id_ in pushed if pushed[id_] < busy_until - 0.3]
    assert early
    late = [network.arrival[(3, id_)] - pushed[id_] for id_ in early]
    assert max(late) < 0.150


def test_a_repeated_datagram_is_taken_once() -> None:
    network = Network(2)
    network.run(1.0)
    (datagram,) = network.replicators[1].push([record(1)], [2], network.now)
    two = network.replicators[2]
    assert len(two.receive(datagram.frame, network.now).records) == 1
    again = two.receive(datagram.frame, network.now)
    assert again.refusal is Refusal.DUPLICATE
    assert (again.records, two.refusals[Refusal.DUPLICATE]) == ([], 1)


def test_a_host_without_memory_gets_everything_back() -> None:
    network = Network(3, loss=0.1)
    network.run(5.0)
    network.push(1, [record(id_) for id_ in range(1, 3001)], [2, 3])
    network.run(3.0)
    network.start(3, epoch=2, hosts=[1, 2, 3])
    network.run(3.0)
    assert len(network.tables[3]) == 3000
    assert network.replicators[3].synced_with(1)
    network.push(2, [record(9000, owner=2)], [3])
    network.push(3, [record(9001, owner=3)], [2])
    network.run(3.0)
    assert 9000 in network.tables[3]
    assert 9001 in network.tables[2]


def test_a_sync_is_paced() -> None:
    network = Network(2)
    network.run(1.0)
    network.tables[1] = {id_: record(id_) for id_ in range(1, 5001)}
    network.start(2, epoch=2, hosts=[1, 2])
    network.run(0.006)
    assert 0 < len(network.tables[2]) < 2000
    assert not network.replicators[2].synced_with(1)
    network.run(0.2)
    assert len(network.tables[2]) == 5000
    assert network.replicators[2].synced_with(1)


def test_what_the_ring_lost_is_fetched_by_a_sync() -> None:
    network = Network(2)
    network.run(1.0)
    network.loss = 1.0
    for id_ in range(1, 1501):
        network.push(1, [record(id_)], [2])
    network.loss = 0.0
    network.push(1, [record(1501)], [2])
    network.run(1.0)
    assert len(network.tables[2]) == 1501
    assert network.replicators[2].synced_with(1)


def test_datagrams_of_an_earlier_life_change_nothing() -> None:
    network = Network(2)
    network.run(1.0)
    (old,) = network.replicators[1].push([record(1)], [2], network.now)
    network.start(1, epoch=2, hosts=[1, 2])
    network.run(1.0)
    network.deliver(old)
    assert network.received[2][-1].refusal is Refusal.STALE_SENDER
    (to_old,) = network.replicators[1].push([record(2)], [2], network.now)
    network.start(2, epoch=2, hosts=[1, 2])
    network.deliver(to_old)
    assert network.received[2][-1].refusal is Refusal.STALE_RECEIVER
    assert network.received[2][-1].replies
    network.run(1.0)
    assert not network.tables[2]


def test_touches_travel_together_and_not_too_often() -> None:
    network = Network(2)
    network.run(1.0)
    network.push(1, [record(id_) for id_ in (1, 2)], [2])
    network.run(1.0)
    before = network.carried
    one, two = network.replicators[1], network.received[2]
    for id_ in (1, 2):
        one.touch([record(id_, at=network.now)], [2], network.now)
    one.touch([record(1, at=network.now)], [2], network.now)
    network.run(1.0)
    assert network.carried - before == 1 + 2
    touched = [touch.id for received in two for touch in received.touches]
    assert touched == [1, 2]
    one.touch([record(1, at=2500.0)], [2], network.now)
    network.run(0.1)
    assert isinstance(two[-2].touches[0], Touch)


def test_a_phase_change_is_told_at_once() -> None:
    network = Network(2)
    network.push(1, [record(1)], [2])
    network.replicators[1].touch([record(1)], [2], network.now)
    closing = record(1)
    closing.phase = Phase.TCP_TRANSITORY
    network.run(1.0)
    network.replicators[1].touch([closing], [2], network.now)
    network.run(0.1)
    assert network.tables[2][1].phase is Phase.TCP_TRANSITORY


def test_a_removed_connection_is_forgotten_by_its_peers() -> None:
    network = Network(2)
    network.push(1, [record(1), record(2)], [2])
    network.replicators[1].remove([1], [2], network.now)
    network.run(1.0)
    assert set(network.tables[2]) == {2}


def test_a_late_record_does_not_come_back_after_its_removal() -> None:
    network = Network(2)
    network.run(1.0)
    network.loss = 1.0
    network.push(1, [record(1)], [2])
    network.loss = 0.0
    network.replicators[1].remove([1], [2], network.now)
    network.run(2.0)
    assert not network.tables[2]
    assert network.replicators[1].stats()[2]["lag"] == 0


def test_a_late_record_keeps_the_phase_of_a_later_touch() -> None:
    network = Network(2)
    network.run(1.0)
    closing = record(1)
    closing.phase = Phase.TCP_TRANSITORY
    lost = network.replicators[1].push([record(1)], [2], network.now)
    network.replicators[1].touch([closing], [2], network.now)
    touch, _heartbeat = network.replicators[1].tick(network.now + 0.06)
    network.deliver(touch)
    network.deliver(lost[0])
    assert network.tables[2][1].phase is Phase.TCP_TRANSITORY


def test_streams_go_on_past_32_bits() -> None:
    network = Network(2)
    network.run(1.0)
    (to_two,) = network.replicators[1]._roster
    (from_one,) = network.replicators[2]._roster
    to_two.out.last = to_two.out.acknowledged = 2**32 - 3
    from_one.inbox.arrived = from_one.inbox.highest = 2**32 - 3
    for id_ in range(1, 8):
        network.loss = float(id_ in (2, 5))
        network.push(1, [record(id_)], [2])
    network.loss = 0.0
    network.run(1.0)
    assert set(network.tables[2]) == set(range(1, 8))
    assert network.replicators[1].stats()[2]["lag"] == 0


def test_a_peer_that_is_no_host_any_more_is_forgotten() -> None:
    network = Network(3)
    network.run(1.0)
    network.replicators[1].set_peers([1, 2], network.now)
    assert set(network.replicators[1].stats()) == {2}


def test_a_peer_that_was_no_host_for_a_while_is_understood_again() -> None:
    network = Network(2)
    network.push(1, [record(id_) for id_ in range(1, 9)], [2])
    network.push(2, [record(id_) for id_ in range(21, 29)], [1])
    network.run(1.0)
    # One side only: the other one never saw the row go.
    for hosts in ([1], [1, 2]):
        network.replicators[1].set_peers(hosts, network.now)
    network.push(1, [record(9)], [2])
    network.push(2, [record(29)], [1])
    network.run(1.0)
    assert 9 in network.tables[2]
    assert 29 in network.tables[1]
    # What was sent meanwhile comes by the sync.
    network.replicators[1].set_peers([1], network.now)
    network.tables[2][30] = record(30)
    network.run(1.0)
    network.replicators[1].set_peers([1, 2], network.now)
    network.run(1.0)
    assert 30 in network.tables[1]


def test_garbage_is_refused_and_counted() -> None:
    network = Network(2)
    network.run(1.0)
    (good,) = network.replicators[1].push([record(1)], [2], network.now)
    two = network.replicators[2]
    for frame in (b"", b"x" * 100, good.frame[:-1], good.frame + b"\0"):
        received = two.receive(frame, network.now)
        assert received.refusal is not None
        assert not received.records
    assert sum(two.refusals.values()) == 4
    assert len(two.receive(good.frame, network.now).records) == 1


def confirmed_at(network: Network, host: int) -> list[int]:
    return [id_ for received in network.received[host] for id_ in received.confirmed]


def test_a_push_to_be_confirmed_is_confirmed_by_every_peer_at_once() -> None:
    network = Network(3, delivery=Delivery.CONFIRM)
    network.run(1.0)
    network.push(1, [record(7)], [2, 3])
    assert network.replicators[1].is_awaited(7)
    network.run(0.001)
    assert confirmed_at(network, 1) == [7]
    assert not network.replicators[1].is_awaited(7)


@pytest.mark.parametrize("seed", range(4))
def test_confirmations_come_through_a_very_bad_network(seed: int) -> None:
    network = Network(3, seed=seed, loss=0.3, delivery=Delivery.CONFIRM)
    network.run(30.0)
    for id_ in range(1, 101):
        network.push(1, [record(id_)], [2, 3])
        network.run(0.002)
    network.run(5.0)
    assert sorted(confirmed_at(network, 1)) == list(range(1, 101))
    assert set(network.tables[3]) == set(range(1, 101))


def test_a_peer_that_never_confirms_is_given_up_and_leaves_nothing_behind() -> None:
    network = Network(3, delivery=Delivery.CONFIRM)
    network.run(1.0)
    network.loss = 1.0
    network.push(1, [record(7)], [2, 3])
    network.run(1.0)
    assert not network.replicators[1].is_awaited(7)
    assert confirmed_at(network, 1) == []


@pytest.mark.parametrize("end", ["removed", "restarted"])
def test_a_peer_that_is_gone_owes_no_confirmation(end: str) -> None:
    network = Network(2, delivery=Delivery.CONFIRM)
    network.run(1.0)
    network.replicators[1].push([record(7)], [2], network.now)
    if end == "removed":
        network.replicators[1].set_peers([1], network.now)
    else:
        network.start(2, epoch=2, hosts=[1, 2])
        network.run(0.01)
    assert not network.replicators[1].is_awaited(7)


def test_best_effort_repairs_nothing_and_says_nothing_more() -> None:
    network = Network(2, delivery=Delivery.BEST_EFFORT)
    network.run(10.0)
    assert network.replicators[1].synced_with(2)
    before = network.carried
    for id_ in range(1, 201):
        network.loss = float(id_ % 4 == 0)
        network.push(1, [record(id_)], [2])
    network.loss = 0.0
    network.run(5.0)
    assert network.carried - before == 200
    assert len(network.tables[2]) == 150
    assert network.replicators[2].stats()[1]["gaps"] == 49


def test_best_effort_takes_what_is_only_out_of_order() -> None:
    network = Network(2, delivery=Delivery.BEST_EFFORT)
    network.run(1.0)
    sent = [
        network.replicators[1].push([record(id_)], [2], network.now)[0]
        for id_ in range(1, 40)
    ]
    for datagram in [*reversed(sent), *sent]:
        network.deliver(datagram)
    assert set(network.tables[2]) == set(range(1, 40))
    assert network.replicators[2].refusals[Refusal.DUPLICATE] == 39


def test_best_effort_syncs_through_a_bad_network() -> None:
    network = Network(2, loss=0.3, delivery=Delivery.BEST_EFFORT)
    network.tables[1] = {1: record(1)}
    network.run(60.0)
    assert network.replicators[2].synced_with(1)
