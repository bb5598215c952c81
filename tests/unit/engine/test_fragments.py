# SPDX-License-Identifier: Apache-2.0
"""Datagrams under way: order, overlaps, bounds, and what is put together."""

from __future__ import annotations

from typing import Any

import pytest

from midoryu.engine.effect import Effects
from midoryu.engine.event import PacketIn
from midoryu.engine.fragments import MAX_PIECES, Datagram, FragmentTable, Refusal
from midoryu.packet.codec import decode
from midoryu.packet.fragment import join, read_fragment, split
from midoryu.packet.packet import Packet
from tests.helpers import frames
from tests.helpers.bench import NAT, Bench, installed, office


def pieces(size: int = 4000, number: int = 7, **fields: Any) -> list[Packet]:
    whole = decode(frames.udp(payload=bytes(size), **fields))
    return [decode(one) for one in split(whole, 1500, number)]


def enter(table: FragmentTable, packet: Packet, vport: int = 1, now: float = 0) -> Any:
    return table.enter(vport, packet, read_fragment(packet), now)


def room(**limits: Any) -> FragmentTable:
    values = {"limit": 100, "limit_bytes": 100_000, "age_s": 5.0, **limits}
    return FragmentTable(**values)


def test_the_first_fragment_is_kept_until_all_were_seen() -> None:
    table = room()
    for packet in pieces():
        datagram = enter(table, packet)
        assert datagram.first is not None
    assert datagram.is_complete
    table.close(datagram)
    assert len(table) == 0


def test_an_exact_duplicate_passes() -> None:
    table, first = room(), pieces()[0]
    enter(table, first)
    assert isinstance(enter(table, first), Datagram)


def test_overlapping_fragments_condemn_their_datagram() -> None:
    """RFC 5722, section 4."""
    table = room()
    first, second, third = pieces()
    enter(table, first)
    enter(table, second)
    shifted = bytearray(second.frame)
    shifted[21] -= 1
    shifted[24:26] = bytes(2)
    moved = decode(frames.recomputed(bytes(shifted)))
    assert enter(table, moved) is Refusal.OVERLAP
    assert enter(table, third) is Refusal.CONDEMNED
    assert enter(table, second) is Refusal.CONDEMNED


def test_other_bytes_in_the_same_place_are_an_overlap() -> None:
    table, first = room(), pieces()[0]
    enter(table, first)
    other = decode(first.frame[:-1] + b"x")
    assert enter(table, other) is Refusal.OVERLAP


def test_a_fragment_behind_the_end_is_an_overlap() -> None:
    table = room()
    *_, last = pieces(4000)
    _, _, longer, _ = pieces(5000)
    enter(table, last)
    assert enter(table, longer) is Refusal.OVERLAP


def test_a_datagram_has_so_many_pieces_at_most() -> None:
    whole = decode(frames.udp(payload=bytes(60_000)))
    table, refused = room(), 0
    for frame in split(whole, 68 + 8, 7)[: MAX_PIECES + 5]:
        refused += enter(table, decode(frame)) is Refusal.TOO_MANY
    assert refused == 5


def test_a_vport_with_too_many_datagrams_loses_its_own_oldest() -> None:
    table = room(limit=40)
    kept = enter(table, pieces()[1], vport=2)
    for number in range(30):
        enter(table, pieces(number=number)[1], vport=1)
    assert table.evicted == 20
    assert len(table) == 11
    assert enter(table, pieces()[2], vport=2) is kept


def test_a_full_table_refuses() -> None:
    table = room(limit=4)
    for vport in range(4):
        assert isinstance(enter(table, pieces()[1], vport=vport), Datagram)
    assert enter(table, pieces()[1], vport=9) is Refusal.NO_ROOM


def test_bytes_that_wait_are_bounded_and_given_back() -> None:
    table = room(limit_bytes=12_000)
    _, second, third = pieces()
    event = PacketIn(1, second.frame)
    datagram = enter(table, second)
    assert table.wait(datagram, event, second)
    assert table.wait(datagram, event, third)
    assert not table.wait(datagram, event, second)
    assert [one.packet for one in table.release(datagram)] == [second, third]
    assert table.stored_bytes == 0


def test_what_is_too_old_goes() -> None:
    table, second = room(), pieces()[1]
    table.wait(enter(table, second, now=10), PacketIn(1, second.frame), second)
    assert table.deadline() == 15
    assert table.expire(14.9) == 0
    assert table.expire(15.0) == 1
    assert (len(table), table.stored_bytes, table.deadline()) == (0, 0, None)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_gathered_fragments_become_the_datagram(order: tuple[int, ...]) -> None:
    table, parts = room(), pieces()
    made = [table.gather(1, parts[index], 0.0) for index in order]
    assert made[:2] == [None, None]
    assert made[2] == join(parts)
    assert len(table) == table.stored_bytes == 0


# Through the engine: masquerade from a VM to the outside.


def ready() -> Bench:
    bench = Bench(office(masquerade=True))
    bench.lease()
    return bench


def outgoing(bench: Bench, number: int = 7) -> list[bytes]:
    tcp = decode(bench.frame())
    udp = frames.udp(
        src="10.0.1.1",
        dst="198.51.100.9",
        sport=4000,
        dport=5000,
        payload=bytes(range(200)) * 20,
        eth_src="02:00:00:00:00:01",
        eth_dst=":".join(
            f"{tcp.headers.eth_dst:012x}"[i : i + 2] for i in range(0, 12, 2)
        ),
    )
    return split(decode(udp), 1500, number)


def sent(*effects: Effects) -> list[Packet]:
    return [decode(out.frame) for one in effects for out in one.packet_outs]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)])
def test_all_fragments_leave_with_the_nat_address_in_any_order(
    order: tuple[int, ...],
) -> None:
    bench = ready()
    parts = outgoing(bench)
    done = [bench.send("web/vm1", parts[index]) for index in order]
    packets = sent(*done)
    assert len(packets) == 3
    assert {packet.headers.ip_src & 0xFFFFFFFF for packet in packets} == {
        int.from_bytes(bytes(map(int, NAT.split("."))), "big")
    }
    whole = join(sorted(packets, key=lambda one: read_fragment(one).start))
    assert frames.recomputed(whole) == whole
    assert not any(installed(one) for one in done)
    assert len(bench.core.fragments) == 0


def test_a_later_fragment_alone_waits_and_is_given_up() -> None:
    bench = ready()
    assert not sent(bench.send("web/vm1", outgoing(bench)[1]))
    bench.wait(6.0)
    assert bench.counters["fragments that waited in vain"] == 1
    assert len(bench.core.fragments) == 0


def test_an_overlap_stops_the_rest_of_a_datagram() -> None:
    bench = ready()
    first, second, third = outgoing(bench)
    bench.send("web/vm1", first)
    bench.send("web/vm1", second)
    assert not sent(bench.send("web/vm1", second[:-1] + b"x"))
    assert not sent(bench.send("web/vm1", third))
    assert bench.counters[Refusal.OVERLAP.value] == 1
    assert bench.counters[Refusal.CONDEMNED.value] == 1
