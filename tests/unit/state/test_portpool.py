# SPDX-License-Identifier: Apache-2.0
"""Ports of one NAT address: taken, shared per destination, given back."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midoryu.packet.protocol import TCP, UDP
from midoryu.state.portpool import (
    BLOCK_PORTS,
    FIRST_BLOCK,
    IDLE_LAST_S,
    IDLE_S,
    LAST_BLOCK,
    PortPool,
)

HERE, THERE = (1, 80), (2, 80)
SEED = st.integers(0, (1 << 64) - 1)


def pool(*blocks: int) -> PortPool:
    made = PortPool()
    for block in blocks:
        made.add_block(block)
    return made


def take(
    made: PortPool, port: int, to: tuple[int, int] = HERE, proto: int = TCP
) -> None:
    made.take(proto, port, *to, is_new_endpoint=True)


def give(
    made: PortPool, port: int, to: tuple[int, int] = HERE, proto: int = TCP
) -> None:
    made.give_back(proto, port, *to, is_last_of_endpoint=True)


def test_without_a_block_there_is_no_port() -> None:
    assert pool().pick_unused(TCP, 40000, 1) is None
    assert pool().pick_shared(TCP, *HERE, 1) is None


def test_the_original_port_is_kept_where_it_is_leased_and_free() -> None:
    made = pool(100)
    assert made.pick_unused(TCP, 6405, 1) == 6405
    take(made, 6405)
    assert made.pick_unused(TCP, 6405, 1) != 6405
    assert made.pick_unused(UDP, 6405, 1) == 6405


@given(SEED, st.integers(0, 65535))
def test_a_port_comes_from_a_leased_block_and_keeps_its_parity(
    seed: int, wanted: int
) -> None:
    made = pool(100, 300)
    port = made.pick_unused(TCP, wanted, seed)
    assert port is not None
    assert port // BLOCK_PORTS in (100, 300)
    assert port % 2 == wanted % 2


def test_every_port_of_a_block_is_given_once_then_none() -> None:
    made, dice = pool(100), random.Random(1)
    ports = []
    for _ in range(BLOCK_PORTS):
        port = made.pick_unused(TCP, dice.randrange(65536), dice.getrandbits(64))
        assert port is not None
        take(made, port)
        ports.append(port)
    assert sorted(ports) == list(range(6400, 6464))
    assert made.pick_unused(TCP, 1, 1) is None
    assert made.lowest_free() == 0


def test_a_full_pool_shares_ports_between_destinations() -> None:
    made = pool(100)
    for port in range(6400, 6464):
        take(made, port, HERE)
    assert made.pick_shared(TCP, *HERE, 7) is None
    shared = made.pick_shared(TCP, *THERE, 7)
    assert shared is not None
    assert not made.is_free_for(TCP, shared, *HERE)
    assert made.is_free_for(TCP, shared, *THERE)
    take(made, shared, THERE)
    give(made, shared, THERE)
    assert made.pick_unused(TCP, 1, 1) is None
    give(made, shared, HERE)
    assert made.pick_unused(TCP, 1, 1) == shared


def test_a_port_with_three_endpoints_is_free_after_the_third_left() -> None:
    made = pool(100)
    places = [(number, 80) for number in range(3)]
    for to in places:
        take(made, 6400, to)
    for to in places[:2]:
        give(made, 6400, to)
        assert made.pick_unused(TCP, 6400, 1) != 6400
    give(made, 6400, places[2])
    assert made.pick_unused(TCP, 6400, 1) == 6400
    assert made.lowest_free() == BLOCK_PORTS


def test_ports_of_other_hosts_count_when_their_block_comes_here() -> None:
    made = pool()
    take(made, 6400)
    assert made.lowest_free() == 0
    made.add_block(100)
    assert made.lowest_free() == BLOCK_PORTS - 1
    assert made.pick_unused(TCP, 6400, 1) != 6400
    made.remove_block(100)
    give(made, 6400)
    made.add_block(100)
    assert made.lowest_free() == BLOCK_PORTS


def test_a_lease_ends_for_new_connections_only() -> None:
    made = pool(100)
    take(made, 6400)
    made.remove_block(100)
    assert not made.is_leased(6400)
    assert made.pick_unused(TCP, 6400, 1) is None
    assert not made.is_free_for(TCP, 6400, *HERE)


@pytest.mark.parametrize("twice", [1, 2])
def test_adding_or_removing_a_block_twice_is_once(twice: int) -> None:
    made = pool(*[100] * twice)
    assert made.blocks == [100]
    for _ in range(twice):
        made.remove_block(100)
    assert (made.blocks, made.lowest_free()) == ([], 0)


def test_blocks_are_idle_after_their_time_and_the_last_one_later() -> None:
    made = pool(100, 101, 102)
    take(made, 102 * BLOCK_PORTS)
    assert made.idle_blocks(0.0) == []
    assert made.idle_blocks(IDLE_S - 1) == []
    assert made.idle_blocks(IDLE_S) == [100, 101]
    give(made, 102 * BLOCK_PORTS)
    made.remove_block(100)
    made.remove_block(101)
    assert made.idle_blocks(1000.0) == []
    assert made.idle_blocks(1000.0 + IDLE_S) == []
    assert made.idle_blocks(1000.0 + IDLE_LAST_S) == [102]


def test_a_block_that_is_used_meanwhile_is_not_idle() -> None:
    made = pool(100, 101)
    made.idle_blocks(0.0)
    take(made, 6400)
    give(made, 6400)
    assert made.idle_blocks(IDLE_S) == [101]


def test_a_pool_with_every_block_cannot_grow() -> None:
    made = pool(*range(FIRST_BLOCK, LAST_BLOCK))
    assert made.can_grow
    made.add_block(LAST_BLOCK)
    assert not made.can_grow


@given(
    st.lists(st.tuples(st.integers(6400, 6410), st.integers(1, 3), SEED), max_size=60)
)
def test_what_is_given_back_leaves_nothing_behind(
    uses: list[tuple[int, int, int]],
) -> None:
    made, taken = pool(100), []
    for port, destination, _ in uses:
        if made.is_free_for(TCP, port, destination, 80):
            take(made, port, (destination, 80))
            taken.append((port, (destination, 80)))
    used = len({port for port, _ in taken})
    assert made.lowest_free() == BLOCK_PORTS - used
    for port, to in taken:
        give(made, port, to)
    assert made.lowest_free() == BLOCK_PORTS
    assert made.idle_blocks(0.0) == []
    assert made.idle_blocks(IDLE_LAST_S) == [100]
